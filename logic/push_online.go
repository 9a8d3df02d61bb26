package logic

import (
	"context"
	"sync"

	"github.com/cloudwego/prutal"

	"github.com/gatepost/gatepost/idl/gen/appserverpb"
	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/gen/gatepb"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/store"
)

// parcelOutcome is what became of a parcel, in the order in which the better one of several counts.
type parcelOutcome uint8

const (
	parcelUnknown parcelOutcome = iota // no such session: the route is wrong
	parcelFailed                       // the gate was not reached: nothing is known
	parcelHeld                         // the connection could not take it
	parcelQueued
)

func outcomeOf(o gatepb.DeliverOutcome) parcelOutcome {
	switch o {
	case gatepb.DeliverOutcome_DELIVER_QUEUED:
		return parcelQueued
	case gatepb.DeliverOutcome_DELIVER_HELD:
		return parcelHeld
	default:
		return parcelUnknown
	}
}

var (
	errPushHeld   = status.New(status.Overloaded, "the connection of the user cannot take it now")
	errPushFailed = status.New(status.Unavailable, "the gate of the user cannot be reached now")
)

// pushOnline hands a push to the live connections of its targets: one look-up for all of them, one payload, and for each gate as few
// calls as its size allows. It needs neither the database nor, while every gate can be asked, the presence table.
func (n *Node) pushOnline(ctx context.Context, p *pushing) {
	body, err := n.encodeOnline(p)
	if err != nil {
		p.each(func(i int, _ store.UserKey) {
			p.refuse(i, status.Wrap(status.Unavailable, err, "the message could not be encoded"))
		})
		return
	}
	var users []store.UserKey
	for _, u := range p.users {
		if u != (store.UserKey{}) {
			users = append(users, u)
		}
	}
	where, sure := n.locateSure(ctx, users)
	next := 0
	p.each(func(i int, user store.UserKey) {
		stops := where[next]
		next++
		switch {
		case len(stops) == 0 && sure:
			p.settleOnline(i, parcelUnknown)
			return
		case len(stops) == 0: // the table is away, and this node has heard of no gate yet
			p.refuse(i, errPushFailed)
			return
		}
		t := &onlineTarget{left: len(stops), settle: func(o parcelOutcome) { p.settleOnline(i, o) }}
		for _, at := range stops {
			n.senders.put(at.gate, parcel{push: body, to: user, route: at.route, done: t.one})
		}
	})
}

func (p *pushing) settleOnline(i int, o parcelOutcome) {
	p.settle(i, func(r *appserverpb.PushResult) {
		switch o {
		case parcelQueued:
			r.Outcome = appserverpb.PushOutcome_PUSH_SENT
		case parcelUnknown:
			r.Outcome = appserverpb.PushOutcome_PUSH_NOT_ONLINE
		case parcelHeld:
			refusePush(r, errPushHeld)
		default:
			refusePush(r, errPushFailed)
		}
	})
}

// onlineTarget gathers what the stops of one target said.
type onlineTarget struct {
	settle func(best parcelOutcome)

	mu   sync.Mutex
	left int
	best parcelOutcome
}

func (t *onlineTarget) one(o parcelOutcome) {
	t.mu.Lock()
	t.left--
	t.best = max(t.best, o)
	last, best := t.left == 0, t.best
	t.mu.Unlock()
	if last {
		t.settle(best)
	}
}

// encodeOnline makes the DELIVER that all targets share. It has no msg_id: there is nothing to confirm.
func (n *Node) encodeOnline(p *pushing) (*push, error) {
	body, err := prutal.MarshalAppend(make([]byte, 0, len(p.content)+rowOverhead), &clientpb.Deliver{Messages: []*clientpb.Message{{
		From: &clientpb.User{Domain: p.domain}, ClientMsgId: p.id[:], Type: p.kind, Content: p.content,
		CreatedAtMs: n.now().UnixMilli(), Kind: clientpb.MessageKind_MESSAGE_KIND_S2C,
	}}})
	if err != nil {
		return nil, err
	}
	return &push{cmd: clientpb.Cmd_CMD_DELIVER, body: body}, nil
}
