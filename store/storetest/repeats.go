package storetest

import (
	"bytes"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/gatepost/gatepost/store"
)

// runRepeats is what becomes of a message that is appended again while the first one has expired and was not swept yet.
func runRepeats(t *testing.T, factory DatabaseFactory) {
	run := func(name string, f func(t *testing.T, db Database)) {
		t.Run(name, func(t *testing.T) { f(t, factory(t)) })
	}
	run("a repeat of what has expired is stored anew", testRepeatExpired)
	run("repeats of what has expired among others", testRepeatExpiredAmongOthers)
	run("repeats of what has expired in every size of batch", testRepeatExpiredSizes)
	run("a repeat of what has expired is owed to who has not confirmed", testRepeatExpiredConfirmed)
	run("a receipt that has expired", testReceiptExpired)
	run("repeats of what has expired at once", testRepeatExpiredRace)
}

// later is m under another id, created when so much has passed since start, with an hour to live.
func later(m store.Message, passed time.Duration) store.Message {
	m.ID, m.CreatedAt = nextID(), start.Add(passed)
	m.ExpiresAt = m.CreatedAt.Add(time.Hour)
	return m
}

// short is a message that lives for a second.
func short(from, to store.UserKey) store.Message {
	m := message(from, to)
	m.ExpiresAt = start.Add(time.Second)
	return m
}

func (db Database) found(t testing.TB, m store.Message, passed time.Duration, want store.MsgID) {
	t.Helper()
	if got, err := db.Inbox.Find(t.Context(), []store.Digest{m.Digest}, start.Add(passed)); err != nil || !slices.Equal(got, []store.MsgID{want}) {
		t.Fatalf("found %v, %v, want %d", got, err, want)
	}
}

func testRepeatExpired(t *testing.T, db Database) {
	m := short(alice, bob)
	m.Kind, m.Target, m.Flags = store.KindCopy, alice, 5
	db.stored(t, m)
	// While it lives its time to live stays, whatever the repeat asks for.
	for _, passed := range []time.Duration{0, 999 * time.Millisecond} {
		want := []store.AppendResult{{ID: m.ID, Outcome: store.Duplicate}}
		if diff := cmp.Diff(want, db.append(t, later(m, passed))); diff != "" {
			t.Fatal(diff)
		}
		db.found(t, m, passed, m.ID)
	}
	wantMessages(t, []store.Message{m}, db.all(t, bob, android))
	again := later(m, time.Second)
	again.Type, again.Content, again.Flags, again.Target = "other", []byte("other"), 7, bob
	db.found(t, m, time.Second, 0)
	db.stored(t, again)
	db.rows(t, 1)
	wantMessages(t, []store.Message{again}, db.all(t, bob, android))
	db.found(t, m, time.Second, again.ID)
	// And so on.
	third := later(m, time.Second+time.Hour)
	if diff := cmp.Diff([]store.AppendResult{{ID: again.ID, Outcome: store.Duplicate}}, db.append(t, later(m, time.Hour))); diff != "" {
		t.Fatal(diff)
	}
	db.stored(t, third)
	// The row under its own id is the row itself, when nothing was known of its outcome.
	db.stored(t, third)
	db.rows(t, 1)
}

func testRepeatExpiredAmongOthers(t *testing.T, db Database) {
	there := message(alice, bob)
	living, expired, expiredToo, taken := message(alice, bob), short(alice, bob), short(bob, alice), short(alice, bob)
	db.stored(t, there, living, expired, expiredToo, taken)
	fresh := message(alice, bob)
	first, second, repeat, thief := later(expired, time.Minute), later(expired, time.Minute), later(expiredToo, time.Minute), later(taken, time.Minute)
	thief.ID = there.ID
	want := []store.AppendResult{
		{ID: living.ID, Outcome: store.Duplicate}, {ID: first.ID}, {ID: fresh.ID}, {ID: first.ID, Outcome: store.Duplicate},
		{ID: there.ID, Outcome: store.IDCollision}, {ID: repeat.ID},
	}
	if diff := cmp.Diff(want, db.append(t, later(living, time.Minute), first, fresh, second, thief, repeat)); diff != "" {
		t.Fatal(diff)
	}
	thief.ID = nextID()
	db.stored(t, thief)
	db.rows(t, 6)

	sorted := cmpopts.SortSlices(func(a, b store.Message) bool { return a.ID < b.ID })
	if diff := cmp.Diff([]store.Message{there, living, first, fresh, thief}, db.all(t, bob, android), sorted); diff != "" {
		t.Fatal(diff)
	}
	wantMessages(t, []store.Message{repeat}, db.all(t, alice, android))
	// A batch that fails leaves what had expired where it was.
	db.Poison(t, []byte("poison"))
	bad := message(alice, bob)
	bad.Content = []byte("poison")
	if _, err := db.Inbox.Append(t.Context(), []store.Message{later(repeat, 2*time.Hour), bad}); err == nil || errors.Is(err, store.ErrUnavailable) {
		t.Fatalf("%v, want an error that blames a row", err)
	}
	wantMessages(t, []store.Message{repeat}, db.all(t, alice, android))
}

