package logic

import (
	"context"
	"log/slog"

	"github.com/gatepost/gatepost/store"
)

// stop is one place where a user may be reached: a session, or a gate that is asked for all of his sessions (the zero route).
type stop struct {
	gate  store.Gate
	route store.Route
}

// locateSure finds the stops of users, in their order, with one look-up. sure: the table was there, so a user without a stop has no
// session at any live gate.
//
// Routes at a gate that is not alive are passed over. While the table is away or has no epoch every live gate is asked; a gate that
// has not registered its sessions under the table's epoch is asked for users who have no route.
func (n *Node) locateSure(ctx context.Context, users []store.UserKey) (where [][]stop, sure bool) {
	where = make([][]stop, len(users))
	found, err := n.lookup(ctx, users)
	if err != nil || found.Epoch == 0 || len(found.Routes) != len(users) {
		if err != nil {
			n.metrics.lookupFailures.Inc()
			n.logger.Debug("route look-up failed, every gate is asked", slog.Int("users", len(users)), slog.Any("error", err))
		}
		everywhere := stopsAt(n.gates.live(), nil)
		for i := range where {
			where[i] = everywhere
		}
		return where, false
	}
	var unregistered []stop
	looked := false
	for i, routes := range found.Routes {
		for _, r := range routes {
			if g, ok := n.gates.find(ctx, r.GateEpoch); ok {
				where[i] = append(where[i], stop{gate: g, route: r})
			}
		}
		if len(where[i]) > 0 {
			continue
		}
		if !looked {
			looked = true
			unregistered = stopsAt(n.gates.live(), func(g store.Gate) bool { return g.PresenceEpoch != found.Epoch })
		}
		where[i] = unregistered
	}
	return where, true
}

func stopsAt(gates []store.Gate, want func(store.Gate) bool) []stop {
	var stops []stop
	for _, g := range gates {
		if want == nil || want(g) {
			stops = append(stops, stop{gate: g})
		}
	}
	return stops
}

// lookup is one bounded call to the presence table.
func (n *Node) lookup(ctx context.Context, users []store.UserKey) (store.Lookup, error) {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.PresenceTimeout)
	defer cancel()
	return n.presence.Lookup(ctx, users)
}

// liveClasses is the mask of user's device classes that have a session at a live gate. known is false when that cannot be told:
// the table is away, was emptied, or some gate has not registered all of its sessions.
func (n *Node) liveClasses(ctx context.Context, user store.UserKey) (mask uint32, known bool) {
	found, err := n.lookup(ctx, []store.UserKey{user})
	if err != nil || found.Epoch == 0 || len(found.Routes) != 1 {
		return 0, false
	}
	for _, g := range n.gates.live() {
		if g.PresenceEpoch != found.Epoch {
			return 0, false
		}
	}
	for _, r := range found.Routes[0] {
		if _, ok := n.gates.find(ctx, r.GateEpoch); ok {
			mask |= r.Class.Bit()
		}
	}
	return mask, true
}
