package storetest

import (
	"errors"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/gatepost/gatepost/store"
)

func runReceipts(t *testing.T, factory DatabaseFactory) {
	run := func(name string, f func(t *testing.T, db Database)) {
		t.Run(name, func(t *testing.T) { f(t, factory(t)) })
	}
	run("the first confirmation makes the receipt", testReceipt)
	run("a receipt is for who asked", testReceiptNotAsked)
	run("a forged receipt id makes none", testReceiptForged)
	run("receipts of one batch", testReceiptBatch)
	run("a receipt that is there", testReceiptThere)
	run("a receipt whose id is taken", testReceiptCollision)
	run("two classes confirm with receipts at once", testReceiptRace)
	run("receipts and confirmations in every order at once", testReceiptOrders)
}

var receiptAt, receiptExpires = start.Add(time.Minute), start.Add(48 * time.Hour)

// asking is a message whose sender wants a receipt.
func asking(from, to store.UserKey) store.Message {
	m := message(from, to)
	m.Flags |= store.FlagReceipt
	return m
}

// wanting confirms list with a new receipt id for each.
func wanting(owner store.UserKey, class store.DeviceClass, list ...store.MsgID) store.Confirmation {
	c := store.Confirmation{Owner: owner, Class: class, At: receiptAt, ReceiptExpires: receiptExpires}
	for _, id := range list {
		c.Receipts = append(c.Receipts, store.ReceiptID{Of: id, ID: nextID()})
	}
	return c
}

// receiptsOf are the receipts of list that c, which names them in the same order, makes.
func receiptsOf(c store.Confirmation, list ...store.Message) []store.Message {
	out := make([]store.Message, len(list))
	for i := range list {
		out[i] = store.ReceiptOf(&list[i], c.Class, c.Receipts[i].ID, c.At, c.ReceiptExpires)
	}
	return out
}

func (db Database) receipts(t testing.TB, batch ...store.Confirmation) []store.Message {
	t.Helper()
	made, err := db.Inbox.Confirm(t.Context(), batch)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func wantMessages(t testing.TB, want, got []store.Message) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Fatal(diff)
	}
}

func testReceipt(t *testing.T, db Database) {
	db.register(t, bob, android, 1)
	db.register(t, bob, ios, 1)
	m, plain := asking(alice, bob), message(alice, bob)
	db.stored(t, m, plain)
	first := wanting(bob, ios, m.ID)
	first.IDs = []store.MsgID{plain.ID}
	made := receiptsOf(first, m)
	wantMessages(t, made, db.receipts(t, first))
	wantMessages(t, made, db.all(t, alice, web))
	if r := made[0]; r.Owner != alice || r.From != bob || r.FromClass != ios || r.Kind != store.KindReceipt || r.ClientMsgID != m.ClientMsgID || r.Stream != 0 || !r.CreatedAt.Equal(receiptAt) {
		t.Fatalf("%+v", r)
	}
	// Again, and by the other class: nothing more.
	for _, c := range []store.DeviceClass{ios, android, android} {
		again := wanting(bob, c, m.ID)
		again.IDs = []store.MsgID{plain.ID}
		if got := db.receipts(t, first, again); len(got) != 0 {
			t.Fatalf("class %d makes %+v", c, got)
		}
	}
	db.rows(t, 1) // both are gone, the receipt waits
	// It is confirmed like any other message, and nobody gets a receipt of it.
	if got := db.receipts(t, wanting(alice, android, made[0].ID)); len(got) != 0 {
		t.Fatalf("%+v", got)
	}
	db.rows(t, 0)
}

func testReceiptNotAsked(t *testing.T, db Database) {
	plain, copied, pushed, receipt, early := message(alice, bob), asking(alice, bob), asking(alice, bob), asking(alice, bob), asking(alice, bob)
	copied.Kind, pushed.Kind, receipt.Kind = store.KindCopy, store.KindS2C, store.KindReceipt
	group := asking(alice, bob)
	group.Kind = store.KindC2G
	db.register(t, bob, android, 1)
	db.register(t, bob, ios, 1)
	list := []store.Message{plain, copied, pushed, receipt, early, group}
	db.stored(t, list...)
	db.confirm(t, bob, ios, early.ID) // without a receipt: it was the first
	c := wanting(bob, android, ids(list)...)
	want := receiptsOf(c, list...)[5:]
	wantMessages(t, want, db.receipts(t, c))
	db.rows(t, 5+1) // confirmed like the others
	db.confirm(t, bob, ios, ids(list)...)
	db.rows(t, 1)
}

