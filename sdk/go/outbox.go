package gatepost

import (
	"slices"
	"time"

	"github.com/cloudwego/prutal"
	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/idl/wire"
)

// Bounds of what is remembered of targets.
const (
	// maxTargets is how many targets may be numbered before those that are idle are forgotten.
	maxTargets = 1024
	// targetIdle is how long a target must be idle for that: whatever was sent to it has been shown or has expired.
	targetIdle = maxLifetime + 24*time.Hour
)

// outbox sends what is kept, in order: go-back-N over one ordered stream of the connection [G3]. The loop owns it.
//
// The stream is closed at first, and whenever an outcome is not final. Then the lowest message that has no outcome goes alone,
// with the restart flag, until its outcome is final; that opens the stream, and the others follow, up to the window.
type outbox struct {
	entries []*entry // without outcome, by Number
	untold  int      // with an outcome that the app has not been told
	bytes   int      // of content in entries
	targets map[User]*Target
	number  uint64 // of the youngest entry ever

	open     bool
	probing  bool   // the restart frame is out
	round    uint64 // counts restarts: an answer from an earlier round can settle a message, not close the stream
	next     int    // entries[:next] are out in this round
	backoff  backoff
	resendAt time.Time
}

// entry is one message without an outcome.
type entry struct {
	OutboxEntry
	born    time.Time // with a monotonic clock; zero when it comes from an earlier process
	sent    bool      // by this process
	sending *Sending
}

