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
	id, err := uuid.NewV7()
	if err != nil {
		return nil, err
	}
	s := &send{
		to:      to,
		out:     m,
		born:    time.Now(),
		kept:    make(chan error, 1),
		sending: &Sending{id: ClientMsgID(id), done: make(chan struct{}), quit: c.quit},
	}
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
	switch {
	case len(m.Type) > limits.TypeBytes:
		return &Error{Code: status.TooLarge, Reason: "type has more than 64 bytes"}
	case len(m.Content) > limits.ContentBytes:
		return &Error{Code: status.TooLarge, Reason: "content has more than 32,768 bytes"}
	case m.TTL < 0 || m.TTL > limits.TTL:
		return &Error{Code: status.BadRequest, Reason: "time to live is negative or longer than seven days"}
	case m.TTL > 0 && m.TTL < time.Millisecond:
		return &Error{Code: status.BadRequest, Reason: "time to live is shorter than a millisecond"}
	}
	return nil
}

// Sending is a message on its way.
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

// send is one call of C2C that waits to be kept.
type send struct {
	to      User
	out     Outgoing
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
func (c *Client) takeSends(now time.Time) error {
	sends := c.sends.take()
	if len(sends) == 0 {
		return nil
	}
	if err := c.commit(); err != nil {
		c.sends.refuse(sends, err)
		return err
	}
	o := &c.outbox
	var kept []*send
	used := map[User]bool{}
	for _, s := range sends {
		if c.full(len(s.out.Content)) {
			s.kept <- ErrOutboxFull
			continue
		}
		t := c.nextSeq(s.to, c.serverTime(now))
		o.targets[s.to], used[s.to] = &t, true
		o.number++
		e := &entry{
			OutboxEntry: OutboxEntry{
				Number: o.number, ClientMsgID: s.sending.id, To: s.to, Stream: t.Stream, TargetSeq: t.LastSeq,
				Type: s.out.Type, Content: s.out.Content, CreatedAt: c.serverTime(s.born), TTL: s.out.TTL,
			},
			born:    s.born,
			sending: s.sending,
		}
		o.entries = append(o.entries, e)
		o.bytes += len(e.Content)
		c.changes.PutOutbox = append(c.changes.PutOutbox, e.OutboxEntry)
		kept = append(kept, s)
	}
	for to := range used {
		c.changes.PutTargets = append(c.changes.PutTargets, *o.targets[to])
	}
	c.changes.Durable = len(kept) > 0
	err := c.commit()
	c.sends.refuse(kept, err)
	return err
}

// refuse tells what became of sends; a nil error is: kept.
func (q *sendQueue) refuse(sends []*send, err error) {
	for _, s := range sends {
		s.kept <- err
	}
}