func testReceiptForged(t *testing.T, db Database) {
	mallory := store.UserKey{Domain: bob.Domain, UID: "mallory"}
	db.register(t, bob, android, 1)
	list := []store.Message{asking(alice, bob), asking(alice, bob)}
	own := asking(alice, mallory)
	db.stored(t, append(slices.Clone(list), own)...)
	forged := append(ids(list), 0, 1, math.MaxInt64, math.MaxUint64)
	for _, u := range []store.UserKey{alice, {Domain: "other", UID: bob.UID}, {Domain: bob.Domain, UID: "Bob"}, mallory} {
		if got := db.receipts(t, wanting(u, android, forged...)); len(got) != 0 {
			t.Fatalf("%v makes %+v", u, got)
		}
	}
	db.rows(t, 3)
	// A forgery in the same batch robs nobody.
	theft, real := wanting(mallory, android, append(ids(list), own.ID)...), wanting(bob, android, ids(list)...)
	want := append(receiptsOf(real, list...), store.ReceiptOf(&own, android, theft.Receipts[2].ID, receiptAt, receiptExpires))
	got := db.receipts(t, theft, real)
	slices.SortFunc(got, func(a, b store.Message) int { return int(a.ID) - int(b.ID) })
	slices.SortFunc(want, func(a, b store.Message) int { return int(a.ID) - int(b.ID) })
	wantMessages(t, want, got)
	db.rows(t, 3)
	// An id that no row can have is refused before anything is done.
	m := asking(alice, bob)
	db.stored(t, m)
	for _, id := range []store.MsgID{0, math.MaxUint64} {
		c := wanting(bob, android, m.ID)
		c.Receipts[0].ID = id
		if _, err := db.Inbox.Confirm(t.Context(), []store.Confirmation{c}); err == nil || errors.Is(err, store.ErrUnavailable) {
			t.Fatal(err)
		}
	}
	db.rows(t, 4)
}

// testReceiptBatch: many rows, each named by several confirmations of one batch, and twice by each: one receipt, of the first.
func testReceiptBatch(t *testing.T, db Database) {
	db.register(t, bob, android, 1)
	db.register(t, bob, ios, 1)
	list := messages(600, alice, bob)
	for i := range list {
		list[i].Flags |= store.FlagReceipt
	}
	db.stored(t, list...)
	one, two := wanting(bob, android, ids(list[:400])...), wanting(bob, ios, ids(list)...)
	one.Receipts = append(one.Receipts, wanting(bob, android, ids(list[:400])...).Receipts...)
	one.IDs = ids(list[:50])
	slices.Reverse(one.IDs)
	want := append(receiptsOf(one, list[:400]...), receiptsOf(two, list...)[400:]...)
	got := db.receipts(t, one, two, wanting(bob, android, ids(list[:400])...))
	byID := func(a, b store.Message) int { return int(a.ID) - int(b.ID) }
	slices.SortFunc(want, byID)
	slices.SortFunc(got, byID)
	wantMessages(t, want, got)
	wantMessages(t, want, db.all(t, alice, android))
	db.rows(t, 200+600)
}

// testReceiptThere: the sender sends a message again that has left the inbox; one receipt is enough.
func testReceiptThere(t *testing.T, db Database) {
	m, other := asking(alice, bob), asking(alice, bob)
	db.stored(t, m)
	first := wanting(bob, android, m.ID)
	made := receiptsOf(first, m)
	wantMessages(t, made, db.receipts(t, first))
	again := resend(m)
	db.stored(t, again, other)
	c := wanting(bob, android, again.ID, other.ID)
	wantMessages(t, receiptsOf(c, again, other)[1:], db.receipts(t, c))
	db.rows(t, 2)
}

