package logic

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"

	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/store"
)

// fullness says which inboxes had no room for a message when it came.
type fullness struct{ row, copy bool }

func (f fullness) any() bool { return f.row || f.copy }

var (
	errInboxFull = status.New(status.InboxFull, "the receiver has too many messages that he has not confirmed")
	errCopyFull  = status.New(status.InboxFull, "the sender's other devices have too many messages that they have not confirmed")
)

// repeats tells which messages lie in the inbox already, many at once: what was accepted stays accepted, however full the inbox has
// become (G2).
type repeats struct {
	node *Node
	asks *lane[*repeatAsk]
}

// repeatAsk is one look-up. answer has room for its one answer.
type repeatAsk struct {
	digests []store.Digest
	answer  chan repeatAnswer
}

type repeatAnswer struct {
	ids []store.MsgID
	err error
}

func (a *repeatAsk) weight() int { return len(a.digests) }

var errRepeatsBusy = errors.New("too many messages to full inboxes wait to be looked up")

func newRepeats(n *Node) *repeats {
	return &repeats{node: n, asks: newLane(n.cfg.CommitQueue, n.cfg.CommitRows, n.cfg.CommitRows, (*repeatAsk).weight, n.metrics.depth(laneRepeat))}
}

// ask looks digests up, which stay the caller's but do not change, and waits for the answer until ctx ends.
func (r *repeats) ask(ctx context.Context, digests []store.Digest) ([]store.MsgID, error) {
	a := &repeatAsk{digests: digests, answer: make(chan repeatAnswer, 1)}
	if !r.asks.put(a) {
		return nil, errRepeatsBusy
	}
	select {
	case x := <-a.answer:
		return x.ids, x.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// carry looks a batch up in one query.
func (r *repeats) carry(ctx context.Context, asks []*repeatAsk) {
	var digests []store.Digest
	for _, a := range asks {
		digests = append(digests, a.digests...)
	}
	ids, err := r.find(ctx, digests)
	for _, a := range asks {
		if err != nil {
			a.answer <- repeatAnswer{err: err}
			continue
		}
		a.answer <- repeatAnswer{ids: ids[:len(a.digests):len(a.digests)]}
		ids = ids[len(a.digests):]
	}
}

// find is one call to the database. A panic there counts as no answer.
func (r *repeats) find(ctx context.Context, digests []store.Digest) (ids []store.MsgID, err error) {
	n := r.node
	ctx, cancel := context.WithTimeout(ctx, n.cfg.CommitTimeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			n.metrics.panics.Inc()
			n.logger.Error("panic in a look-up of messages", slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
			err = fmt.Errorf("look up %d messages: panic: %v", len(digests), p)
		}
	}()
	ids, err = n.inbox.Find(ctx, digests, n.now())
	if err == nil && len(ids) != len(digests) {
		err = fmt.Errorf("look up %d messages: %d answers", len(digests), len(ids))
	}
	return ids, err
}

// checkFull looks up those messages of batch that found no room when they came, and returns the refusals in the order of batch; nil:
// the message may go. What is there goes as the repetition that it is, marked so in batch; what is not is refused for good.
func (v *vetter) checkFull(ctx context.Context, batch []vetted) []*status.Error {
	out := make([]*status.Error, len(batch))
	var digests []store.Digest
	for _, s := range batch {
		if s.full.any() {
			digests = append(digests, s.row.Digest)
			if s.copy != nil {
				digests = append(digests, s.copy.Digest)
			}
		}
	}
	if len(digests) == 0 {
		return out
	}
	ids, err := v.repeats.ask(ctx, digests)
	for i := range batch {
		s := &batch[i]
		if !s.full.any() {
			continue
		}
		if err != nil {
			out[i] = status.Wrap(status.Unavailable, err, "whether the message is stored already cannot be told now")
			continue
		}
		rowThere, copyThere := ids[0] != 0, false
		ids = ids[1:]
		if s.copy != nil {
			copyThere, ids = ids[0] != 0, ids[1:]
		}
		switch {
		case !rowThere && s.full.row:
			out[i] = errInboxFull
		case !rowThere && !copyThere:
			out[i] = errCopyFull
		}
		s.repeated = rowThere
		if rowThere && s.full.copy && !copyThere {
			s.copy = nil // it was there with the message, and has left since: there is no room to store it again
		}
	}
	return out
}
