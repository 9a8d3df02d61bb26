package gate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatepost/gatepost/idl/gen/logicpb"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/idl/wire"
)

func TestStream(t *testing.T) {
	var s stream
	if _, ok := s.admit(false); ok {
		t.Fatal("a stream is closed at first")
	}
	first, ok := s.admit(true)
	if !ok || !s.open(first) {
		t.Fatal("restart opens")
	}
	if g, ok := s.admit(false); !ok || g != first {
		t.Fatal("it stays open")
	}
	second, _ := s.admit(true)
	s.fail(first) // the failure of an older generation
	if s.open(first) || !s.open(second) {
		t.Fatal("a failure ends its own generation, not the one behind it")
	}
	s.fail(second)
	if _, ok := s.admit(false); ok {
		t.Fatal("closed by the failure")
	}
	s.fail(first)
	if third, ok := s.admit(true); !ok || !s.open(third) {
		t.Fatal("opened again")
	}
}

// answers reads n answers and returns them by seq.
func (c *client) answers(n int) map[uint32]frame {
	c.t.Helper()
	as := map[uint32]frame{}
	for len(as) < n {
		f := c.recv()
		if !f.IsResponse() {
			c.t.Fatalf("push %#x among answers", f.Cmd)
		}
		as[f.Seq] = f
	}
	return as
}

