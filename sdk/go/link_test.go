package gatepost_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudwego/prutal"
	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/idl/wire"
	gatepost "github.com/gatepost/gatepost/sdk/go"
	"github.com/gatepost/gatepost/sdk/go/memstore"
)

func TestStayAwayCodesStop(t *testing.T) {
	for _, code := range []status.Code{status.BadToken, status.TokenExpired, status.UnknownDomain, status.Kicked, 4999, status.BadRequest} {
		synctest.Test(t, func(t *testing.T) {
			g, a := newFakeGate(t), &app{}
			g.on = func(c *gateConn, r req) bool {
				if r.Cmd == cmdLogin {
					c.answer(r, code, &clientpb.Refusal{Reason: "go"})
					return true
				}
				return false
			}
			c := start(t, a.config(g, memstore.New()))
			var e *gatepost.Error
			if err := c.Login(t.Context()); !errors.As(err, &e) || e.Code != code {
				t.Fatalf("login: %v", err)
			}
			time.Sleep(24 * time.Hour)
			synctest.Wait()
			if g.dialed() != 1 || c.State() != gatepost.Closed || a.lastState().Code() != code {
				t.Fatalf("%d dials, state %v, told %+v", g.dialed(), c.State(), a.lastState())
			}
			g.setOn(nil)
			login(t, c) // the app decides otherwise
		})
	}
}

func TestKicks(t *testing.T) {
	kick := func(t *testing.T, k func(l *clientpb.Login) *clientpb.Kick) (*fakeGate, *app, *gatepost.Client) {
		g, a := newFakeGate(t), &app{}
		var l clientpb.Login
		g.on = func(c *gateConn, r req) bool {
			if r.Cmd == cmdLogin {
				prutal.Unmarshal(r.body, &l)
			}
			return false
		}
		c := start(t, a.config(g, memstore.New()))
		login(t, c)
		g.current().push(cmdKick, k(&l))
		time.Sleep(time.Hour)
		synctest.Wait()
		return g, a, c
	}
	t.Run("own newer login", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			g, _, c := kick(t, func(l *clientpb.Login) *clientpb.Kick {
				return &clientpb.Kick{Status: uint32(status.Replaced), WinnerInstallation: slices.Clone(l.Installation), WinnerCounter: l.LoginCounter}
			})
			if c.State() != gatepost.Online || g.dialed() != 2 {
				t.Fatalf("state %v after %d dials", c.State(), g.dialed())
			}
		})
	})
	t.Run("another installation", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			g, a, c := kick(t, func(*clientpb.Login) *clientpb.Kick {
				return &clientpb.Kick{Status: uint32(status.Replaced), WinnerInstallation: make([]byte, 16), WinnerCounter: 1}
			})
			if c.State() != gatepost.Closed || g.dialed() != 1 || a.lastState().Code() != status.Replaced {
				t.Fatalf("state %v after %d dials, told %+v", c.State(), g.dialed(), a.lastState())
			}
		})
	})
	t.Run("a clone of this installation", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			g, _, c := kick(t, func(l *clientpb.Login) *clientpb.Kick {
				return &clientpb.Kick{Status: uint32(status.Replaced), WinnerInstallation: slices.Clone(l.Installation), WinnerCounter: l.LoginCounter + 5}
			})
			if c.State() != gatepost.Closed || g.dialed() != 1 {
				t.Fatalf("state %v after %d dials", c.State(), g.dialed())
			}
		})
	})
}

// Two processes of one installation: the clone with the lower counter becomes an installation of its own, never sends a
// number that the original may have used, and does not come back by itself once it was replaced.
func TestCloneTakesANewIdentity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a := newFakeGate(t), &app{}
		store := memstore.New()
		c := start(t, a.config(g, store))
		sendN(t, c, "bob", 2)
		c.Close()
		clone := store.Copy()

		c = start(t, a.config(g, store))
		login(t, c)
		waitAll(t, sendN(t, c, "bob", 2))
		original := g.accepted[0].Stream

		b := &app{}
		d := start(t, b.config(g, clone))
		fresh := sendN(t, d, "bob", 2)
		login(t, d)
		waitAll(t, fresh)
		synctest.Wait()
		if len(g.accepted) != 6 {
			t.Fatalf("%d accepted", len(g.accepted))
		}
		for i, m := range g.accepted[4:] {
			if m.Stream == original || m.TargetSeq != uint64(i+1) {
				t.Fatalf("stream %d number %d", m.Stream, m.TargetSeq)
			}
		}
		restored := 0
		for _, r := range b.results() {
			if errors.Is(r.Err, gatepost.ErrRestored) {
				restored++
			}
		}
		if restored != 2 || len(b.results()) != 4 {
			t.Fatalf("told %+v", b.results())
		}
		if len(g.counters) != 2 {
			t.Fatalf("%d installations", len(g.counters))
		}
	})
}

