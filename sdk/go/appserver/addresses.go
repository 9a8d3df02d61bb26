package appserver

import (
	"sync"
	"time"
)

// An address that failed is passed over for restBase, doubling up to restCap while it goes on failing.
const (
	restBase = 500 * time.Millisecond
	restCap  = 15 * time.Second
)

// addresses takes turns among nodes. It is safe for concurrent use.
type addresses struct {
	mu   sync.Mutex
	next int
	all  []address
}

type address struct {
	at    string
	rests time.Time // not used before, if there is another
	fails int
}

func newAddresses(list []string) *addresses {
	a := &addresses{}
	for _, at := range list {
		a.all = append(a.all, address{at: at})
	}
	return a
}

// pick returns the next address that does not rest at now; when all do, the one whose rest ends first.
func (a *addresses) pick(now time.Time) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	best := a.next
	for i := range a.all {
		k := (a.next + i) % len(a.all)
		if !a.all[k].rests.After(now) {
			best = k
			break
		}
		if a.all[k].rests.Before(a.all[best].rests) {
			best = k
		}
	}
	a.next = (best + 1) % len(a.all)
	return a.all[best].at
}

// told notes how an attempt at an address went. first: it had been good before.
func (a *addresses) told(at string, ok bool, now time.Time) (first bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range a.all {
		if x := &a.all[i]; x.at == at {
			if ok {
				x.fails, x.rests = 0, time.Time{}
				return false
			}
			x.rests = now.Add(min(restBase<<min(x.fails, 10), restCap))
			x.fails++
			return x.fails == 1
		}
	}
	return false
}

func (a *addresses) count() int { return len(a.all) }
