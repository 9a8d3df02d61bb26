package logic

import (
	"context"
	"time"

	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/store"
)

// c2c takes a message from one user to another: everything is checked here, so that the commit finds only what it can take.
// The answer comes from the commit lane, after the commit (G1).
func (n *Node) c2c(_ context.Context, c *call, m *clientpb.C2C) {
	row, refusal := n.checkC2C(c.session, m)
	if refusal == nil {
		refusal = n.spend(c.session.user.Domain, rateMessages, 1)
	}
	if refusal != nil {
		c.refuse(refusal)
		return
	}
	s := &sending{row: row, guard: c.guard, done: func(r store.AppendResult, refusal *status.Error) { n.answerC2C(c, r, refusal) }}
	if m.Copy != nil {
		if s.copy, refusal = copyOf(&row, m.Copy); refusal != nil {
			c.refuse(refusal)
			return
		}
	}
	if refusal := n.admit(s); refusal != nil {
		c.refuse(refusal)
	}
}

func (n *Node) answerC2C(c *call, r store.AppendResult, refusal *status.Error) {
	if refusal != nil {
		c.refuse(refusal)
		return
	}
	c.finish(&clientpb.C2CAnswer{MsgId: uint64(r.ID), Duplicate: r.Outcome == store.Duplicate, ServerTimeMs: n.serverTimeMS()}, nil)
}

// checkC2C makes the inbox row of m, all but its id, or says why there is none.
func (n *Node) checkC2C(from session, m *clientpb.C2C) (store.Message, *status.Error) {
	bad := func(reason string) (store.Message, *status.Error) {
		return store.Message{}, status.New(status.BadRequest, "%s", reason)
	}
	if m.Stream == 0 || m.TargetSeq == 0 {
		return bad("stream and target_seq are above zero")
	}
	if m.To == nil {
		return bad("there is no receiver")
	}
	to := store.UserKey{Domain: m.To.Domain, UID: m.To.Uid}
	if err := checkUser(to); err != nil {
		return bad("receiver: " + err.Error())
	}
	left, refusal := checkSent(n.domain(from.user.Domain), m.ClientMsgId, m.Type, m.Content, m.AgeMs, m.TtlMs)
	if refusal != nil {
		return store.Message{}, refusal
	}
	now := n.now().Truncate(time.Millisecond)
	row := store.Message{
		Owner:     to,
		From:      from.user,
		FromClass: from.class,
		Stream:    m.Stream,
		TargetSeq: m.TargetSeq,
		Kind:      store.KindC2C,
		Type:      m.Type,
		Content:   m.Content,
		CreatedAt: now,
		ExpiresAt: now.Add(left),
	}
	if m.Receipt {
		row.Flags |= store.FlagReceipt
	}
	copy(row.ClientMsgID[:], m.ClientMsgId)
	row.Digest = store.DigestOf(row.From, row.ClientMsgID, row.Kind, row.Owner)
	return row, nil
}

// copyOf makes the row that the sender's other devices get, all but its id, or says why the message is refused for it.
func copyOf(row *store.Message, number *clientpb.CopyNumber) (*store.Message, *status.Error) {
	if number.Stream == 0 || number.TargetSeq == 0 {
		return nil, status.New(status.BadRequest, "stream and target_seq of a copy are above zero")
	}
	c := *row
	c.Owner, c.Target = row.From, row.Owner
	c.Kind, c.Flags = store.KindCopy, 0
	c.Stream, c.TargetSeq = number.Stream, number.TargetSeq
	c.Digest = store.DigestOf(c.From, c.ClientMsgID, c.Kind, c.Owner)
	return &c, nil
}
