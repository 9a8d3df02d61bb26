package storetest

import (
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/gatepost/gatepost/store"
)

// rounds is how often a race is run.
const rounds = 300

func runConfirm(t *testing.T, factory DatabaseFactory) {
	run := func(name string, f func(t *testing.T, db Database)) {
		t.Run(name, func(t *testing.T) { f(t, factory(t)) })
	}
	run("without a registered class any confirmation removes", testConfirmUnregistered)
	run("a row stays until every class has confirmed", testConfirmClasses)
	run("foreign and forged confirmations touch nothing", testConfirmForeign)
	run("one batch of many users and classes", testConfirmBatch)
	run("batches of any size of any users and classes", testConfirmModel)
	run("repeated confirmations", testConfirmRepeated)
	run("a class that is not registered confirms", testConfirmStranger)
	run("two classes confirm at once", testConfirmRace)
	run("a class registers at any moment of a send and a confirmation", testRegisterRace)
	run("a class retires while another confirms", testRetireRace)
	run("a class registers while another retires", testRegisterRetireRace)
	runReceipts(t, factory)
}

func testConfirmUnregistered(t *testing.T, db Database) {
	list := messages(3, alice, bob)
	db.stored(t, list...)
	db.confirm(t, bob, web, list[1].ID)
	if got := ids(db.all(t, bob, android)); !slices.Equal(got, []store.MsgID{list[0].ID, list[2].ID}) {
		t.Fatal(got)
	}
}

func testConfirmClasses(t *testing.T, db Database) {
	for _, c := range []store.DeviceClass{android, ios, 31} {
		db.register(t, bob, c, 1)
	}
	list := messages(50, alice, bob)
	db.stored(t, list...)
	db.confirm(t, bob, ios, ids(list)...)
	db.confirm(t, bob, 31, ids(list[:20])...)
	db.rows(t, 50)
	db.confirm(t, bob, android, ids(list[:30])...)
	db.rows(t, 30)
	db.confirm(t, bob, android, ids(list)...)
	db.rows(t, 30)
	db.confirm(t, bob, 31, ids(list)...)
	db.rows(t, 0)
}

func testConfirmForeign(t *testing.T, db Database) {
	mallory := store.UserKey{Domain: bob.Domain, UID: "mallory"}
	for _, u := range []store.UserKey{bob, mallory} {
		db.register(t, u, android, 1)
		db.register(t, u, ios, 1)
	}
	list := messages(5, alice, bob)
	own := message(alice, mallory)
	db.stored(t, append(list, own)...)
	forged := append(ids(list), 1, 2, math.MaxInt64, math.MaxUint64, own.ID)
	for _, u := range []store.UserKey{mallory, alice, {Domain: "other", UID: bob.UID}, {Domain: bob.Domain, UID: "Bob"}} {
		db.confirm(t, u, android, forged...)
		db.confirm(t, u, ios, forged...)
	}
	db.rows(t, 5)
	for _, c := range []store.DeviceClass{android, ios} {
		if got := ids(db.all(t, bob, c)); !slices.Equal(got, ids(list)) {
			t.Fatalf("class %d of bob sees %v", c, got)
		}
	}
}

func testConfirmBatch(t *testing.T, db Database) {
	db.register(t, bob, android, 1)
	db.register(t, bob, ios, 1)
	db.register(t, alice, android, 1)
	toBob, toAlice := messages(400, alice, bob), messages(400, bob, alice)
	db.stored(t, append(slices.Clone(toBob), toAlice...)...)
	mixed := ids(toAlice)
	rand.Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
	// Both classes of bob in one transaction, ids of alice among bob's and the other way round.
	_, err := db.Inbox.Confirm(t.Context(), []store.Confirmation{
		{Owner: bob, Class: android, IDs: append(ids(toBob[:300]), mixed[:50]...)},
		{Owner: alice, Class: android, IDs: append(mixed[:390:390], ids(toBob[300:])...)},
		{Owner: bob, Class: ios, IDs: ids(toBob[100:])},
		{Owner: bob, Class: ios},
	})
	if err != nil {
		t.Fatal(err)
	}
	db.rows(t, 100+100+10)
	if got := ids(db.all(t, bob, android)); !slices.Equal(got, ids(toBob[300:])) {
		t.Fatalf("android sees %d rows", len(got))
	}
	if got := ids(db.all(t, bob, ios)); !slices.Equal(got, ids(toBob[:100])) {
		t.Fatalf("ios sees %d rows", len(got))
	}
}

