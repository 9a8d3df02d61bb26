package gatepost

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/gatepost/gatepost/idl/limits"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/google/uuid"
)

// C2C keeps m in the durable outbox and returns; it is sent when its turn comes, now or after the next login, and again
// until it has an outcome. Messages to one user arrive in the order of the calls. Errors: ErrOutboxFull, ErrClosed, an
// *Error for what can never be sent, ctx's (nothing was kept then), the store's.
func (c *Client) C2C(ctx context.Context, to User, m Outgoing) (*Sending, error) {
	if err := m.validate(to); err != nil {
		return nil, err
	}
	return c.keepSend(ctx, &send{to: to, out: m})
}

// C2S keeps r in the durable outbox and returns; it is sent when its turn comes, now or after the next login, and again until it has an
// outcome: nil is accepted by the domain's topic [G1]. Reports arrive in the order of the calls; messages do not wait for them, nor they
// for messages. Errors: as C2C's.
func (c *Client) C2S(ctx context.Context, r Report) (*Sending, error) {
	if err := r.validate(); err != nil {
		return nil, err
	}
	return c.keepSend(ctx, &send{kind: SendUplink, report: r})
}

// keepSend returns when s is kept, or will not be.
func (c *Client) keepSend(ctx context.Context, s *send) (*Sending, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return nil, err
	}
	s.born = time.Now()
	s.kept = make(chan error, 1)
	s.sending = &Sending{id: ClientMsgID(id), done: make(chan struct{}), quit: c.quit}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := c.sends.add(s); err != nil {
		return nil, err
	}
	select {
	case err = <-s.kept:
	case <-ctx.Done():
		if c.sends.withdraw(s) {
			return nil, ctx.Err()
		}
		err = <-s.kept // it is being committed
	}
	if err != nil {
		return nil, err
	}
	return s.sending, nil
}

func (m *Outgoing) validate(to User) error {
	if err := to.validate(); err != nil {
		return &Error{Code: status.BadRequest, Reason: err.Error()}
	}
	return validateSend(m.Type, m.Content, m.TTL)
}

// maxReplaceKey is the most bytes of Report.ReplaceKey, which stays on this device.
const maxReplaceKey = 128

func (r *Report) validate() error {
	switch {
	case r.Type == "":
		return &Error{Code: status.BadRequest, Reason: "a report needs a type"}
	case len(r.ReplaceKey) > maxReplaceKey:
		return &Error{Code: status.TooLarge, Reason: "replace key has more than 128 bytes"}
	case r.Traceparent != "" && !isTraceparent(r.Traceparent):
		return &Error{Code: status.BadRequest, Reason: "traceparent has not the form of W3C Trace Context"}
	}
	return validateSend(r.Type, r.Content, r.TTL)
}

// isTraceparent tells the shape 00-32 hex digits-16 hex digits-2 hex digits.
func isTraceparent(s string) bool {
	if len(s) != 55 || s[:3] != "00-" {
		return false
	}
	for i, b := range []byte(s) {
		switch {
		case i == 2 || i == 35 || i == 52:
			if b != '-' {
				return false
			}
		case (b < '0' || b > '9') && (b < 'a' || b > 'f'):
			return false
		}
	}
	return true
}

func validateSend(typ string, content []byte, ttl time.Duration) error {
	switch {
	case len(typ) > limits.TypeBytes:
		return &Error{Code: status.TooLarge, Reason: "type has more than 64 bytes"}
	case len(content) > limits.ContentBytes:
		return &Error{Code: status.TooLarge, Reason: "content has more than 32,768 bytes"}
	case ttl < 0 || ttl > limits.TTL:
		return &Error{Code: status.BadRequest, Reason: "time to live is negative or longer than seven days"}
	case ttl > 0 && ttl < time.Millisecond:
		return &Error{Code: status.BadRequest, Reason: "time to live is shorter than a millisecond"}
	}
	return nil
}

// Sending is a message or an uplink on its way.
type Sending struct {
	id     ClientMsgID
	done   chan struct{}
	quit   <-chan struct{} // the Client closes
	result SendResult
}

// ID is the message's id.
func (s *Sending) ID() ClientMsgID { return s.id }

// Wait returns the final outcome, whose Err is returned as error too. It returns ctx's error when ctx ends first, and
// ErrClosed when the Client is closed first: the message is still on its way then, and OnSent tells the outcome.
func (s *Sending) Wait(ctx context.Context) (SendResult, error) {
	select {
	case <-s.done:
		return s.result, s.result.Err
	default:
	}
	select {
	case <-s.done:
		return s.result, s.result.Err
	case <-ctx.Done():
		return SendResult{}, ctx.Err()
	case <-s.quit:
		return SendResult{}, ErrClosed
	}
}

