package logic

import (
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/gen/logicpb"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/store"
)

// asking is c2c number n to uid that asks for a receipt.
func asking(t testing.TB, from, to string, n uint64) *logicpb.Frame {
	m := message(to, n)
	m.Receipt = true
	return frame(t, from, 1, clientpb.Cmd_CMD_C2C, m)
}

func receiptFrame(t testing.TB, uid string, class store.DeviceClass, ids ...uint64) *logicpb.Frame {
	f := frame(t, uid, 5, clientpb.Cmd_CMD_CONFIRM, &clientpb.Confirm{ReceiptIds: ids})
	f.Session.DeviceClass = int32(class)
	return f
}

// accepted sends f and returns the id that it was accepted under.
func (w *world) accepted(f *logicpb.Frame) uint64 {
	w.t.Helper()
	answers := w.handle(f)
	wantCodes(w.t, answers, status.OK)
	return decode[clientpb.C2CAnswer](w.t, answers[0]).MsgId
}

func isKind(k clientpb.MessageKind) func(delivered) bool {
	return func(d delivered) bool { return isDeliver(d) && d.msgs[0].Kind == k }
}

func TestReceipt(t *testing.T) {
	w := newWorld(t, nil)
	w.beat(1, "g1")
	w.online("ann", 1, 1, 100)
	w.online("bob", 1, 1, 200)
	id := w.accepted(asking(t, "ann", "bob", 1))
	eventually(t, "bob has it", func() bool { return len(w.gates.seen(isKind(clientpb.MessageKind_MESSAGE_KIND_C2C))) == 1 })
	if m := w.gates.seen(isDeliver)[0].msgs[0]; !m.Receipt || m.MsgId != id {
		t.Errorf("delivered %+v", m)
	}
	page := decode[clientpb.PullAnswer](t, w.handle(pullFrame(t, "bob", &clientpb.Pull{}))[0])
	if len(page.Messages) != 1 || !page.Messages[0].Receipt {
		t.Errorf("pulled %+v", page.Messages)
	}

	wantCodes(t, w.handle(receiptFrame(t, "bob", 1, id)), status.OK)
	if rows := w.inbox.rows(w.user("bob")); len(rows) != 0 {
		t.Errorf("bob still has %+v", rows)
	}
	eventually(t, "ann has the receipt", func() bool { return len(w.gates.seen(isKind(clientpb.MessageKind_MESSAGE_KIND_RECEIPT))) == 1 })
	d := w.gates.seen(isKind(clientpb.MessageKind_MESSAGE_KIND_RECEIPT))[0]
	m := d.msgs[0]
	if d.item.Uid != "ann" || m.From.Uid != "bob" || m.FromClass != 1 || m.Stream != 0 || m.TargetSeq != 0 || m.Receipt ||
		!slices.Equal(m.ClientMsgId, message("bob", 1).ClientMsgId) || m.Type != "" || len(m.Content) != 0 || m.MsgId == 0 || m.MsgId == id {
		t.Errorf("receipt %+v for %s", m, d.item.Uid)
	}
	row := w.inbox.rows(w.user("ann"))[0]
	if row.ExpiresAt.Sub(row.CreatedAt) != maxLife || row.CreatedAt.Nanosecond()%int(time.Millisecond) != 0 {
		t.Errorf("receipt row %+v", row)
	}
	wantCodes(t, w.handle(confirmFrame(t, "ann", m.MsgId)), status.OK)
	if rows := w.inbox.rows(w.user("ann")); len(rows) != 0 {
		t.Errorf("ann still has %+v", rows)
	}
}

// Two classes confirm one message, at once or one after the other: its sender gets one receipt.
func TestTwoClassesAndOneReceipt(t *testing.T) {
	for _, how := range []string{"at once", "one after the other"} {
		t.Run(how, func(t *testing.T) {
			w := newWorld(t, nil)
			w.inbox.owed[w.user("bob")] = store.DeviceClass(1).Bit() | store.DeviceClass(3).Bit()
			id := w.accepted(asking(t, "ann", "bob", 1))
			if how == "at once" {
				wantCodes(t, w.handle(receiptFrame(t, "bob", 1, id), receiptFrame(t, "bob", 3, id)), status.OK, status.OK)
			} else {
				wantCodes(t, w.handle(receiptFrame(t, "bob", 1, id)), status.OK)
				if rows := w.inbox.rows(w.user("bob")); len(rows) != 1 {
					t.Fatalf("the second class was robbed: %+v", rows)
				}
				wantCodes(t, w.handle(receiptFrame(t, "bob", 3, id)), status.OK)
			}
			if rows := w.inbox.rows(w.user("bob")); len(rows) != 0 {
				t.Errorf("bob still has %+v", rows)
			}
			if rows := w.inbox.rows(w.user("ann")); len(rows) != 1 || rows[0].Kind != store.KindReceipt {
				t.Errorf("ann has %+v", rows)
			}
		})
	}
}