func testReceiptCollision(t *testing.T, db Database) {
	list := []store.Message{asking(alice, bob), asking(alice, bob), asking(alice, bob)}
	there := message(bob, alice)
	db.stored(t, append(slices.Clone(list), there)...)
	c := wanting(bob, android, ids(list)...)
	c.Receipts[1].ID = there.ID
	for range 2 {
		got, err := db.Inbox.Confirm(t.Context(), []store.Confirmation{c})
		if !errors.Is(err, store.ErrIDCollision) || errors.Is(err, store.ErrUnavailable) || len(got) != 0 {
			t.Fatal(got, err)
		}
		db.rows(t, 4)
	}
	twice := c
	twice.Receipts = wanting(bob, android, ids(list)...).Receipts
	twice.Receipts[2].ID = twice.Receipts[0].ID
	if _, err := db.Inbox.Confirm(t.Context(), []store.Confirmation{twice}); !errors.Is(err, store.ErrIDCollision) {
		t.Fatal(err)
	}
	db.rows(t, 4)
	fresh := wanting(bob, android, ids(list)...)
	wantMessages(t, receiptsOf(fresh, list...), db.receipts(t, fresh))
	db.rows(t, 4)
}

// testReceiptRace: whatever the interleaving, each row makes one receipt.
func testReceiptRace(t *testing.T, db Database) {
	classes := []store.DeviceClass{android, ios, web}
	for _, c := range classes {
		db.register(t, bob, c, 1)
	}
	for round := range rounds {
		list := messages(1+round%12, alice, bob)
		for i := range list {
			list[i].Flags |= store.FlagReceipt
		}
		db.stored(t, list...)
		made := make([][]store.Message, len(classes))
		var wg sync.WaitGroup
		for i, c := range classes {
			wg.Go(func() {
				mine := wanting(bob, c, ids(list)...)
				if round%3 == 0 {
					slices.Reverse(mine.Receipts)
				}
				var err error
				if made[i], err = db.Inbox.Confirm(t.Context(), []store.Confirmation{mine}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if t.Failed() {
			return
		}
		all := slices.Concat(made...)
		slices.SortFunc(all, func(a, b store.Message) int { return int(a.ID) - int(b.ID) })
		if len(all) != len(list) {
			t.Fatalf("round %d: %d receipts for %d rows", round, len(all), len(list))
		}
		wantMessages(t, all, db.all(t, alice, android))
		db.confirm(t, alice, android, ids(all)...)
		if n := db.Raw(t); n != 0 {
			t.Fatalf("round %d: %d rows stay", round, n)
		}
	}
}

// testReceiptOrders: some name rows for receipts, some do not, in one batch of two users: nothing is lost to a deadlock.
func testReceiptOrders(t *testing.T, db Database) {
	for _, u := range []store.UserKey{alice, bob} {
		db.register(t, u, android, 1)
		db.register(t, u, ios, 1)
	}
	for range rounds / 3 {
		var toBob, toAlice []store.Message
		for range 20 {
			toBob, toAlice = append(toBob, asking(alice, bob)), append(toAlice, asking(bob, alice))
		}
		db.stored(t, slices.Concat(toBob, toAlice)...)
		var mu sync.Mutex
		made := 0
		var wg sync.WaitGroup
		for w := range 4 {
			wg.Go(func() {
				class := []store.DeviceClass{android, ios}[w%2]
				var a, b []store.MsgID
				for i := w / 2; i < 20; i += 2 {
					a, b = append(a, toAlice[i].ID), append(b, toBob[i].ID)
				}
				x, y := wanting(alice, class, a[5:]...), wanting(bob, class, b[:5]...)
				x.IDs, y.IDs = a[:5], b[5:]
				got, err := db.Inbox.Confirm(t.Context(), []store.Confirmation{x, y})
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				made += len(got)
				mu.Unlock()
			})
		}
		wg.Wait()
		if t.Failed() {
			return
		}
		if made != 20 {
			t.Fatalf("%d receipts, want 20", made)
		}
		db.rows(t, 20)
		for _, u := range []store.UserKey{alice, bob} {
			for _, c := range []store.DeviceClass{android, ios} {
				db.confirm(t, u, c, ids(db.all(t, u, c))...)
			}
		}
		db.rows(t, 0)
	}
}
