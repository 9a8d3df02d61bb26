package logic

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/gatepost/gatepost/store"
)

// hints is the bounded set of users who are owed a SYNC because a delivery to them failed. A hint is tried again with backoff and
// given up after about a minute: a gate that was gone for so long has lost its sessions, and whoever logs in anew pulls.
type hints struct {
	node *Node
	wake chan struct{}

	mu    sync.Mutex
	set   map[store.UserKey]hint
	notes int // in set
}

type hint struct {
	tries int
	due   time.Time
	notes []*WaitingEvent // told if nobody is there when it is due
}

const (
	maxHintTries  = 8
	firstHintWait = 200 * time.Millisecond
	maxHintWait   = 15 * time.Second
)

func newHints(n *Node) *hints {
	return &hints{node: n, wake: make(chan struct{}, 1), set: make(map[store.UserKey]hint)}
}

// add owes user a SYNC, or what notes tell if he turns out to be away. tries: how often it was tried already. A user who is in the
// set stays as he is. There are at most maxEvents notes in the set; what does not fit is dropped.
func (h *hints) add(user store.UserKey, tries int, notes ...*WaitingEvent) {
	if tries >= maxHintTries {
		h.node.metrics.hintsDropped.Inc()
		h.node.events.drop(notes)
		return
	}
	h.mu.Lock()
	x, ok := h.set[user]
	if !ok {
		if len(h.set) >= h.node.cfg.HintUsers {
			h.mu.Unlock()
			h.node.metrics.hintsDropped.Inc()
			h.node.events.drop(notes)
			return
		}
		wait := min(firstHintWait<<tries, maxHintWait)
		x = hint{tries: tries, due: time.Now().Add(wait/2 + rand.N(wait/2+1))}
		user = ownKey(user)
		h.set[user] = x
		h.node.metrics.hints.Inc()
	}
	if len(notes) > 0 {
		fit := min(len(notes), maxEvents-h.notes)
		for _, w := range notes[:fit] {
			x.notes = append(x.notes, w.own())
		}
		h.notes += fit
		h.set[user] = x
		h.node.events.drop(notes[fit:])
	}
	h.mu.Unlock()
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// run sends hints as they become due, until ctx ends.
func (h *hints) run(ctx context.Context) {
	for {
		wait, some := h.send(time.Now())
		if !some {
			select {
			case <-ctx.Done():
				return
			case <-h.wake:
			}
			continue
		}
		timer := time.NewTimer(max(wait, firstHintWait/4)) // hints that are due together go together
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// send queues the hints that are due at now, and returns how long the next one has to wait.
func (h *hints) send(now time.Time) (wait time.Duration, some bool) {
	type dueHint struct {
		user  store.UserKey
		tries int
		notes []*WaitingEvent
	}
	var due []dueHint
	h.mu.Lock()
	wait = maxHintWait
	for user, x := range h.set {
		if left := x.due.Sub(now); left > 0 {
			wait = min(wait, left)
			continue
		}
		due = append(due, dueHint{user, x.tries + 1, x.notes})
		h.notes -= len(x.notes)
		delete(h.set, user)
	}
	some = len(h.set) > 0
	h.mu.Unlock()
	for _, x := range due {
		if !h.node.delivery.hint(x.user, x.tries, x.notes) {
			h.add(x.user, x.tries, x.notes...)
			some = true
		}
	}
	return wait, some
}

// farewell sends all hints now, those of deliveries that failed while the lanes drained among them: the node is stopping, and gates that
// were told of it spread no SYNC by themselves. The lanes have ended, so it calls the gates itself.
func (h *hints) farewell(ctx context.Context) {
	h.mu.Lock()
	owed := maps.Clone(h.set)
	clear(h.set)
	h.notes = 0
	h.mu.Unlock()
	for chunk := range slices.Chunk(slices.Collect(maps.Keys(owed)), maxDeliverItems) {
		gates := make(map[uint64]store.Gate)
		parcels := make(map[uint64][]parcel)
		where, sure := h.node.locateSure(ctx, chunk)
		for i, stops := range where {
			notes := owed[chunk[i]].notes
			if len(stops) == 0 && sure {
				h.node.events.waiting(notes)
			} else {
				h.node.events.drop(notes) // there is no time to look again
			}
			for _, at := range stops {
				gates[at.gate.Epoch] = at.gate
				parcels[at.gate.Epoch] = append(parcels[at.gate.Epoch], parcel{push: syncPush, to: chunk[i], route: at.route, tries: maxHintTries})
			}
		}
		for epoch, gate := range gates {
			h.node.senders.deliver(ctx, gate, parcels[epoch])
		}
	}
}