func TestForgedReceipts(t *testing.T) {
	w := newWorld(t, nil)
	wanted := w.accepted(asking(t, "ann", "bob", 1))
	plain := w.accepted(c2cFrame(t, "ann", 1, "bob", 2))
	wantCodes(t, w.handle(receiptFrame(t, "eve", 1, wanted, plain, 12345, 0)), status.OK) // somebody else's, and nobody's
	if rows := w.inbox.rows(w.user("bob")); len(rows) != 2 {
		t.Errorf("a forged confirmation removed something: %+v", rows)
	}
	wantCodes(t, w.handle(receiptFrame(t, "bob", 1, plain, plain)), status.OK) // nobody asked for a receipt
	if rows := w.inbox.rows(w.user("ann")); len(rows) != 0 {
		t.Errorf("receipts out of nothing: %+v", rows)
	}
	wantCodes(t, w.handle(receiptFrame(t, "bob", 1, wanted), receiptFrame(t, "bob", 1, wanted)), status.OK, status.OK)
	wantCodes(t, w.handle(receiptFrame(t, "bob", 1, wanted)), status.OK) // replayed
	receipts := w.inbox.rows(w.user("ann"))
	if len(receipts) != 1 {
		t.Fatalf("ann has %+v", receipts)
	}
	wantCodes(t, w.handle(receiptFrame(t, "ann", 1, uint64(receipts[0].ID))), status.OK) // a receipt has no receipt
	if a, b := w.inbox.rows(w.user("ann")), w.inbox.rows(w.user("bob")); len(a)+len(b) != 0 {
		t.Errorf("left: %+v %+v", a, b)
	}
}

func TestReceiptIDCollisionGetsANewID(t *testing.T) {
	for _, taken := range []int{1, maxIDRounds} {
		w := newWorld(t, func(_ *world, s *setup) { s.cfg.ConfirmLanes = 1 })
		var tries atomic.Int32
		w.inbox.onConfirm = func(batch []store.Confirmation) error {
			if int(tries.Add(1)) <= taken {
				w.inbox.mu.Lock()
				defer w.inbox.mu.Unlock()
				w.inbox.byID[batch[0].Receipts[0].ID] = store.Digest{1}
			}
			return nil
		}
		id := w.accepted(asking(t, "ann", "bob", 1))
		want := status.OK
		if taken == maxIDRounds {
			want = status.Unavailable
		}
		wantCodes(t, w.handle(receiptFrame(t, "bob", 1, id)), want)
		wantCodes(t, w.handle(receiptFrame(t, "bob", 1, id)), status.OK)
		if rows := w.inbox.rows(w.user("ann")); len(rows) != 1 {
			t.Errorf("ann has %+v", rows)
		}
	}
}

// Without ids there are no receipts: what wants one waits, everything else is confirmed.
func TestReceiptsNeedIDs(t *testing.T) {
	w := newWorld(t, nil)
	wanted, plain := w.accepted(asking(t, "ann", "bob", 1)), w.accepted(c2cFrame(t, "ann", 1, "bob", 2))
	w.node.ids.suspend()
	wantCodes(t, w.handle(receiptFrame(t, "bob", 1, wanted), confirmFrame(t, "bob", plain)), status.Unavailable, status.OK)
	rows := w.inbox.rows(w.user("bob"))
	if len(rows) != 1 || uint64(rows[0].ID) != wanted {
		t.Errorf("bob has %+v", rows)
	}
}

func TestConfirmBounds(t *testing.T) {
	w := newWorld(t, nil)
	both := func(ids, receipts int) *logicpb.Frame {
		return frame(t, "bob", 1, clientpb.Cmd_CMD_CONFIRM, &clientpb.Confirm{MsgIds: make([]uint64, ids), ReceiptIds: make([]uint64, receipts)})
	}
	wantCodes(t, w.handle(both(250, 250), both(0, 500), both(0, 1), both(250, 251), both(0, 501), both(0, 0)),
		status.OK, status.OK, status.OK, status.BadRequest, status.BadRequest, status.BadRequest)
}
