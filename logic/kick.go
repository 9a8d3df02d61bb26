package logic

import (
	"context"
	"log/slog"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/gatepost/gatepost/idl/gen/appserverpb"
	"github.com/gatepost/gatepost/idl/gen/gatepb"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/store"
)

// kicksAtOnce bounds the gates that one Kick tells side by side.
const kicksAtOnce = 16

// Kick ends the sessions of a user, of one device class or of all. Each route goes first, by compare-and-set: a session whose gate
// does not hear of it is refused when the gate registers it anew. Where the presence table does not know, every gate is asked.
// Errors are *AppError; unavailable: some gate was not reached, and the same call may be made again.
func (n *Node) Kick(ctx context.Context, key string, req *appserverpb.KickRequest) (*appserverpb.KickResponse, error) {
	c, leave, refusal := n.enterApp(ctx, key, RightKick, req.Domain)
	if refusal != nil {
		return appResult[appserverpb.KickResponse](n, appKick, c, nil, refusal)
	}
	defer leave()
	res, refusal := n.kickUser(ctx, c, req)
	return appResult(n, appKick, c, res, refusal)
}

func (n *Node) kickUser(ctx context.Context, c caller, req *appserverpb.KickRequest) (*appserverpb.KickResponse, *AppError) {
	user := store.UserKey{Domain: c.domain, UID: req.Uid}
	if err := checkUser(user); err != nil {
		return nil, appErrorf(AppInvalid, "%v", err)
	}
	class, refusal := appClass(req.DeviceClass)
	if refusal != nil {
		return nil, refusal
	}
	if len(req.Reason) > maxReasonBytes {
		return nil, appErrorf(AppInvalid, "the reason has more than %d bytes", maxReasonBytes)
	}
	if err := checkText("reason", req.Reason); err != nil {
		return nil, appErrorf(AppInvalid, "%v", err)
	}
	stops := n.kickStops(ctx, user, class)
	var ended atomic.Uint32
	var group errgroup.Group
	group.SetLimit(kicksAtOnce)
	for _, at := range stops {
		group.Go(func() error {
			count, err := n.kickAt(ctx, user, class, req.Reason, at)
			ended.Add(count)
			return err
		})
	}
	err := group.Wait()
	n.logger.Info("an app-server kicked a user", slog.String("domain", user.Domain), slog.String("uid", user.UID), slog.Int("device", int(class)),
		slog.String("key_id", c.keyID), slog.Uint64("sessions", uint64(ended.Load())))
	if err != nil {
		return nil, &AppError{Fault: AppUnavailable, Reason: "a gate could not be reached", cause: err}
	}
	return &appserverpb.KickResponse{Sessions: ended.Load()}, nil
}

// kickStops are the sessions to be ended, and the gates (with the zero route) whose sessions the presence table does not know.
func (n *Node) kickStops(ctx context.Context, user store.UserKey, class store.DeviceClass) []stop {
	found, err := n.lookup(ctx, []store.UserKey{user})
	if err != nil || found.Epoch == 0 || len(found.Routes) != 1 {
		if err != nil {
			n.metrics.lookupFailures.Inc()
		}
		return stopsAt(n.gates.live(), nil)
	}
	stops := stopsAt(n.gates.live(), func(g store.Gate) bool { return g.PresenceEpoch != found.Epoch })
	for _, r := range found.Routes[0] {
		if class != 0 && r.Class != class {
			continue
		}
		if g, ok := n.gates.find(ctx, r.GateEpoch); ok {
			stops = append(stops, stop{gate: g, route: r})
		}
	}
	return stops
}

// kickAt ends what is at one stop, and returns how many sessions it ended. A kick that does not get through is tried again behind
// the scenes.
func (n *Node) kickAt(ctx context.Context, user store.UserKey, class store.DeviceClass, reason string, at stop) (uint32, error) {
	item := &gatepb.KickItem{Domain: user.Domain, Uid: user.UID, DeviceClass: int32(class), Status: uint32(status.Kicked), Reason: reason}
	if at.route.Session != 0 {
		item.ConnId, item.DeviceClass, item.BelowSession = at.route.ConnID, int32(at.route.Class), at.route.Session+1
		x := ended{user: user, class: at.route.Class, session: at.route.Session}
		untold := n.events.untold(ctx, x)
		if err := n.unregister(ctx, x); err != nil {
			n.logger.Debug("the route of a kicked session stays for now", slog.Any("error", err)) // its gate removes it, which tells
		} else {
			n.events.offline(untold, ReasonKicked)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, n.cfg.DeliverTimeout)
	defer cancel()
	res, err := n.reach.Kick(ctx, at.gate.RPCAddress, &gatepb.KickRequest{Items: []*gatepb.KickItem{item}})
	if err != nil {
		n.senders.put(at.gate, parcel{to: user, kick: item})
		return 0, err
	}
	return res.Kicked, nil
}
