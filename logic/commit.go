package logic

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"time"

	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/store"
)

// sending is one checked message on its way into the inbox, and the copy that its sender's other devices get, if he wants one.
// Both are rows of one insert; the outcome of the message is that of its main row.
type sending struct {
	row   store.Message
	copy  *store.Message // nil: none
	guard *streamGuard   // of the stream it came in; nil: none
	// done is called once with the outcome: the stored row's id and whether it had been there, or a refusal. It must not block.
	done func(r store.AppendResult, refusal *status.Error)

	// owned by whoever has it now: the vetter, then the commit lane
	told bool // done was called
	// owned by the commit lane. A row that has its outcome is not inserted again when the other one needs a new id.
	rowDone, copyDone bool
	result            store.AppendResult // of row
}

func (s *sending) refuse(e *status.Error) {
	if s.told {
		return
	}
	if s.guard != nil && !e.Code.Final() {
		s.guard.close() // before the next commit looks at it
	}
	s.tell(store.AppendResult{}, e)
}

// tell gives s its outcome; the first one counts.
func (s *sending) tell(r store.AppendResult, refusal *status.Error) {
	if s.told {
		return
	}
	s.told = true
	s.done(r, refusal)
}

// open lists the rows that have no outcome yet, the main row first.
func (s *sending) open() (rows [2]*store.Message, count int) {
	if !s.rowDone {
		rows[count] = &s.row
		count++
	}
	if s.copy != nil && !s.copyDone {
		rows[count] = s.copy
		count++
	}
	return rows, count
}

// rows is how many rows s has.
func (s *sending) rows() int {
	if s.copy != nil {
		return 2
	}
	return 1
}

// rowOverhead is what a row weighs in a batch beside its content: keys, ids, times, type.
const rowOverhead = 256

func (s *sending) weight() int {
	return s.rows() * (len(s.row.Content) + rowOverhead)
}

// committer is the group commit: a few lanes, chosen by sender, each with one insert in flight. A sender stays in one lane, so what
// one device sends to one user is committed in the order in which it was checked, and so are the copies of all that it sends, which
// are numbered together. Pushes are not numbered, and have one sender for a whole domain: their lanes are chosen by receiver.
type committer struct {
	node  *Node
	lanes []*lane[*sending]
}

func newCommitter(n *Node) *committer {
	c := &committer{node: n}
	for range n.cfg.CommitLanes {
		l := newLane(n.cfg.CommitQueue, n.cfg.CommitRows, n.cfg.CommitBytes, (*sending).weight, n.metrics.depth(laneCommit))
		l.fit = c.fit
		c.lanes = append(c.lanes, l)
	}
	return c
}

// fit is how many of batch are inserted together: as many as fill whole statements. Were the others inserted, too, each remainder would
// be a statement more, and the insert a transaction of several ways to the database and back. So they wait for the next: at most a fifth,
// for messages with copies, which are two rows, may add up to nothing that fits; then all go.
func (c *committer) fit(batch []*sending) int {
	most, whole, rows := 1, 1, 0
	for i, s := range batch {
		if rows += s.rows(); rows > c.node.cfg.CommitRows && i > 0 {
			break
		}
		most = i + 1
		if rest := rows % store.MaxStatementRows; rest == 0 || rest == store.StatementRows(rest) {
			whole = most
		}
	}
	if whole*5 < most*4 {
		return most
	}
	return whole
}

// put queues a checked message; false: its lane is full.
func (c *committer) put(s *sending) bool {
	by := s.row.From
	if s.row.Kind == store.KindS2C {
		by = s.row.Owner
	}
	return c.lanes[userHash(by)%uint32(len(c.lanes))].put(s)
}

// lost answers what a panic left: it may be stored.
func (c *committer) lost(batch []*sending) {
	for _, s := range batch {
		s.refuse(errOutcomeUnknown)
	}
}

// carry commits one batch. Whatever happens, each of its calls has its outcome when carry returns.
func (c *committer) carry(ctx context.Context, batch []*sending) {
	open := slices.Clone(batch)
	for round := 0; len(open) > 0; round++ {
		if round == maxIDRounds {
			for _, s := range open {
				s.refuse(status.New(status.Unavailable, "no free message id was found"))
			}
			return
		}
		open = c.append(ctx, c.number(open))
	}
}

// maxIDRounds bounds how often a row whose id was taken is tried with another one.
const maxIDRounds = 3

// number gives each row without an outcome a new id. A message that gets none is refused.
func (c *committer) number(batch []*sending) []*sending {
	kept := batch[:0]
next:
	for _, s := range batch {
		open, count := s.open()
		for _, row := range open[:count] {
			id, err := c.node.ids.next()
			if err != nil {
				s.refuse(status.Wrap(status.Unavailable, err, "this node takes no messages now"))
				continue next
			}
			row.ID = id
		}
		kept = append(kept, s)
	}
	return kept
}

