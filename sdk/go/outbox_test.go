package gatepost_test

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/status"
	gatepost "github.com/gatepost/gatepost/sdk/go"
	"github.com/gatepost/gatepost/sdk/go/memstore"
)

func TestSendInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a := newFakeGate(t), &app{}
		c := start(t, a.config(g, memstore.New()))
		before := sendN(t, c, "bob", 100) // offline
		login(t, c)
		waitAll(t, before)
		waitAll(t, sendN(t, c, "bob", 100))
		if got := acceptedSeqs(g); !slices.Equal(got, upTo(200)) {
			t.Fatalf("accepted %v", got)
		}
		synctest.Wait()
		if n := len(a.results()); n != 200 {
			t.Fatalf("the app was told %d outcomes", n)
		}
	})
}

// A frame in the middle of the pipeline has no final outcome: the stream closes, and the lowest message goes alone with the
// restart flag until its outcome is final [G3].
func TestGoBackN(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a := newFakeGate(t), &app{}
		refused := 0
		var restarts, others []uint64
		g.on = func(c *gateConn, r req) bool {
			if r.Cmd != cmdC2C {
				return false
			}
			m := c2cOf(r)
			if r.IsRestart() {
				restarts = append(restarts, m.TargetSeq)
			} else {
				others = append(others, m.TargetSeq)
			}
			if m.TargetSeq == 5 && refused < 3 {
				refused++
				c.open = false
				c.answer(r, status.Unavailable, &clientpb.Refusal{Reason: "away", RetryAfterMs: 100})
				return true
			}
			return false
		}
		c := start(t, a.config(g, memstore.New()))
		all := sendN(t, c, "bob", 10)
		login(t, c)
		waitAll(t, all)
		if got := acceptedSeqs(g); !slices.Equal(got, upTo(10)) {
			t.Fatalf("accepted %v", got)
		}
		if !slices.Equal(restarts, []uint64{1, 5, 5, 5}) {
			t.Fatalf("restart frames %v", restarts)
		}
		// 2..10 after the first restart; after the last one 6..10, and none while a restart was out.
		want := append(upTo(10)[1:], upTo(10)[5:]...)
		if !slices.Equal(others, want) {
			t.Fatalf("other frames %v, want %v", others, want)
		}
	})
}

func TestFinalRefusalClosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a := newFakeGate(t), &app{}
		g.on = func(c *gateConn, r req) bool {
			if r.Cmd == cmdC2C && c2cOf(r).TargetSeq == 3 {
				c.answer(r, status.InboxFull, &clientpb.Refusal{Reason: "full"})
				return true
			}
			return false
		}
		c := start(t, a.config(g, memstore.New()))
		login(t, c)
		all := sendN(t, c, "bob", 6)
		waitAll(t, append(slices.Clone(all[:2]), all[3:]...))
		_, err := all[2].Wait(t.Context())
		var e *gatepost.Error
		if !errors.As(err, &e) || e.Code != status.InboxFull || e.Behaviour() != status.NeverRetry {
			t.Fatalf("refusal: %v", err)
		}
		if got := acceptedSeqs(g); !slices.Equal(got, []uint64{1, 2, 4, 5, 6}) {
			t.Fatalf("accepted %v", got)
		}
		restarts := 0
		for _, r := range g.reqs {
			if r.IsRestart() {
				restarts++
			}
		}
		if restarts != 1 {
			t.Fatalf("%d restarts", restarts)
		}
	})
}

// The connection breaks after the server accepted and before it answered, again and again.
func TestResendOverReconnects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a := newFakeGate(t), &app{}
		n := 0
		g.on = func(c *gateConn, r req) bool {
			if r.Cmd != cmdC2C {
				return false
			}
			if n++; n%7 == 0 && n < 100 {
				g.mu.Lock()
				if m := c2cOf(r); c.open && !slices.ContainsFunc(g.accepted, func(o *clientpb.C2C) bool { return o.TargetSeq == m.TargetSeq }) {
					g.accepted = append(g.accepted, m)
				}
				g.mu.Unlock()
				c.nc.Close()
				return true
			}
			return false
		}
		c := start(t, a.config(g, memstore.New()))
		login(t, c)
		all := sendN(t, c, "bob", 50)
		waitAll(t, all)
		if got := acceptedSeqs(g); !slices.Equal(got, upTo(50)) {
			t.Fatalf("accepted %v", got)
		}
	})
}

