package storetest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatepost/gatepost/store"
)

// RunDevices is the contract of Devices.
func RunDevices(t *testing.T, factory DatabaseFactory) {
	run := func(name string, f func(t *testing.T, db Database)) {
		t.Run(name, func(t *testing.T) { f(t, factory(t)) })
	}
	run("register and list", testRegister)
	run("register is fenced by the session number", testRegisterFence)
	run("an installation that was here registers again", testRegisterAgain)
	run("retire removes what only the class had not confirmed", testRetire)
	run("retire is fenced by the session number", testRetireFence)
	run("a fenced session that is late ends nothing", testFencedLate)
	run("the last class retires and nothing is lost", testRetireLast)
	run("login counters are remembered", testWasHere)
	run("the last installations of a class are remembered", testWasHereBound)
	run("registrations at once", testRegisterAtOnce)
	run("users are known once they have registered", testKnown)
}

func testRegister(t *testing.T, db Database) {
	d := store.Device{Owner: bob, Class: android, Session: 3, LoginCounter: 1 << 63, Installation: [16]byte{1, 15: 0}, SeenAt: start}
	e := store.Device{Owner: bob, Class: ios, Session: 1 << 52, LoginCounter: 2, Installation: [16]byte{2}, SeenAt: start.Add(time.Second)}
	for _, x := range []store.Device{e, d, d} {
		if retired, err := db.Devices.Register(t.Context(), x); err != nil || retired {
			t.Fatal(retired, err)
		}
	}
	list, err := db.Devices.List(t.Context(), bob)
	if err != nil {
		t.Fatal(err)
	}
	want := []store.Device{{Owner: bob, Class: android, Session: d.Session, SeenAt: d.SeenAt}, {Owner: bob, Class: ios, Session: e.Session, SeenAt: e.SeenAt}}
	if diff := cmp.Diff(want, list); diff != "" {
		t.Fatal(diff)
	}
	if list, err = db.Devices.List(t.Context(), alice); err != nil || len(list) != 0 {
		t.Fatal(list, err)
	}
}

func testRegisterFence(t *testing.T, db Database) {
	session := func(want uint64) {
		t.Helper()
		list, err := db.Devices.List(t.Context(), bob)
		if err != nil || len(list) != 1 || list[0].Session != want {
			t.Fatalf("%+v, %v, want session %d", list, err, want)
		}
	}
	db.register(t, bob, android, 5)
	late := deviceOf(bob, android, 4)
	late.SeenAt = start.Add(time.Hour)
	late.Installation = [16]byte{99}
	late.LoginCounter = 1000
	if retired, err := db.Devices.Register(t.Context(), late); err != nil || retired {
		t.Fatal(retired, err)
	}
	session(5)
	if list, err := db.Devices.List(t.Context(), bob); err != nil || !list[0].SeenAt.Equal(start) {
		t.Fatal(list, err)
	}
	db.register(t, bob, android, 8)
	session(8)
	// What is late does not bring back a class that was retired after it, also when who retired it had not registered.
	db.retire(t, bob, android, 10)
	for _, s := range []uint64{7, 8, 9} {
		if !db.register(t, bob, android, s) {
			t.Fatal("a late registration was not told that the class is retired")
		}
		if list, err := db.Devices.List(t.Context(), bob); err != nil || len(list) != 0 {
			t.Fatal(list, err)
		}
	}
	db.retire(t, bob, android, 12) // again
	db.register(t, bob, android, 11)
	if list, err := db.Devices.List(t.Context(), bob); err != nil || len(list) != 0 {
		t.Fatal(list, err)
	}
	if !db.register(t, bob, android, 12) { // the session itself, which was away
		t.Fatal("the session was not told that the class had been retired")
	}
	session(12)
	if db.register(t, bob, android, 13) {
		t.Fatal("told twice")
	}
	// It is owed messages again.
	db.register(t, bob, ios, 1)
	m := message(alice, bob)
	db.stored(t, m)
	db.confirm(t, bob, ios, m.ID)
	db.rows(t, 1)
}

