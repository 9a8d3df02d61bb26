package logic

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/store"
)

// confirm marks messages as processed by the sender's device class. Whose they are is checked in the statement that removes them
// (G4): a foreign id is passed over, and makes no receipt. The answer comes after the commit.
func (n *Node) confirm(_ context.Context, c *call, m *clientpb.Confirm) {
	if count := len(m.MsgIds) + len(m.ReceiptIds); count == 0 || count > maxConfirmIDs {
		c.refuse(status.New(status.BadRequest, "a confirmation has 1 to %d ids", maxConfirmIDs))
		return
	}
	what := store.Confirmation{Owner: c.session.user, Class: c.session.class, IDs: make([]store.MsgID, len(m.MsgIds))}
	for i, id := range m.MsgIds {
		what.IDs[i] = store.MsgID(id)
	}
	for _, id := range m.ReceiptIds {
		what.Receipts = append(what.Receipts, store.ReceiptID{Of: store.MsgID(id)})
	}
	if !n.confirms.put(confirming{call: c, what: what}) {
		c.refuse(status.New(status.Overloaded, "too many confirmations wait for the database"))
	}
}

// confirming is one confirmation on its way.
type confirming struct {
	call *call // nil: the server's own
	what store.Confirmation
}

func (x confirming) ids() int { return len(x.what.IDs) + len(x.what.Receipts) }

// weight counts a receipt twice: it is read and written too.
func (x confirming) weight() int { return len(x.what.IDs) + 2*len(x.what.Receipts) }

func (x confirming) finish() {
	if x.call != nil {
		x.call.finish(&clientpb.ConfirmAnswer{}, nil)
	}
}

func (x confirming) refuse(e *status.Error) {
	if x.call != nil {
		x.call.refuse(e)
	}
}

// maxConfirmBatchIDs caps the ids of one transaction.
const maxConfirmBatchIDs = 2048

// confirmer batches the confirmations of many users, a user in one lane.
type confirmer struct {
	node  *Node
	lanes []*lane[confirming]
}

func newConfirmer(n *Node) *confirmer {
	c := &confirmer{node: n}
	for range n.cfg.ConfirmLanes {
		c.lanes = append(c.lanes, newLane(n.cfg.CommitQueue, n.cfg.CommitRows, maxConfirmBatchIDs, confirming.weight, n.metrics.depth(laneConfirm)))
	}
	return c
}

func (c *confirmer) put(x confirming) bool {
	return c.lanes[userHash(x.what.Owner)%uint32(len(c.lanes))].put(x)
}

// ownCopy confirms a copy for the device class that it was sent from, which needs none. It is best effort: a copy that stays is
// confirmed by that device when it pulls.
func (c *confirmer) ownCopy(row *store.Message) {
	c.put(confirming{what: store.Confirmation{Owner: row.Owner, Class: row.FromClass, IDs: []store.MsgID{row.ID}}})
}

// lost answers what a panic left.
func (c *confirmer) lost(batch []confirming) {
	for _, x := range batch {
		x.refuse(errOutcomeUnknown)
	}
}

// carry commits one batch and answers it. Ids of receipts that were taken are replaced, a few times. A failure that is not transient is
// narrowed down by halves, so that one confirmation which the database does not take holds up no other.
func (c *confirmer) carry(ctx context.Context, batch []confirming) {
	n := c.node
	var receipts []store.Message
	err := store.ErrIDCollision
	for round := 0; round < maxIDRounds && errors.Is(err, store.ErrIDCollision); round++ {
		if round > 0 {
			n.metrics.idCollisions.Inc()
		}
		if batch = c.number(batch); len(batch) == 0 {
			return
		}
		receipts, err = c.commit(ctx, batch)
	}
	switch {
	case err == nil:
		c.settle(batch, receipts)
	case !isTransient(err) && !errors.Is(err, store.ErrIDCollision) && len(batch) > 1:
		half := len(batch) / 2
		c.carry(ctx, batch[:half:half])
		c.carry(ctx, batch[half:])
	default:
		n.logger.Warn("confirm failed, to be retried", slog.Int("confirmations", len(batch)), slog.Any("error", err))
		for _, x := range batch {
			x.refuse(status.New(status.Unavailable, "the confirmation could not be stored now"))
		}
	}
}

// number gives each receipt that may come of batch a new id, and returns the confirmations that may go on: one whose receipts get no
// ids is refused.
func (c *confirmer) number(batch []confirming) []confirming {
	kept := make([]confirming, 0, len(batch))
next:
	for _, x := range batch {
		for i := range x.what.Receipts {
			id, err := c.node.ids.next()
			if err != nil {
				x.refuse(status.Wrap(status.Unavailable, err, "this node makes no receipts now"))
				continue next
			}
			x.what.Receipts[i].ID = id
		}
		kept = append(kept, x)
	}
	return kept
}

// commit is one call to the database. It returns the receipts that were stored.
func (c *confirmer) commit(ctx context.Context, batch []confirming) (receipts []store.Message, err error) {
	n := c.node
	now := n.now().Truncate(time.Millisecond)
	what := make([]store.Confirmation, len(batch))
	for i, x := range batch {
		what[i] = x.what
		what[i].At, what[i].ReceiptExpires = now, now.Add(maxLife)
	}
	ctx, cancel := context.WithTimeout(ctx, n.cfg.CommitTimeout)
	defer cancel()
	return n.inbox.Confirm(ctx, what)
}

// settle tells the world of a commit: the senders get their receipts, the receivers their answers.
func (c *confirmer) settle(batch []confirming, receipts []store.Message) {
	n := c.node
	n.metrics.receipts.Add(float64(len(receipts)))
	for i := range receipts {
		n.bound.appended(receipts[i].Owner)
		n.delivery.message(&receipts[i])
	}
	for _, x := range batch {
		n.metrics.confirmed.Add(float64(x.ids()))
		x.finish()
	}
}