func testRepeatExpiredSizes(t *testing.T, db Database) {
	for _, n := range []int{1, 5, 257, 700} {
		var list, again []store.Message
		for i := range n {
			m := short(alice, bob)
			m.Content = bytes.Repeat([]byte{byte(i), 0, 0xff, '\''}, 1+i)
			list = append(list, m)
		}
		db.stored(t, list...)
		for i := range list {
			again = append(again, later(list[i], time.Minute))
		}
		db.stored(t, again...)
		wantMessages(t, again, db.all(t, bob, android))
		db.confirm(t, bob, android, ids(again)...)
		db.rows(t, 0)
	}
}

// The class that had the first one is not owed the second, and who sent them gets one receipt.
func testRepeatExpiredConfirmed(t *testing.T, db Database) {
	db.register(t, bob, android, 1)
	db.register(t, bob, ios, 1)
	m, other := short(alice, bob), short(alice, bob)
	m.Flags |= store.FlagReceipt
	other.Flags |= store.FlagReceipt
	db.stored(t, m, other)
	c := wanting(bob, android, m.ID)
	made := receiptsOf(c, m)
	wantMessages(t, made, db.receipts(t, c))
	db.confirm(t, alice, android, made[0].ID) // the receipt has left: nothing but the row knows of it
	again, otherAgain := later(m, time.Minute), later(other, time.Minute)
	db.stored(t, again, otherAgain)
	wantMessages(t, []store.Message{otherAgain}, db.all(t, bob, android))
	wantMessages(t, []store.Message{again, otherAgain}, db.all(t, bob, ios))
	c = wanting(bob, ios, again.ID, otherAgain.ID)
	made = receiptsOf(c, again, otherAgain)[1:]
	wantMessages(t, made, db.receipts(t, c))
	db.rows(t, 2) // otherAgain, which android has not confirmed, and its receipt
	db.confirm(t, bob, android, otherAgain.ID)
	db.confirm(t, alice, android, made[0].ID)
	db.rows(t, 0)
}

// testReceiptExpired: what the sender can not be shown any more does not stand for the receipt of the same message sent again.
func testReceiptExpired(t *testing.T, db Database) {
	m := asking(alice, bob)
	db.stored(t, m)
	db.receipts(t, wanting(bob, android, m.ID))
	again := resend(m)
	db.stored(t, again)
	c := wanting(bob, android, again.ID)
	c.At, c.ReceiptExpires = receiptExpires, receiptExpires.Add(time.Hour)
	made := receiptsOf(c, again)
	wantMessages(t, made, db.receipts(t, c))
	wantMessages(t, made, db.all(t, alice, android))
	db.rows(t, 1)
}

// testRepeatExpiredRace: however many repeat it at once, and while it is swept, one of them stores it, and the others learn its id.
func testRepeatExpiredRace(t *testing.T, db Database) {
	for round := range rounds / 3 {
		var list []store.Message
		for range 1 + round%8 {
			list = append(list, short(alice, bob))
		}
		db.stored(t, list...)
		results := make([][]store.AppendResult, 4)
		batches := make([][]store.Message, len(results))
		var wg sync.WaitGroup
		for i := range results {
			for _, m := range list {
				batches[i] = append(batches[i], later(m, time.Minute))
			}
			if i%2 == 1 {
				slices.Reverse(batches[i]) // its ids, and with them its locks, come in the other order
				for k := range batches[i] {
					batches[i][k].ID = nextID()
				}
			}
		}
		for i := range results {
			wg.Go(func() {
				var err error
				if results[i], err = db.Inbox.Append(t.Context(), batches[i]); err != nil {
					t.Error(err)
				}
			})
		}
		if round%2 == 0 {
			wg.Go(func() {
				if _, _, err := db.Sweeper.Sweep(t.Context(), 0, 1000, start.Add(time.Minute)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if t.Failed() {
			return
		}
		id := make(map[store.Digest]store.MsgID)
		storedBy := make(map[store.Digest]int)
		for i := range batches {
			for k, m := range batches[i] {
				r := results[i][k]
				if r.Outcome == store.Stored {
					storedBy[m.Digest]++
				}
				if before, ok := id[m.Digest]; ok && before != r.ID {
					t.Fatalf("round %d: stored as %d and as %d", round, before, r.ID)
				}
				id[m.Digest] = r.ID
			}
		}
		page := db.all(t, bob, android)
		for _, m := range page {
			if id[m.Digest] != m.ID || storedBy[m.Digest] != 1 {
				t.Fatalf("round %d: %d lies there, %d was told, %d stored it", round, m.ID, id[m.Digest], storedBy[m.Digest])
			}
		}
		db.rows(t, len(list))
		db.confirm(t, bob, android, ids(page)...)
		db.rows(t, 0)
	}
}
