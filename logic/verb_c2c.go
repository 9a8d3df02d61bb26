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
	if refusal != nil {
		c.refuse(refusal)
		return
	}
	s := &sending{row: row, guard: c.guard, done: func(r store.AppendResult, refusal *status.Error) { n.answerC2C(c, r, refusal) }}
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
	if len(m.ClientMsgId) != 16 || [16]byte(m.ClientMsgId) == ([16]byte{}) {
		return bad("client_msg_id has 16 bytes, not all of them zero")
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
	if len(m.Type) > maxTypeBytes {
		return bad("the type has more than 64 bytes")
	}
	if err := checkText("type", m.Type); err != nil {
		return bad(err.Error())
	}
	if len(m.Content) > maxContentBytes {
		return store.Message{}, status.New(status.TooLarge, "the content has %d bytes, more than %d", len(m.Content), maxContentBytes)
	}
	const maxLifeMS = uint64(maxLife / time.Millisecond)
	ttl := m.TtlMs
	if ttl == 0 {
		ttl = maxLifeMS
	}
	if ttl > maxLifeMS {
		return bad("the time to live is above seven days")
	}
	if m.AgeMs >= ttl {
		return store.Message{}, status.New(status.Expired, "its time to live had ended before it arrived")
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
		ExpiresAt: now.Add(time.Duration(ttl-m.AgeMs) * time.Millisecond),
	}
	copy(row.ClientMsgID[:], m.ClientMsgId)
	row.Digest = store.DigestOf(row.From, row.ClientMsgID, row.Kind, row.Owner)
	return row, nil
}
