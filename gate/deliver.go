package gate

import (
	"context"

	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/gen/gatepb"
	"github.com/gatepost/gatepost/idl/limits"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/idl/wire"
)

var _ gatepb.GateService = (*Gate)(nil)

// Deliver queues pushes to sessions of this gate. The bodies belong to the gate from then on. It never waits for a client.
// With another gate's epoch in the request nothing is done, and the answer has no outcomes.
func (g *Gate) Deliver(_ context.Context, req *gatepb.DeliverRequest) (*gatepb.DeliverResponse, error) {
	resp := &gatepb.DeliverResponse{GateEpoch: g.epoch}
	if req.GateEpoch != 0 && req.GateEpoch != g.epoch {
		return resp, nil
	}
	for _, it := range req.Items {
		if int(it.Payload) >= len(req.Payloads) {
			return nil, status.New(status.BadRequest, "item of payload %d, there are %d", it.Payload, len(req.Payloads))
		}
	}
	resp.Outcomes = make([]gatepb.DeliverOutcome, len(req.Items))
	shared := shareBodies(req)
	var found []entry
	for i, it := range req.Items {
		p := req.Payloads[it.Payload]
		var o gatepb.DeliverOutcome
		if it.ConnId != 0 {
			o = gatepb.DeliverOutcome_DELIVER_UNKNOWN
			if c := g.table.get(it.ConnId); c != nil {
				o = c.deliver(p, shared[it.Payload], it)
			}
		} else {
			found = g.table.find(found[:0], it.Domain, it.Uid, it.DeviceClass)
			o = deliverAll(found, p, shared[it.Payload], it)
		}
		resp.Outcomes[i] = o
		g.metrics.delivered.WithLabelValues(deliverName(o)).Inc()
	}
	return resp, nil
}

// deliverAll delivers to several sessions; the best outcome counts.
func deliverAll(to []entry, p *gatepb.Payload, shared *wire.Shared, it *gatepb.Item) gatepb.DeliverOutcome {
	best := gatepb.DeliverOutcome_DELIVER_UNKNOWN
	for _, e := range to {
		best = min(best, e.c.deliver(p, shared, it)) // queued < held < unknown
	}
	return best
}

// shareBodies are the bodies of the payloads that go to more than one place; the others are nil.
func shareBodies(req *gatepb.DeliverRequest) []*wire.Shared {
	shared := make([]*wire.Shared, len(req.Payloads))
	if len(req.Items) == len(req.Payloads) { // most calls: a message for each receiver
		return shared
	}
	uses := make([]int, len(req.Payloads))
	for _, it := range req.Items {
		if uses[it.Payload]++; uses[it.Payload] == 2 {
			shared[it.Payload] = wire.NewShared(req.Payloads[it.Payload].Body)
		}
	}
	return shared
}

// deliver queues p, whose body may be shared, if the connection has the session that it means.
func (c *conn) deliver(p *gatepb.Payload, shared *wire.Shared, it *gatepb.Item) gatepb.DeliverOutcome {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.session
	switch {
	case c.state >= stateClosing:
		return gatepb.DeliverOutcome_DELIVER_UNKNOWN
	case s == nil && (it.Session == 0 || it.Session > c.last):
		// Its LOGIN is not answered yet: the pull that follows finds the message. [G2]
		c.g.metrics.held.Inc()
		return gatepb.DeliverOutcome_DELIVER_HELD
	case s == nil,
		it.Session != 0 && it.Session != s.Number,
		it.Uid != "" && (it.Uid != s.Uid || it.Domain != s.Domain):
		return gatepb.DeliverOutcome_DELIVER_UNKNOWN
	}
	f := outFrame{cmd: uint16(p.Cmd), live: true, body: p.Body, shared: shared}
	if p.Durable && c.out.syncOwed || len(p.Body) > limits.BodyToClientBytes || !c.queueLocked(f) {
		c.g.metrics.held.Inc()
		if p.Durable || p.Cmd == uint32(clientpb.Cmd_CMD_SYNC) {
			c.oweSyncLocked()
		}
		return gatepb.DeliverOutcome_DELIVER_HELD
	}
	return gatepb.DeliverOutcome_DELIVER_QUEUED
}

func deliverName(o gatepb.DeliverOutcome) string {
	switch o {
	case gatepb.DeliverOutcome_DELIVER_QUEUED:
		return "queued"
	case gatepb.DeliverOutcome_DELIVER_HELD:
		return "held"
	default:
		return "unknown"
	}
}

// Kick closes sessions of this gate; the client is told why and who won.
func (g *Gate) Kick(_ context.Context, req *gatepb.KickRequest) (*gatepb.KickResponse, error) {
	resp := &gatepb.KickResponse{}
	var found []entry
	for _, it := range req.Items {
		found = found[:0]
		if it.ConnId == 0 {
			found = g.table.find(found, it.Domain, it.Uid, it.DeviceClass)
		} else if c := g.table.get(it.ConnId); c != nil {
			found = append(found, entry{c: c})
		}
		for _, e := range found {
			if e.c.kick(it) {
				resp.Kicked++
			}
		}
	}
	return resp, nil
}

// kick closes the connection if its session is one that it means. A connection whose LOGIN is not answered yet remembers the kick:
// what was overtaken must not win by being late. [G5]
func (c *conn) kick(it *gatepb.KickItem) bool {
	code := status.Code(it.Status)
	if code == status.OK {
		code = status.Kicked
	}
	why := cause{code: code, reason: it.Reason, kick: &clientpb.Kick{
		Status: uint32(code), Reason: it.Reason, WinnerInstallation: it.WinnerInstallation, WinnerCounter: it.WinnerCounter,
	}}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch s := c.session; {
	case c.state >= stateClosing:
		return false
	case s == nil:
		if it.BelowSession > c.last && (c.fence == nil || it.BelowSession > c.fence.below) {
			c.fence = &fence{user: userKey{it.Domain, it.Uid}, below: it.BelowSession, by: why}
		}
		return false
	case it.Uid != "" && (userKey{s.Domain, s.Uid}) != userKey{it.Domain, it.Uid}:
		return false // the connection id is of another life of this gate
	case it.BelowSession != 0 && s.Number >= it.BelowSession:
		return false
	}
	c.closeLocked(why)
	return true
}
