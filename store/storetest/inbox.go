package storetest

import (
	"bytes"
	"context"
	"errors"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/gatepost/gatepost/store"
)

// RunInbox is the contract of Inbox: appending, reading and counting, and RunConfirm.
func RunInbox(t *testing.T, factory DatabaseFactory) {
	run := func(name string, f func(t *testing.T, db Database)) {
		t.Run(name, func(t *testing.T) { f(t, factory(t)) })
	}
	run("what is appended is read", testRoundTrip)
	run("users are told apart byte by byte", testUsersBytewise)
	run("nothing is appended", func(t *testing.T, db Database) {
		if res, err := db.Inbox.Append(t.Context(), nil); err != nil || len(res) != 0 {
			t.Fatal(res, err)
		}
	})
	run("duplicates over batches", testDuplicates)
	run("duplicates in one batch", testDuplicatesInBatch)
	run("id collisions", testCollisions)
	run("every size of batch", testBatchSizes)
	run("a poison row fails the batch and nothing else", testPoison)
	run("rows that do not fit are refused", testMisfits)
	run("large contents", testLarge)
	run("messages are found by their digests", testFind)
	runRepeats(t, factory)
	run("pages", testPages)
	run("pages are filtered", testPageFilter)
	run("counting", testCount)
	run("a context that is done is a store that is away", testDone)
	runConfirm(t, factory)
}

func testRoundTrip(t *testing.T, db Database) {
	m := message(alice, bob)
	m.Stream, m.TargetSeq = math.MaxUint64, math.MaxUint64
	m.Content = []byte{0, 1, 0xff, '\'', '"', '\\', '?'}
	m.Type = "a'\"\\?type"
	m.Kind = store.KindReceipt
	m.Digest = store.Digest{15: 0} // trailing zeros are kept
	n := message(alice, bob)
	n.Content = []byte{}
	n.Kind, n.Target = store.KindCopy, store.UserKey{Domain: strings.Repeat("d", 64), UID: "a\x00" + strings.Repeat("\xff", 126)}
	db.stored(t, m, n)
	if diff := cmp.Diff([]store.Message{m, n}, db.all(t, bob, android), cmpopts.EquateEmpty()); diff != "" {
		t.Fatal(diff)
	}
	if got := db.all(t, alice, android); len(got) != 0 {
		t.Fatalf("alice sees %d rows", len(got))
	}
}

func testUsersBytewise(t *testing.T, db Database) {
	var users []store.UserKey
	for _, uid := range []string{"alice", "Alice", "alice ", "alic\u00e9", "alice\x00", "al", "\xff\xfe", "'; --", "a/b", strings.Repeat("x", 128)} {
		users = append(users, store.UserKey{Domain: "shop", UID: uid}, store.UserKey{Domain: "Shop", UID: uid})
	}
	users = append(users, store.UserKey{Domain: "shop ", UID: "alice"}, store.UserKey{Domain: "shopa", UID: "lice"}, store.UserKey{Domain: strings.Repeat("d", 64), UID: "alice"})
	var list []store.Message
	for _, u := range users {
		db.register(t, u, android, 1)
		db.register(t, u, ios, 1)
		list = append(list, message(u, u))
	}
	db.stored(t, list...)
	for i, u := range users {
		if got := ids(db.all(t, u, android)); !slices.Equal(got, []store.MsgID{list[i].ID}) {
			t.Errorf("%q sees %v, want %v", u, got, list[i].ID)
		}
		if devices, err := db.Devices.List(t.Context(), u); err != nil || len(devices) != 2 {
			t.Errorf("%q has devices %v, %v", u, devices, err)
		}
		db.confirm(t, u, android, ids(list)...)
		db.confirm(t, u, ios, ids(list)...)
		db.rows(t, len(users)-i-1)
	}
}

func testDuplicates(t *testing.T, db Database) {
	first := messages(10, alice, bob)
	db.stored(t, first...)
	fresh := messages(3, alice, bob)
	batch := []store.Message{fresh[0], resend(first[7]), fresh[1], resend(first[2]), first[4], fresh[2]}
	want := []store.AppendResult{
		{ID: fresh[0].ID}, {ID: first[7].ID, Outcome: store.Duplicate}, {ID: fresh[1].ID}, {ID: first[2].ID, Outcome: store.Duplicate},
		{ID: first[4].ID}, // the same row once more: it is stored under the id it came with
		{ID: fresh[2].ID},
	}
	if diff := cmp.Diff(want, db.append(t, batch...)); diff != "" {
		t.Fatal(diff)
	}
	db.rows(t, 13)
	// A row that has left is not remembered.
	db.confirm(t, bob, android, first[0].ID)
	again := resend(first[0])
	db.stored(t, again)
}

