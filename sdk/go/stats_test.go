package gatepost_test

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/status"
	gatepost "github.com/gatepost/gatepost/sdk/go"
	"github.com/gatepost/gatepost/sdk/go/memstore"
)

func TestStats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a := newFakeGate(t), &app{}
		g.on = func(c *gateConn, r req) bool {
			switch r.Cmd {
			case cmdC2S:
				c.answer(r, status.Unavailable, &clientpb.Refusal{RetryAfterMs: 60_000})
			case cmdConfirm:
			default:
				return false
			}
			return true
		}
		a.refuse = func(m gatepost.Message) error {
			if m.TargetSeq == 2 {
				return errApp
			}
			return nil
		}
		cfg := a.config(g, memstore.New())
		cfg.Timing.Request = time.Hour // a confirmation is not answered
		c := start(t, cfg)
		sendN(t, c, "bob", 3)
		report(t, c, "", "12", "345")
		if s := c.Stats(); s.State != gatepost.Offline || s.Messages.Waiting != 3 || s.Messages.InFlight != 0 || s.Uplinks.Bytes != 5 {
			t.Fatalf("offline: %+v", s)
		}
		login(t, c)
		g.current().deliver(g.put("bob", 1, 1), g.put("bob", 1, 2))
		synctest.Wait()
		s := c.Stats()
		if s.State != gatepost.Online || s.Logins != 1 || s.Messages != (gatepost.QueueStats{}) || s.Unshown != 1 || s.Unconfirmed != 1 {
			t.Fatalf("online: %+v", s)
		}
		if s.Uplinks.Waiting != 2 || s.Uplinks.RetryAt.Before(time.Now().Add(59*time.Second)) || s.Uplinks.Resends != 0 {
			t.Fatalf("uplinks: %+v", s.Uplinks)
		}
		time.Sleep(63 * time.Second)
		synctest.Wait()
		if s := c.Stats(); s.Uplinks.Resends != 1 {
			t.Fatalf("after the wait: %+v", s.Uplinks)
		}
		c.Close()
		if s := c.Stats(); s != (gatepost.Stats{State: gatepost.Closed}) {
			t.Fatalf("closed: %+v", s)
		}
	})
}

// thinConn brings a few bytes at a time.
type thinConn struct {
	net.Conn
	thin func() bool
}

func (c thinConn) Read(p []byte) (int, error) {
	if c.thin() {
		time.Sleep(time.Second)
		p = p[:min(len(p), 100)]
	}
	return c.Conn.Read(p)
}

// An answer that a thin line takes long to bring ends no connection; one that does not come although others do ends it at last.
func TestThinLineIsNotADeadOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a := newFakeGate(t), &app{}
		thin := make(chan struct{})
		cfg := a.config(g, memstore.New())
		cfg.Dialer = func(ctx context.Context, network, address string) (net.Conn, error) {
			nc, err := g.dial(ctx, network, address)
			return thinConn{nc, func() bool {
				select {
				case <-thin:
					return true
				default:
					return false
				}
			}}, err
		}
		c := start(t, cfg)
		login(t, c)
		close(thin)
		m := g.put("bob", 1, 1)
		for i := range 2048 { // does not compress: some forty seconds of the line
			m.Content = append(m.Content, byte(i*i>>3), byte(i*7919>>5))
		}
		if err := c.Pull(t.Context()); err != nil {
			t.Fatal(err)
		}
		waitAll(t, sendN(t, c, "bob", 1))
		if g.dialed() != 1 || len(a.seqs()) != 1 {
			t.Fatalf("%d dials, shown %v", g.dialed(), a.seqs())
		}
		c.Close()
		time.Sleep(2 * time.Second) // the line brings its last bytes
	})
}

func TestMissingAnswerEndsTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a := newFakeGate(t), &app{}
		swallowed := false
		g.on = func(_ *gateConn, r req) bool {
			if r.Cmd != cmdC2C || swallowed {
				return false
			}
			swallowed = true
			return true
		}
		cfg := a.config(g, memstore.New())
		cfg.Timing.Keepalive = 4 * time.Second
		c := start(t, cfg)
		login(t, c)
		began := time.Now()
		s := sendN(t, c, "bob", 1)[0]
		if _, err := s.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if wait := time.Since(began); g.dialed() != 2 || wait < 45*time.Second {
			t.Fatalf("%d dials, %v", g.dialed(), wait)
		}
	})
}
