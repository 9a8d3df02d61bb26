package gatepost_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudwego/prutal"
	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/limits"
	gatepost "github.com/gatepost/gatepost/sdk/go"
	"github.com/gatepost/gatepost/sdk/go/memstore"
)

const (
	kindS2C     = clientpb.MessageKind_MESSAGE_KIND_S2C
	kindReceipt = clientpb.MessageKind_MESSAGE_KIND_RECEIPT
	kindCopy    = clientpb.MessageKind_MESSAGE_KIND_COPY
)

// fromShop makes m come from an app-server.
func fromShop(m *clientpb.Message) { m.From = &clientpb.User{Domain: "shop"} }

// Whoever sends a receipt-wanting message asks on the wire; whoever has it names it so, as a repeat and after a restart too.
func TestReceiptIsAskedAndNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a := newFakeGate(t), &app{}
		store := memstore.New()
		hang := make(chan struct{})
		a.refuse = func(m gatepost.Message) error {
			if m.TargetSeq == 3 {
				<-hang
			}
			return nil
		}
		g.setOn(func(c *gateConn, r req) bool { return r.Cmd == cmdConfirm }) // never answered
		c := start(t, a.config(g, store))
		login(t, c)
		if _, err := c.C2C(t.Context(), gatepost.User{Domain: "d", UID: "bob"}, gatepost.Outgoing{Receipt: true}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for seq := uint64(1); seq <= 3; seq++ {
			m := g.put("bob", 1, seq)
			m.Receipt = seq != 2
			g.current().deliver(m)
		}
		synctest.Wait()
		if !g.accepted[0].Receipt {
			t.Fatal("the sender did not ask")
		}
		died := store.Copy() // 1 and 2 are shown and not confirmed, 3 is in the callback
		close(hang)
		c.Close()

		g.setOn(nil)
		c = start(t, a.config(g, died))
		login(t, c)
		synctest.Wait()
		if !slices.Equal(g.receipted, []uint64{1002, 1004}) || !slices.Equal(g.confirmed, []uint64{1003}) || len(g.inbox) != 0 {
			t.Fatalf("with receipt %v, without %v, left %d", g.receipted, g.confirmed, len(g.inbox))
		}
		again := g.put("bob", 1, 1)
		again.Receipt = true
		g.current().deliver(again)
		allConfirmed()
		if !slices.Contains(g.receipted, again.MsgId) {
			t.Fatalf("the repeat is not named: %v", g.receipted)
		}
	})
}

func TestConfirmNamesAtMostFiveHundred(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a := newFakeGate(t), &app{}
		for seq := range uint64(1200) {
			g.put("bob", 1, seq+1).Receipt = seq%2 == 0
		}
		c := start(t, a.config(g, memstore.New()))
		login(t, c)
		allConfirmed()
		for _, r := range g.reqs {
			if r.Cmd != cmdConfirm {
				continue
			}
			var f clientpb.Confirm
			prutal.Unmarshal(r.body, &f)
			if n := len(f.MsgIds) + len(f.ReceiptIds); n < 1 || n > limits.ConfirmIDs {
				t.Errorf("%d ids in one CONFIRM", n)
			}
		}
		if len(g.receipted) != 600 || len(g.confirmed) != 600 {
			t.Fatalf("%d with receipt, %d without", len(g.receipted), len(g.confirmed))
		}
	})
}

