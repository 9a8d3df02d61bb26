package storetest

import (
	"fmt"
	"slices"
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
	run("the login counter never goes back", testRegisterCounter)
	run("retire removes what only the class had not confirmed", testRetire)
	run("retire is fenced by the login counter", testRetireFence)
	run("retire is fenced by the installation", testRetireInstallation)
	run("the last class retires and nothing is lost", testRetireLast)
}

func testRegister(t *testing.T, db Database) {
	d := store.Device{Owner: bob, Class: android, LoginCounter: 1 << 63, Installation: [16]byte{1, 15: 0}, SeenAt: start}
	e := store.Device{Owner: bob, Class: ios, LoginCounter: 2, Installation: [16]byte{2}, SeenAt: start.Add(time.Second)}
	for _, x := range []store.Device{e, d, d} {
		if retired, err := db.Devices.Register(t.Context(), x); err != nil || retired {
			t.Fatal(retired, err)
		}
	}
	list, err := db.Devices.List(t.Context(), bob)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]store.Device{d, e}, list); diff != "" {
		t.Fatal(diff)
	}
	if list, err = db.Devices.List(t.Context(), alice); err != nil || len(list) != 0 {
		t.Fatal(list, err)
	}
}

func testRegisterCounter(t *testing.T, db Database) {
	counter := func(want uint64) {
		t.Helper()
		list, err := db.Devices.List(t.Context(), bob)
		if err != nil || len(list) != 1 || list[0].LoginCounter != want {
			t.Fatalf("%+v, %v, want counter %d", list, err, want)
		}
	}
	db.register(t, bob, android, 5)
	db.register(t, bob, android, 4)
	counter(5)
	db.register(t, bob, android, 6)
	counter(6)
	// A new installation begins where it likes.
	if _, err := db.Devices.Register(t.Context(), store.Device{Owner: bob, Class: android, LoginCounter: 1, Installation: [16]byte{99}, SeenAt: start}); err != nil {
		t.Fatal(err)
	}
	counter(1)
	// What is late does not bring back a class that was retired after it.
	db.register(t, bob, android, 8)
	db.retire(t, bob, android, 8)
	if !db.register(t, bob, android, 7) {
		t.Fatal("a late registration was not told that the class is retired")
	}
	if list, err := db.Devices.List(t.Context(), bob); err != nil || len(list) != 0 {
		t.Fatal(list, err)
	}
	if !db.register(t, bob, android, 9) {
		t.Fatal("the next login was not told that the class had been retired")
	}
	counter(9)
	if db.register(t, bob, android, 9) {
		t.Fatal("told twice")
	}
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

// A device that another one of its class has taken over from logs out late: its counter says nothing of the other's.
func testRetireInstallation(t *testing.T, db Database) {
	old := store.Device{Owner: bob, Class: android, LoginCounter: 500, Installation: [16]byte{1}, SeenAt: start}
	newer := store.Device{Owner: bob, Class: android, LoginCounter: 1, Installation: [16]byte{2}, SeenAt: start}
	for _, d := range []store.Device{old, newer} {
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
