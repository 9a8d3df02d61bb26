package gatepost

import (
	"slices"
	"time"

	"github.com/cloudwego/prutal"
	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/idl/wire"
)

// ordered sends one kind of what is kept, in order: go-back-N over one ordered stream of the connection [G3]. There are two, for
// messages and for uplinks; neither looks at the other. The loop owns it.
//
// The stream is closed at first, and whenever an outcome is not final. Then the lowest entry that has no outcome goes alone,
// with the restart flag, until its outcome is final; that opens the stream, and the others follow, up to the window.
type ordered struct {
	// fixed after restore
	window     int
	maxEntries int
	maxBytes   int

	entries []*entry // without outcome, by Number
	untold  int      // with an outcome that the app has not been told
	bytes   int      // of content in entries

	open     bool
	probing  bool   // the restart frame is out
	round    uint64 // counts restarts: an answer from an earlier round can settle an entry, not close the stream
	next     int    // entries[:next] are out in this round
	backoff  backoff
	resendAt time.Time
	asked    bool      // the server named resendAt: it holds over a reconnect too
	expireAt time.Time // when the next entry's time to live may end; zero: none waits whose does
	resends  uint64    // frames that were not the first of their entry
}

// entry is one message or uplink without an outcome.
type entry struct {
	OutboxEntry
	born    time.Time // with a monotonic clock; zero when it comes from an earlier process
	sent    bool      // by this process
	sending *Sending
	copy    bool       // the sender's other devices are to get a copy: it has no number yet
	kept    chan error // hears what became of the call that handed it over; nil: has heard
}

// full reports whether an entry with n bytes of content does not fit any more, even when old, unless nil, makes way for it.
func (o *ordered) full(n int, old *entry) bool {
	entries, bytes := len(o.entries)+1, o.bytes+n
	if old != nil {
		entries, bytes = entries-1, bytes-len(old.Content)
	}
	return entries+o.untold > o.maxEntries || bytes > o.maxBytes
}

// flowing reports whether an entry that is added now is sent at once.
func (o *ordered) flowing() bool { return o.open && o.next == len(o.entries) && o.next < o.window }

func (o *ordered) add(e *entry) {
	o.entries = append(o.entries, e)
	o.bytes += len(e.Content)
}

// lifetime is how long c sends e. The time to live of a message is the server's to judge, which may have accepted it before;
// an uplink that comes late is of no use.
func (c *Client) lifetime(e *entry) time.Duration {
	if e.Kind == SendUplink && e.TTL > 0 {
		return min(e.TTL, c.cfg.Timing.OutboxLifetime)
	}
	return c.cfg.Timing.OutboxLifetime
}

// age is how long ago the app handed e over: by this process' own clock, or by the server's for what is older. It is never
// below zero: e may have been born after the turn of the loop began, which now is the time of.
func (c *Client) age(e *entry, now time.Time) time.Duration {
	if !e.born.IsZero() {
		return max(0, now.Sub(e.born))
	}
	return max(0, c.serverTime(now).Sub(e.CreatedAt))
}

// pumpOrdered fails what is too old, and sends what may go now.
func (c *Client) pumpOrdered(o *ordered, now time.Time) time.Time {
	c.expire(o, now)
	if !c.link.loggedIn || o.probing || len(o.entries) == 0 {
		return o.expireAt
	}
	if !o.open && now.Before(o.resendAt) {
		return earliest(o.expireAt, o.resendAt)
	}
	if c.markSent(o) {
		return time.Time{} // once that is kept
	}
	for o.next < len(o.entries) && o.next < o.window && !o.probing {
		e := o.entries[o.next]
		if c.age(e, now) >= c.lifetime(e) {
			c.settleExpired(e)
			continue
		}
		if e.ReplaceKey != "" && !e.Sent {
			break // it moved up: the next turn marks it
		}
		o.next++
		c.sendEntry(o, e, now)
	}
	return o.expireAt
}

// markSent writes what may be replaced and is about to go: from then on it may not [G2]. It reports whether there was any.
func (c *Client) markSent(o *ordered) (any bool) {
	for _, e := range o.entries[o.next:max(o.next, min(len(o.entries), o.window))] {
		if e.ReplaceKey != "" && !e.Sent {
			e.Sent, any = true, true
			c.changes.SetSent = append(c.changes.SetSent, e.Number)
			c.changes.Durable = true
		}
		if !o.open {
			break // one goes alone
		}
	}
	return any
}

// expire settles what waits beyond its time to live when that may be so. What is out waits for its answer. What an earlier process left
// can only be judged by the server's time.
func (c *Client) expire(o *ordered, now time.Time) {
	if o.expireAt.IsZero() || now.Before(o.expireAt) {
		return
	}
	o.expireAt = time.Time{}
	for _, e := range slices.Clone(o.entries[o.next:]) {
		switch {
		case e.Kind != SendUplink || e.TTL == 0 || e.born.IsZero() && !c.timeKnown:
		case c.age(e, now) >= c.lifetime(e):
			c.settleExpired(e)
		default:
			o.expireAt = earliest(o.expireAt, now.Add(c.lifetime(e)-c.age(e, now)))
		}
	}
}