// A receipt is kept before it is shown, shown once over restarts, and confirmed after. It is not taken for the message of that id.
func TestReceiptsOverARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a := newFakeGate(t), &app{}
		store := memstore.New()
		entered, hang := make(chan struct{}, 1), make(chan struct{})
		cfg := a.config(g, store)
		cfg.OnReceipt = func(ctx context.Context, r gatepost.Receipt) error {
			entered <- struct{}{}
			<-hang
			return errApp
		}
		c := start(t, cfg)
		login(t, c)
		receipt := g.putKind(kindReceipt, "bob", 0, 0, func(m *clientpb.Message) {
			m.Content, m.Type, m.FromClass, m.CreatedAtMs = nil, "", clientpb.DeviceClass_DEVICE_CLASS_WEB, 1_700_000_000_000
		})
		message := g.putKind(clientpb.MessageKind_MESSAGE_KIND_C2C, "bob", 0, 0, func(m *clientpb.Message) { m.ClientMsgId = receipt.ClientMsgId })
		g.current().deliver(receipt, message)
		<-entered
		synctest.Wait()
		died := store.Copy()
		if slices.Contains(g.confirmed, receipt.MsgId) {
			t.Fatal("confirmed before it was shown")
		}
		close(hang)
		c.Close()

		b := &app{} // what the dying one went on to show does not count
		c = start(t, b.config(g, died))
		login(t, c)
		synctest.Wait()
		again := g.putKind(kindReceipt, "bob", 0, 0, func(m *clientpb.Message) { m.ClientMsgId = receipt.ClientMsgId })
		g.current().deliver(again)
		synctest.Wait()
		c.Close()
		c = start(t, b.config(g, died))
		login(t, c)
		synctest.Wait()
		want := gatepost.Receipt{
			ClientMsgID: gatepost.ClientMsgID(receipt.ClientMsgId), By: gatepost.User{Domain: "d", UID: "bob"}, ByDevice: gatepost.Web,
			At: time.UnixMilli(1_700_000_000_000), MaybeRepeated: true,
		}
		if len(b.hears) != 1 || b.hears[0] != want {
			t.Fatalf("heard %+v", b.hears)
		}
		if len(b.shown) != 1 || len(g.inbox) != 0 {
			t.Fatalf("shown %+v, left %d", b.shown, len(g.inbox))
		}
	})
}

func TestFailingReceiptIsRetriedThenParked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a := newFakeGate(t), &app{}
		cfg := a.config(g, memstore.New())
		tries := 0
		cfg.OnReceipt = func(context.Context, gatepost.Receipt) error { tries++; return errApp }
		c := start(t, cfg)
		login(t, c)
		g.current().deliver(g.putKind(kindReceipt, "bob", 0, 0, nil), g.put("bob", 1, 1))
		synctest.Wait()
		if len(a.messages()) != 1 {
			t.Fatal("the message waits for the receipt")
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if tries != 5 || len(a.parked) != 1 || a.parked[0].Kind != gatepost.KindReceipt || len(g.inbox) != 0 {
			t.Fatalf("%d tries, parked %+v, left %d", tries, a.parked, len(g.inbox))
		}
	})
}

// Without OnReceipt they are confirmed unseen, with it alone they are all that is taken.
func TestWhoTakesReceipts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, wanted := range []bool{false, true} {
			g, a := newFakeGate(t), &app{}
			cfg := a.config(g, memstore.New())
			if wanted {
				cfg.OnMessage = nil
			} else {
				cfg.OnReceipt = nil
			}
			receipt := g.putKind(kindReceipt, "bob", 0, 0, nil)
			g.put("bob", 1, 1)
			c := start(t, cfg)
			login(t, c)
			allConfirmed()
			if !slices.Contains(g.confirmed, receipt.MsgId) {
				t.Errorf("wanted %v: the receipt is not confirmed", wanted)
			}
			if wanted && (len(a.hears) != 1 || len(g.inbox) != 1) || !wanted && (len(a.shown) != 1 || len(g.inbox) != 0) {
				t.Errorf("wanted %v: heard %d, shown %d, left %d", wanted, len(a.hears), len(a.shown), len(g.inbox))
			}
			c.Close()
		}
	})
}

// Copies take numbers in the sequence towards the sender himself, beside what he writes to himself, and keep them over a restart.
func TestCopiesAreNumbered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a := newFakeGate(t), &app{}
		store := memstore.New()
		c := start(t, a.config(g, store))
		send := func(to string, copied bool) {
			t.Helper()
			if _, err := c.C2C(t.Context(), gatepost.User{Domain: "d", UID: to}, gatepost.Outgoing{Copy: copied}); err != nil {
				t.Fatal(err)
			}
		}
		send("bob", true)
		send("alice", true) // himself: no copy of that
		send("bob", false)
		c.Close()
		c = start(t, a.config(g, store))
		send("carol", true)
		login(t, c)
		synctest.Wait()
		var got [][3]uint64
		for _, m := range g.accepted {
			one := [3]uint64{m.TargetSeq}
			if m.Copy != nil {
				if m.Copy.Stream == 0 {
					t.Fatal("a copy without a stream")
				}
				one[1], one[2] = 1, m.Copy.TargetSeq
			}
			got = append(got, one)
		}
		if want := [][3]uint64{{1, 1, 1}, {2}, {2}, {1, 1, 3}}; !slices.Equal(got, want) {
			t.Fatalf("numbers %v", got)
		}
	})
}