func (s *Sending) settle(r SendResult) {
	s.result = r
	close(s.done)
}

// send is one call of C2C or C2S that waits to be kept.
type send struct {
	kind    SendKind
	to      User
	out     Outgoing
	report  Report
	born    time.Time
	kept    chan error
	sending *Sending
}

// sendQueue gathers the calls that wait, so that one commit keeps them all: while it runs, the next ones gather.
type sendQueue struct {
	wake chan struct{} // holds one token while the loop has something to take

	mu      sync.Mutex
	waiting []*send
	err     error // of every call from now on
}

func (q *sendQueue) add(s *send) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil {
		return q.err
	}
	q.waiting = append(q.waiting, s)
	poke(q.wake)
	return nil
}

// withdraw reports whether s was still waiting: it will not be kept then.
func (q *sendQueue) withdraw(s *send) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.Index(q.waiting, s)
	if i >= 0 {
		q.waiting = slices.Delete(q.waiting, i, i+1)
	}
	return i >= 0
}

func (q *sendQueue) take() []*send {
	q.mu.Lock()
	defer q.mu.Unlock()
	all := q.waiting
	q.waiting = nil
	return all
}

// close refuses all calls, those that wait too.
func (q *sendQueue) close(err error) {
	q.mu.Lock()
	q.err = err
	q.mu.Unlock()
	for _, s := range q.take() {
		s.kept <- err
	}
}

// poke puts a token into a channel of one, if none is there.
func poke(wake chan struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}

// takeSends keeps all calls that wait in one commit of their own. If it fails they are told so, and so is the loop: the
// store may or may not have kept them.
func (c *Client) takeSends() error {
	sends := c.sends.take()
	if len(sends) == 0 {
		return nil
	}
	if err := c.commit(); err != nil {
		c.sends.refuse(sends, err)
		return err
	}
	kept, numbered := sends[:0], false
	var used map[User]bool
	for _, s := range sends {
		e := c.entryOf(s)
		o := c.outbox.of(e.Kind)
		old := o.replaceable(e.ReplaceKey)
		if o.full(len(e.Content), old) {
			s.kept <- ErrOutboxFull
			continue
		}
		if old != nil {
			c.settleEntry(old, &Outcome{Replaced: true})
		}
		if e.Kind == SendUplink {
			e.Stream, e.TargetSeq = c.nextUplink()
			e.Sent = e.ReplaceKey != "" && c.link.loggedIn && o.flowing()
			if e.TTL > 0 {
				o.expireAt = earliest(o.expireAt, e.born.Add(c.lifetime(e)))
			}
			numbered = true
		} else {
			c.numberMessage(e)
			if used == nil {
				used = map[User]bool{}
			}
			used[e.To] = true
			if e.CopyStream != 0 {
				used[c.cfg.User] = true
			}
		}
		c.outbox.number++
		e.Number = c.outbox.number
		o.add(e)
		c.changes.PutOutbox = append(c.changes.PutOutbox, e.OutboxEntry)
		kept = append(kept, s)
	}
	if numbered {
		c.saveIdentity()
	}
	for to := range used {
		c.changes.PutTargets = append(c.changes.PutTargets, *c.outbox.targets[to])
	}
	c.changes.Durable = len(kept) > 0
	err := c.commit()
	c.sends.refuse(kept, err)
	return err
}

// entryOf is what is kept of s, without its numbers.
func (c *Client) entryOf(s *send) *entry {
	e := &entry{born: s.born, sending: s.sending}
	e.Kind, e.ClientMsgID, e.CreatedAt = s.kind, s.sending.id, c.serverTime(s.born)
	if s.kind == SendUplink {
		r := &s.report
		e.Type, e.Content, e.TTL, e.ReplaceKey, e.Traceparent = r.Type, r.Content, r.TTL, r.ReplaceKey, r.Traceparent
		return e
	}
	e.To, e.Type, e.Content, e.TTL, e.Receipt = s.to, s.out.Type, s.out.Content, s.out.TTL, s.out.Receipt
	if s.out.Copy && s.to != c.cfg.User { // what one sends to himself reaches his other devices as it is
		e.CopyStream = c.id.Stream
	}
	return e
}

// replaceable is the entry with this key that was never sent, nil when there is none.
func (o *ordered) replaceable(key string) *entry {
	if key == "" {
		return nil
	}
	for _, e := range o.entries[o.next:] {
		if e.ReplaceKey == key && !e.Sent {
			return e
		}
	}
	return nil
}

// refuse tells what became of sends; a nil error is: kept.
func (q *sendQueue) refuse(sends []*send, err error) {
	for _, s := range sends {
		s.kept <- err
	}
}
