package gatepost

import (
	"time"

	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/limits"
	"github.com/gatepost/gatepost/idl/status"
)

// confirmMany ids do not wait for the pause to end: a flood must not fill the inbox.
const confirmMany = 32

// confirms tells the server what needs not be kept for this device any more. The first CONFIRM after a quiet time leaves at once. While one
// is on its way, and for Timing.ConfirmPause after it left, the next one gathers, like a delayed acknowledgement of TCP (RFC 1122,
// 4.2.3.2): nobody waits for it, and each costs the whole way to the database and back. A pull and Logout end the pause, so that what was
// shown before them is not met again. Each is repeated until it is answered OK.
// The loop owns it.
type confirms struct {
	queue   []confirm
	queued  map[uint64]struct{} // msg_ids in queue or on their way
	out     []confirm           // on their way
	backoff backoff
	retryAt time.Time // after a failure
	pauseTo time.Time // after one left
}

type confirm struct {
	msgID   uint64
	number  uint64 // of the Received that is forgotten after it; 0: none
	receipt bool   // the sender wants to hear of it
}

// add queues a confirmation. It is called when the message is kept as shown, or was before.
// number is that of the Received that is forgotten after it, 0: none.
func (q *confirms) add(m *Message, number uint64) {
	if q.queued == nil {
		q.queued = map[uint64]struct{}{}
	}
	if _, there := q.queued[m.MsgID]; there {
		return
	}
	q.queued[m.MsgID] = struct{}{}
	q.queue = append(q.queue, confirm{m.MsgID, number, m.Receipt})
}

// interrupted is called when the connection ends: whether the last CONFIRM arrived is not known.
func (q *confirms) interrupted() {
	q.queue = append(q.out, q.queue...)
	q.out = nil
	q.retryAt = time.Time{}
	q.hurry()
}

// hurry ends a pause: what is gathered leaves at once, or else what comes next.
func (q *confirms) hurry() { q.pauseTo = time.Time{} }

func (c *Client) pumpConfirms(now time.Time) time.Time {
	q := &c.confirms
	if !c.link.loggedIn || len(q.out) > 0 || len(q.queue) == 0 {
		return time.Time{}
	}
	if now.Before(q.retryAt) {
		return q.retryAt
	}
	if now.Before(q.pauseTo) && len(q.queue) < confirmMany {
		return q.pauseTo
	}
	q.pauseTo = now.Add(c.cfg.Timing.ConfirmPause)
	n := min(len(q.queue), limits.ConfirmIDs)
	q.out = q.queue[:n:n]
	q.queue = q.queue[n:]
	body := &clientpb.Confirm{MsgIds: make([]uint64, 0, n)}
	for _, one := range q.out {
		if one.receipt {
			body.ReceiptIds = append(body.ReceiptIds, one.msgID)
		} else {
			body.MsgIds = append(body.MsgIds, one.msgID)
		}
	}
	c.request(clientpb.Cmd_CMD_CONFIRM, 0, body, c.cfg.Timing.Request, c.confirmAnswered)
	return time.Time{}
}

func (c *Client) confirmAnswered(code status.Code, _ []byte, err *Error) {
	q := &c.confirms
	if err != nil && (!code.Final() || code == status.NotLoggedIn) {
		q.interrupted()
		q.retryAt = time.Now().Add(q.backoff.next(err.RetryAfter))
		return
	}
	if err != nil {
		// Repeated as it is, it would be refused again. The messages come back with a pull and are confirmed anew.
		c.log.Error("confirmation refused", "count", len(q.out), "code", code.String(), "reason", err.Reason)
	}
	q.backoff.reset()
	for _, one := range q.out {
		delete(q.queued, one.msgID)
		if one.number != 0 {
			c.changes.DeleteReceived = append(c.changes.DeleteReceived, one.number)
		}
	}
	q.out = nil
}