// What was not accepted when the process ended is sent by the next one under the same id and number; an outcome that the
// app was not told is told again [G2].
func TestResendAfterRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a := newFakeGate(t), &app{}
		store := memstore.New()
		c := start(t, a.config(g, store))
		sendN(t, c, "bob", 3)
		c.Close()
		g.setOn(func(c *gateConn, r req) bool { // accepts, and never says so
			if r.Cmd == cmdC2C {
				g.mu.Lock()
				g.accepted = append(g.accepted, c2cOf(r))
				g.mu.Unlock()
				return true
			}
			return false
		})
		c = start(t, a.config(g, store))
		login(t, c)
		synctest.Wait()
		c.Close()
		g.setOn(nil)
		cfg := a.config(g, store)
		told := make(chan gatepost.SendResult)
		hang := make(chan struct{})
		cfg.OnSent = func(r gatepost.SendResult) { told <- r; <-hang }
		c = start(t, cfg)
		login(t, c)
		if r := <-told; r.Err != nil || !r.Duplicate {
			t.Fatalf("first outcome %+v", r)
		}
		synctest.Wait()
		died := store.Copy() // here, inside the callback
		close(hang)
		go func() {
			for range told {
			}
		}()
		c.Close()
		close(told)

		c = start(t, a.config(g, died))
		login(t, c)
		synctest.Wait()
		results := a.results()
		if len(results) != 3 {
			t.Fatalf("told %+v", results)
		}
		if got := acceptedSeqs(g); !slices.Equal(got, upTo(3)) {
			t.Fatalf("accepted %v", got)
		}
	})
}

func TestOutboxIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a := newFakeGate(t), &app{}
		cfg := a.config(g, memstore.New())
		cfg.Limits.OutboxMessages = 3
		c := start(t, cfg)
		all := sendN(t, c, "bob", 3)
		if _, err := c.C2C(t.Context(), gatepost.User{Domain: "d", UID: "bob"}, gatepost.Outgoing{}); !errors.Is(err, gatepost.ErrOutboxFull) {
			t.Fatalf("fourth: %v", err)
		}
		login(t, c)
		waitAll(t, all)
		synctest.Wait()
		waitAll(t, sendN(t, c, "bob", 1))
		if got := acceptedSeqs(g); !slices.Equal(got, upTo(4)) {
			t.Fatalf("accepted %v", got)
		}
	})
}

func TestTooOldFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a := newFakeGate(t), &app{}
		store := memstore.New()
		c := start(t, a.config(g, store))
		sendN(t, c, "bob", 1)
		c.Close()
		time.Sleep(8 * 24 * time.Hour)
		c = start(t, a.config(g, store))
		old := sendN(t, c, "bob", 1)
		time.Sleep(8 * 24 * time.Hour)
		login(t, c)
		if _, err := old[0].Wait(t.Context()); err == nil {
			t.Fatal("sent after eight days")
		}
		synctest.Wait()
		for _, r := range a.results() {
			var e *gatepost.Error
			if !errors.As(r.Err, &e) || e.Code != status.Expired {
				t.Fatalf("outcome %+v", r)
			}
		}
		if len(a.results()) != 2 || g.count(cmdC2C) != 0 {
			t.Fatalf("%d outcomes, %d frames", len(a.results()), g.count(cmdC2C))
		}
	})
}

func TestAgeTravels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a := newFakeGate(t), &app{}
		store := memstore.New()
		c := start(t, a.config(g, store))
		sendN(t, c, "bob", 1)
		time.Sleep(time.Hour)
		c.Close()
		time.Sleep(time.Hour)
		c = start(t, a.config(g, store))
		login(t, c)
		synctest.Wait()
		if age := time.Duration(g.accepted[0].AgeMs) * time.Millisecond; age < 2*time.Hour || age > 2*time.Hour+time.Minute {
			t.Fatalf("age %v", age)
		}
	})
}