// A copy from another class is shown with whom it was for, one of the own class is confirmed unseen; both take their numbers.
func TestCopies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a := newFakeGate(t), &app{}
		store := memstore.New()
		c := start(t, a.config(g, store))
		login(t, c)
		for seq := uint64(1); seq <= 4; seq++ {
			class := clientpb.DeviceClass_DEVICE_CLASS_WEB
			if seq == 2 || seq == 4 {
				class = clientpb.DeviceClass_DEVICE_CLASS_ANDROID
			}
			g.current().deliver(g.putKind(kindCopy, "alice", 5, seq, func(m *clientpb.Message) {
				m.FromClass, m.OriginalTo = class, &clientpb.User{Domain: "d", Uid: "bob"}
			}))
		}
		allConfirmed()
		if got := a.seqs(); !slices.Equal(got, []uint64{1, 3}) {
			t.Fatalf("shown %v", got)
		}
		m := a.shown[0]
		if m.Kind != gatepost.KindCopy || m.To != (gatepost.User{Domain: "d", UID: "bob"}) || m.From.UID != "alice" || m.FromDevice != gatepost.Web {
			t.Fatalf("shown %+v", m)
		}
		if len(g.inbox) != 0 {
			t.Fatalf("%d left", len(g.inbox))
		}
		if kept, _ := store.Copy().Load(); len(kept.Marks) != 1 || kept.Marks[0].High != 4 {
			t.Fatalf("marks %+v", kept.Marks)
		}
	})
}

// A push has a sender without uid. The durable one is kept and confirmed; the online-only one is shown at once, behind nothing,
// once, and neither kept nor confirmed nor tried again.
func TestPushes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a := newFakeGate(t), &app{}
		store := memstore.New()
		var mu sync.Mutex
		tries := map[string]int{}
		tried := func(typ string) int {
			mu.Lock()
			defer mu.Unlock()
			return tries[typ]
		}
		a.refuse = func(m gatepost.Message) error {
			mu.Lock()
			tries[m.Type]++
			mu.Unlock()
			if m.Type == "refused" || m.Type == "bad" {
				return errApp
			}
			return nil
		}
		c := start(t, a.config(g, store))
		login(t, c)
		durable := g.putKind(kindS2C, "", 0, 0, fromShop)
		refused := g.putKind(kindS2C, "", 0, 0, func(m *clientpb.Message) { fromShop(m); m.Type = "refused" })
		online := func(id byte, typ string) *clientpb.Message {
			return &clientpb.Message{
				From: &clientpb.User{Domain: "shop"}, Kind: kindS2C, ClientMsgId: append(make([]byte, 15), id), Type: typ, Content: []byte("now"),
			}
		}
		g.current().deliver(durable, refused, online(1, "once"), online(1, "once"), online(2, "bad"))
		g.current().deliver(online(1, "once"))
		synctest.Wait()
		if tried("once") != 1 || tried("bad") != 1 || tried("refused") != 1 || tried("t") != 1 {
			t.Fatalf("shown %v", tries)
		}
		shown := a.messages()
		last := shown[len(shown)-1]
		if !last.OnlineOnly || last.MsgID != 0 || last.Kind != gatepost.KindS2C || last.From != (gatepost.User{Domain: "shop"}) {
			t.Fatalf("shown %+v", last)
		}
		if shown[0].OnlineOnly || shown[0].MsgID != durable.MsgId {
			t.Fatalf("shown %+v", shown[0])
		}
		if kept, _ := store.Copy().Load(); len(kept.Received) != 1 || len(kept.Seen) != 2 {
			t.Fatalf("kept %+v", kept)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if slices.Contains(g.confirmed, 0) || len(g.inbox) != 0 || tried("bad") != 1 || tried("refused") != 5 {
			t.Fatalf("confirmed %v, left %d, shown %v", g.confirmed, len(g.inbox), tries)
		}
		again := g.putKind(kindS2C, "", 0, 0, func(m *clientpb.Message) { fromShop(m); m.ClientMsgId = durable.ClientMsgId })
		g.current().deliver(again)
		synctest.Wait()
		if tried("t") != 1 || !slices.Contains(g.confirmed, again.MsgId) {
			t.Fatalf("the repeated push was shown %d times, confirmed %v", tried("t"), g.confirmed)
		}
	})
}

