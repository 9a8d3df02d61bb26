package logic

import (
	"context"
	"log/slog"

	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/gen/logicpb"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/store"
)

// logout stops owing messages to the device class and ends the session. The database comes first: while it is away the client is
// told to repeat, else the class would be owed messages that nobody fetches. The route may stay when the presence table is away:
// the gate forgets the session, and the first delivery removes it.
func (n *Node) logout(ctx context.Context, c *call, _ *clientpb.Logout) {
	if err := n.reads.acquire(ctx); err != nil {
		c.refuse(status.Wrap(status.Overloaded, err, "too many requests wait for the database"))
		return
	}
	defer n.reads.release()
	s := c.session
	storeCtx, cancel := context.WithTimeout(ctx, n.cfg.CommitTimeout)
	defer cancel()
	device := store.Device{Owner: s.user, Class: s.class, Session: s.number}
	if err := n.devices.Retire(storeCtx, device); err != nil {
		c.refuse(status.Wrap(status.Unavailable, err, "the logout could not be stored now"))
		return
	}
	if err := n.unregister(ctx, ended{user: s.user, class: s.class, session: s.number}); err != nil {
		n.logger.Warn("the route of a logout stays for now", slog.String("domain", s.user.Domain), slog.String("uid", s.user.UID), slog.Any("error", err))
	}
	c.finish(&clientpb.LogoutAnswer{}, func(a *logicpb.Answer) { a.Unbind = true })
}
