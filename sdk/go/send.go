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
	e := &entry{copy: m.Copy && to != c.cfg.User} // what one sends to himself reaches his other devices as it is
	e.Kind, e.To, e.Type, e.Content, e.TTL, e.Receipt = SendMessage, to, m.Type, m.Content, m.TTL, m.Receipt
	return c.keepSend(ctx, e)
}

// C2S keeps r in the durable outbox and returns; it is sent when its turn comes, now or after the next login, and again until it has an
// outcome: nil is accepted by the domain's topic [G1]. Reports arrive in the order of the calls; messages do not wait for them, nor they
// for messages. Errors: as C2C's.
func (c *Client) C2S(ctx context.Context, r Report) (*Sending, error) {
	if err := r.validate(); err != nil {
		return nil, err
	}
	e := &entry{}
	e.Kind, e.Type, e.Content, e.TTL, e.ReplaceKey, e.Traceparent = SendUplink, r.Type, r.Content, r.TTL, r.ReplaceKey, r.Traceparent
	return c.keepSend(ctx, e)
}

// keepSend returns when e is kept, or will not be.
func (c *Client) keepSend(ctx context.Context, e *entry) (*Sending, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return nil, err
	}
	sending := &Sending{id: ClientMsgID(id), done: make(chan struct{}), quit: c.quit}
	kept := make(chan error, 1)
	e.ClientMsgID, e.sending, e.kept = sending.id, sending, kept
	e.born = time.Now()
	e.CreatedAt = c.serverTime(e.born)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := c.sends.add(e); err != nil {
		return nil, err
	}
	select { // the loop owns e now
	case err = <-kept:
	case <-ctx.Done():
		if c.sends.withdraw(e) {
			return nil, ctx.Err()
		}
		err = <-kept // it is being committed
	}
	if err != nil {
		return nil, err
	}
	return sending, nil
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

// sendQueue gathers the calls of C2C and C2S that wait, so that one commit keeps them all: while it runs, the next ones gather.
type sendQueue struct {
	wake chan struct{} // holds one token while the loop has something to take

	mu      sync.Mutex
	waiting []*entry // without their numbers
	spare   []*entry // memory for the next waiting
	err     error    // of every call from now on
}

func (q *sendQueue) add(e *entry) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil {
		return q.err
	}
	q.waiting = append(q.waiting, e)
	poke(q.wake)
	return nil
}

// withdraw reports whether e was still waiting: it will not be kept then.
func (q *sendQueue) withdraw(e *entry) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.Index(q.waiting, e)
	if i >= 0 {
		q.waiting = slices.Delete(q.waiting, i, i+1)
	}
	return i >= 0
}

// take returns the calls that wait, which hear from the caller now.
func (q *sendQueue) take() []*entry {
	q.mu.Lock()
	defer q.mu.Unlock()
	all := q.waiting
	q.waiting, q.spare = q.spare, nil
	return all
}

// answer tells those of taken who have not heard yet; a nil error is: kept. The list itself is given back.
func (q *sendQueue) answer(taken []*entry, err error) {
	for _, e := range taken {
		if e.kept != nil {
			e.answer(err)
		}
	}
	taken = emptied(taken)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.spare = taken
}

func (e *entry) answer(err error) {
	e.kept <- err
	e.kept = nil
}

// close refuses all calls, those that wait too.
func (q *sendQueue) close(err error) {
	q.mu.Lock()
	q.err = err
	q.mu.Unlock()
	q.answer(q.take(), err)
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
		c.sends.answer(sends, err)
		return err
	}
	kept, numbered := false, false
	for _, e := range sends {
		o := c.outbox.of(e.Kind)
		old := o.replaceable(e.ReplaceKey)
		if o.full(len(e.Content), old) {
			e.answer(ErrOutboxFull)
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
		}
		c.outbox.number++
		e.Number = c.outbox.number
		o.add(e)
		c.changes.PutOutbox = append(c.changes.PutOutbox, e.OutboxEntry)
		kept = true
	}
	if numbered {
		c.saveIdentity()
	}
	c.writeTargets()
	c.changes.Durable = kept
	err := c.commit()
	c.sends.answer(sends, err)
	return err
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
