package logic

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/gen/gatepb"
	"github.com/gatepost/gatepost/idl/gen/logicpb"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/store"
)

// login proves a user and fences his device class: the newest login wins everywhere (G5). It needs no database, and works without
// the presence table too; then what it replaced is kicked wherever it may be. Where the table knew of no session, or of another
// installation's, the database is asked whether the installation was here with this login counter before.
func (n *Node) login(ctx context.Context, c *call, m *clientpb.Login) {
	if c.session.user != (store.UserKey{}) {
		c.refuse(status.New(status.AlreadyLoggedIn, "this connection is logged in already"))
		return
	}
	user := store.UserKey{Domain: m.Domain, UID: m.Uid}
	if refusal := checkLogin(user, m); refusal != nil {
		c.refuse(refusal)
		return
	}
	class := store.DeviceClass(m.DeviceClass)
	if refusal := n.authenticate(ctx, user, class, m.Token); refusal != nil {
		n.logger.Info("login refused", slog.String("domain", user.Domain), slog.String("uid", user.UID), slog.String("peer", c.peer),
			slog.Any("error", refusal))
		c.refuse(refusal)
		return
	}
	route := store.Route{
		Class: class, GateEpoch: c.gateEpoch, ConnID: c.connID, Session: n.sessions.next(n.now()),
		Installation: [16]byte(m.Installation), LoginCounter: m.LoginCounter,
	}
	presenceCtx, cancel := context.WithTimeout(ctx, n.cfg.PresenceTimeout)
	defer cancel()
	result, err := n.presence.Login(presenceCtx, user, route)
	unknown := err != nil || result.Outcome == store.LoginMade && (result.Previous == nil || result.Previous.Installation != route.Installation)
	if unknown && n.wasHere(ctx, user, route) {
		if err == nil {
			if result.Previous != nil { // its route is gone; between installations the later login wins, also one that has to begin anew
				route.Session = result.Session
				n.kickPrevious(ctx, user, *result.Previous, route)
			}
			if err := n.unregister(ctx, ended{user: user, class: class, session: result.Session}); err != nil {
				n.logger.Debug("the route of a stale login stays for now", slog.Any("error", err)) // the first delivery removes it
			}
		}
		c.refuse(status.New(status.StaleLogin, "this installation logged in with this counter before"))
		return
	}
	switch {
	case err != nil:
		n.metrics.blindLogins.Inc()
		n.logger.Warn("login without the presence table, every gate is asked to kick", slog.String("domain", user.Domain),
			slog.String("uid", user.UID), slog.Any("error", err))
		n.kickEverywhere(user, route)
	case result.Outcome == store.LoginStale:
		c.refuse(status.New(status.StaleLogin, "a newer login of this installation was there before"))
		return
	default:
		route.Session = result.Session
		if result.Previous != nil && result.Outcome == store.LoginMade {
			n.kickPrevious(ctx, user, *result.Previous, route)
		}
	}
	c.finish(&clientpb.LoginAnswer{Session: route.Session, ServerTimeMs: n.serverTimeMS()}, func(a *logicpb.Answer) {
		a.Bind = &logicpb.Session{
			Domain: user.Domain, Uid: user.UID, DeviceClass: int32(class), Number: route.Session,
			Installation: route.Installation[:], LoginCounter: route.LoginCounter,
		}
	})
}

// wasHere reports whether the installation of r has registered with its login counter or a higher one. The presence table forgets
// counters (it is emptied, and tombstones end), and a store that was restored from a backup then looks like any other: what it sends
// under numbers that it has used before would be taken for repeats (G2). When the database does not say, soon, nothing is known.
func (n *Node) wasHere(ctx context.Context, user store.UserKey, r store.Route) bool {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.PresenceTimeout)
	defer cancel()
	here, err := n.devices.WasHere(ctx, store.Device{Owner: user, Class: r.Class, Installation: r.Installation, LoginCounter: r.LoginCounter})
	if err != nil {
		n.logger.Debug("the login counter of an installation could not be read", slog.String("domain", user.Domain),
			slog.String("uid", user.UID), slog.Any("error", err))
		return false
	}
	return here
}

func checkLogin(user store.UserKey, m *clientpb.Login) *status.Error {
	if err := checkUser(user); err != nil {
		return status.New(status.BadRequest, "%v", err)
	}
	if m.DeviceClass < minClass || m.DeviceClass > maxClass {
		return status.New(status.BadRequest, "a device class is %d to %d", minClass, maxClass)
	}
	if len(m.Installation) != 16 {
		return status.New(status.BadRequest, "an installation has 16 bytes")
	}
	if len(m.Token) > maxTokenBytes {
		return status.New(status.BadRequest, "the token has more than %d bytes", maxTokenBytes)
	}
	return nil
}

// kickPrevious tells the gate of a replaced session.
func (n *Node) kickPrevious(ctx context.Context, user store.UserKey, old, winner store.Route) {
	if gate, ok := n.gates.find(ctx, old.GateEpoch); ok {
		item := kickItem(user, winner)
		item.ConnId = old.ConnID
		n.senders.put(gate, parcel{to: user, kick: item})
	}
}

// kickEverywhere tells every live gate, because nobody knows where the user's old session is.
func (n *Node) kickEverywhere(user store.UserKey, winner store.Route) {
	for _, gate := range n.gates.live() {
		n.senders.put(gate, parcel{to: user, kick: kickItem(user, winner)})
	}
}

// kickItem kicks sessions of user and winner's class that are older than winner. It names the winner, so that an installation that
// recognises itself just drops the old connection.
func kickItem(user store.UserKey, winner store.Route) *gatepb.KickItem {
	return &gatepb.KickItem{
		Domain: user.Domain, Uid: user.UID, DeviceClass: int32(winner.Class), BelowSession: winner.Session,
		Status: uint32(status.Replaced), Reason: "a newer login of this device class won",
		WinnerInstallation: winner.Installation[:], WinnerCounter: winner.LoginCounter,
	}
}

// sessionClock makes session numbers from the clock, in microseconds, never the same twice. The presence table raises them above
// what it has stored, so a table that lost its last second does not hand out an old one.
type sessionClock struct{ last atomic.Uint64 }

func (s *sessionClock) next(now time.Time) uint64 {
	for {
		last := s.last.Load()
		number := max(last+1, uint64(now.UnixMicro()))
		if s.last.CompareAndSwap(last, number) {
			return number
		}
	}
}