// blocking makes a node hold each batch until the returned channel gets a value.
func blocking(f *fakeLogic, cmd uint16) (entered chan int, proceed chan struct{}) {
	entered, proceed = make(chan int, 100), make(chan struct{}, 100)
	f.set(func(f *fakeLogic) {
		f.handle = func(ctx context.Context, req *logicpb.HandleRequest) (*logicpb.HandleResponse, error) {
			resp := &logicpb.HandleResponse{}
			if uint16(req.Frames[0].Cmd) == cmd {
				entered <- len(req.Frames)
				select {
				case <-proceed:
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			}
			for _, fr := range req.Frames {
				a := fakeAnswer(fr)
				if body := string(fr.Body); strings.HasPrefix(body, "retry") {
					a = &logicpb.Answer{Status: uint32(status.Unavailable)}
				} else if strings.HasPrefix(body, "never") {
					a = &logicpb.Answer{Status: uint32(status.InboxFull)}
				}
				resp.Answers = append(resp.Answers, a)
			}
			return resp, nil
		}
	})
	return entered, proceed
}

func TestStreamClosesBehindAFailure(t *testing.T) {
	for name, cmd := range map[string]uint16{"message": cmdC2C, "uplink": cmdC2S} {
		t.Run(name, func(t *testing.T) {
			f := newFake(1)
			g := startGate(t, nil, f)
			entered, proceed := blocking(f, cmd)
			c := g.login("u", 1)
			if a := c.call(cmd, 0, []byte("x")); a.Status != status.StreamClosed {
				t.Fatal("without restart:", a.Status)
			}
			failing := c.send(cmd, wire.FlagRestart, []byte("retry 1"))
			<-entered
			queued := []uint32{c.send(cmd, 0, []byte("2")), c.send(cmd, 0, []byte("3"))}
			again := c.send(cmd, wire.FlagRestart, []byte("1 again")) // behind them, and not closed by what is ahead of it
			behind := c.send(cmd, 0, []byte("2 again"))
			if a := c.call(cmdKeepalive, 0, nil); a.Status != status.OK { // all is read
				t.Fatal(a.Status)
			}
			proceed <- struct{}{}
			proceed <- struct{}{}
			as := c.answers(5)
			for seq, want := range map[uint32]status.Code{
				failing: status.Unavailable, queued[0]: status.StreamClosed, queued[1]: status.StreamClosed, again: status.OK, behind: status.OK,
			} {
				if as[seq].Status != want {
					t.Errorf("frame %d is answered %v, want %v", seq, as[seq].Status, want)
				}
			}
			if got := f.bodies(cmd); !slices.Equal(got, []string{"retry 1", "1 again", "2 again"}) {
				t.Errorf("logic saw %q", got)
			}
		})
	}
}

func TestRefusalOfOneTargetClosesNothing(t *testing.T) {
	f := newFake(1)
	g := startGate(t, nil, f)
	_, proceed := blocking(f, cmdC2C)
	for range 10 {
		proceed <- struct{}{}
	}
	c := g.login("u", 1)
	c.send(cmdC2C, wire.FlagRestart, []byte("1"))
	never := c.send(cmdC2C, 0, []byte("never"))
	last := c.send(cmdC2C, 0, []byte("3"))
	as := c.answers(3)
	if as[never].Status != status.InboxFull || as[last].Status != status.OK {
		t.Fatal(as[never].Status, as[last].Status)
	}
}

// The streams of one connection, and those of two, do not close each other.
func TestStreamsAreApart(t *testing.T) {
	f := newFake(1)
	f.answer = func(fr *logicpb.Frame) *logicpb.Answer {
		if string(fr.Body) == "retry" {
			return &logicpb.Answer{Status: uint32(status.Unavailable)}
		}
		return fakeAnswer(fr)
	}
	g := startGate(t, func(c *Config) { c.Lanes.Message, c.Lanes.Uplink = 1, 1 }, f)
	c, d := g.login("c", 1), g.login("d", 1)
	for _, x := range []*client{c, d} {
		for _, cmd := range []uint16{cmdC2C, cmdC2S} {
			if a := x.call(cmd, wire.FlagRestart, nil); a.Status != status.OK {
				t.Fatal(a.Status)
			}
		}
	}
	if a := c.call(cmdC2C, 0, []byte("retry")); a.Status != status.Unavailable {
		t.Fatal(a.Status)
	}
	for _, call := range []struct {
		c    *client
		cmd  uint16
		want status.Code
	}{{c, cmdC2C, status.StreamClosed}, {c, cmdC2S, status.OK}, {d, cmdC2C, status.OK}, {d, cmdC2S, status.OK}, {c, cmdPull, status.OK}} {
		if a := call.c.call(call.cmd, 0, nil); a.Status != call.want {
			t.Errorf("%#x: %v, want %v", call.cmd, a.Status, call.want)
		}
	}
}

func TestBatchesKeepOrderOneInFlight(t *testing.T) {
	f := newFake(1)
	g := startGate(t, func(c *Config) { c.Lanes.Message = 1; c.Lanes.BatchFrames = 10; c.Lanes.QueueFrames = 1000 }, f)
	clients := []*client{g.login("a", 1), g.login("b", 1), g.login("c", 1)}
	f.set(func(f *fakeLogic) { f.maxFly, f.batches = 0, 0 })
	const n = 100
	for i := range n {
		for j, c := range clients {
			var flags wire.Flags
			if i == 0 {
				flags = wire.FlagRestart
			}
			c.send(cmdC2C, flags, fmt.Appendf(nil, "%d/%03d", j, i))
		}
	}
	for _, c := range clients {
		for seq, a := range c.answers(n) {
			if a.Status != status.OK {
				t.Fatal(seq, a.Status)
			}
		}
	}
	seen := f.bodies(cmdC2C)
	for j := range clients {
		mine := slices.DeleteFunc(slices.Clone(seen), func(s string) bool { return s[0] != byte('0'+j) })
		if len(mine) != n || !slices.IsSorted(mine) {
			t.Fatalf("connection %d: %d frames, in order %v", j, len(mine), slices.IsSorted(mine))
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.maxFly != 1 {
		t.Fatalf("%d batches of one lane in flight", f.maxFly)
	}
	t.Logf("%d frames in %d batches", 3*n, f.batches)
}

// What comes while a batch is in flight makes the next one, within its bounds.
func TestNaturalBatching(t *testing.T) {
	f := newFake(1)
	g := startGate(t, func(c *Config) { c.Lanes.Message = 1; c.Lanes.BatchFrames = 64 }, f)
	entered, proceed := blocking(f, cmdC2C)
	c := g.login("u", 1)
	c.send(cmdC2C, wire.FlagRestart, nil)
	if n := <-entered; n != 1 {
		t.Fatal(n)
	}
	for range 100 {
		c.send(cmdC2C, 0, nil)
	}
	c.call(cmdKeepalive, 0, nil)
	for range 3 {
		proceed <- struct{}{}
	}
	if a, b := <-entered, <-entered; a != 64 || b != 36 {
		t.Fatal(a, b)
	}
	c.answers(101)
	big := append([]byte("never"), make([]byte, 40<<10-5)...) // its answer is small
	c.send(cmdC2C, 0, big)
	<-entered
	for range 30 {
		c.send(cmdC2C, 0, big)
	}
	c.call(cmdKeepalive, 0, nil)
	for range 3 {
		proceed <- struct{}{}
	}
	if n := <-entered; n != (1<<20)/(40<<10) {
		t.Fatalf("%d frames in a batch of 1 MiB", n)
	}
	c.answers(31)
}

func TestOverload(t *testing.T) {
	f := newFake(1)
	g := startGate(t, func(c *Config) { c.Lanes.Message = 1; c.Lanes.BatchFrames = 4; c.Lanes.QueueFrames = 4 }, f)
	entered, proceed := blocking(f, cmdC2C)
	c := g.login("u", 1)
	c.send(cmdC2C, wire.FlagRestart, nil)
	<-entered
	for range 4 {
		c.send(cmdC2C, 0, nil)
	}
	if a := c.call(cmdC2C, 0, nil); a.Status != status.Overloaded {
		t.Fatal(a.Status)
	}
	if a := c.call(cmdC2C, 0, nil); a.Status != status.StreamClosed {
		t.Fatal(a.Status)
	}
	proceed <- struct{}{}
	for _, a := range c.answers(5) {
		if a.Status != status.OK && a.Status != status.StreamClosed {
			t.Fatal(a.Status)
		}
	}
	proceed <- struct{}{}
	if a := c.call(cmdC2C, wire.FlagRestart, nil); a.Status != status.OK {
		t.Fatal(a.Status)
	}
}

// When too many requests are unanswered, the gate stops reading.
func TestInFlight(t *testing.T) {
	f := newFake(1)
	g := startGate(t, func(c *Config) { c.MaxInFlight = 3 }, f)
	entered, proceed := blocking(f, cmdC2C)
	c := g.login("u", 1)
	c.send(cmdC2C, wire.FlagRestart, nil)
	<-entered
	for range 9 {
		c.send(cmdC2C, 0, nil)
	}
	conn := g.table.all()[0]
	eventuallyTrue(t, "reader waits", func() bool {
		conn.mu.Lock()
		defer conn.mu.Unlock()
		return conn.inFlight == 3 && conn.resume != nil
	})
	for range 10 {
		proceed <- struct{}{}
	}
	c.answers(10)
}

func TestFailingNodeIsNeverRetried(t *testing.T) {
	for name, tc := range map[string]struct {
		fail func(context.Context) error
		want status.Code
	}{
		"error":    {func(context.Context) error { return errors.New("connection reset") }, status.Unavailable},
		"hang":     {func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, status.Timeout},
		"stopping": {func(context.Context) error { return status.New(status.Stopping, "stops") }, status.Stopping},
		"panic":    {func(context.Context) error { panic("bug") }, status.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := newFake(1), newFake(2)
			g := startGate(t, func(c *Config) {
				c.Lanes.Message = 1
				c.Lanes.BatchTimeout = 50 * time.Millisecond
			}, a, b)
			eventuallyTrue(t, "both ready", func() bool { return len(g.nodes.view.Load().ready) == 2 })
			c := g.login("u", 1)
			if x := c.call(cmdC2C, wire.FlagRestart, []byte("1")); x.Status != status.OK {
				t.Fatal(x.Status)
			}
			bad, good := a, b
			if len(b.bodies(cmdC2C)) == 1 {
				bad, good = b, a
			}
			bad.set(func(f *fakeLogic) {
				f.handle = func(ctx context.Context, _ *logicpb.HandleRequest) (*logicpb.HandleResponse, error) {
					return nil, tc.fail(ctx)
				}
			})
			if x := c.call(cmdC2C, 0, []byte("2")); x.Status != tc.want {
				t.Fatal(x.Status)
			}
			if x := c.call(cmdC2C, 0, []byte("3")); x.Status != status.StreamClosed {
				t.Fatal(x.Status)
			}
			if got := good.bodies(cmdC2C); len(got) != 0 {
				t.Fatalf("tried again: %q", got)
			}
			if tc.want == status.Stopping || name == "panic" {
				return // the node lives: the lane stays
			}
			if x := c.call(cmdC2C, wire.FlagRestart, []byte("2 again")); x.Status != status.OK {
				t.Fatal(x.Status)
			}
			if got := good.bodies(cmdC2C); !slices.Equal(got, []string{"2 again"}) {
				t.Fatalf("the lane did not move: %q", got)
			}
		})
	}
}

func TestWrongNumberOfAnswers(t *testing.T) {
	f := newFake(1)
	g := startGate(t, nil, f)
	c := g.login("u", 1)
	f.set(func(f *fakeLogic) {
		f.handle = func(context.Context, *logicpb.HandleRequest) (*logicpb.HandleResponse, error) {
			return &logicpb.HandleResponse{}, nil
		}
	})
	if a := c.call(cmdPull, 0, nil); a.Status != status.Unavailable {
		t.Fatal(a.Status)
	}
}

// A lane keeps its node while it is there, leaves it when it stops, and messages wait for a ready one; logins do not.
func TestNodeStates(t *testing.T) {
	a := newFake(1)
	a.beat.Ready = false
	g := startGate(t, func(c *Config) { c.Lanes.Message = 1 }, a)
	eventuallyTrue(t, "alive", func() bool { return len(g.nodes.view.Load().alive) == 1 })
	if g.Ready() {
		t.Fatal("ready without a ready node")
	}
	c := g.login("u", 1)
	if x := c.call(cmdC2C, wire.FlagRestart, nil); x.Status != status.Unavailable {
		t.Fatal(x.Status)
	}
	a.set(func(f *fakeLogic) { f.beat.Ready = true })
	eventuallyTrue(t, "ready", g.Ready)
	if x := c.call(cmdC2C, wire.FlagRestart, nil); x.Status != status.OK {
		t.Fatal(x.Status)
	}
	a.set(func(f *fakeLogic) { f.beat.Stopping = true })
	eventuallyTrue(t, "left", func() bool { return len(g.nodes.view.Load().alive) == 0 })
	if x := c.call(cmdPull, 0, nil); x.Status != status.Unavailable {
		t.Fatal(x.Status)
	}
}

// A slow login holds back neither other logins nor messages.
func TestSlowLogin(t *testing.T) {
	f := newFake(1)
	g := startGate(t, nil, f)
	fast := g.login("fast", 1)
	release := make(chan struct{})
	f.set(func(f *fakeLogic) {
		f.handle = func(ctx context.Context, req *logicpb.HandleRequest) (*logicpb.HandleResponse, error) {
			resp := &logicpb.HandleResponse{}
			for _, fr := range req.Frames {
				if fr.Session == nil && strings.Contains(string(fr.Body), "slow") {
					<-release
				}
				if fr.Session == nil && fr.Peer == "" {
					return nil, errors.New("no peer")
				}
				resp.Answers = append(resp.Answers, fakeAnswer(fr))
			}
			return resp, nil
		}
	})
	slow := g.connect()
	seq := slow.send(cmdLogin, 0, loginBody("slow", 1))
	if a := fast.call(cmdC2C, wire.FlagRestart, nil); a.Status != status.OK {
		t.Fatal(a.Status)
	}
	g.login("other", 1)
	close(release)
	if a := slow.recv(); a.Seq != seq || a.Status != status.OK {
		t.Fatal(a)
	}
}
