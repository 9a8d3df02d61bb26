package storetest

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatepost/gatepost/store"
)

// long is a time to live that no test outlives.
const long = time.Hour

// clockID is where session numbers begin in the tests: microseconds, as logic makes them.
const clockID = 1_790_000_000_000_000

// route makes a route of bob's android class.
func route(conn, session uint64, installation byte, counter uint64) store.Route {
	return store.Route{Class: android, GateEpoch: math.MaxUint64 - 7, ConnID: conn, Session: session, Installation: [16]byte{installation, 15: 0xff}, LoginCounter: counter}
}

// RunPresence is the contract of Presence.
func RunPresence(t *testing.T, factory TableFactory) {
	run := func(name string, f func(t *testing.T, p Table)) {
		t.Run(name, func(t *testing.T) { f(t, factory(t, long)) })
	}
	run("login and lookup", testLogin)
	run("users are told apart", testPresenceUsers)
	run("stale, repeated and newer logins", testFence)
	run("an overtaken login undoes nothing", testOvertaken)
	run("session numbers only rise", testSessionNumbers)
	run("unregister is compare and set", testUnregister)
	run("a tombstone refuses what is late", testTombstone)
	run("re-registration", testReregister)
	run("data loss", testDataLoss)
	run("large numbers", testLargeNumbers)
	run("logins race", testLoginRace)
	run("many at once", testPresenceMany)
	t.Run("a tombstone is forgotten", func(t *testing.T) { testForgotten(t, factory(t, 30*time.Millisecond)) })
}