// The usual login: a newer session of an installation that is remembered, with a higher counter; and what differs from it in one point.
func testRegisterAgain(t *testing.T, db Database) {
	d := store.Device{Owner: bob, Class: android, Session: 10, LoginCounter: 5, Installation: [16]byte{1}, SeenAt: start}
	register := func(session, counter uint64, seen time.Duration, wantSession, wantCounter uint64, wantSeen time.Duration, wantRetired bool) {
		t.Helper()
		d.Session, d.LoginCounter, d.SeenAt = session, counter, start.Add(seen)
		if retired, err := db.Devices.Register(t.Context(), d); err != nil || retired != wantRetired {
			t.Fatal(retired, err)
		}
		list, err := db.Devices.List(t.Context(), bob)
		if err != nil || len(list) != 1 || list[0].Session != wantSession || !list[0].SeenAt.Equal(start.Add(wantSeen)) {
			t.Fatalf("%+v, %v, want session %d, seen %v", list, err, wantSession, wantSeen)
		}
		db.wasHere(t, 1, wantCounter, true)
		db.wasHere(t, 1, wantCounter+1, false)
	}
	const hour = time.Hour
	register(10, 5, 0, 10, 5, 0, false)
	register(11, 6, hour, 11, 6, hour, false)
	register(12, 1<<63+1, 0, 12, 1<<63+1, hour, false)        // by a clock that is behind
	register(12, 1<<63+1, 2*hour, 12, 1<<63+1, 2*hour, false) // the same once more
	register(13, 1<<63, 3*hour, 13, 1<<63+1, 3*hour, false)   // the counter never goes back
	register(9, 1<<63+2, 4*hour, 13, 1<<63+2, 3*hour, false)  // fenced, and remembered
	register(1<<52, 1<<63+3, 5*hour, 1<<52, 1<<63+3, 5*hour, false)
	db.retire(t, bob, android, 1<<52)
	register(1<<52+1, 1<<63+4, 6*hour, 1<<52+1, 1<<63+4, 6*hour, true)
	// The fence is the newest session's: an older one that logs out late retires nothing, its own does.
	db.register(t, bob, ios, 1)
	db.retire(t, bob, android, 1<<52)
	m := message(alice, bob)
	db.stored(t, m)
	db.confirm(t, bob, ios, m.ID)
	db.rows(t, 1)
	db.retire(t, bob, android, 1<<52+1)
	db.rows(t, 0)
}

func testRetire(t *testing.T, db Database) {
	for _, c := range []store.DeviceClass{android, ios, web} {
		db.register(t, bob, c, 3)
	}
	list := messages(1300, alice, bob) // several chunks
	db.stored(t, list...)
	others := messages(3, bob, alice)
	db.stored(t, others...)
	db.confirm(t, bob, android, ids(list)...)
	db.confirm(t, bob, web, ids(list[:1250])...)
	db.retire(t, bob, ios, 3)
	db.rows(t, 50+3)
	if got := ids(db.all(t, bob, web)); !slices.Equal(got, ids(list[1250:])) {
		t.Fatalf("web sees %d rows", len(got))
	}
	// What comes now is not owed to it.
	m := message(alice, bob)
	db.stored(t, m)
	db.confirm(t, bob, android, m.ID)
	db.confirm(t, bob, web, append(ids(list), m.ID)...)
	db.rows(t, 3)
	db.retire(t, alice, web, 1)
	db.rows(t, 3)
}

func testRetireFence(t *testing.T, db Database) {
	db.register(t, bob, android, 7)
	db.register(t, bob, ios, 7)
	m := message(alice, bob)
	db.stored(t, m)
	db.confirm(t, bob, ios, m.ID)
	db.retire(t, bob, android, 6)
	if list, err := db.Devices.List(t.Context(), bob); err != nil || len(list) != 2 {
		t.Fatal(list, err)
	}
	db.rows(t, 1)
}

