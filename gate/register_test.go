package gate

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/cloudwego/prutal"

	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/gen/gatepb"
	"github.com/gatepost/gatepost/idl/gen/logicpb"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/idl/wire"
)

// expectSync reads one frame, which must be SYNC.
func (c *client) expectSync() {
	c.t.Helper()
	if f := c.recv(); f.Cmd != cmdSync {
		c.t.Fatalf("%#x instead of SYNC", f.Cmd)
	}
}

// expectNothing shows that nothing was pushed up to now: the next frame is the answer to a keepalive.
func (c *client) expectNothing() {
	c.t.Helper()
	c.call(cmdKeepalive, 0, nil)
}

func TestNewPresenceEpochRegistersAll(t *testing.T) {
	f := newFake(1)
	f.beat.PresenceEpoch = 0 // the table is away
	g := startGate(t, nil, f)
	kept, made, lost, beaten := g.login("kept", 1), g.login("made", 2), g.login("lost", 3), g.login("beaten", 4)
	winner := []byte("fedcba9876543210")
	f.set(func(f *fakeLogic) {
		f.outcome = func(ref *logicpb.SessionRef) (logicpb.RegisterOutcome, *logicpb.Winner) {
			switch ref.Session.Uid {
			case "made":
				return logicpb.RegisterOutcome_REGISTER_MADE, &logicpb.Winner{}
			case "lost":
				return logicpb.RegisterOutcome_REGISTER_REFUSED, &logicpb.Winner{}
			case "beaten":
				return logicpb.RegisterOutcome_REGISTER_REFUSED, &logicpb.Winner{Installation: winner, LoginCounter: 9}
			default:
				return logicpb.RegisterOutcome_REGISTER_KEPT, &logicpb.Winner{}
			}
		}
		f.beat.PresenceEpoch = 42
	})
	made.expectSync()
	lost.closes(status.SessionLost)
	before := beaten.closes(status.Replaced)
	var k clientpb.Kick
	if len(before) != 1 || prutal.Unmarshal(before[0].body, &k) != nil || k.WinnerCounter != 9 {
		t.Fatal(before)
	}
	eventuallyTrue(t, "beats carry the epoch", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.beats[len(f.beats)-1].PresenceEpoch == 42
	})
	kept.expectNothing()
}

// While registrations fail, the beats do not claim the epoch; then they are tried again.
func TestRegistrationIsTriedAgain(t *testing.T) {
	f := newFake(1)
	f.sessErr = errors.New("away")
	f.beat.PresenceEpoch = 0
	g := startGate(t, nil, f)
	c := g.login("u", 1)
	f.set(func(f *fakeLogic) { f.beat.PresenceEpoch = 8 })
	eventuallyTrue(t, "seen", func() bool { return g.presence.current() == 8 })
	if g.presence.registered.Load() == 8 {
		t.Fatal("registered without an answer")
	}
	f.set(func(f *fakeLogic) { f.sessErr = nil })
	eventuallyTrue(t, "registered", func() bool { return g.presence.registered.Load() == 8 })
	c.expectNothing()
}

// A login that was on its way while the table began anew is registered once more.
func TestLoginDuringNewEpoch(t *testing.T) {
	f := newFake(1)
	g := startGate(t, nil, f)
	eventuallyTrue(t, "registered", func() bool { return g.presence.registered.Load() == 7 })
	f.set(func(f *fakeLogic) {
		f.handle = func(_ context.Context, req *logicpb.HandleRequest) (*logicpb.HandleResponse, error) {
			f.set(func(f *fakeLogic) { f.beat.PresenceEpoch = 8 })
			for end := time.Now().Add(patience); g.presence.registered.Load() != 8 && time.Now().Before(end); {
				time.Sleep(time.Millisecond)
			}
			return &logicpb.HandleResponse{Answers: []*logicpb.Answer{fakeAnswer(req.Frames[0])}}, nil
		}
	})
	g.login("u", 1)
	eventuallyTrue(t, "registered again", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(f.register) == 1
	})
}

func TestWalk(t *testing.T) {
	f := newFake(1)
	g := startGate(t, func(c *Config) { c.WalkInterval = 64 * time.Millisecond }, f)
	g.login("u", 1)
	eventuallyTrue(t, "registered thrice", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(f.register) >= 3
	})
}

func TestEndedIsReportedWhenLogicIsBack(t *testing.T) {
	f := newFake(1)
	g := startGate(t, func(c *Config) { c.MaxEnded = 3 }, f)
	f.set(func(f *fakeLogic) { f.sessErr = errors.New("away") })
	for i := range 5 {
		g.login(fmt.Sprint(i), uint64(i+1)).nc.Close()
		eventuallyTrue(t, "gone", func() bool { return g.connections.Load() == 0 })
	}
	f.set(func(f *fakeLogic) { f.sessErr = nil })
	eventuallyTrue(t, "the newest three told", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		numbers := map[uint64]bool{}
		for _, r := range f.ended {
			numbers[r.Session.Number] = true
		}
		return numbers[3] && numbers[4] && numbers[5]
	})
	eventuallyTrue(t, "none waits", g.reporter.empty)
}