func (p Table) login(t testing.TB, r store.Route) store.LoginResult {
	t.Helper()
	res, err := p.Presence.Login(t.Context(), bob, r)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// made logs in and returns the route with its session number.
func (p Table) made(t testing.TB, r store.Route, previous *store.Route) store.Route {
	t.Helper()
	res := p.login(t, r)
	if res.Outcome != store.LoginMade || res.Session < r.Session {
		t.Fatalf("%+v", res)
	}
	if diff := cmp.Diff(previous, res.Previous); diff != "" {
		t.Fatal(diff)
	}
	r.Session = res.Session
	return r
}

func (p Table) routes(t testing.TB, want ...store.Route) {
	t.Helper()
	res, err := p.Presence.Lookup(t.Context(), []store.UserKey{bob})
	if err != nil || len(res.Routes) != 1 {
		t.Fatal(res, err)
	}
	slices.SortFunc(res.Routes[0], func(a, b store.Route) int { return int(a.Class) - int(b.Class) })
	if !slices.Equal(res.Routes[0], want) {
		t.Fatalf("routes %+v, want %+v", res.Routes[0], want)
	}
}

// ended is what the table remembers of bob's sessions that ended.
func (p Table) ended(t testing.TB, want ...store.Ended) {
	t.Helper()
	res, err := p.Presence.Lookup(t.Context(), []store.UserKey{alice, bob})
	if err != nil || len(res.Ended) != 2 || len(res.Ended[0]) != 0 {
		t.Fatal(res, err)
	}
	slices.SortFunc(res.Ended[1], func(a, b store.Ended) int { return int(a.Class) - int(b.Class) })
	if !slices.Equal(res.Ended[1], want) {
		t.Fatalf("ended %+v, want %+v", res.Ended[1], want)
	}
}

func (p Table) unregister(t testing.TB, session uint64) {
	t.Helper()
	if err := p.Presence.Unregister(t.Context(), bob, android, session); err != nil {
		t.Fatal(err)
	}
}

func (p Table) register(t testing.TB, r store.Route) store.RegisterResult {
	t.Helper()
	res, err := p.Presence.Register(t.Context(), []store.Registration{{User: bob, Route: r}})
	if err != nil || len(res) != 1 {
		t.Fatal(res, err)
	}
	return res[0]
}

func (p Table) registered(t testing.TB, r store.Route, want store.RegisterOutcome, winner store.Route) {
	t.Helper()
	if res := p.register(t, r); res != (store.RegisterResult{Outcome: want, Winner: winner}) {
		t.Fatalf("%+v, want outcome %d, winner %+v", res, want, winner)
	}
}

func testLogin(t *testing.T, p Table) {
	p.routes(t)
	a := p.made(t, route(1, clockID, 1, 1), nil)
	if a.Session != clockID {
		t.Fatal(a.Session)
	}
	i := route(2, clockID, 2, 1)
	i.Class = ios
	p.made(t, i, nil)
	p.routes(t, a, i)
	res, err := p.Presence.Lookup(t.Context(), []store.UserKey{alice, bob, {Domain: "x", UID: "y"}, bob})
	if err != nil || len(res.Routes) != 4 || len(res.Routes[0]) != 0 || len(res.Routes[1]) != 2 || len(res.Routes[2]) != 0 || len(res.Routes[3]) != 2 {
		t.Fatal(res, err)
	}
	if res, err = p.Presence.Lookup(t.Context(), nil); err != nil || len(res.Routes) != 0 {
		t.Fatal(res, err)
	}
}

// A login that was overtaken on its way, by a later one of its own installation, stays beaten after other installations have logged in.
func testOvertaken(t *testing.T, p Table) {
	stale := func(r, winner store.Route) {
		t.Helper()
		if res := p.login(t, r); res.Outcome != store.LoginStale || res.Winner != winner {
			t.Fatalf("%+v", res)
		}
	}
	a := p.made(t, route(1, clockID, 1, 2), nil)
	b := p.made(t, route(2, clockID+1, 2, 5), &a)
	stale(route(3, clockID+2, 1, 1), b)
	stale(route(3, clockID+2, 1, 2), b)
	p.routes(t, b)

	p.unregister(t, b.Session) // the tombstone remembers it too
	b.GateEpoch, b.ConnID = 0, 0
	stale(route(4, clockID+3, 1, 2), b)
	p.routes(t)
	c := p.made(t, route(5, clockID+4, 3, 1), nil)
	p.registered(t, route(6, clockID+9, 4, 7), store.RegisterMade, store.Route{}) // re-registration passes it on
	d := route(6, clockID+9, 4, 7)
	for installation, counter := range map[byte]uint64{1: 2, 2: 5, 3: c.LoginCounter} {
		stale(route(7, clockID+10, installation, counter), d)
	}
	p.routes(t, d)
	p.routes(t, p.made(t, route(8, clockID+11, 1, 3), &d)) // a higher counter is a new login, as ever
}

func testPresenceUsers(t *testing.T, p Table) {
	users := []store.UserKey{{Domain: "a", UID: "b/c"}, {Domain: "a/b", UID: "c"}, {Domain: "a", UID: "B/c"}, {Domain: "a", UID: "{b}"}, {Domain: "a", UID: "}{"},
		{Domain: "a", UID: "b c"}, {Domain: "a", UID: "b%2Fc"}, {Domain: "a", UID: "\x00\xff\n"}, {Domain: "}", UID: "b"}, {Domain: "a", UID: "ü"}}
	for i, u := range users {
		if res, err := p.Presence.Login(t.Context(), u, route(uint64(i), clockID, byte(i), 1)); err != nil || res.Outcome != store.LoginMade || res.Previous != nil {
			t.Fatal(u, res, err)
		}
	}
	res, err := p.Presence.Lookup(t.Context(), users)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range res.Routes {
		if len(r) != 1 || r[0] != route(uint64(i), clockID, byte(i), 1) {
			t.Errorf("%q has %+v", users[i], r)
		}
	}
}

func testFence(t *testing.T, p Table) {
	first := p.made(t, route(1, clockID, 1, 5), nil)
	// The same login again, on its connection: nothing changes.
	for range 2 {
		again := route(1, clockID+50, 1, 5)
		if res := p.login(t, again); res != (store.LoginResult{Outcome: store.LoginRepeated, Session: first.Session}) {
			t.Fatalf("%+v", res)
		}
	}
	// The same counter on another connection, and lower ones.
	for _, counter := range []uint64{5, 4, 0} {
		if res := p.login(t, route(2, clockID+100, 1, counter)); res.Outcome != store.LoginStale || res.Winner != first {
			t.Fatalf("%+v", res)
		}
	}
	p.routes(t, first)
	second := p.made(t, route(3, clockID+100, 1, 6), &first)
	// Between installations the later login wins, whatever its counter is.
	third := p.made(t, route(4, clockID+200, 2, 1), &second)
	fourth := p.made(t, route(5, clockID+300, 3, 0), &third)
	p.routes(t, fourth)
	// The same connection id on another gate is another connection.
	r := route(5, clockID+400, 3, 0)
	r.GateEpoch = 3
	if res := p.login(t, r); res.Outcome != store.LoginStale {
		t.Fatalf("%+v", res)
	}
}

func testSessionNumbers(t *testing.T, p Table) {
	last := p.made(t, route(1, clockID, 1, 1), nil)
	for i := range uint64(10) {
		old := last
		last = p.made(t, route(2+i, clockID-1000*i, 1, 2+i), &old) // this node's clock is behind
		if last.Session != old.Session+1 {
			t.Fatalf("%d after %d", last.Session, old.Session)
		}
	}
	p.unregister(t, last.Session)
	p.routes(t)
	next := p.made(t, route(100, clockID-5, 1, 100), nil)
	if next.Session != last.Session+1 {
		t.Fatalf("%d after the tombstone of %d", next.Session, last.Session)
	}
}

func testUnregister(t *testing.T, p Table) {
	a := p.made(t, route(1, clockID, 1, 1), nil)
	for _, other := range []uint64{0, 1, a.Session - 1, a.Session + 1} {
		p.unregister(t, other)
	}
	p.routes(t, a)
	p.ended(t)
	if err := p.Presence.Unregister(t.Context(), bob, ios, a.Session); err != nil {
		t.Fatal(err)
	}
	p.routes(t, a)
	other := store.Ended{Class: ios, Session: a.Session} // nothing stood there: the number is remembered
	p.ended(t, other)
	b := p.made(t, route(2, clockID+1, 1, 2), &a)
	p.unregister(t, a.Session) // the old gate is late
	p.routes(t, b)
	p.ended(t, other)
	p.unregister(t, b.Session)
	p.unregister(t, b.Session)
	p.routes(t)
	p.ended(t, store.Ended{Class: android, Session: b.Session}, other)
	p.made(t, route(3, clockID+2, 1, 3), nil)
	p.ended(t, other)
}

func testTombstone(t *testing.T, p Table) {
	a := p.made(t, route(1, clockID, 1, 5), nil)
	b := p.made(t, route(2, clockID+10, 1, 6), &a)
	p.unregister(t, b.Session)
	tomb := b
	tomb.GateEpoch, tomb.ConnID = 0, 0
	// Logins that are late, the one that ended among them.
	for _, r := range []store.Route{route(1, clockID+20, 1, 5), route(2, clockID+20, 1, 6), route(9, clockID+20, 1, 6)} {
		res := p.login(t, r)
		if res.Outcome != store.LoginStale || res.Winner.Installation != b.Installation || res.Winner.LoginCounter != 6 {
			t.Fatalf("%+v", res)
		}
	}
	// Walks that are late.
	p.registered(t, b, store.RegisterRefused, store.Route{})
	res := p.register(t, a)
	if res.Outcome != store.RegisterRefused || res.Winner.LoginCounter != 6 || res.Winner.Session != b.Session {
		t.Fatalf("%+v", res)
	}
	stranger := route(7, clockID+5, 9, 1)
	if res := p.register(t, stranger); res.Outcome != store.RegisterRefused {
		t.Fatalf("%+v", res)
	}
	p.routes(t)
	// A login that the table does not know yet is newer.
	newer := route(8, clockID+30, 1, 7)
	p.registered(t, newer, store.RegisterMade, store.Route{})
	p.routes(t, newer)
}

func testReregister(t *testing.T, p Table) {
	a := route(1, clockID, 1, 1)
	p.registered(t, a, store.RegisterMade, store.Route{})
	p.registered(t, a, store.RegisterKept, store.Route{})
	p.routes(t, a)
	b := p.made(t, route(2, clockID+10, 1, 2), &a)
	p.registered(t, a, store.RegisterRefused, b)
	p.registered(t, b, store.RegisterKept, store.Route{})
	c := p.made(t, route(3, clockID+20, 2, 1), &b)
	p.registered(t, b, store.RegisterRefused, c)
	p.routes(t, c)
	// The number of another connection is not this one's.
	thief := c
	thief.ConnID = 77
	p.registered(t, thief, store.RegisterRefused, c)
	if res, err := p.Presence.Register(t.Context(), nil); err != nil || len(res) != 0 {
		t.Fatal(res, err)
	}
}

func testDataLoss(t *testing.T, p Table) {
	a := p.made(t, route(1, clockID, 1, 1), nil)
	b := p.made(t, route(2, clockID+1000, 1, 2), &a)
	p.Empty(t)
	p.routes(t)
	// The fenced one comes first, then the one that had won: the higher wins, and stays.
	p.registered(t, a, store.RegisterMade, store.Route{})
	p.registered(t, b, store.RegisterMade, store.Route{})
	p.registered(t, a, store.RegisterRefused, b)
	p.routes(t, b)
	p.Empty(t)
	// A login on a node whose clock is behind, after the loss: within the installation the counter decides.
	c := p.made(t, route(3, clockID+500, 1, 3), nil)
	p.registered(t, b, store.RegisterRefused, c)
	p.routes(t, c)
	p.Empty(t)
	p.registered(t, b, store.RegisterMade, store.Route{})
	p.registered(t, c, store.RegisterMade, store.Route{})
	p.routes(t, c)
	p.Empty(t)
	// A session that ends before the walk put it back does not come back.
	p.unregister(t, c.Session)
	p.registered(t, c, store.RegisterRefused, store.Route{})
	p.routes(t)
	p.made(t, route(4, clockID+2000, 1, 4), nil)
}

func testLargeNumbers(t *testing.T, p Table) {
	r := route(math.MaxUint64, 1<<53-2, 255, math.MaxUint64-1)
	a := p.made(t, r, nil)
	p.routes(t, a)
	if res := p.login(t, route(1, 5, 255, math.MaxUint64-2)); res.Outcome != store.LoginStale || res.Winner != a {
		t.Fatalf("%+v", res)
	}
	r = route(1, 1<<53-1, 1, 1)
	if _, err := p.Presence.Login(t.Context(), alice, r); err == nil || errors.Is(err, store.ErrUnavailable) {
		t.Fatal("a session number beyond the exact ones:", err)
	}
	p.Empty(t)
	p.made(t, route(1, clockID, 1, 9), nil)
	p.login(t, route(2, clockID, 1, 10)) // 9 < 10, as numbers
	if res := p.login(t, route(3, clockID, 1, 9)); res.Outcome != store.LoginStale {
		t.Fatalf("%+v", res)
	}
}

func testLoginRace(t *testing.T, p Table) {
	const n = 50
	var mu sync.Mutex
	sessions := map[uint64]bool{}
	var wg sync.WaitGroup
	for i := range uint64(n) {
		wg.Go(func() {
			res, err := p.Presence.Login(t.Context(), bob, route(i+1, clockID+rand.Uint64N(10), 1, i+1))
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if res.Outcome == store.LoginMade {
				if sessions[res.Session] {
					t.Errorf("session %d twice", res.Session)
				}
				sessions[res.Session] = true
			}
		})
	}
	wg.Wait()
	res, err := p.Presence.Lookup(t.Context(), []store.UserKey{bob})
	if err != nil || len(res.Routes[0]) != 1 || res.Routes[0][0].LoginCounter != n {
		t.Fatal(res, err)
	}
}

func testPresenceMany(t *testing.T, p Table) {
	var batch []store.Registration
	var users []store.UserKey
	for i := range 700 {
		u := store.UserKey{Domain: "many", UID: fmt.Sprint(i)}
		users = append(users, u)
		batch = append(batch, store.Registration{User: u, Route: route(uint64(i), clockID+uint64(i), 1, 1)})
	}
	for _, want := range []store.RegisterOutcome{store.RegisterMade, store.RegisterKept} {
		res, err := p.Presence.Register(t.Context(), batch)
		if err != nil || len(res) != len(batch) {
			t.Fatal(err)
		}
		for i, r := range res {
			if r != (store.RegisterResult{Outcome: want}) {
				t.Fatal(i, r)
			}
		}
	}
	res, err := p.Presence.Lookup(t.Context(), users)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range res.Routes {
		if len(r) != 1 || r[0] != batch[i].Route {
			t.Fatal(i, r)
		}
	}
}

func testForgotten(t *testing.T, p Table) {
	a := p.made(t, route(1, clockID, 1, 5), nil)
	p.unregister(t, a.Session)
	eventually(t, func() error {
		if res := p.register(t, a); res.Outcome != store.RegisterMade {
			return fmt.Errorf("%+v", res)
		}
		return nil
	})
	p.unregister(t, a.Session)
	eventually(t, func() error {
		if res := p.login(t, route(2, clockID+1, 1, 5)); res.Outcome != store.LoginMade {
			return fmt.Errorf("%+v", res)
		}
		return nil
	})
}

// RunLeases is the contract of Leases.
func RunLeases(t *testing.T, factory TableFactory) {
	t.Run("gates", func(t *testing.T) { testGates(t, factory(t, long)) })
	t.Run("logic nodes", func(t *testing.T) { testLogicNodes(t, factory(t, long)) })
	t.Run("the table's epoch", func(t *testing.T) { testEpoch(t, factory(t, long)) })
}

func testGates(t *testing.T, p Table) {
	a := store.Gate{Epoch: math.MaxUint64, Name: "a \"gate\"", RPCAddress: "127.0.0.1:1", ClientAddresses: []string{"tcp://a:1", "tls://a:2"}, Connections: 5, Sessions: 4, Draining: true, PresenceEpoch: math.MaxUint64 - 1}
	b := store.Gate{Epoch: 2, Name: "b"}
	list := func(want ...store.Gate) error {
		gates, err := p.Leases.Gates(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, gates); diff != "" && len(want)+len(gates) > 0 {
			return errors.New(diff)
		}
		return nil
	}
	beat := func(g store.Gate, ttl time.Duration) {
		t.Helper()
		if epoch, err := p.Leases.BeatGate(t.Context(), g, ttl); err != nil || epoch == 0 {
			t.Fatal(epoch, err)
		}
	}
	check := func(want ...store.Gate) {
		t.Helper()
		if err := list(want...); err != nil {
			t.Fatal(err)
		}
	}
	check()
	beat(a, long)
	beat(b, long)
	check(b, a)
	a.Draining, a.Sessions = false, 9
	beat(a, long)
	check(b, a)
	if err := p.Leases.DropGate(t.Context(), b.Epoch); err != nil {
		t.Fatal(err)
	}
	check(a)
	beat(a, 20*time.Millisecond)
	eventually(t, func() error { return list() })
	beat(b, long)
	check(b)
}

func testLogicNodes(t *testing.T, p Table) {
	a, b := store.LogicNode{Epoch: math.MaxUint64, RPCAddress: "10.0.0.1:1"}, store.LogicNode{Epoch: 7, RPCAddress: "10.0.0.2:1"}
	for _, n := range []store.LogicNode{a, b, a} {
		if err := p.Leases.BeatLogic(t.Context(), n, long); err != nil {
			t.Fatal(err)
		}
	}
	nodes, err := p.Leases.LogicNodes(t.Context())
	if err != nil || !slices.Equal(nodes, []store.LogicNode{b, a}) {
		t.Fatal(nodes, err)
	}
	if gates, err := p.Leases.Gates(t.Context()); err != nil || len(gates) != 0 {
		t.Fatal(gates, err)
	}
	if err := p.Leases.DropLogic(t.Context(), a.Epoch); err != nil {
		t.Fatal(err)
	}
	if err := p.Leases.BeatLogic(t.Context(), b, 20*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if nodes, err = p.Leases.LogicNodes(t.Context()); err != nil || len(nodes) != 0 {
			return fmt.Errorf("%v %v", nodes, err)
		}
		return nil
	})
}