func (c *Client) restoreOutbox(kept *Snapshot, now time.Time) {
	o := &c.outbox
	o.backoff = backoff{base: c.cfg.Timing.BackoffBase, cap: c.cfg.Timing.BackoffCap}
	o.targets = make(map[User]*Target, len(kept.Targets))
	for _, t := range kept.Targets {
		o.targets[t.To] = &t
	}
	c.forgetIdleTargets(now)
	for _, e := range kept.Outbox {
		o.number = max(o.number, e.Number)
		if e.Outcome != nil {
			o.untold++
			c.tell(&e, e.Outcome)
			continue
		}
		o.bytes += len(e.Content)
		o.entries = append(o.entries, &entry{OutboxEntry: e})
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

// number gives a message to a target its place in the stream.
func (c *Client) nextSeq(to User, now time.Time) Target {
	if t := c.outbox.targets[to]; t != nil {
		next := *t
		next.LastSeq++
		next.LastUsed = now
		return next
	}
	return Target{To: to, Stream: c.id.Stream, LastSeq: 1, LastUsed: now}
}

// full reports whether a message with n bytes of content does not fit any more.
func (c *Client) full(n int) bool {
	o := &c.outbox
	return len(o.entries)+o.untold >= c.cfg.Limits.OutboxMessages || o.bytes+n > c.cfg.Limits.OutboxBytes
}

// age is how long ago the app handed e over: by this process' own clock, or by the server's for what is older. It is never
// below zero: e may have been born after the turn of the loop began, which now is the time of.
func (c *Client) age(e *entry, now time.Time) time.Duration {
	if !e.born.IsZero() {
		return max(0, now.Sub(e.born))
	}
	return max(0, c.serverTime(now).Sub(e.CreatedAt))
}

// pumpOutbox sends what may go now.
func (c *Client) pumpOutbox(now time.Time) time.Time {
	o := &c.outbox
	if !c.link.loggedIn || o.probing || len(o.entries) == 0 {
		return time.Time{}
	}
	if !o.open && now.Before(o.resendAt) {
		return o.resendAt
	}
	for o.next < len(o.entries) && o.next < c.cfg.Limits.Window && !o.probing {
		e := o.entries[o.next]
		if c.age(e, now) >= c.cfg.Timing.OutboxLifetime {
			c.settleEntry(e, &Outcome{Code: uint16(status.Expired), Reason: "it could not be sent in its lifetime"})
			continue
		}
		o.next++
		c.sendEntry(e, now)
	}
	return time.Time{}
}

func (c *Client) sendEntry(e *entry, now time.Time) {
	o := &c.outbox
	var flags wire.Flags
	if !o.open {
		flags, o.probing = wire.FlagRestart, true
		o.round++
	}
	round := o.round
	e.sent = true
	c.request(clientpb.Cmd_CMD_C2C, flags, &clientpb.C2C{
		ClientMsgId: e.ClientMsgID[:],
		To:          &clientpb.User{Domain: e.To.Domain, Uid: e.To.UID},
		Stream:      e.Stream,
		TargetSeq:   e.TargetSeq,
		Type:        e.Type,
		Content:     e.Content,
		AgeMs:       uint64(c.age(e, now).Milliseconds()),
		TtlMs:       uint64(e.TTL.Milliseconds()),
	}, c.cfg.Timing.Request, func(code status.Code, body []byte, err *Error) { c.entryAnswered(e, round, code, body, err) })
}

// entryAnswered settles a message whose outcome is final, and closes the stream otherwise. NOT_LOGGED_IN says nothing of the
// message: the connection ends, and the next one brings it again.
func (c *Client) entryAnswered(e *entry, round uint64, code status.Code, body []byte, err *Error) {
	o := &c.outbox
	switch {
	case code == status.OK:
		var answer clientpb.C2CAnswer
		if prutal.Unmarshal(body, &answer) != nil {
			c.lost(&Error{Code: status.BadFrame, Reason: "cannot decode the answer to C2C"})
			return
		}
		c.setServerTime(answer.ServerTimeMs)
		c.settleEntry(e, &Outcome{MsgID: answer.MsgId, Duplicate: answer.Duplicate})
	case code.Final() && code != status.NotLoggedIn:
		c.settleEntry(e, &Outcome{Code: uint16(code), Reason: err.Reason})
	default:
		if round == o.round {
			o.closeStream()
			o.resendAt = time.Now().Add(o.backoff.next(err.RetryAfter))
		}
		return
	}
	if round == o.round {
		o.open, o.probing = true, false
		o.backoff.reset()
	}
}

func (o *outbox) closeStream() {
	o.open, o.probing, o.next = false, false, 0
	o.round++
}

// interrupted is called when the connection ends: all that has no outcome goes again on the next one.
func (o *outbox) interrupted() {
	o.closeStream()
	o.resendAt = time.Time{}
}

// settleEntry keeps e's outcome and tells it once it is kept. An entry that has one already keeps that.
func (c *Client) settleEntry(e *entry, out *Outcome) {
	o := &c.outbox
	i := slices.Index(o.entries, e)
	if i < 0 {
		return
	}
	o.entries = slices.Delete(o.entries, i, i+1)
	if i < o.next {
		o.next--
	}
	o.bytes -= len(e.Content)
	o.untold++
	c.changes.SetOutcomes = append(c.changes.SetOutcomes, OutboxOutcome{Number: e.Number, Outcome: *out})
	c.after = append(c.after, func() {
		if e.sending != nil {
			e.sending.settle(out.result(&e.OutboxEntry))
		}
		c.tell(&e.OutboxEntry, out)
	})
}

// tell hands the outcome to the app, and forgets the message when the app has returned.
func (c *Client) tell(e *OutboxEntry, out *Outcome) {
	result := out.result(e)
	number := e.Number
	c.app.tell(func() {
		if c.cfg.OnSent != nil {
			c.cfg.OnSent(result)
		}
	}, number)
}

// told is called when the app knows the outcome of the message with this number.
func (c *Client) told(number uint64) {
	c.outbox.untold--
	c.changes.DeleteOutbox = append(c.changes.DeleteOutbox, number)
}

func (out *Outcome) result(e *OutboxEntry) SendResult {
	r := SendResult{ClientMsgID: e.ClientMsgID, To: e.To, MsgID: out.MsgID, Duplicate: out.Duplicate}
	switch {
	case out.Restored:
		r.Err = ErrRestored
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
	c.saveIdentity()
	for to := range o.targets {
		c.changes.DeleteTargets = append(c.changes.DeleteTargets, to)
	}
	clear(o.targets)
	for _, e := range slices.Clone(o.entries) {
		if e.sent || e.born.IsZero() {
			c.settleEntry(e, &Outcome{Restored: true})
			continue
		}
		t := c.nextSeq(e.To, c.ServerTime())
		o.targets[e.To] = &t
		e.Stream, e.TargetSeq = t.Stream, t.LastSeq
		c.changes.PutOutbox = append(c.changes.PutOutbox, e.OutboxEntry)
	}
	for _, t := range o.targets {
		c.changes.PutTargets = append(c.changes.PutTargets, *t)
	}
}