// testConfirmModel compares batches of all sizes with a model: users whose names nearly are one another's, of no class, one, two and three; ids of
// their own, and in all but the first round of others, and of nobody.
func testConfirmModel(t *testing.T, db Database) {
	type row struct {
		owner     int
		confirmed uint32
	}
	type user struct {
		store.UserKey
		classes []store.DeviceClass
		mask    uint32
	}
	users := []user{
		{UserKey: store.UserKey{Domain: "d", UID: "u"}, classes: []store.DeviceClass{android}},
		{UserKey: store.UserKey{Domain: "d", UID: "u "}, classes: []store.DeviceClass{android}},
		{UserKey: store.UserKey{Domain: "d ", UID: "u"}, classes: []store.DeviceClass{31}},
		{UserKey: store.UserKey{Domain: "d", UID: "U"}, classes: []store.DeviceClass{android, ios}},
		{UserKey: store.UserKey{Domain: "d", UID: "\x00u\xff\xfe'\\"}, classes: []store.DeviceClass{android, ios, 31}},
		{UserKey: store.UserKey{Domain: "d", UID: "2 d\x00u"}},
	}
	for i := range users {
		u := &users[i]
		for _, c := range u.classes {
			db.register(t, u.UserKey, c, 1)
			u.mask |= c.Bit()
		}
	}
	anyClass := []store.DeviceClass{android, ios, 31, web}
	rows := map[store.MsgID]*row{}
	for _, size := range []int{1, 3, 9, 100, 256, 257, 512, 513, 1100} {
		for seed := range uint64(4) {
			rnd := rand.New(rand.NewPCG(seed, uint64(size)))
			var list []store.Message
			for range size {
				owner := rnd.IntN(len(users))
				m := message(alice, users[owner].UserKey)
				rows[m.ID] = &row{owner: owner}
				list = append(list, m)
			}
			db.stored(t, list...)
			known := slices.Sorted(maps.Keys(rows))
			var batch []store.Confirmation
			confirm := func(owner int, class store.DeviceClass, id store.MsgID) {
				batch = append(batch, store.Confirmation{Owner: users[owner].UserKey, Class: class, IDs: []store.MsgID{id}})
				if r := rows[id]; r != nil && r.owner == owner {
					r.confirmed |= class.Bit()
				}
			}
			rnd.Shuffle(len(known), func(i, j int) { known[i], known[j] = known[j], known[i] })
			for _, id := range known[:size] {
				owner := rows[id].owner
				class := anyClass[rnd.IntN(len(anyClass))]
				if u := users[owner]; len(u.classes) > 0 && (seed == 0 || rnd.IntN(2) == 0) {
					class = u.classes[rnd.IntN(len(u.classes))]
				}
				if seed > 0 {
					switch rnd.IntN(8) {
					case 0:
						owner = rnd.IntN(len(users))
					case 1:
						id = store.MsgID(rnd.Uint64())
					}
				}
				confirm(owner, class, id)
			}
			if _, err := db.Inbox.Confirm(t.Context(), batch); err != nil {
				t.Fatal(err)
			}
			for id, r := range rows {
				if r.confirmed != 0 && r.confirmed&users[r.owner].mask == users[r.owner].mask {
					delete(rows, id)
				}
			}
			db.rows(t, len(rows))
			for i, u := range users {
				for _, class := range anyClass {
					var want []store.MsgID
					for id, r := range rows {
						if r.owner == i && r.confirmed&class.Bit() == 0 {
							want = append(want, id)
						}
					}
					slices.Sort(want)
					if got := ids(db.all(t, u.UserKey, class)); !slices.Equal(got, want) {
						t.Fatalf("%d confirmations, seed %d: class %d of %q sees %d rows, not %d", size, seed, class, u.UserKey, len(got), len(want))
					}
				}
			}
		}
	}
}

func testConfirmRepeated(t *testing.T, db Database) {
	db.register(t, bob, android, 1)
	db.register(t, bob, ios, 1)
	m := message(alice, bob)
	db.stored(t, m)
	for range 3 {
		db.confirm(t, bob, android, m.ID, m.ID, m.ID)
	}
	db.rows(t, 1)
	db.confirm(t, bob, ios, m.ID, m.ID)
	db.rows(t, 0)
	db.confirm(t, bob, ios, m.ID)
}

func testConfirmStranger(t *testing.T, db Database) {
	db.register(t, bob, android, 1)
	m := message(alice, bob)
	db.stored(t, m)
	db.confirm(t, bob, web, m.ID)
	db.rows(t, 1)
	if got := db.all(t, bob, web); len(got) != 0 {
		t.Fatal("web sees what it has confirmed")
	}
	db.confirm(t, bob, android, m.ID)
	db.rows(t, 0)
}

