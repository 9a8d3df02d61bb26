package logic

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"github.com/gatepost/gatepost/idl/gen/gatepb"
	"github.com/gatepost/gatepost/store"
)

// parcel is one item for one gate: a push, or a kick.
type parcel struct {
	push  *push
	to    store.UserKey
	route store.Route // zero: every session of the user at that gate
	kick  *gatepb.KickItem
	tries int
	watch *awayWatch // nil: nobody is to hear if the user is away
	// done is told what became of a push that lies in no inbox. It must not block. nil: a push that fails becomes a hint.
	done func(parcelOutcome)
}

func (p parcel) weight() int {
	if p.push == nil {
		return 0
	}
	return len(p.push.body)
}

// senders has a sender for each gate that something was queued for: one call in flight, and what arrives meanwhile goes with the
// next one. A gate that hangs fills its own queue and holds up no other.
type senders struct {
	node *Node
	wg   sync.WaitGroup

	mu     sync.Mutex
	byGate map[uint64]*sender // by gate epoch
	closed bool
}

type sender struct {
	gate store.Gate
	lane *lane[parcel]
}

func newSenders(n *Node) *senders {
	return &senders{node: n, byGate: make(map[uint64]*sender)}
}

// put queues p for gate. What does not fit becomes a hint; a kick that does not fit is dropped and counted.
func (s *senders) put(gate store.Gate, p parcel) {
	s.mu.Lock()
	to := s.byGate[gate.Epoch]
	if to == nil && !s.closed {
		to = &sender{gate: gate, lane: newLane(s.node.cfg.DeliveryQueue, maxDeliverItems, maxDeliverBytes, parcel.weight, s.node.metrics.depth(laneGate))}
		s.byGate[gate.Epoch] = to
		s.wg.Add(1)
		s.node.spawn(func(ctx context.Context) {
			defer s.wg.Done()
			to.lane.run(ctx, guarded(s.node, func(ctx context.Context, batch []parcel) { s.carry(ctx, to.gate, batch) }, nil))
		})
	}
	s.mu.Unlock()
	if to == nil || !to.lane.put(p) {
		s.failed(p)
	}
}

// retain ends the senders of gates that are gone.
func (s *senders) retain(alive func(epoch uint64) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for epoch, x := range s.byGate {
		if !alive(epoch) {
			delete(s.byGate, epoch)
			x.lane.close()
		}
	}
}

// drain sends what waits and ends all senders.
func (s *senders) drain() {
	s.mu.Lock()
	s.closed = true
	for _, x := range s.byGate {
		x.lane.close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// carry sends one batch to one gate: kicks first.
func (s *senders) carry(ctx context.Context, gate store.Gate, batch []parcel) {
	var kicks []parcel
	pushes := batch[:0]
	for _, p := range batch {
		if p.kick != nil {
			kicks = append(kicks, p)
		} else {
			pushes = append(pushes, p)
		}
	}
	if len(kicks) > 0 {
		s.kick(ctx, gate, kicks)
	}
	if len(pushes) > 0 {
		s.deliver(ctx, gate, pushes)
	}
}

func (s *senders) deliver(ctx context.Context, gate store.Gate, batch []parcel) {
	n := s.node
	req := &gatepb.DeliverRequest{GateEpoch: gate.Epoch, Items: make([]*gatepb.Item, len(batch))}
	items := make([]gatepb.Item, len(batch))
	payloads := make([]gatepb.Payload, 0, len(batch))
	index := make(map[*push]uint32, len(batch))
	for i, p := range batch {
		at, ok := index[p.push]
		if !ok {
			at = uint32(len(payloads))
			index[p.push] = at
			payloads = append(payloads, gatepb.Payload{Cmd: uint32(p.push.cmd), Body: p.push.body, Durable: p.push.durable})
			req.Payloads = append(req.Payloads, &payloads[at])
		}
		items[i] = gatepb.Item{Payload: at, ConnId: p.route.ConnID, Domain: p.to.Domain, Uid: p.to.UID, DeviceClass: int32(p.route.Class), Session: p.route.Session}
		req.Items[i] = &items[i]
	}
	ctx, cancel := context.WithTimeout(ctx, n.cfg.DeliverTimeout)
	defer cancel()
	res, err := n.reach.Deliver(ctx, gate.RPCAddress, req)
	if err == nil && res.GateEpoch == gate.Epoch && len(res.Outcomes) != len(batch) {
		err = fmt.Errorf("deliver %d items: %d outcomes", len(batch), len(res.Outcomes))
	}
	if err != nil {
		n.metrics.deliverFailures.Inc()
		n.logger.Warn("delivery failed, its receivers are hinted", slog.String("gate", gate.Name), slog.String("address", gate.RPCAddress),
			slog.Int("items", len(batch)), slog.Any("error", err))
		for _, p := range batch {
			s.failed(p)
		}
		return
	}
	for i, p := range batch {
		outcome := gatepb.DeliverOutcome_DELIVER_UNKNOWN // another gate stands at that address now: the route is wrong
		if res.GateEpoch == gate.Epoch {
			outcome = res.Outcomes[i]
		}
		n.metrics.delivered(outcome)
		if p.done != nil {
			p.done(outcomeOf(outcome))
		}
		if outcome == gatepb.DeliverOutcome_DELIVER_UNKNOWN && p.route.Session != 0 {
			n.unroute.put(wrongRoute{ended: ended{user: p.to, class: p.route.Class, session: p.route.Session}})
		}
		p.watch.one(outcomeOf(outcome)) // after the route went that way: what is done next finds it gone
	}
}

func (s *senders) kick(ctx context.Context, gate store.Gate, batch []parcel) {
	n := s.node
	req := &gatepb.KickRequest{Items: make([]*gatepb.KickItem, len(batch))}
	for i, p := range batch {
		req.Items[i] = p.kick
	}
	ctx, cancel := context.WithTimeout(ctx, n.cfg.DeliverTimeout)
	defer cancel()
	if _, err := n.reach.Kick(ctx, gate.RPCAddress, req); err != nil {
		n.logger.Warn("kick failed", slog.String("gate", gate.Name), slog.String("address", gate.RPCAddress), slog.Int("items", len(batch)), slog.Any("error", err))
		for _, p := range batch {
			if p.tries++; p.tries < maxKickTries {
				s.put(gate, p)
			} else {
				s.failed(p)
			}
		}
	}
}

// maxKickTries bounds the tries of a kick. A gate that missed it learns in its next walk that the session was replaced.
const maxKickTries = 3

// failed takes what could not be sent.
func (s *senders) failed(p parcel) {
	if p.kick != nil {
		s.node.metrics.kicksDropped.Inc()
		return
	}
	if p.done != nil {
		p.done(parcelFailed)
		return
	}
	s.node.hints.add(p.to, p.tries)
	p.watch.one(parcelFailed)
}
