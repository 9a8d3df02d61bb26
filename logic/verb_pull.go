package logic

import (
	"context"
	"log/slog"

	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/store"
)

// pull reads a page of the inbox. The first page of a login's first pull registers the device class before it reads, so that
// nothing falls between: what is committed from then on is owed to it, and what was committed before is read. The first page also
// fixes the highest id that the pull will read; so it ends under steady traffic.
func (n *Node) pull(ctx context.Context, c *call, m *clientpb.Pull) {
	if m.Limit > maxPageRows {
		c.refuse(status.New(status.BadRequest, "a page has at most %d rows", maxPageRows))
		return
	}
	if m.Upto == 0 && m.After != 0 {
		c.refuse(status.New(status.BadRequest, "only the first page has no upto"))
		return
	}
	if !n.lease.clockRight.Load() {
		// what has expired is told by this clock
		c.refuse(status.New(status.Unavailable, "this node's clock is not known to be right"))
		return
	}
	if err := n.reads.acquire(ctx); err != nil {
		c.refuse(status.Wrap(status.Overloaded, err, "too many requests wait for the database"))
		return
	}
	defer n.reads.release()
	ctx, cancel := context.WithTimeout(ctx, n.cfg.CommitTimeout)
	defer cancel()
	var retired bool
	if m.Register && m.Upto == 0 {
		var err error
		if retired, err = n.registerDevice(ctx, c.session); err != nil {
			c.refuse(status.Wrap(status.Unavailable, err, "the inbox cannot be read now"))
			return
		}
	}
	query := store.PageQuery{
		Owner: c.session.user, Class: c.session.class, After: store.MsgID(m.After), Upto: store.MsgID(m.Upto),
		Limit: int(m.Limit), MaxBytes: maxPageContent, Now: n.now(),
	}
	if query.Limit == 0 {
		query.Limit = defaultPageRows
	}
	page, upto, more, err := n.inbox.Page(ctx, query)
	if err != nil {
		c.refuse(status.Wrap(status.Unavailable, err, "the inbox cannot be read now"))
		return
	}
	page, cut := fitBody(page)
	answer := &clientpb.PullAnswer{Upto: uint64(upto), More: more || cut, ServerTimeMs: n.serverTimeMS(), Retired: retired}
	for i := range page {
		answer.Messages = append(answer.Messages, messageOf(&page[i]))
	}
	n.metrics.pulled.Add(float64(len(page)))
	c.finish(answer, nil)
}

// registerDevice owes the session's device class the user's messages from now on. retired: it had been owed them before, and not since.
func (n *Node) registerDevice(ctx context.Context, s session) (retired bool, err error) {
	retired, err = n.devices.Register(ctx, store.Device{
		Owner: s.user, Class: s.class, Session: s.number, SeenAt: n.now(), Installation: s.installation, LoginCounter: s.counter,
	})
	if err == nil && retired {
		n.logger.Info("a retired device class is back", slog.String("domain", s.user.Domain), slog.String("uid", s.user.UID),
			slog.Int("device", int(s.class)))
	}
	return retired, err
}

// fitBody cuts a page to what one body to a client may hold: names and types weigh too. It leaves at least one row.
func fitBody(page []store.Message) (fitting []store.Message, cut bool) {
	sum := 0
	for i := range page {
		row := &page[i]
		// tags, lengths and numbers of a message take less than 128 bytes
		sum += 128 + len(row.From.Domain) + len(row.From.UID) + len(row.Type) + len(row.Content) + len(row.Target.Domain) + len(row.Target.UID)
		if i > 0 && sum > maxPullBodyBytes {
			return page[:i], true
		}
	}
	return page, false
}
