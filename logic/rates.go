package logic

import (
	"math/rand/v2"
	"time"

	"golang.org/x/time/rate"

	"github.com/gatepost/gatepost/idl/status"
)

// rateOf is what a domain may have so many of a second, on each logic node.
type rateOf uint8

const (
	rateLogins rateOf = iota
	rateMessages
	rateUplinks
	ratePushes
	rateCount
)

func (r rateOf) String() string {
	return [rateCount]string{"logins", "messages", "uplinks", "pushes"}[r]
}

func (l *DomainLimits) rate(of rateOf) int {
	return [rateCount]int{l.Logins, l.Messages, l.Uplinks, l.Pushes}[of]
}

// maxSpend is the most that one call of spend may ask for: the targets of one push.
const maxSpend = 1000

// rates are the rate bounds of one domain; nil: none.
type rates [rateCount]*rate.Limiter

// next are the bounds of l. What was used up of one that stays a bound stays used up.
func (r rates) next(l *DomainLimits) rates {
	for of := range rateCount {
		bound := l.rate(of)
		burst := bound // a second's worth may come at once
		if of == ratePushes {
			burst = max(burst, maxSpend) // a push is taken whole, and paid for afterwards
		}
		switch {
		case bound == 0:
			r[of] = nil
		case r[of] == nil:
			r[of] = rate.NewLimiter(rate.Limit(bound), burst)
		default:
			r[of].SetLimit(rate.Limit(bound))
			r[of].SetBurst(burst)
		}
	}
	return r
}

// spend counts some things of a domain against its rate on this node, and refuses them while that is used up. Pushes are counted up to
// maxSpend at once, everything else one by one. Of an unknown domain nothing is counted.
func (n *Node) spend(domain string, of rateOf, count int) *status.Error {
	a := n.account(domain)
	if a == nil || a.rates[of] == nil {
		return nil
	}
	now := n.now()
	r := a.rates[of].ReserveN(now, count)
	wait := r.DelayFrom(now)
	if wait == 0 {
		return nil
	}
	r.CancelAt(now)
	e := status.New(status.Overloaded, "the domain has used up its rate of %s on this node", of)
	// All who are refused now would come back at the same moment.
	wait = min(wait, maxRateWait) + rand.N(time.Second)
	e.RetryAfterMS = uint32(wait/time.Millisecond) + 1
	return e
}

// maxRateWait bounds what a refused sender is told to wait, beside the spread.
const maxRateWait = 30 * time.Second