func TestStaleLoginOfAFreshInstallationStaysAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a := newFakeGate(t), &app{}
		g.on = func(c *gateConn, r req) bool {
			if r.Cmd == cmdLogin {
				c.answer(r, status.StaleLogin, nil)
				return true
			}
			return false
		}
		c := start(t, a.config(g, memstore.New()))
		if err := c.Login(t.Context()); err == nil || g.dialed() != 2 {
			t.Fatalf("login: %v after %d dials", err, g.dialed())
		}
	})
}

func TestLoginCounterRisesWithEachConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a := newFakeGate(t), &app{}
		store := memstore.New()
		var counters []uint64
		g.on = func(c *gateConn, r req) bool {
			if r.Cmd == cmdLogin {
				var l clientpb.Login
				prutal.Unmarshal(r.body, &l)
				counters = append(counters, l.LoginCounter)
			}
			return false
		}
		for range 2 {
			c := start(t, a.config(g, store))
			login(t, c)
			g.current().nc.Close()
			synctest.Wait()
			login(t, c)
			c.Close()
		}
		if !slices.Equal(counters, []uint64{1, 2, 3, 4}) {
			t.Fatalf("counters %v", counters)
		}
	})
}

func TestRetryAfterIsHonoured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a := newFakeGate(t), &app{}
		g.on = func(c *gateConn, r req) bool {
			if r.Cmd == cmdLogin && g.count(cmdLogin) == 1 {
				c.answer(r, status.Overloaded, &clientpb.Refusal{RetryAfterMs: 600_000})
				return true
			}
			return false
		}
		c := start(t, a.config(g, memstore.New()))
		go c.Login(t.Context())
		time.Sleep(9 * time.Minute)
		synctest.Wait()
		if g.dialed() != 1 {
			t.Fatalf("%d dials before the time was over", g.dialed())
		}
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		if c.State() != gatepost.Online {
			t.Fatalf("state %v", c.State())
		}
	})
}

func TestFailoverWalksTheGates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a := newFakeGate(t), &app{}
		cfg := a.config(g, memstore.New())
		cfg.Gates = []string{"tcp://dead1:1", "tcp://dead2:1", "tcp://alive:1"}
		cfg.Dialer = func(ctx context.Context, network, address string) (net.Conn, error) {
			if address != "alive:1" {
				return nil, errors.New("refused")
			}
			return g.dial(ctx, network, address)
		}
		login(t, start(t, cfg))
	})
}

func TestLoginThatRunsOutOfTimeSaysWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a := newFakeGate(t), &app{}
		cfg := a.config(g, memstore.New())
		refused := errors.New("refused")
		cfg.Dialer = func(context.Context, string, string) (net.Conn, error) { return nil, refused }
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := start(t, cfg).Login(ctx); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, refused) {
			t.Errorf("login: %v", err)
		}
	})
}

// A gate that takes frames and answers none is found out, by the keepalive too; NetworkChanged finds out at once.
func TestSilentGateIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, _, c := online(t)
		var silent atomic.Pointer[gateConn]
		silent.Store(g.current())
		g.setOn(func(c *gateConn, _ req) bool { return c == silent.Load() })
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if g.dialed() != 2 || c.State() != gatepost.Online || g.count(cmdAlive) == 0 {
			t.Fatalf("%d dials, %v, %d keepalives", g.dialed(), c.State(), g.count(cmdAlive))
		}
		silent.Store(g.current())
		c.NetworkChanged()
		time.Sleep(6 * time.Second)
		synctest.Wait()
		if g.dialed() != 3 {
			t.Fatalf("%d dials after the network changed", g.dialed())
		}
	})
}

func TestNetworkChangedEndsTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a := newFakeGate(t), &app{}
		var up atomic.Bool
		cfg := a.config(g, memstore.New())
		cfg.Timing.BackoffBase, cfg.Timing.BackoffCap = 24*time.Hour, 48*time.Hour
		cfg.Dialer = func(ctx context.Context, network, address string) (net.Conn, error) {
			if !up.Load() {
				return nil, errors.New("no network")
			}
			return g.dial(ctx, network, address)
		}
		c := start(t, cfg)
		go c.Login(t.Context())
		synctest.Wait()
		up.Store(true)
		c.NetworkChanged()
		synctest.Wait()
		if c.State() != gatepost.Online {
			t.Fatalf("state %v", c.State())
		}
	})
}

func TestKeyRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a := newFakeGate(t), &app{}
		old, err := wire.GenerateKey(6)
		if err != nil {
			t.Fatal(err)
		}
		cfg := a.config(g, memstore.New())
		cfg.Keys = []gatepost.Key{old.PublicKey(), g.key.PublicKey()}
		login(t, start(t, cfg))

		cfg = a.config(g, memstore.New())
		cfg.Keys = []gatepost.Key{old.PublicKey()}
		var e *gatepost.Error
		if err := start(t, cfg).Login(t.Context()); !errors.As(err, &e) || e.Code != status.UnknownKey {
			t.Fatalf("login with an unknown key: %v", err)
		}
	})
}

func TestUnknownFramesAreIgnored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a, _ := online(t)
		conn := g.current()
		conn.push(0x04ff, &clientpb.Refusal{Reason: "new"})
		conn.send(wire.Header{Flags: wire.FlagResponse | 0x80, Cmd: 0x03ff, Seq: 99}, nil)
		conn.deliver(g.put("bob", 1, 1))
		synctest.Wait()
		if len(a.shown) != 1 || g.dialed() != 1 {
			t.Fatalf("shown %d, dials %d", len(a.shown), g.dialed())
		}
	})
}

func TestLogout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, _, c := online(t)
		if err := c.Logout(t.Context()); err != nil || g.count(cmdLogout) != 1 {
			t.Fatalf("logout: %v", err)
		}
		if err := c.Login(t.Context()); !errors.Is(err, gatepost.ErrClosed) {
			t.Fatalf("login after logout: %v", err)
		}
		if _, err := c.C2C(t.Context(), gatepost.User{Domain: "d", UID: "x"}, gatepost.Outgoing{}); !errors.Is(err, gatepost.ErrClosed) {
			t.Fatalf("send after logout: %v", err)
		}
	})
}

// Close while a callback sends and pulls: nothing waits for ever.
func TestCloseDuringCallback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a := newFakeGate(t), &app{}
		entered := make(chan struct{}, 1)
		var c *gatepost.Client
		a.refuse = func(gatepost.Message) error {
			entered <- struct{}{}
			time.Sleep(time.Second)
			c.C2C(context.Background(), gatepost.User{Domain: "d", UID: "x"}, gatepost.Outgoing{})
			c.Pull(context.Background())
			return nil
		}
		c = start(t, a.config(g, memstore.New()))
		login(t, c)
		g.current().deliver(g.put("bob", 1, 1))
		<-entered
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// A session that lasts registers its device again each day, or the server would take it for absent after thirty; and when it
// was retired all the same, the app is told.
func TestRegistersDailyAndTellsRetired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a := newFakeGate(t), &app{}
		var mu sync.Mutex
		registered := 0
		g.on = func(c *gateConn, r req) bool {
			if r.Cmd != cmdPull {
				return false
			}
			var p clientpb.Pull
			prutal.Unmarshal(r.body, &p)
			if !p.Register {
				return false
			}
			mu.Lock()
			registered++
			retired := registered == 3
			mu.Unlock()
			answer := g.page(&p)
			answer.Retired = retired
			c.answer(r, status.OK, answer)
			return true
		}
		c := start(t, a.config(g, memstore.New()))
		login(t, c)
		time.Sleep(23 * time.Hour)
		synctest.Wait()
		mu.Lock()
		if registered != 1 {
			t.Errorf("registered %d times within a day", registered)
		}
		mu.Unlock()
		time.Sleep(27 * time.Hour)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		a.mu.Lock()
		defer a.mu.Unlock()
		told := 0
		for _, s := range a.states {
			if s.Retired {
				told++
			}
		}
		if registered != 3 || told != 1 || g.dialed() != 1 {
			t.Errorf("registered %d times, told of retirement %d times, %d dials", registered, told, g.dialed())
		}
	})
}

// A login that was refused by name leaves its counter to the next one: a restored store must not climb over what its original has used.
func TestRefusedLoginGivesItsCounterBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a := newFakeGate(t), &app{}
		var counters []uint64
		refuse := []status.Code{status.BadToken, status.TokenExpired, status.BadRequest, status.Unavailable, status.OK}
		g.on = func(c *gateConn, r req) bool {
			if r.Cmd != cmdLogin {
				return false
			}
			var l clientpb.Login
			prutal.Unmarshal(r.body, &l)
			counters = append(counters, l.LoginCounter)
			code := refuse[0]
			refuse = refuse[1:]
			if code == status.OK {
				return false
			}
			c.answer(r, code, nil)
			return true
		}
		c := start(t, a.config(g, memstore.New()))
		for range 3 {
			if err := c.Login(t.Context()); err == nil {
				t.Fatal("a refused login succeeded")
			}
		}
		login(t, c) // UNAVAILABLE leaves open what became of it
		if !slices.Equal(counters, []uint64{1, 1, 1, 1, 2}) {
			t.Fatalf("counters %v", counters)
		}
	})
}