// A session that another installation has taken over from pulls for the first time when the other one has, and logs out:
// what another class confirms then still waits for the class (G2).
func testFencedLate(t *testing.T, db Database) {
	old := store.Device{Owner: bob, Class: android, Session: 10, LoginCounter: 500, Installation: [16]byte{1}, SeenAt: start}
	newer := store.Device{Owner: bob, Class: android, Session: 11, LoginCounter: 1, Installation: [16]byte{2}, SeenAt: start}
	for _, d := range []store.Device{newer, old} {
		if _, err := db.Devices.Register(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	db.register(t, bob, ios, 1)
	if err := db.Devices.Retire(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	m := message(alice, bob)
	db.stored(t, m)
	db.confirm(t, bob, ios, m.ID)
	if got := ids(db.all(t, bob, android)); !slices.Equal(got, []store.MsgID{m.ID}) {
		t.Fatalf("the device that is in use sees %v", got)
	}
	if err := db.Devices.Retire(t.Context(), newer); err != nil {
		t.Fatal(err)
	}
	db.rows(t, 0)
}

// wasHere checks what is remembered of an installation of bob's android.
func (db Database) wasHere(t testing.TB, installation byte, counter uint64, want bool) {
	t.Helper()
	d := store.Device{Owner: bob, Class: android, Installation: [16]byte{installation}, LoginCounter: counter}
	if here, err := db.Devices.WasHere(t.Context(), d); err != nil || here != want {
		t.Fatalf("installation %d with counter %d: %v, %v", installation, counter, here, err)
	}
}

func testWasHere(t *testing.T, db Database) {
	register := func(session uint64, installation byte, counter uint64) {
		t.Helper()
		d := store.Device{Owner: bob, Class: android, Session: session, Installation: [16]byte{installation}, LoginCounter: counter, SeenAt: start}
		if _, err := db.Devices.Register(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	db.wasHere(t, 1, 0, false)
	register(10, 1, 5)
	register(11, 1, 7)
	register(12, 1, 6) // it never goes back
	db.wasHere(t, 1, 7, true)
	db.wasHere(t, 1, 8, false)
	// Another installation registers, and the class is retired: a store that is restored is known all the same.
	register(13, 2, 1<<63+1)
	db.wasHere(t, 1, 6, true)
	db.retire(t, bob, android, 13)
	db.wasHere(t, 1, 7, true)
	db.wasHere(t, 2, 1<<63, true)
	db.wasHere(t, 2, 1<<63+2, false)
	register(1, 3, 4) // fenced, and remembered
	db.wasHere(t, 3, 4, true)
	register(2, 3, 1<<63)
	db.wasHere(t, 3, 1<<63, true)
	register(3, 3, 5)
	db.wasHere(t, 3, 1<<63, true)
	for _, d := range []store.Device{
		{Owner: alice, Class: android, Installation: [16]byte{1}, LoginCounter: 1}, {Owner: bob, Class: ios, Installation: [16]byte{1}, LoginCounter: 1},
	} {
		if here, err := db.Devices.WasHere(t.Context(), d); err != nil || here {
			t.Fatalf("%+v: %v, %v", d, here, err)
		}
	}
}

func testWasHereBound(t *testing.T, db Database) {
	register := func(class store.DeviceClass, session uint64, installation byte) {
		t.Helper()
		d := store.Device{Owner: bob, Class: class, Session: session, Installation: [16]byte{installation}, LoginCounter: 5, SeenAt: start}
		if _, err := db.Devices.Register(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	for i := range byte(8) {
		register(android, 100+uint64(i), 1+i)
	}
	for i := range byte(20) {
		register(ios, 1000+uint64(i), 1+i)
	}
	for i := range byte(8) {
		db.wasHere(t, 1+i, 5, true)
	}
	register(android, 110, 9)
	db.wasHere(t, 1, 5, false) // the oldest
	db.wasHere(t, 2, 5, true)
	db.wasHere(t, 9, 5, true)
	register(android, 99, 10) // older than all that are remembered
	db.wasHere(t, 10, 5, false)
	db.wasHere(t, 2, 5, true)
}

// Sessions of one class register in any order and at once: the newest one's row stays.
func testRegisterAtOnce(t *testing.T, db Database) {
	const sessions = 12
	var group sync.WaitGroup
	errs := make([]error, sessions)
	for i := range sessions {
		group.Go(func() {
			d := deviceOf(bob, android, uint64(1+i))
			d.Installation = [16]byte{byte(1 + i)}
			_, errs[i] = db.Devices.Register(t.Context(), d)
			if err := db.Devices.Retire(t.Context(), deviceOf(bob, android, uint64(i))); err != nil {
				errs[i] = err
			}
		})
	}
	group.Wait()
	list, err := db.Devices.List(t.Context(), bob)
	if err := errors.Join(append(errs, err)...); err != nil || len(list) != 1 || list[0].Session != sessions {
		t.Fatal(list, err)
	}
	for i := range byte(sessions) {
		db.wasHere(t, 1+i, uint64(1+i), i >= sessions-8)
	}
}

func testRetireLast(t *testing.T, db Database) {
	db.register(t, bob, android, 1)
	list := messages(3, alice, bob)
	db.stored(t, list...)
	db.retire(t, bob, android, 1)
	db.rows(t, 3)
	if !db.register(t, bob, android, 2) {
		t.Fatal("not told")
	}
	if got := ids(db.all(t, bob, android)); !slices.Equal(got, ids(list)) {
		t.Fatal(got)
	}
}

// RunSweeper is the contract of Sweeper.
func RunSweeper(t *testing.T, factory DatabaseFactory) {
	t.Run("expiry in chunks", func(t *testing.T) {
		db := factory(t)
		list := messages(250, alice, bob)
		for i := range list {
			if i%3 == 0 {
				list[i].ExpiresAt = start
			}
		}
		db.stored(t, list...)
		removed, steps := 0, 0
		for after := store.MsgID(0); ; steps++ {
			next, n, err := db.Sweeper.Sweep(t.Context(), after, 100, start)
			if err != nil || n > 34 {
				t.Fatal(n, err)
			}
			if removed += n; next == 0 {
				break
			}
			if next <= after {
				t.Fatalf("from %d to %d", after, next)
			}
			after = next
		}
		if removed != 84 || steps != 2 {
			t.Fatalf("%d rows removed in %d steps", removed, steps)
		}
		db.rows(t, 250-84)
		if next, n, err := db.Sweeper.Sweep(t.Context(), list[249].ID, 100, start); next != 0 || n != 0 || err != nil {
			t.Fatal(next, n, err)
		}
	})
	t.Run("one holder at a time", func(t *testing.T) {
		db := factory(t)
		try := func(name, owner string, ttl time.Duration) bool {
			t.Helper()
			held, err := db.Sweeper.TryLease(t.Context(), name, owner, ttl)
			if err != nil {
				t.Fatal(err)
			}
			return held
		}
		if !try("sweep", "a", time.Hour) || try("sweep", "b", time.Hour) || !try("sweep", "a", time.Hour) || !try("other", "b", time.Hour) {
			t.Fatal("the lease is not one holder's")
		}
		if !try("sweep", "a", time.Millisecond) {
			t.Fatal("not renewed")
		}
		eventually(t, func() error {
			if !try("sweep", "b", time.Hour) {
				return fmt.Errorf("the lease has not run out")
			}
			return nil
		})
		if try("sweep", "a", time.Hour) {
			t.Fatal("two holders")
		}
	})
	t.Run("idle classes retire", func(t *testing.T) {
		db := factory(t)
		list := messages(2, alice, bob)
		for i, c := range []store.DeviceClass{android, ios, web} {
			if _, err := db.Devices.Register(t.Context(), store.Device{Owner: bob, Class: c, SeenAt: start.Add(time.Duration(i) * time.Hour)}); err != nil {
				t.Fatal(err)
			}
		}
		db.stored(t, list...)
		db.confirm(t, bob, ios, ids(list)...)
		db.confirm(t, bob, web, list[0].ID)
		for _, want := range []int{1, 0} {
			if n, err := db.Sweeper.RetireIdle(t.Context(), start.Add(time.Hour), 10); err != nil || n != want {
				t.Fatal(n, err)
			}
		}
		db.rows(t, 1)
		if n, err := db.Sweeper.RetireIdle(t.Context(), start.Add(100*time.Hour), 1); err != nil || n != 1 {
			t.Fatal(n, err)
		}
		if list, err := db.Devices.List(t.Context(), bob); err != nil || len(list) != 1 || list[0].Class != web {
			t.Fatal(list, err)
		}
	})
}

func testKnown(t *testing.T, db Database) {
	known := func(users []store.UserKey, want []bool) {
		t.Helper()
		got, err := db.Devices.Known(t.Context(), users)
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("%v, %v, want %v", got, err, want)
		}
	}
	known(nil, []bool{})
	known([]store.UserKey{alice, bob}, []bool{false, false})
	odd := store.UserKey{Domain: "shop", UID: "\xff\x00'"}
	for _, u := range []store.UserKey{alice, odd} {
		db.register(t, u, android, 1)
	}
	db.register(t, alice, ios, 1)
	db.retire(t, odd, android, 1)
	users := []store.UserKey{bob, alice, {Domain: "shop", UID: "Alice"}, odd, {Domain: "other", UID: "alice"}, alice, {}, {Domain: "shop", UID: "alice "}}
	known(users, []bool{false, true, false, true, false, true, false, false})
	// More than one statement takes.
	var many []store.UserKey
	var want []bool
	for i := range 1000 {
		u := store.UserKey{Domain: "many", UID: messageUID()}
		if i%97 == 0 {
			db.register(t, u, web, 1)
		}
		many, want = append(many, u), append(want, i%97 == 0)
	}
	known(many, want)
	for n := range 40 {
		known(many[:n], want[:n])
	}
}
