package gatepost

import (
	"slices"
	"time"

	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/status"
)

// Bounds of what is remembered of targets.
const (
	// maxTargets is how many targets may be numbered before those that are idle are forgotten.
	maxTargets = 1024
	// targetIdle is how long a target must be idle for that: whatever was sent to it has been shown or has expired.
	targetIdle = maxLifetime + 24*time.Hour
)

// outbox is what is kept until it has an outcome, and the numbers that it takes. The loop owns it.
type outbox struct {
	messages ordered
	uplinks  ordered
	targets  map[User]*target
	used     []*target    // to be written by the next commit
	number   uint64       // of the youngest entry ever
	body     clientpb.C2C // of one message at a time
	bodyTo   clientpb.User
}

// target is a Target, and whether it waits to be written.
type target struct {
	Target
	used bool
}

// of is the order that entries of kind go in.
func (o *outbox) of(kind SendKind) *ordered {
	if kind == SendUplink {
		return &o.uplinks
	}
	return &o.messages
}

func (o *outbox) interrupted() {
	o.messages.interrupted()
	o.uplinks.interrupted()
}

func (c *Client) restoreOutbox(kept *Snapshot, now time.Time) {
	o := &c.outbox
	l, again := &c.cfg.Limits, backoff{base: c.cfg.Timing.BackoffBase, cap: c.cfg.Timing.BackoffCap}
	o.messages = ordered{window: l.Window, maxEntries: l.OutboxMessages, maxBytes: l.OutboxBytes, backoff: again}
	o.uplinks = ordered{window: l.UplinkWindow, maxEntries: l.OutboxUplinks, maxBytes: l.OutboxUplinkBytes, backoff: again}
	o.targets = make(map[User]*target, len(kept.Targets))
	for _, t := range kept.Targets {
		o.targets[t.To] = &target{Target: t}
	}
	c.forgetIdleTargets(now)
	for _, e := range kept.Outbox {
		o.number = max(o.number, e.Number)
		if e.Outcome != nil {
			o.of(e.Kind).untold++
			c.tell(&e, e.Outcome)
			continue
		}
		o.of(e.Kind).add(&entry{OutboxEntry: e})
	}
}

// forgetIdleTargets bounds the table. A target that comes back is numbered from 1, so it needs a stream that it has not
// had: the others keep theirs.
func (c *Client) forgetIdleTargets(now time.Time) {
	o := &c.outbox
	if len(o.targets) <= maxTargets {
		return
	}
	for to, t := range o.targets {
		if now.Sub(t.LastUsed) > targetIdle {
			delete(o.targets, to)
			c.changes.DeleteTargets = append(c.changes.DeleteTargets, to)
		}
	}
	if len(c.changes.DeleteTargets) > 0 {
		c.id.Stream = newStream()
		c.saveIdentity()
	}
}

// nextSeq gives a message to a target its place in the stream.
func (c *Client) nextSeq(to User, now time.Time) (stream, seq uint64) {
	o := &c.outbox
	t := o.targets[to]
	if t == nil {
		t = &target{Target: Target{To: to, Stream: c.id.Stream}}
		o.targets[to] = t
	}
	t.LastSeq++
	t.LastUsed = now
	if !t.used {
		t.used = true
		o.used = append(o.used, t)
	}
	return t.Stream, t.LastSeq
}

// numberMessage gives a message its number, and its copy one in the sequence towards this user himself. The caller writes the targets.
func (c *Client) numberMessage(e *entry) {
	now := c.ServerTime()
	e.Stream, e.TargetSeq = c.nextSeq(e.To, now)
	if e.copy || e.CopyStream != 0 {
		e.CopyStream, e.CopySeq = c.nextSeq(c.cfg.User, now)
	}
}

// writeTargets writes those that gave out numbers.
func (c *Client) writeTargets() {
	o := &c.outbox
	for _, t := range o.used {
		t.used = false
		c.changes.PutTargets = append(c.changes.PutTargets, t.Target)
	}
	o.used = emptied(o.used)
}

// nextUplink numbers an uplink. The caller writes the identity.
func (c *Client) nextUplink() (stream, seq uint64) {
	c.id.UplinkSeq++
	return c.id.UplinkStream, c.id.UplinkSeq
}

// pumpOutbox sends what may go now.
func (c *Client) pumpOutbox(now time.Time) time.Time {
	return earliest(c.pumpOrdered(&c.outbox.messages, now), c.pumpOrdered(&c.outbox.uplinks, now))
}

// tell hands the outcome to the app, and forgets the message when the app has returned.
func (c *Client) tell(e *OutboxEntry, out *Outcome) {
	c.app.tell(notice{result: out.result(e), number: e.Number})
}

// told is called when the app knows the outcome that n tells.
func (c *Client) told(n notice) {
	c.outbox.of(n.result.Kind).untold--
	c.changes.DeleteOutbox = append(c.changes.DeleteOutbox, n.number)
}

func (out *Outcome) result(e *OutboxEntry) SendResult {
	r := SendResult{Kind: e.Kind, ClientMsgID: e.ClientMsgID, To: e.To, MsgID: out.MsgID, Duplicate: out.Duplicate}
	switch {
	case out.Restored:
		r.Err = ErrRestored
	case out.Replaced:
		r.Err = ErrReplaced
	case out.Code != 0:
		r.Err = &Error{Code: status.Code(out.Code), Reason: out.Reason}
	}
	return r
}

// renewIdentity makes the store another installation. Its original may have gone on numbering the old streams, so none of
// them is used again: what was never sent gets a number in the new stream, and of the rest the app is told that its outcome
// is not known. Sent again under new numbers it could be shown twice; under the old ones it could be taken for another message.
func (c *Client) renewIdentity() {
	o := &c.outbox
	c.id.renew()
	for to := range o.targets {
		c.changes.DeleteTargets = append(c.changes.DeleteTargets, to)
	}
	clear(o.targets)
	for _, e := range slices.Concat(o.messages.entries, o.uplinks.entries) {
		if e.sent || e.born.IsZero() {
			c.settleEntry(e, &Outcome{Restored: true})
			continue
		}
		if e.Kind == SendUplink {
			e.Stream, e.TargetSeq = c.nextUplink()
		} else {
			c.numberMessage(e)
		}
		c.changes.PutOutbox = append(c.changes.PutOutbox, e.OutboxEntry)
	}
	c.saveIdentity()
	c.writeTargets()
}