func testDuplicatesInBatch(t *testing.T, db Database) {
	m := message(alice, bob)
	second := resend(m)
	early := m
	early.ID = 7 // a lower id does not make it the first
	other := message(alice, bob)
	want := []store.AppendResult{{ID: m.ID}, {ID: m.ID, Outcome: store.Duplicate}, {ID: other.ID}, {ID: m.ID, Outcome: store.Duplicate}}
	if diff := cmp.Diff(want, db.append(t, m, second, other, early)); diff != "" {
		t.Fatal(diff)
	}
	db.rows(t, 2)
	third, fourth := resend(m), resend(m)
	want = []store.AppendResult{{ID: m.ID, Outcome: store.Duplicate}, {ID: m.ID, Outcome: store.Duplicate}}
	if diff := cmp.Diff(want, db.append(t, third, fourth)); diff != "" {
		t.Fatal(diff)
	}
}

func testFind(t *testing.T, db Database) {
	if got, err := db.Inbox.Find(t.Context(), nil, start); err != nil || len(got) != 0 {
		t.Fatal(got, err)
	}
	for _, count := range []int{1, 5, 300} {
		rows := messages(count, alice, bob)
		db.stored(t, rows...)
		var digests []store.Digest
		var want []store.MsgID
		for _, m := range rows {
			digests = append(digests, m.Digest, message(alice, bob).Digest) // the second one is not there
			want = append(want, m.ID, 0)
		}
		digests, want = append(digests, rows[0].Digest), append(want, rows[0].ID)
		got, err := db.Inbox.Find(t.Context(), digests, start)
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("%d rows: found %v, %v, want %v", count, got, err, want)
		}
	}
	// A row that has left is not found.
	m := message(alice, bob)
	db.stored(t, m)
	db.confirm(t, bob, android, m.ID)
	if got, err := db.Inbox.Find(t.Context(), []store.Digest{m.Digest}, start); err != nil || !slices.Equal(got, []store.MsgID{0}) {
		t.Fatal(got, err)
	}
}

func testCollisions(t *testing.T, db Database) {
	there := message(alice, bob)
	db.stored(t, there)
	thief := message(bob, alice)
	thief.ID = there.ID
	good := message(alice, bob)
	twin := message(bob, alice) // the same id twice in one batch
	twin.ID = good.ID
	want := []store.AppendResult{{ID: there.ID, Outcome: store.IDCollision}, {ID: good.ID}, {ID: good.ID, Outcome: store.IDCollision}}
	if diff := cmp.Diff(want, db.append(t, thief, good, twin)); diff != "" {
		t.Fatal(diff)
	}
	db.rows(t, 2)
	thief.ID, twin.ID = nextID(), nextID()
	db.stored(t, thief, twin)
	if got := db.all(t, bob, android); !slices.Equal(ids(got), []store.MsgID{there.ID, good.ID}) {
		t.Fatalf("bob sees %v", ids(got))
	}
}

func testBatchSizes(t *testing.T, db Database) {
	for i, n := range []int{1, 2, 5, 9, 31, 100, 255, 257, 700, 1, 2, 5, 9, 31, 100, 255, 257, 512, 513, 1025} {
		if i == 9 { // and again for a device class that is registered
			db.register(t, bob, android, 1)
		}
		list := messages(n, alice, bob)
		mixed := slices.Clone(list)
		slices.Reverse(mixed)
		db.stored(t, mixed...)
		if diff := cmp.Diff(ids(list), ids(db.all(t, bob, android))); diff != "" {
			t.Fatalf("%d rows: %s", n, diff)
		}
		db.confirm(t, bob, android, ids(mixed)...)
		db.rows(t, 0)
	}
}

func testPoison(t *testing.T, db Database) {
	db.Poison(t, []byte("poison"))
	bad := message(alice, bob)
	bad.Content = []byte("poison")
	for _, n := range []int{0, 1, 6, 300} {
		batch := append(messages(n, alice, bob), bad)
		_, err := db.Inbox.Append(t.Context(), batch)
		if err == nil || errors.Is(err, store.ErrUnavailable) {
			t.Fatalf("%d good rows and a poison one: %v, want an error that blames a row", n, err)
		}
		db.rows(t, 0)
		// Without it the others are taken.
		if n > 0 {
			db.stored(t, batch[:n]...)
			db.confirm(t, bob, android, ids(batch[:n])...)
		}
		db.rows(t, 0)
	}
}

func testMisfits(t *testing.T, db Database) {
	for name, spoil := range map[string]func(*store.Message){
		"no id":               func(m *store.Message) { m.ID = 0 },
		"an id above 63 bits": func(m *store.Message) { m.ID = 1 << 63 },
		"a long type":         func(m *store.Message) { m.Type = strings.Repeat("x", 65) },
		"a long uid":          func(m *store.Message) { m.Owner.UID = strings.Repeat("x", 129) },
		"a long domain":       func(m *store.Message) { m.From.Domain = strings.Repeat("x", 65) },
	} {
		bad := message(alice, bob)
		spoil(&bad)
		_, err := db.Inbox.Append(t.Context(), []store.Message{message(alice, bob), bad})
		if err == nil || errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s: %v, want an error that blames a row", name, err)
		}
	}
	db.rows(t, 0)
}

func testLarge(t *testing.T, db Database) {
	list := messages(300, alice, bob)
	for i := range list {
		list[i].Content = bytes.Repeat([]byte{byte(i), 0, 0xff, '\''}, 32768/4)
	}
	db.stored(t, list...)
	if !reflect.DeepEqual(list, db.all(t, bob, ios)) {
		t.Fatal("contents differ")
	}
}