func TestSyncSpread(t *testing.T) {
	for name, tc := range map[string]struct {
		end  func(f *fakeLogic)
		sync bool
	}{
		"dead":        {func(f *fakeLogic) { f.beatErr = errors.New("connection refused") }, true},
		"hangs":       {func(f *fakeLogic) { f.beatErr = context.DeadlineExceeded }, true},
		"new process": {func(f *fakeLogic) { f.beat.LogicEpoch = 99 }, true},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := newFake(1), newFake(2)
			g := startGate(t, nil, a, b)
			eventuallyTrue(t, "both ready", func() bool { return len(g.nodes.view.Load().ready) == 2 })
			c, d := g.login("c", 1), g.login("d", 2)
			b.set(tc.end)
			c.expectSync()
			d.expectSync()
			if a := c.call(cmdC2C, wire.FlagRestart, nil); a.Status != status.OK {
				t.Fatal(a.Status)
			}
		})
	}
	// Nobody died, but this gate was taken for dead: it was frozen, or cut off.
	t.Run("away", func(t *testing.T) {
		a, b := newFake(1), newFake(2)
		g := startGate(t, nil, a, b)
		eventuallyTrue(t, "both ready", func() bool { return len(g.nodes.view.Load().ready) == 2 })
		c := g.login("c", 1)
		g.nodes.mu.Lock()
		g.nodes.byAddress["b"].heard = time.Now().Add(-time.Minute)
		g.nodes.mu.Unlock()
		c.expectSync()
	})
	t.Run("planned stop", func(t *testing.T) {
		a, b := newFake(1), newFake(2)
		g := startGate(t, nil, a, b)
		eventuallyTrue(t, "both ready", func() bool { return len(g.nodes.view.Load().ready) == 2 })
		c := g.login("c", 1)
		b.set(func(f *fakeLogic) { f.beat.Stopping = true })
		eventuallyTrue(t, "left", func() bool { return len(g.nodes.view.Load().alive) == 1 })
		b.set(func(f *fakeLogic) { f.beatErr = errors.New("connection refused") })
		eventuallyTrue(t, "dead", func() bool {
			g.nodes.mu.Lock()
			defer g.nodes.mu.Unlock()
			return g.nodes.byAddress["b"].state == nodeDead
		})
		b.set(func(f *fakeLogic) { f.beatErr, f.beat.Stopping, f.beat.LogicEpoch = nil, false, 3 })
		eventuallyTrue(t, "back", func() bool { return len(g.nodes.view.Load().ready) == 2 })
		c.expectNothing()
	})
}

func TestNodesAreLearntAndForgotten(t *testing.T) {
	a, b := newFake(1), newFake(2)
	a.beat.LogicAddresses = []string{"a", "b", "nowhere"}
	g := startGate(t, func(c *Config) { c.Logic = []string{"a"}; c.ForgetNode = 100 * time.Millisecond }, a, b)
	eventuallyTrue(t, "learnt", func() bool { return len(g.nodes.view.Load().ready) == 2 })
	b.set(func(f *fakeLogic) { f.beatErr = errors.New("connection refused") })
	a.set(func(f *fakeLogic) { f.beat.LogicAddresses = nil })
	eventuallyTrue(t, "forgotten", func() bool {
		g.nodes.mu.Lock()
		defer g.nodes.mu.Unlock()
		return len(g.nodes.byAddress) == 1
	})
	eventuallyTrue(t, "its client closed", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.closed
	})
}

func TestDrain(t *testing.T) {
	f := newFake(1)
	g := startGate(t, nil, f)
	idle, busy, fresh := g.login("idle", 1), g.login("busy", 2), g.connect()
	entered, proceed := blocking(f, cmdC2C)
	seq := busy.send(cmdC2C, wire.FlagRestart, []byte("last"))
	<-entered
	drained := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		drained <- g.Drain(ctx)
	}()
	idle.closes(status.Draining)
	fresh.closes(status.Draining)
	rec := httptest.NewRecorder()
	g.Handler().ServeHTTP(rec, httptest.NewRequest("GET", "/readyz", nil))
	if rec.Code != http.StatusServiceUnavailable {
		t.Fatal("ready while draining")
	}
	if o := g.deliver1(durable(1), &gatepb.Item{Domain: "d", Uid: "busy"}); o == unknown {
		t.Fatal(o)
	}
	proceed <- struct{}{}
	answered := false
	for _, f := range busy.closes(status.Draining) {
		answered = answered || f.Seq == seq && f.Status == status.OK && f.Cmd == cmdC2C
	}
	if !answered {
		t.Fatal("what was in flight was not answered")
	}
	if err := <-drained; err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.ended) != 2 {
		t.Fatalf("%d ended sessions reported", len(f.ended))
	}
	said := false
	for _, b := range f.beats {
		said = said || b.Draining
	}
	if !said {
		t.Fatal("no beat said draining")
	}
}

func TestHealth(t *testing.T) {
	f := newFake(1)
	f.beat.Ready = false
	g := startGate(t, nil, f)
	get := func(path string) int {
		rec := httptest.NewRecorder()
		g.Handler().ServeHTTP(rec, httptest.NewRequest("GET", path, nil))
		return rec.Code
	}
	if get("/healthz") != 200 || get("/readyz") != 503 {
		t.Fatal(get("/healthz"), get("/readyz"))
	}
	f.set(func(f *fakeLogic) { f.beat.Ready = true })
	eventuallyTrue(t, "ready", func() bool { return get("/readyz") == 200 })
}

func TestConfig(t *testing.T) {
	cfg := Default()
	cfg.ListenTCP, cfg.Logic = "127.0.0.1:0", []string{"x"}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	bad := Config{LoginTimeout: time.Second, Lanes: Lanes{EntryTimeout: time.Minute}}
	err := bad.Validate()
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok || len(joined.Unwrap()) < 20 {
		t.Fatal(err)
	}
	if _, err := New(cfg, Deps{}); err == nil {
		t.Fatal("without a key and a way to logic")
	}
}