// testConfirmRace: whatever the interleaving of two classes that confirm the same rows, nothing stays.
func testConfirmRace(t *testing.T, db Database) {
	classes := []store.DeviceClass{android, ios, web}
	for _, c := range classes {
		db.register(t, bob, c, 1)
	}
	confirmed := 0
	for round := range rounds {
		list := messages(1+round%12, alice, bob)
		db.stored(t, list...)
		var wg sync.WaitGroup
		for _, c := range classes {
			wg.Go(func() {
				mine := ids(list)
				if round%3 == 0 {
					slices.Reverse(mine)
				}
				if _, err := db.Inbox.Confirm(t.Context(), []store.Confirmation{{Owner: bob, Class: c, IDs: mine}}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		confirmed += len(classes) * len(list)
		if n := db.Raw(t); n != 0 {
			t.Fatalf("round %d: %d rows stay", round, n)
		}
	}
	t.Logf("%d confirmations", confirmed)
}

// testRegisterRace: what is accepted after Register returned is owed to the class; what both then confirm leaves.
func testRegisterRace(t *testing.T, db Database) {
	for range rounds {
		user := store.UserKey{Domain: "race", UID: messageUID()}
		db.register(t, user, android, 1)
		early := message(alice, user)
		db.stored(t, early)
		var wg sync.WaitGroup
		var late []store.Message
		wg.Go(func() {
			if _, err := db.Inbox.Confirm(t.Context(), []store.Confirmation{{Owner: user, Class: android, IDs: []store.MsgID{early.ID}}}); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			if _, err := db.Devices.Register(t.Context(), deviceOf(user, ios, 1)); err != nil {
				t.Error(err)
				return
			}
			late = messages(2, alice, user)
			if _, err := db.Inbox.Append(t.Context(), late); err != nil {
				t.Error(err)
				return
			}
			if _, err := db.Inbox.Confirm(t.Context(), []store.Confirmation{{Owner: user, Class: android, IDs: ids(late)}}); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
		if t.Failed() {
			return
		}
		seen := ids(db.all(t, user, ios))
		for _, m := range late {
			if !slices.Contains(seen, m.ID) {
				t.Fatalf("accepted after the registration, and not owed: %v not in %v", m.ID, seen)
			}
		}
		db.confirm(t, user, ios, seen...)
		db.rows(t, 0)
	}
}

func testRetireRace(t *testing.T, db Database) {
	for range rounds {
		user := store.UserKey{Domain: "race", UID: messageUID()}
		db.register(t, user, android, 1)
		db.register(t, user, ios, 1)
		list := messages(4, alice, user)
		db.stored(t, list...)
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := db.Inbox.Confirm(t.Context(), []store.Confirmation{{Owner: user, Class: android, IDs: ids(list)}}); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			if err := db.Devices.Retire(t.Context(), deviceOf(user, ios, 1)); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
		if n := db.Raw(t); n != 0 {
			t.Fatalf("%d rows stay that nobody is owed", n)
		}
	}
}

// testRegisterRetireRace: what is accepted after Register returned is owed to the class, also when a retirement removes rows meanwhile.
func testRegisterRetireRace(t *testing.T, db Database) {
	for range rounds / 2 {
		user := store.UserKey{Domain: "race", UID: messageUID()}
		db.register(t, user, android, 1)
		db.register(t, user, ios, 1)
		list := messages(40, alice, user)
		late := messages(2, alice, user)
		last := message(alice, user) // the highest id: a retirement that looks at the inbox early looks at the late ones too
		db.stored(t, append(list, last)...)
		db.confirm(t, user, android, ids(list)...)
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := db.Devices.Retire(t.Context(), deviceOf(user, ios, 1)); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			if _, err := db.Devices.Register(t.Context(), deviceOf(user, web, 1)); err != nil {
				t.Error(err)
				return
			}
			if _, err := db.Inbox.Append(t.Context(), late); err != nil {
				t.Error(err)
				return
			}
			if _, err := db.Inbox.Confirm(t.Context(), []store.Confirmation{{Owner: user, Class: android, IDs: ids(late)}}); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
		if t.Failed() {
			return
		}
		seen := ids(db.all(t, user, web))
		for _, m := range append(late, last) {
			if !slices.Contains(seen, m.ID) {
				t.Fatalf("owed and removed: %v not in %v", m.ID, seen)
			}
		}
	}
}

// messageUID is a uid that no other call returns.
func messageUID() string { return strconv.FormatUint(uint64(nextID()), 36) }
