package gate

import (
	"errors"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gatepost/gatepost/idl/gen/gatepb"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/idl/wire"
)

// startLively starts a gate whose connections are quiet after a few milliseconds.
func startLively(t *testing.T) *testGate {
	return startGate(t, func(c *Config) { c.Keepalive = time.Second }, newFake(1))
}

// quiet waits until n connections are in their turn of waiting.
func quiet(t *testing.T, n int) {
	t.Helper()
	all := make([]byte, 4<<20)
	eventuallyTrue(t, "quiet", func() bool {
		return strings.Count(string(all[:runtime.Stack(all, true)]), "gate.(*conn).wait(") == n
	})
}

func TestQuietConnectionIsReadAgain(t *testing.T) {
	g := startLively(t)
	c, d := g.login("u", 1), g.login("v", 2)
	for range 3 {
		quiet(t, 2)
		if a := c.call(cmdKeepalive, 0, nil); a.Status != status.OK {
			t.Fatal(a.Status)
		}
	}
	// A frame that comes in pieces, with pauses in which a connection without one would become quiet.
	c.seq++
	b := c.seal.AppendFrame(nil, wire.Header{Cmd: cmdKeepalive, Seq: c.seq}, nil)
	for _, piece := range [][]byte{b[:1], b[1 : wire.HeaderLen-1], b[wire.HeaderLen-1 : wire.HeaderLen+1], b[wire.HeaderLen+1:]} {
		time.Sleep(2 * g.cfg.lively())
		c.write(piece)
	}
	if a := c.recv(); a.Status != status.OK || a.Seq != c.seq {
		t.Fatal(a)
	}
	quiet(t, 2)
	if o := g.deliver1(durable(1), &gatepb.Item{Domain: "d", Uid: "v"}); o != queued {
		t.Fatal(o)
	}
	if f := d.recv(); f.Cmd != cmdDeliver {
		t.Fatal(f)
	}
}

func TestQuietConnectionCloses(t *testing.T) {
	const soon = 200 * time.Millisecond
	for name, x := range map[string]struct {
		code status.Code
		do   func(g *testGate)
	}{
		"kicked": {status.Kicked, func(g *testGate) {
			g.Kick(t.Context(), &gatepb.KickRequest{Items: []*gatepb.KickItem{{Domain: "d", Uid: "u"}}})
		}},
		"replaced": {status.Replaced, func(g *testGate) { g.login("u", 2) }},
		"draining": {status.Draining, func(g *testGate) { go g.Drain(t.Context()) }},
	} {
		t.Run(name, func(t *testing.T) {
			g := startLively(t)
			c := g.login("u", 1)
			quiet(t, 1)
			x.do(g)
			c.closes(x.code)
			eventuallyTrue(t, "closed", func() bool { return g.table.get(1) == nil })
		})
	}
	t.Run("idle", func(t *testing.T) {
		g := startGate(t, func(c *Config) { c.Keepalive = 2 * soon }, newFake(1))
		c := g.login("u", 1)
		quiet(t, 1)
		c.closes(status.Idle)
	})
	t.Run("login late", func(t *testing.T) {
		g := startGate(t, func(c *Config) { c.LoginTimeout, c.Lanes.EntryTimeout, c.Keepalive = 2*soon, soon, 2*soon }, newFake(1))
		c := g.connect()
		quiet(t, 1)
		c.closes(status.LoginTimeout)
	})
	t.Run("gone", func(t *testing.T) {
		g := startLively(t)
		c := g.login("u", 1)
		quiet(t, 1)
		c.nc.Close()
		eventuallyTrue(t, "gone", func() bool { return g.connections.Load() == 0 })
	})
}

// A login that takes long is answered when its connection is quiet; from then on another deadline holds, and after a logout again.
func TestQuietConnectionLogsIn(t *testing.T) {
	const timeout = 500 * time.Millisecond
	f := newFake(1)
	g := startGate(t, func(c *Config) { c.LoginTimeout, c.Lanes.EntryTimeout, c.Keepalive = timeout, timeout/2, time.Second }, f)
	c := g.connect()
	entered, proceed := blocking(f, cmdLogin)
	c.send(cmdLogin, 0, loginBody("u", 1))
	<-entered
	quiet(t, 1)
	proceed <- struct{}{}
	if a := c.recv(); a.Status != status.OK {
		t.Fatal(a.Status)
	}
	time.Sleep(timeout + timeout/2) // longer than without a session, shorter than Keepalive asks for
	if a := c.call(cmdKeepalive, 0, nil); a.Status != status.OK {
		t.Fatal(a.Status)
	}
	if a := c.call(cmdLogout, 0, nil); a.Status != status.OK {
		t.Fatal(a.Status)
	}
	c.closes(status.LoginTimeout)
}

func TestReadAheadWaits(t *testing.T) {
	near, far := socketPair(t)
	var r readAhead
	r.start(near)
	waits := func() chan error {
		ended := make(chan error, 1)
		go func() { ended <- r.wait() }()
		return ended
	}
	ended := waits()
	near.SetReadDeadline(past)
	if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("at its deadline: %v", err)
	}
	near.SetReadDeadline(time.Time{})
	ended = waits()
	far.Write([]byte("ab"))
	for range 2 { // what has come stays
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		ended = waits()
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 3)
	if n, err := r.Read(p); err != nil || string(p[:n]) != "ab" {
		t.Fatalf("%q, %v", p[:n], err)
	}
	ended = waits()
	far.Close()
	if err := <-ended; err != nil {
		t.Fatalf("the peer's end is something to read: %v", err)
	}
}