func testEpoch(t *testing.T, p Table) {
	epoch := func() uint64 {
		t.Helper()
		res, err := p.Presence.Lookup(t.Context(), []store.UserKey{bob})
		if err != nil {
			t.Fatal(err)
		}
		return res.Epoch
	}
	beat := func(gate uint64) uint64 {
		t.Helper()
		e, err := p.Leases.BeatGate(t.Context(), store.Gate{Epoch: gate}, long)
		if err != nil || e == 0 || e >= 1<<53 {
			t.Fatal(e, err)
		}
		return e
	}
	if e := epoch(); e != 0 {
		t.Fatal("an empty table has an epoch:", e)
	}
	first := beat(1)
	if beat(2) != first || beat(1) != first || epoch() != first {
		t.Fatal("the epoch changed for nothing")
	}
	p.Empty(t)
	if e := epoch(); e != 0 {
		t.Fatal("an emptied table has an epoch:", e)
	}
	var wg sync.WaitGroup
	epochs := make([]uint64, 8)
	for i := range epochs {
		wg.Go(func() { epochs[i], _ = p.Leases.BeatGate(t.Context(), store.Gate{Epoch: uint64(i) + 1}, long) })
	}
	wg.Wait()
	if second := epoch(); second == first || second == 0 || slices.ContainsFunc(epochs, func(e uint64) bool { return e != second }) {
		t.Fatal(first, second, epochs)
	}
}
