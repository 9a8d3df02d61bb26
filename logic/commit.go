package logic

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/store"
)

// sending is one checked message on its way into the inbox.
type sending struct {
	row   store.Message
	guard *streamGuard // of the stream it came in; nil: none
	// done is called once with the outcome: the stored row's id and whether it had been there, or a refusal. It must not block.
	done func(r store.AppendResult, refusal *status.Error)
}

func (s *sending) refuse(e *status.Error) {
	if s.guard != nil && !e.Code.Final() {
		s.guard.close() // before the next commit looks at it
	}
	s.done(store.AppendResult{}, e)
}

// rowOverhead is what a row weighs in a batch beside its content: keys, ids, times, type.
const rowOverhead = 256

func (s *sending) weight() int { return len(s.row.Content) + rowOverhead }

// committer is the group commit: a few lanes, chosen by receiver, each with one insert in flight. A receiver stays in one lane,
// so what one device sends to one user is committed in the order in which it was checked.
type committer struct {
	node  *Node
	lanes []*lane[*sending]
}

func newCommitter(n *Node) *committer {
	c := &committer{node: n}
	for range n.cfg.CommitLanes {
		c.lanes = append(c.lanes, newLane(n.cfg.CommitQueue, n.cfg.CommitRows, n.cfg.CommitBytes, (*sending).weight, n.metrics.depth(laneCommit)))
	}
	return c
}

// put queues a checked message; false: its lane is full.
func (c *committer) put(s *sending) bool {
	return c.lanes[userHash(s.row.Owner)%uint32(len(c.lanes))].put(s)
}

// carry commits one batch. Whatever happens, each of its calls has its outcome when carry returns.
func (c *committer) carry(ctx context.Context, batch []*sending) {
	rows := make([]*sending, len(batch))
	copy(rows, batch)
	for round := 0; len(rows) > 0; round++ {
		if round == maxIDRounds {
			for _, s := range rows {
				s.refuse(status.New(status.Unavailable, "no free message id was found"))
			}
			return
		}
		rows = c.append(ctx, c.number(rows))
	}
}

// maxIDRounds bounds how often a row whose id was taken is tried with another one.
const maxIDRounds = 3

// number gives each row a new id. A row that gets none is refused.
func (c *committer) number(rows []*sending) []*sending {
	kept := rows[:0]
	for _, s := range rows {
		id, err := c.node.ids.next()
		if err != nil {
			s.refuse(status.Wrap(status.Unavailable, err, "this node takes no messages now"))
			continue
		}
		s.row.ID = id
		kept = append(kept, s)
	}
	return kept
}

// append commits rows in one insert and answers them. Rows of a stream that closed meanwhile are refused instead. A failure that is
// not transient is narrowed down by halves, until the bad row stands alone and is refused for good. The rows whose ids were taken
// are returned: they were not stored.
func (c *committer) append(ctx context.Context, rows []*sending) (collided []*sending) {
	rows = openOnly(rows)
	if len(rows) == 0 {
		return nil
	}
	results, err := c.insert(ctx, rows)
	switch {
	case err == nil:
		return c.settle(rows, results)
	case isTransient(err):
		c.node.metrics.commitFailures.Inc()
		c.node.logger.Warn("append failed, to be retried", slog.Int("rows", len(rows)), slog.Any("error", err))
		for _, s := range rows {
			s.refuse(status.New(status.Unavailable, "the message could not be stored now"))
		}
		return nil
	case len(rows) == 1:
		s := rows[0]
		c.node.logger.Error("a message that cannot be stored was refused", slog.String("domain", s.row.Owner.Domain),
			slog.String("uid", s.row.Owner.UID), slog.String("from_domain", s.row.From.Domain), slog.String("from_uid", s.row.From.UID),
			slog.Uint64("msg_id", uint64(s.row.ID)), slog.Int("content_bytes", len(s.row.Content)), slog.Any("error", err))
		s.refuse(status.New(status.Unstorable, "this message cannot be stored"))
		return nil
	}
	half := len(rows) / 2
	collided = c.append(ctx, rows[:half:half])
	return append(collided, c.append(ctx, rows[half:])...)
}

// openOnly refuses the rows whose stream has closed and returns the others.
func openOnly(rows []*sending) []*sending {
	kept := rows[:0]
	for _, s := range rows {
		if s.guard != nil && s.guard.isClosed() {
			s.refuse(errStreamClosed)
			continue
		}
		kept = append(kept, s)
	}
	return kept
}

// insert is one call to the database. A panic there counts as a row that cannot be taken.
func (c *committer) insert(ctx context.Context, rows []*sending) (results []store.AppendResult, err error) {
	n := c.node
	ctx, cancel := context.WithTimeout(ctx, n.cfg.CommitTimeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			n.metrics.panics.Inc()
			n.logger.Error("panic in an append", slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
			err = fmt.Errorf("append %d messages: panic: %v", len(rows), p)
		}
	}()
	batch := make([]store.Message, len(rows))
	for i, s := range rows {
		batch[i] = s.row
	}
	begun := time.Now()
	results, err = n.inbox.Append(ctx, batch)
	n.metrics.commitSeconds.Observe(time.Since(begun).Seconds())
	n.metrics.commitRows.Observe(float64(len(rows)))
	if err == nil && len(results) != len(rows) {
		err = fmt.Errorf("append %d messages: %d outcomes: %w", len(rows), len(results), store.ErrUnavailable)
	}
	return results, err
}

// settle tells the world of a commit: delivery is queued first, then the sender is answered, so both go on side by side.
func (c *committer) settle(rows []*sending, results []store.AppendResult) (collided []*sending) {
	n := c.node
	for i, s := range rows {
		r := results[i]
		if r.Outcome == store.IDCollision {
			n.metrics.idCollisions.Inc()
			collided = append(collided, s)
			continue
		}
		s.row.ID = r.ID
		if r.Outcome == store.Stored {
			n.bound.appended(s.row.Owner)
		}
		n.delivery.message(&s.row)
		s.done(r, nil)
	}
	return collided
}

// isTransient reports whether nothing is known of the outcome and the same call may be made again.
func isTransient(err error) bool {
	return errors.Is(err, store.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}