func testPages(t *testing.T, db Database) {
	list := messages(150, alice, bob)
	for i := range list {
		list[i].Content = bytes.Repeat([]byte{'x'}, 100)
	}
	db.stored(t, list[:100]...)
	db.stored(t, messages(5, bob, alice)...)
	walk := func(limit, maxBytes, wantPages int, late []store.Message) {
		t.Helper()
		var got []store.MsgID
		var upto store.MsgID
		pages := 0
		for more := true; more; pages++ {
			var after store.MsgID
			if len(got) > 0 {
				after = got[len(got)-1]
			}
			page, u, m, err := db.Inbox.Page(t.Context(), store.PageQuery{Owner: bob, Class: android, After: after, Upto: upto, Limit: limit, MaxBytes: maxBytes, Now: start})
			if err != nil {
				t.Fatal(err)
			}
			if upto == 0 {
				db.stored(t, late...) // what comes after the first page is not for this pull
			}
			if upto != 0 && u != upto || u != list[99].ID {
				t.Fatalf("upto %d, was %d, want %d", u, upto, list[99].ID)
			}
			if len(page) > limit || len(page) == 0 {
				t.Fatalf("%d rows in a page of %d", len(page), limit)
			}
			upto, more = u, m
			got = append(got, ids(page)...)
		}
		if diff := cmp.Diff(ids(list[:100]), got); diff != "" {
			t.Fatal(diff)
		}
		if pages != wantPages {
			t.Fatalf("%d pages, want %d", pages, wantPages)
		}
	}
	walk(100, 1<<20, 1, nil)
	walk(99, 1<<20, 2, nil)
	walk(50, 1<<20, 2, nil)
	walk(500, 1000, 10, nil)
	walk(500, 1099, 10, nil)
	walk(500, 1, 100, nil) // at least one row
	walk(30, 1<<20, 4, list[100:])
	// Beyond the end.
	page, upto, more, err := db.Inbox.Page(t.Context(), store.PageQuery{Owner: bob, Class: android, After: list[149].ID, Upto: list[149].ID, Limit: 10, MaxBytes: 1000, Now: start})
	if err != nil || len(page) != 0 || more || upto != list[149].ID {
		t.Fatal(len(page), upto, more, err)
	}
	if page, _, _, err = db.Inbox.Page(t.Context(), store.PageQuery{Owner: bob, Class: android, After: math.MaxUint64, Upto: math.MaxUint64, Limit: 10, Now: start}); err != nil || len(page) != 0 {
		t.Fatal(len(page), err)
	}
}

func testPageFilter(t *testing.T, db Database) {
	db.register(t, bob, android, 1)
	db.register(t, bob, ios, 1)
	list := messages(4, alice, bob)
	list[1].ExpiresAt = start
	list[2].ExpiresAt = start.Add(time.Millisecond)
	db.stored(t, list...)
	db.confirm(t, bob, android, list[0].ID)
	see := func(class store.DeviceClass, want ...store.MsgID) {
		t.Helper()
		if got := ids(db.all(t, bob, class)); !slices.Equal(got, want) {
			t.Fatalf("class %d sees %v, want %v", class, got, want)
		}
	}
	see(android, list[2].ID, list[3].ID)
	see(ios, list[0].ID, list[2].ID, list[3].ID)
	db.confirm(t, bob, android, ids(list[2:])...)
	page, upto, more, err := db.Inbox.Page(t.Context(), store.PageQuery{Owner: bob, Class: android, Limit: 10, MaxBytes: 1000, Now: start})
	if err != nil || len(page) != 0 || upto != 0 || more {
		t.Fatalf("an inbox that holds nothing for android: %d rows, upto %d, more %v, %v", len(page), upto, more, err)
	}
	see(ios, list[0].ID, list[2].ID, list[3].ID)
}

func testCount(t *testing.T, db Database) {
	db.stored(t, messages(20, alice, bob)...)
	db.stored(t, messages(3, bob, alice)...)
	for limit, want := range map[int]int{1: 1, 19: 19, 20: 20, 21: 20, 1000: 20} {
		if n, err := db.Inbox.Count(t.Context(), bob, limit); err != nil || n != want {
			t.Errorf("count up to %d: %d, %v, want %d", limit, n, err, want)
		}
	}
}

func testDone(t *testing.T, db Database) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := db.Inbox.Append(ctx, messages(2, alice, bob))
	_, _, _, err2 := db.Inbox.Page(ctx, store.PageQuery{Owner: bob, Class: android, Limit: 1, Now: start})
	_, err3 := db.Inbox.Confirm(ctx, []store.Confirmation{{Owner: bob, Class: android, IDs: []store.MsgID{1}}})
	_, err4 := db.Devices.Register(ctx, store.Device{Owner: bob, Class: android})
	_, err5 := db.Inbox.Find(ctx, []store.Digest{{1}}, start)
	for i, err := range []error{err, err2, err3, err4, err5} {
		if !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("call %d: %v", i, err)
		}
	}
	db.rows(t, 0)
}
