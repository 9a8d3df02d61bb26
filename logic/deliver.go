package logic

import (
	"context"
	"log/slog"

	"github.com/cloudwego/prutal"

	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/store"
)

// push is the body of a server push, encoded once for all of its receivers.
type push struct {
	cmd     clientpb.Cmd
	body    []byte
	durable bool
}

// syncPush asks a client to pull.
var syncPush = &push{cmd: clientpb.Cmd_CMD_SYNC}

// delivery is something for all live sessions of a user.
type delivery struct {
	to    store.UserKey
	row   *store.Message // committed; nil: push
	push  *push
	tries int             // of a hint
	notes []*WaitingEvent // told if nobody is there
}

// leavesOut reports whether x is not for the session of a route: a copy is not for the device class that it was sent from. Where a gate
// is asked for all sessions of a user, that class gets it too, and confirms it without showing it.
func (x delivery) leavesOut(r store.Route) bool {
	return x.row != nil && x.row.Kind == store.KindCopy && r.Session != 0 && r.Class == x.row.FromClass
}

// deliverer finds out where receivers are, a few look-ups at a time, chosen by receiver, and hands what is for them to the sender of
// each gate. It only ever speeds up what lies in the inbox: what it cannot do becomes a hint to pull.
type deliverer struct {
	node  *Node
	lanes []*lane[delivery]
}

func newDeliverer(n *Node) *deliverer {
	d := &deliverer{node: n}
	for range n.cfg.DeliveryLanes {
		d.lanes = append(d.lanes, newLane[delivery](n.cfg.DeliveryQueue, maxDeliverItems, 0, nil, n.metrics.depth(laneDelivery)))
	}
	return d
}

// message delivers a committed row. It is called after the commit, so the route look-up comes after it too: a receiver who logs in
// meanwhile registers his route before he pulls, and one of the two finds the row.
func (d *deliverer) message(row *store.Message) {
	notes := d.node.events.notesOf(row)
	if !d.put(delivery{to: row.Owner, row: row, notes: notes}) {
		d.node.hints.add(row.Owner, 0, notes...)
	}
}

// hint sends a SYNC, and tells notes if nobody is there; false: there is no room now.
func (d *deliverer) hint(to store.UserKey, tries int, notes []*WaitingEvent) bool {
	return d.put(delivery{to: to, push: syncPush, tries: tries, notes: notes})
}

func (d *deliverer) put(x delivery) bool {
	return d.lanes[userHash(x.to)%uint32(len(d.lanes))].put(x)
}

// lost takes what a panic left: it lies in the inbox.
func (d *deliverer) lost(batch []delivery) {
	for _, x := range batch {
		d.node.hints.add(x.to, x.tries, x.notes...)
	}
}

// carry looks up the routes of one batch and queues it at the gates.
func (d *deliverer) carry(ctx context.Context, batch []delivery) {
	n := d.node
	users := make([]store.UserKey, 0, len(batch))
	index := make(map[store.UserKey]int, len(batch))
	for _, x := range batch {
		if _, ok := index[x.to]; !ok {
			index[x.to] = len(users)
			users = append(users, x.to)
		}
	}
	where, sure := n.locateSure(ctx, users)
	for _, x := range batch {
		stops := where[index[x.to]]
		if len(stops) == 0 {
			if sure {
				n.events.waiting(x.notes)
			} else {
				n.events.drop(x.notes)
			}
			continue
		}
		p := x.push
		if x.row != nil {
			var err error
			if p, err = encodeDeliver(x.row); err != nil {
				n.logger.Error("a message could not be encoded", slog.Uint64("msg_id", uint64(x.row.ID)), slog.Any("error", err))
				continue
			}
		}
		watch := n.watch(x, stops, sure)
		for _, stop := range stops {
			if x.leavesOut(stop.route) {
				continue
			}
			n.senders.put(stop.gate, parcel{push: p, to: x.to, route: stop.route, tries: x.tries, watch: watch})
		}
	}
}

// deliverOverhead is what a DELIVER of one row weighs beside its content, where names are not long.
const deliverOverhead = 120

// encodeDeliver makes the DELIVER of one row.
func encodeDeliver(row *store.Message) (*push, error) {
	body, err := prutal.MarshalAppend(make([]byte, 0, len(row.Content)+deliverOverhead), &clientpb.Deliver{Messages: []*clientpb.Message{messageOf(row)}})
	if err != nil {
		return nil, err
	}
	return &push{cmd: clientpb.Cmd_CMD_DELIVER, body: body, durable: true}, nil
}

// messageOf is a row as a client sees it. It shares the row's content.
func messageOf(row *store.Message) *clientpb.Message {
	m := &clientpb.Message{
		MsgId:       uint64(row.ID),
		From:        &clientpb.User{Domain: row.From.Domain, Uid: row.From.UID},
		FromClass:   clientpb.DeviceClass(row.FromClass),
		Stream:      row.Stream,
		TargetSeq:   row.TargetSeq,
		ClientMsgId: row.ClientMsgID[:],
		Type:        row.Type,
		Content:     row.Content,
		CreatedAtMs: row.CreatedAt.UnixMilli(),
		ExpiresAtMs: row.ExpiresAt.UnixMilli(),
		Kind:        clientpb.MessageKind(row.Kind),
		Receipt:     row.Flags&store.FlagReceipt != 0 && row.Kind == store.KindC2C,
	}
	if row.Kind == store.KindCopy {
		m.OriginalTo = &clientpb.User{Domain: row.Target.Domain, Uid: row.Target.UID}
	}
	return m
}
