package logic

import (
	"context"
	"log/slog"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/gatepost/gatepost/idl/gen/logicpb"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/store"
)

// ended is a session that is no more: its route goes, unless a newer login stands there.
type ended struct {
	user    store.UserKey
	class   store.DeviceClass
	session uint64
}

// unregister removes the route of x by compare-and-set.
func (n *Node) unregister(ctx context.Context, x ended) error {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.PresenceTimeout)
	defer cancel()
	return n.presence.Unregister(ctx, x.user, x.class, x.session)
}

// wrongRoute is a route that a gate called wrong, or what is to be done once those before it are removed.
type wrongRoute struct {
	ended
	then func() // nil: there is a route
}

// unrouteCarry removes routes that a gate called wrong. One that stays is found again by the next delivery.
func (n *Node) unrouteCarry(ctx context.Context, batch []wrongRoute) {
	list := make([]ended, 0, len(batch))
	for _, x := range batch {
		if x.then == nil && !slices.Contains(list, x.ended) { // each message to it found it wrong
			list = append(list, x.ended)
		}
	}
	n.removeRoutes(ctx, list)
	for _, x := range batch {
		if x.then != nil {
			x.then()
		}
	}
}

func (n *Node) removeRoutes(ctx context.Context, list []ended) {
	untold := n.events.untold(ctx, list...)
	for _, x := range list {
		if err := n.unregister(ctx, x); err != nil {
			n.logger.Debug("a wrong route could not be removed", slog.String("domain", x.user.Domain), slog.String("uid", x.user.UID), slog.Any("error", err))
			return // the table is away: the others would fail alike
		}
		n.metrics.unrouted.Inc()
		if len(untold) > 0 && untold[0] == x {
			n.events.offline(untold[:1], ReasonEnded)
			untold = untold[1:]
		}
	}
}

// unregisterAtOnce bounds the removals in flight of one Sessions call.
const unregisterAtOnce = 16

// Sessions removes the routes of sessions that ended at a gate, and puts back those it holds. An error means that the gate asks again.
func (n *Node) Sessions(ctx context.Context, req *logicpb.SessionsRequest) (*logicpb.SessionsResponse, error) {
	if !n.calls.enter() {
		return nil, status.New(status.Stopping, "this node is stopping")
	}
	defer n.calls.leave()

	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(unregisterAtOnce)
	over := make([]ended, 0, len(req.Ended))
	for _, ref := range req.Ended {
		s, ok := sessionOf(ref.GetSession())
		if !ok {
			continue
		}
		x := ended{user: s.user, class: s.class, session: s.number}
		over = append(over, x)
	}
	untold := n.events.untold(ctx, over...)
	for _, x := range over {
		group.Go(func() error { return n.unregister(groupCtx, x) })
	}
	if err := group.Wait(); err != nil {
		return nil, status.Wrap(status.Unavailable, err, "the presence table is away")
	}
	n.events.offline(untold, ReasonEnded)
	if len(req.Register) == 0 {
		return &logicpb.SessionsResponse{PresenceEpoch: n.gates.presenceEpoch()}, nil
	}
	return n.registerAnew(ctx, req)
}

// registerAnew puts sessions back that a gate holds. The epoch it answers was read before: when the table was emptied in between,
// the gate sees another epoch in its next heartbeat and registers once more.
func (n *Node) registerAnew(ctx context.Context, req *logicpb.SessionsRequest) (*logicpb.SessionsResponse, error) {
	res := &logicpb.SessionsResponse{
		Registered:    make([]logicpb.RegisterOutcome, len(req.Register)),
		Winners:       make([]*logicpb.Winner, len(req.Register)),
		PresenceEpoch: n.gates.presenceEpoch(),
	}
	batch := make([]store.Registration, 0, len(req.Register))
	at := make([]int, 0, len(req.Register))
	for i, ref := range req.Register {
		res.Winners[i] = &logicpb.Winner{}
		s, ok := sessionOf(ref.GetSession())
		if !ok {
			res.Registered[i] = logicpb.RegisterOutcome_REGISTER_REFUSED
			continue
		}
		at = append(at, i)
		batch = append(batch, store.Registration{User: s.user, Route: store.Route{
			Class: s.class, GateEpoch: req.GateEpoch, ConnID: ref.ConnId, Session: s.number, Installation: s.installation, LoginCounter: s.counter,
		}})
	}
	ctx, cancel := context.WithTimeout(ctx, n.cfg.PresenceTimeout)
	defer cancel()
	results, err := n.presence.Register(ctx, batch)
	if err != nil {
		return nil, status.Wrap(status.Unavailable, err, "the presence table is away")
	}
	if len(results) != len(batch) {
		return nil, status.New(status.Unavailable, "the presence table answered %d of %d registrations", len(results), len(batch))
	}
	for j, r := range results {
		i := at[j]
		res.Registered[i] = logicpb.RegisterOutcome(r.Outcome)
		if r.Outcome == store.RegisterRefused && r.Winner.Session != 0 {
			res.Winners[i] = &logicpb.Winner{Installation: r.Winner.Installation[:], LoginCounter: r.Winner.LoginCounter}
		}
	}
	return res, nil
}