func (c *Client) settleExpired(e *entry) {
	c.settleEntry(e, &Outcome{Code: uint16(status.Expired), Reason: "it could not be sent in its lifetime"})
}

func (c *Client) sendEntry(o *ordered, e *entry, now time.Time) {
	var flags wire.Flags
	if !o.open {
		flags, o.probing = wire.FlagRestart, true
		o.round++
	}
	round := o.round
	if e.sent {
		o.resends++
	}
	e.sent = true
	cmd, body := clientpb.Cmd_CMD_C2C, any(nil)
	if e.Kind == SendUplink {
		cmd, body = clientpb.Cmd_CMD_C2S, c.uplinkBody(e, now)
	} else {
		body = c.messageBody(e, now)
	}
	c.request(cmd, flags, body, c.cfg.Timing.Request, func(code status.Code, body []byte, err *Error) {
		c.entryAnswered(o, e, round, code, body, err)
	})
}

// messageBody is valid until the next one.
func (c *Client) messageBody(e *entry, now time.Time) *clientpb.C2C {
	c.outbox.bodyTo = clientpb.User{Domain: e.To.Domain, Uid: e.To.UID}
	m := &c.outbox.body
	*m = clientpb.C2C{
		ClientMsgId: e.ClientMsgID[:],
		To:          &c.outbox.bodyTo,
		Stream:      e.Stream,
		TargetSeq:   e.TargetSeq,
		Type:        e.Type,
		Content:     e.Content,
		AgeMs:       uint64(c.age(e, now).Milliseconds()),
		TtlMs:       uint64(e.TTL.Milliseconds()),
		Receipt:     e.Receipt,
	}
	if e.CopyStream != 0 {
		m.Copy = &clientpb.CopyNumber{Stream: e.CopyStream, TargetSeq: e.CopySeq}
	}
	return m
}

func (c *Client) uplinkBody(e *entry, now time.Time) *clientpb.C2S {
	return &clientpb.C2S{
		ClientMsgId: e.ClientMsgID[:],
		Stream:      e.Stream,
		Seq:         e.TargetSeq,
		Type:        e.Type,
		Content:     e.Content,
		AgeMs:       uint64(c.age(e, now).Milliseconds()),
		TtlMs:       uint64(e.TTL.Milliseconds()),
		Traceparent: e.Traceparent,
	}
}

// entryAnswered settles an entry whose outcome is final, and closes the stream otherwise. NOT_LOGGED_IN says nothing of the
// entry: the connection ends, and the next one brings it again.
func (c *Client) entryAnswered(o *ordered, e *entry, round uint64, code status.Code, body []byte, err *Error) {
	switch {
	case code == status.OK:
		out, ok := c.acceptance(e, body)
		if !ok {
			c.lost(&Error{Code: status.BadFrame, Reason: "cannot decode the answer to what was sent"})
			return
		}
		c.settleEntry(e, out)
	case code.Final() && code != status.NotLoggedIn:
		c.settleEntry(e, &Outcome{Code: uint16(code), Reason: err.Reason})
	case round == o.round:
		o.closeStream()
		o.resendAt, o.asked = time.Now().Add(o.backoff.next(err.RetryAfter)), err.RetryAfter > 0
		return
	case round == o.round-1 && !o.open && err.RetryAfter > 0:
		// The refusal that closed the stream may come after a STREAM_CLOSED of a frame behind it; it knows how long to wait.
		if at := time.Now().Add(min(err.RetryAfter, maxRetryAfter)); at.After(o.resendAt) {
			o.resendAt, o.asked = at, true
		}
		return
	default:
		return
	}
	if round == o.round {
		o.open, o.probing = true, false
		o.backoff.reset()
	}
}

// acceptance decodes what the server said to an entry that it accepted.
func (c *Client) acceptance(e *entry, body []byte) (*Outcome, bool) {
	if e.Kind == SendUplink {
		var answer clientpb.C2SAnswer
		if prutal.Unmarshal(body, &answer) != nil {
			return nil, false
		}
		c.setServerTime(answer.ServerTimeMs)
		return &Outcome{}, true
	}
	var answer clientpb.C2CAnswer
	if prutal.Unmarshal(body, &answer) != nil {
		return nil, false
	}
	c.setServerTime(answer.ServerTimeMs)
	return &Outcome{MsgID: answer.MsgId, Duplicate: answer.Duplicate}, true
}

func (o *ordered) closeStream() {
	o.open, o.probing, o.next = false, false, 0
	o.round++
	o.expireAt = time.Now() // what was out waits again
}

// interrupted is called when the connection ends: all that has no outcome goes again on the next one, at once unless the server has
// named a time.
func (o *ordered) interrupted() {
	o.closeStream()
	if !o.asked {
		o.resendAt = time.Time{}
	}
}

// settleEntry keeps e's outcome and tells it once it is kept. An entry that has one already keeps that.
func (c *Client) settleEntry(e *entry, out *Outcome) {
	o := c.outbox.of(e.Kind)
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