// append commits messages in one insert and answers them. Those of a stream that closed meanwhile are refused instead. A failure that
// is not transient is narrowed down by halves, until the bad message stands alone and is refused for good. The messages that have a
// row whose id was taken are returned: that row was not stored.
func (c *committer) append(ctx context.Context, batch []*sending) (collided []*sending) {
	batch = openOnly(batch)
	if len(batch) == 0 {
		return nil
	}
	rows := make([]store.Message, 0, len(batch))
	for _, s := range batch {
		open, count := s.open()
		for _, row := range open[:count] {
			rows = append(rows, *row)
		}
	}
	half := len(batch) / 2
	if len(rows) > c.node.cfg.CommitRows && half > 0 {
		collided = c.append(ctx, batch[:half:half]) // copies made it too large for one insert
		return append(collided, c.append(ctx, batch[half:])...)
	}
	results, err := c.insert(ctx, rows)
	switch {
	case err == nil:
		return c.settle(batch, results)
	case isTransient(err):
		c.node.metrics.commitFailures.Inc()
		c.node.logger.Warn("append failed, to be retried", slog.Int("rows", len(rows)), slog.Any("error", err))
		for _, s := range batch {
			s.refuse(status.New(status.Unavailable, "the message could not be stored now"))
		}
		return nil
	case len(batch) == 1:
		c.poison(batch[0], err)
		return nil
	}
	collided = c.append(ctx, batch[:half:half])
	return append(collided, c.append(ctx, batch[half:])...)
}

// poison refuses a message that the database will never take. When only its copy is left, which had needed another id, the message
// itself is stored and its sender hears so.
func (c *committer) poison(s *sending, err error) {
	c.node.logger.Error("a message that cannot be stored was refused", slog.String("domain", s.row.Owner.Domain),
		slog.String("uid", s.row.Owner.UID), slog.String("from_domain", s.row.From.Domain), slog.String("from_uid", s.row.From.UID),
		slog.Uint64("msg_id", uint64(s.row.ID)), slog.Bool("copy", s.rowDone), slog.Int("content_bytes", len(s.row.Content)), slog.Any("error", err))
	if s.rowDone {
		s.tell(s.result, nil)
		return
	}
	s.refuse(status.New(status.Unstorable, "this message cannot be stored"))
}

// openOnly refuses the messages whose stream has closed and returns the others.
func openOnly(batch []*sending) []*sending {
	kept := batch[:0]
	for _, s := range batch {
		if s.guard != nil && s.guard.isClosed() {
			s.refuse(errStreamClosed)
			continue
		}
		kept = append(kept, s)
	}
	return kept
}

// insert is one call to the database. A panic there counts as a row that cannot be taken.
func (c *committer) insert(ctx context.Context, rows []store.Message) (results []store.AppendResult, err error) {
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
	begun := time.Now()
	results, err = n.inbox.Append(ctx, rows)
	n.metrics.commitSeconds.Observe(time.Since(begun).Seconds())
	n.metrics.commitRows.Observe(float64(len(rows)))
	if err == nil && len(results) != len(rows) {
		err = fmt.Errorf("append %d messages: %d outcomes: %w", len(rows), len(results), store.ErrUnavailable)
	}
	return results, err
}

// settle tells the world of a commit: delivery is queued first, then the sender is answered, so both go on side by side.
func (c *committer) settle(batch []*sending, results []store.AppendResult) (collided []*sending) {
	for _, s := range batch {
		if !s.rowDone {
			s.rowDone = c.settleRow(&s.row, results[0])
			s.result, results = results[0], results[1:]
		}
		if s.copy != nil && !s.copyDone {
			if s.copyDone = c.settleRow(s.copy, results[0]); s.copyDone {
				c.node.confirms.ownCopy(s.copy)
			}
			results = results[1:]
		}
		if !s.rowDone || s.copy != nil && !s.copyDone {
			collided = append(collided, s)
			continue
		}
		s.tell(s.result, nil)
	}
	return collided
}

// settleRow delivers a row that is stored; false: its id was taken, and it is not.
func (c *committer) settleRow(row *store.Message, r store.AppendResult) bool {
	n := c.node
	if r.Outcome == store.IDCollision {
		n.metrics.idCollisions.Inc()
		return false
	}
	row.ID = r.ID
	if r.Outcome == store.Stored {
		n.bound.appended(row.Owner)
	}
	n.delivery.message(row)
	return true
}

// isTransient reports whether nothing is known of the outcome and the same call may be made again.
func isTransient(err error) bool {
	return errors.Is(err, store.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}
