package logic

import (
	"strings"
	"sync"

	"github.com/gatepost/gatepost/store"
)

// awayWatch gathers what the stops of one delivery said, when its receiver may turn out to be away: the routes may be old, and their
// gates gone. Then what waits for him is told, once.
type awayWatch struct {
	node  *Node
	to    store.UserKey
	notes []*WaitingEvent
	tries int
	sure  bool // the presence table was there
	route bool // the stops were routes; else gates that were asked for all of his sessions

	mu   sync.Mutex
	left int
	best parcelOutcome
}

// watch watches over a delivery to stops; nil: nothing is to be told of it.
func (n *Node) watch(x delivery, stops []stop, sure bool) *awayWatch {
	if len(x.notes) == 0 {
		return nil
	}
	return &awayWatch{node: n, to: x.to, notes: x.notes, tries: x.tries, sure: sure, route: stops[0].route.Session != 0, left: len(stops)}
}

// one takes the outcome of one stop. The last one decides: who may be there is sought again later, and where no stop had a session
// the wrong routes go first. On nil it does nothing.
func (w *awayWatch) one(o parcelOutcome) {
	if w == nil {
		return
	}
	w.mu.Lock()
	w.left--
	w.best = max(w.best, o)
	last, best := w.left == 0, w.best
	w.mu.Unlock()
	if !last {
		return
	}
	n := w.node
	switch {
	case best == parcelQueued || best == parcelHeld: // somebody is there
	case best == parcelFailed:
		n.hints.add(w.to, w.tries, w.notes...)
	case !w.sure:
		n.events.drop(w.notes)
	case !w.route:
		n.events.waiting(w.notes)
	case w.tries+1 >= maxHintTries || !n.unroute.put(wrongRoute{then: w.again}):
		n.events.drop(w.notes)
	}
}

// again looks for the receiver once more: he may have logged in elsewhere.
func (w *awayWatch) again() {
	if !w.node.delivery.hint(w.to, w.tries+1, w.notes) {
		w.node.events.drop(w.notes)
	}
}

// own copies a note to be kept: the strings of a decoded body share the memory of their neighbours.
func (w *WaitingEvent) own() *WaitingEvent {
	o := *w
	for _, s := range []*string{&o.Domain, &o.UID, &o.From.Domain, &o.From.UID, &o.Type} {
		*s = strings.Clone(*s)
	}
	return &o
}
