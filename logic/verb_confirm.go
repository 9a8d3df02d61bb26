package logic

import (
	"context"
	"log/slog"

	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/store"
)

// confirm marks messages as processed by the sender's device class. Whose they are is checked in the statement that removes them
// (G4): a foreign id is passed over. The answer comes after the commit.
func (n *Node) confirm(_ context.Context, c *call, m *clientpb.Confirm) {
	if len(m.MsgIds) == 0 || len(m.MsgIds) > maxConfirmIDs {
		c.refuse(status.New(status.BadRequest, "a confirmation has 1 to %d ids", maxConfirmIDs))
		return
	}
	ids := make([]store.MsgID, len(m.MsgIds))
	for i, id := range m.MsgIds {
		ids[i] = store.MsgID(id)
	}
	x := confirming{call: c, what: store.Confirmation{Owner: c.session.user, Class: c.session.class, IDs: ids}}
	if !n.confirms.put(x) {
		c.refuse(status.New(status.Overloaded, "too many confirmations wait for the database"))
	}
}

// confirming is one confirmation on its way.
type confirming struct {
	call *call
	what store.Confirmation
}

func (x confirming) weight() int { return len(x.what.IDs) }

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

// carry commits one batch and answers it. A failure that is not transient is narrowed down by halves, so that one confirmation which
// the database does not take holds up no other.
func (c *confirmer) carry(ctx context.Context, batch []confirming) {
	what := make([]store.Confirmation, len(batch))
	ids := 0
	for i, x := range batch {
		what[i] = x.what
		ids += len(x.what.IDs)
	}
	n := c.node
	err := c.commit(ctx, what)
	switch {
	case err == nil:
		n.metrics.confirmed.Add(float64(ids))
		for _, x := range batch {
			x.call.finish(&clientpb.ConfirmAnswer{}, nil)
		}
	case !isTransient(err) && len(batch) > 1:
		half := len(batch) / 2
		c.carry(ctx, batch[:half])
		c.carry(ctx, batch[half:])
	default:
		n.logger.Warn("confirm failed, to be retried", slog.Int("confirmations", len(batch)), slog.Any("error", err))
		for _, x := range batch {
			x.call.refuse(status.New(status.Unavailable, "the confirmation could not be stored now"))
		}
	}
}

func (c *confirmer) commit(ctx context.Context, what []store.Confirmation) error {
	ctx, cancel := context.WithTimeout(ctx, c.node.cfg.CommitTimeout)
	defer cancel()
	_, err := c.node.inbox.Confirm(ctx, what)
	return err
}