// Many receipts push no push out of what is remembered.
func TestKindsAreRememberedApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a := newFakeGate(t), &app{}
		store := memstore.New()
		c := start(t, a.config(g, store))
		login(t, c)
		push := g.putKind(kindS2C, "", 0, 0, fromShop)
		g.current().deliver(push)
		for range 5000 {
			g.current().deliver(g.putKind(kindReceipt, "bob", 0, 0, nil))
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		again := g.putKind(kindS2C, "", 0, 0, func(m *clientpb.Message) { fromShop(m); m.ClientMsgId = push.ClientMsgId })
		g.current().deliver(again)
		synctest.Wait()
		kept, err := store.Copy().Load()
		if err != nil || len(kept.Seen) != 4097 || len(a.shown) != 1 || len(a.hears) != 5000 {
			t.Fatalf("remembered %d, shown %d, heard %d, %v", len(kept.Seen), len(a.shown), len(a.hears), err)
		}
	})
}

// An app-server that has heard nothing of its online-only push makes it again under the same id, to be stored: the app is shown it once if
// it has taken the first, and again if it has not. A repeat after a restart is known too.
func TestAnOnlinePushThatIsMadeAgainDurably(t *testing.T) {
	for _, refuses := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			g, a := newFakeGate(t), &app{}
			store := memstore.New()
			var shown, times int
			a.refuse = func(m gatepost.Message) error {
				if times++; refuses && m.OnlineOnly {
					return errApp
				}
				shown++
				return nil
			}
			c := start(t, a.config(g, store))
			login(t, c)
			durable := g.putKind(kindS2C, "", 0, 0, fromShop)
			g.current().deliver(&clientpb.Message{From: durable.From, Kind: kindS2C, ClientMsgId: durable.ClientMsgId, Type: "t", Content: []byte("x")})
			synctest.Wait()
			g.current().deliver(durable)
			synctest.Wait()
			if wantTimes := map[bool]int{false: 1, true: 2}[refuses]; shown != 1 || times != wantTimes || len(g.inbox) != 0 {
				t.Fatalf("refuses %v: shown %d in %d calls, left %d", refuses, shown, times, len(g.inbox))
			}
			c.Close()
			c = start(t, a.config(g, store))
			login(t, c)
			again := g.putKind(kindS2C, "", 0, 0, func(m *clientpb.Message) { fromShop(m); m.ClientMsgId = durable.ClientMsgId })
			g.current().deliver(again)
			synctest.Wait()
			if shown != 1 || len(g.inbox) != 0 {
				t.Fatalf("refuses %v, after a restart: shown %d, left %d", refuses, shown, len(g.inbox))
			}
			c.Close()
		})
	}
}

// What is of a kind that nobody knows is confirmed and not shown, and takes its number.
func TestUnknownKinds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a := newFakeGate(t), &app{}
		store := memstore.New()
		kept := gatepost.Received{Number: 1, Message: gatepost.Message{MsgID: 7, Kind: 9, From: gatepost.User{Domain: "d", UID: "bob"}}} // of a newer release, before it was put back
		if err := store.Commit(&gatepost.Changes{PutReceived: []gatepost.Received{kept}}); err != nil {
			t.Fatal(err)
		}
		c := start(t, a.config(g, store))
		login(t, c)
		unknown := func(kind clientpb.MessageKind, stream, seq uint64) *clientpb.Message {
			return g.putKind(kind, "bob", stream, seq, nil)
		}
		g.current().deliver(g.put("bob", 1, 1), unknown(9, 1, 2), unknown(1, 1, 3), g.put("bob", 1, 4), unknown(256, 1, 5), unknown(258, 0, 0), unknown(9, 0, 0),
			&clientpb.Message{From: &clientpb.User{Domain: "d"}, Kind: 9, ClientMsgId: make([]byte, 16)})
		allConfirmed()
		if got := a.seqs(); !slices.Equal(got, []uint64{1, 4}) {
			t.Errorf("shown %v", got)
		}
		if len(g.inbox) != 0 || slices.Contains(g.confirmed, 0) || !slices.Contains(g.confirmed, 7) {
			t.Errorf("confirmed %v, left %d", g.confirmed, len(g.inbox))
		}
		left, err := store.Copy().Load()
		if err != nil || len(left.Marks) != 1 || left.Marks[0].High != 5 || len(left.Received) != 0 {
			t.Errorf("kept %+v, %v", left, err)
		}
	})
}
