package storetest

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatepost/gatepost/store"
)

const (
	skew  = 10 * time.Second
	ttl   = time.Minute
	ahead = 5 * time.Second
)

// RunNodes is the contract of Nodes.
func RunNodes(t *testing.T, factory DatabaseFactory) {
	run := func(name string, f func(t *testing.T, db Database)) {
		t.Run(name, func(t *testing.T) { f(t, factory(t)) })
	}
	run("numbers are one owner's", testLeaseNumbers)
	run("a number leased again after a crash", testLeaseAgain)
	run("renewing", testRenew)
	run("clocks that differ", testSkew)
}

func (db Database) lease(t testing.TB, owner string, ttl time.Duration) store.NodeLease {
	t.Helper()
	now := time.Now()
	l, err := db.Nodes.Lease(t.Context(), owner, now, skew, ttl, ahead)
	if err != nil {
		t.Fatal(err)
	}
	if l.Owner != owner || l.HighWater.Before(now.Add(ahead).Truncate(time.Millisecond)) || !l.From.Before(l.HighWater) {
		t.Fatalf("%+v at %s", l, now)
	}
	return l
}

func testLeaseNumbers(t *testing.T, db Database) {
	var mu sync.Mutex
	seen := map[uint16]string{}
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			owner := fmt.Sprint("node ", i)
			l, err := db.Nodes.Lease(t.Context(), owner, time.Now(), skew, ttl, ahead)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if other, ok := seen[l.Number]; ok || l.Number > 1023 {
				t.Errorf("number %d is %q's and %q's", l.Number, other, owner)
			}
			seen[l.Number] = owner
		})
	}
	wg.Wait()
}

func testLeaseAgain(t *testing.T, db Database) {
	// Every other number is taken for long, so that the crashed node's is the only one.
	crashed := db.lease(t, "crashed", 20*time.Millisecond)
	for i := range 1023 {
		if _, err := db.Nodes.Lease(t.Context(), fmt.Sprint("other ", i), time.Now(), skew, time.Hour, ahead); err != nil {
			// The crashed node's lease may have run out meanwhile and been taken with the others.
			t.Fatal(i, err)
		}
	}
	var next store.NodeLease
	eventually(t, func() (err error) {
		next, err = db.Nodes.Lease(t.Context(), "next", time.Now(), skew, ttl, ahead)
		return err
	})
	if next.Number == crashed.Number && next.From.Before(crashed.HighWater) {
		t.Fatalf("ids of number %d from %s on, and up to %s before", next.Number, next.From, crashed.HighWater)
	}
	if next.Number != crashed.Number {
		t.Fatalf("number %d, want %d", next.Number, crashed.Number)
	}
	if !next.HighWater.After(crashed.HighWater) {
		t.Fatalf("the high water fell from %s to %s", crashed.HighWater, next.HighWater)
	}
	if _, err := db.Nodes.Renew(t.Context(), crashed, time.Now(), skew, ttl, ahead); !errors.Is(err, store.ErrLeaseLost) {
		t.Fatal(err)
	}
	if err := db.Nodes.Release(t.Context(), crashed); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Nodes.Renew(t.Context(), next, time.Now(), skew, ttl, ahead); err != nil {
		t.Fatal("another's release took the number away:", err)
	}
	if _, err := db.Nodes.Lease(t.Context(), "one too many", time.Now(), skew, ttl, ahead); !errors.Is(err, store.ErrUnavailable) {
		t.Fatal(err)
	}
	// Released, the number keeps its high water.
	if err := db.Nodes.Release(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	last := db.lease(t, "last", ttl)
	if last.Number != next.Number || last.From.Before(next.HighWater) {
		t.Fatalf("%+v after %+v", last, next)
	}
}

func testRenew(t *testing.T, db Database) {
	l := db.lease(t, "a", ttl)
	later, err := db.Nodes.Renew(t.Context(), l, time.Now().Add(time.Second), skew, 2*ttl, ahead)
	if err != nil || !later.HighWater.After(l.HighWater) || !later.Until.After(l.Until) || later.Number != l.Number {
		t.Fatal(later, err)
	}
	// A clock that was set back lowers nothing.
	back, err := db.Nodes.Renew(t.Context(), later, time.Now().Add(-3*time.Second), skew, ttl, ahead)
	if err != nil || !back.HighWater.Equal(later.HighWater) {
		t.Fatal(back, err)
	}
	back.Owner = "b"
	if _, err := db.Nodes.Renew(t.Context(), back, time.Now(), skew, ttl, ahead); !errors.Is(err, store.ErrLeaseLost) {
		t.Fatal(err)
	}
}

func testSkew(t *testing.T, db Database) {
	l := db.lease(t, "a", ttl)
	for _, d := range []time.Duration{-time.Minute, time.Minute} {
		if _, err := db.Nodes.Lease(t.Context(), "b", time.Now().Add(d), skew, ttl, ahead); !errors.Is(err, store.ErrClockSkew) {
			t.Errorf("%s off: %v", d, err)
		}
		if _, err := db.Nodes.Renew(t.Context(), l, time.Now().Add(d), skew, ttl, ahead); !errors.Is(err, store.ErrClockSkew) {
			t.Errorf("%s off: %v", d, err)
		}
	}
}

// RunAppKeys is the contract of the credentials of app-servers.
func RunAppKeys(t *testing.T, factory DatabaseFactory) {
	db := factory(t)
	ctx := t.Context()
	k := store.AppKey{ID: "key-1", Domain: "shop", Rights: []string{"push", "query"}, Hash: [32]byte{1, 31: 0}, CreatedAt: start}
	other := store.AppKey{ID: "key-2", Domain: "Shop", Hash: [32]byte{2}, CreatedAt: start}
	for _, k := range []store.AppKey{k, other} {
		if err := db.AppKeys.Create(ctx, k); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.AppKeys.Create(ctx, k); err == nil || errors.Is(err, store.ErrUnavailable) {
		t.Fatal("an id twice:", err)
	}
	if err := db.AppKeys.Create(ctx, store.AppKey{ID: "key-3", Domain: "shop", Rights: []string{"two words"}}); err == nil {
		t.Fatal("a right of two words was taken")
	}
	want := func(w ...store.AppKey) {
		t.Helper()
		list, err := db.AppKeys.List(ctx, "shop")
		if diff := cmp.Diff(w, list); err != nil || diff != "" {
			t.Fatal(err, diff)
		}
	}
	want(k)
	if got, err := db.AppKeys.Get(ctx, "key-1"); err != nil || cmp.Diff(k, got) != "" {
		t.Fatal(got, err)
	}
	if _, err := db.AppKeys.Get(ctx, "KEY-1"); !errors.Is(err, store.ErrNotFound) {
		t.Fatal(err)
	}
	if err := db.AppKeys.Revoke(ctx, "nobody", start); !errors.Is(err, store.ErrNotFound) {
		t.Fatal(err)
	}
	for i := range 2 {
		if err := db.AppKeys.Revoke(ctx, "key-1", start.Add(time.Duration(i+1)*time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	k.RevokedAt = start.Add(time.Hour)
	want(k)
}
