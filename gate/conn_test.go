package gate

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/cloudwego/prutal"

	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/gen/logicpb"
	"github.com/gatepost/gatepost/idl/limits"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/idl/wire"
)

func TestNoiseAndTLS(t *testing.T) {
	f := newFake(1)
	g := startGate(t, func(c *Config) { c.ListenTLS = "127.0.0.1:0" }, f)
	key := g.key.PublicKey()
	for name, key := range map[string]*wire.PublicKey{"tls clear": nil, "tls noise": &key, "tcp noise": &key} {
		t.Run(name, func(t *testing.T) {
			c := g.raw()
			if name != "tcp noise" {
				nc, err := tls.Dial("tcp", g.addr("tls"), &tls.Config{InsecureSkipVerify: true})
				if err != nil {
					t.Fatal(err)
				}
				c = g.over(nc)
			}
			if a := c.hello(key); a.Status != status.OK {
				t.Fatal(a.Status)
			}
			if a := c.call(cmdLogin, 0, loginBody(name, 1)); a.Status != status.OK {
				t.Fatal(a.Status)
			}
			if a := c.call(cmdC2C, wire.FlagRestart, []byte("hello")); a.Status != status.OK || string(a.body) != "hello" {
				t.Fatal(a)
			}
			if a := c.call(cmdKeepalive, 0, nil); a.Status != status.OK {
				t.Fatal(a.Status)
			}
		})
	}
	if _, err := tls.Dial("tcp", g.addr("tls"), &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}); err == nil {
		t.Fatal("TLS 1.2 was taken")
	}
}

func TestHandshakeRefusals(t *testing.T) {
	g := startGate(t, nil, newFake(1))
	other, err := wire.GenerateKey(9)
	if err != nil {
		t.Fatal(err)
	}
	wrong := wire.PublicKey{ID: g.key.ID, Key: other.Public}
	unknown := other.PublicKey()
	for name, tc := range map[string]struct {
		say  func(c *client)
		code status.Code
	}{
		"clear":       {func(c *client) { c.send(cmdHello, 0, mustHello(t, nil)) }, status.ClearRefused},
		"unknown key": {func(c *client) { c.send(cmdHello, 0, mustHello(t, &unknown)) }, status.UnknownKey},
		"wrong key":   {func(c *client) { c.send(cmdHello, 0, mustHello(t, &wrong)) }, status.BadHandshake},
		"version": {func(c *client) { c.send(cmdHello, 0, marshal(&clientpb.Hello{ProtocolVersion: 99})) },
			status.UnsupportedVersion},
		"garbage":        {func(c *client) { c.send(cmdHello, 0, bytes.Repeat([]byte{0xff}, 100)) }, status.BadHandshake},
		"not hello":      {func(c *client) { c.send(cmdLogin, 0, nil) }, status.BadHandshake},
		"an answer":      {func(c *client) { c.send(cmdHello, wire.FlagResponse, nil) }, status.BadHandshake},
		"too large":      {func(c *client) { c.send(cmdHello, 0, make([]byte, limits.HelloBodyBytes+1)) }, status.BadHandshake},
		"http":           {func(c *client) { c.write([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")) }, status.BadHandshake},
		"header version": {func(c *client) { c.write(append([]byte("GP\x02"), make([]byte, 13)...)) }, status.UnsupportedVersion},
	} {
		t.Run(name, func(t *testing.T) {
			c := g.raw()
			tc.say(c)
			c.closes(tc.code)
		})
	}
	eventuallyTrue(t, "all gone", func() bool { return g.connections.Load() == 0 && len(g.handshakes) == 0 })
}

func mustHello(t *testing.T, key *wire.PublicKey) []byte {
	_, b, err := wire.NewHello(key, &clientpb.HelloOffer{})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDeadlines(t *testing.T) {
	const soon = 50 * time.Millisecond
	t.Run("hello", func(t *testing.T) {
		g := startGate(t, func(c *Config) { c.HelloTimeout = soon }, newFake(1))
		g.raw().closes(status.HelloTimeout)
	})
	t.Run("login", func(t *testing.T) {
		g := startGate(t, func(c *Config) { c.LoginTimeout, c.Lanes.EntryTimeout = 2*soon, soon }, newFake(1))
		g.connect().closes(status.LoginTimeout)
		c := g.login("u", 1)
		if a := c.call(cmdLogout, 0, nil); a.Status != status.OK {
			t.Fatal(a.Status)
		}
		c.closes(status.LoginTimeout) // the clock runs anew
	})
	t.Run("keepalive does not replace a login", func(t *testing.T) {
		g := startGate(t, func(c *Config) { c.LoginTimeout, c.Lanes.EntryTimeout = 2*soon, soon }, newFake(1))
		c := g.connect()
		for {
			c.send(cmdKeepalive, 0, nil)
			if f := c.recv(); f.Cmd == cmdClose {
				if f.Status != status.LoginTimeout {
					t.Fatal(f.Status)
				}
				return
			}
		}
	})
	t.Run("idle", func(t *testing.T) {
		g := startGate(t, func(c *Config) { c.Keepalive = soon }, newFake(1))
		g.login("u", 1).closes(status.Idle)
	})
	t.Run("body", func(t *testing.T) {
		g := startGate(t, func(c *Config) { c.BodyTimeout = soon }, newFake(1))
		c := g.login("u", 1)
		c.write(wire.Header{Cmd: cmdC2C, Length: 1000, Flags: wire.FlagSealed}.Append(nil))
		f := c.recv()
		var r clientpb.Refusal
		if err := prutal.Unmarshal(f.body, &r); err != nil || f.Cmd != cmdClose || f.Status != status.Idle {
			t.Fatal(f, err)
		}
		if want := fmt.Sprintf("the body of a frame did not come within %v", soon); r.Reason != want {
			t.Fatalf("%q, want %q", r.Reason, want)
		}
	})
}

func TestBadFrames(t *testing.T) {
	g := startGate(t, nil, newFake(1))
	for name, spoil := range map[string]func(c *client){
		"magic":   func(c *client) { c.write(bytes.Repeat([]byte{'x'}, 64)) },
		"version": func(c *client) { c.write(append([]byte("GP\x07"), make([]byte, 13)...)) },
		"oversize": func(c *client) {
			c.write(wire.Header{Cmd: cmdC2C, Length: 1 << 31, Flags: wire.FlagSealed}.Append(nil))
		},
		"one byte too many": func(c *client) {
			c.write(wire.Header{Cmd: cmdC2C, Length: limits.BodyToGateBytes + wire.SealOverhead + 1, Flags: wire.FlagSealed}.Append(nil))
		},
		"not sealed": func(c *client) { c.write(wire.Header{Cmd: cmdKeepalive}.Append(nil)) },
		"seal": func(c *client) {
			b := c.seal.AppendFrame(nil, wire.Header{Cmd: cmdC2C}, []byte("body"))
			b[len(b)-1] ^= 1
			c.write(b)
		},
		"header changed": func(c *client) {
			b := c.seal.AppendFrame(nil, wire.Header{Cmd: cmdC2C}, []byte("body"))
			b[3] ^= byte(wire.FlagRestart)
			c.write(b)
		},
		"replayed": func(c *client) {
			b := c.seal.AppendFrame(nil, wire.Header{Cmd: 0x00ff}, nil)
			c.write(append(b, b...))
		},
		"compressed without agreement": func(c *client) {
			c.write(wire.Header{Cmd: cmdC2C, Flags: wire.FlagSealed | wire.FlagCompressed, Length: 40}.Append(nil))
			c.write(make([]byte, 40))
		},
		"second hello": func(c *client) { c.send(cmdHello, 0, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			c := g.login(name, 1)
			spoil(c)
			c.closes(status.BadFrame)
		})
	}
	t.Run("large before login", func(t *testing.T) {
		c := g.connect()
		c.send(cmdLogin, 0, make([]byte, limits.BodyBeforeLoginBytes+1))
		c.closes(status.BadFrame)
	})
	eventuallyTrue(t, "all gone", func() bool { return g.connections.Load() == 0 && g.sessions.Load() == 0 })
}

// A claimed length costs no memory.
func TestOversizeAllocatesNothing(t *testing.T) {
	g := startGate(t, nil, newFake(1))
	c := g.login("u", 1)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	c.write(wire.Header{Cmd: cmdC2C, Length: 1 << 31, Flags: wire.FlagSealed}.Append(nil))
	c.closes(status.BadFrame)
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 4<<20 {
		t.Fatalf("%d bytes were allocated", n)
	}
}

func TestUnknownCommandsFlagsFields(t *testing.T) {
	f := newFake(1)
	f.answer = func(fr *logicpb.Frame) *logicpb.Answer {
		if fr.Cmd == 0x0177 || fr.Cmd == 0x0277 || fr.Cmd == 0x0377 {
			return &logicpb.Answer{Status: uint32(status.UnknownCommand), Body: refusal(status.UnknownCommand, "")}
		}
		return fakeAnswer(fr)
	}
	g := startGate(t, nil, f)
	c := g.login("u", 1)
	for _, cmd := range []uint16{0x0000, 0x0077, 0x0401, 0x0577, 0xff01, 0x0177, 0x0277, 0x0377} {
		if a := c.call(cmd, wire.FlagRestart, []byte("x")); a.Status != status.UnknownCommand {
			t.Errorf("%#x is answered %v", cmd, a.Status)
		}
	}
	const unknown = wire.Flags(0x50)
	if a := c.call(cmdPull, unknown, []byte("x")); a.Status != status.OK {
		t.Error(a.Status)
	}
	c.send(cmdPull, wire.FlagResponse, nil) // nobody asked: dropped
	if a := c.call(cmdKeepalive, 0, []byte{0xf8, 0x07, 1}); a.Status != status.OK {
		t.Error(a.Status)
	}
	d := g.connect()
	for _, cmd := range []uint16{cmdC2C, cmdC2S} {
		if a := d.call(cmd, wire.FlagRestart, nil); a.Status != status.NotLoggedIn {
			t.Error(a.Status)
		}
	}
	body := append(loginBody("fields", 1), 0xfa, 0x3e, 1, 'x') // field 1007
	if a := d.call(cmdLogin, 0, body); a.Status != status.OK {
		t.Error(a.Status)
	}
}

func TestClientCloses(t *testing.T) {
	f := newFake(1)
	g := startGate(t, nil, f)
	c := g.login("u", 5)
	c.send(cmdClose, 0, nil)
	if _, err := c.next(); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	eventuallyTrue(t, "reported", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(f.ended) == 1 && f.ended[0].Session.Number == 5
	})
}

func TestAcceptLimits(t *testing.T) {
	t.Run("connections", func(t *testing.T) {
		g := startGate(t, func(c *Config) { c.MaxConnections = 1 }, newFake(1))
		c := g.connect()
		if f, err := g.raw().next(); err == nil && f.Status != status.TooManyConnections {
			t.Fatal(f.Status)
		}
		c.nc.Close()
		eventuallyTrue(t, "a place", func() bool { return g.connections.Load() == 0 })
		g.connect()
	})
	t.Run("handshakes", func(t *testing.T) {
		g := startGate(t, func(c *Config) { c.MaxHandshakes = 1 }, newFake(1))
		stalled := g.raw()
		eventuallyTrue(t, "taken", func() bool { return len(g.handshakes) == 1 })
		if f, err := g.raw().next(); err == nil && f.Status != status.TooManyConnections {
			t.Fatal(f.Status)
		}
		stalled.nc.Close()
		eventuallyTrue(t, "free", func() bool { return len(g.handshakes) == 0 })
		g.connect()
	})
	t.Run("rate", func(t *testing.T) {
		r := newRates(10, 3)
		now := time.Unix(1000, 0)
		v4 := &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 1}
		for i := range 4 {
			if r.allow(v4, now) != (i < 3) {
				t.Fatalf("handshake %d", i)
			}
		}
		if !r.allow(v4, now.Add(100*time.Millisecond)) || r.allow(v4, now.Add(100*time.Millisecond)) {
			t.Fatal("one token comes back in 100 ms")
		}
		for i := range 4 { // one /64
			ip := net.ParseIP(fmt.Sprintf("2001:db8::%d", i+1))
			if r.allow(&net.TCPAddr{IP: ip, Port: 1}, now) != (i < 3) {
				t.Fatalf("IPv6 handshake %d", i)
			}
		}
		for i := range 3 * maxBuckets {
			r.allow(&net.TCPAddr{IP: net.IPv4(11, byte(i>>16), byte(i>>8), byte(i)), Port: 1}, now)
		}
		if n := len(r.now) + len(r.old); n > 2*maxBuckets {
			t.Fatalf("%d buckets", n)
		}
	})
}

// faultyConn is a client's socket with a fault written down as data: what goes out is halved, stalled, or cut at a byte.
type faultyConn struct {
	net.Conn
	halve bool
	stall time.Duration // before each write
	cut   int           // > 0: the connection ends after so many bytes
	sent  int
}

func (f *faultyConn) Write(p []byte) (int, error) {
	if f.cut > 0 && f.sent+len(p) > f.cut {
		p = p[:max(0, f.cut-f.sent)]
		f.Conn.Write(p)
		f.Conn.Close()
		return len(p), net.ErrClosed
	}
	f.sent += len(p)
	if !f.halve {
		time.Sleep(f.stall)
		return f.Conn.Write(p)
	}
	for i := range p {
		time.Sleep(f.stall)
		if _, err := f.Conn.Write(p[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(p), nil
}

func TestFaultySockets(t *testing.T) {
	g := startGate(t, nil, newFake(1))
	run := func(fc *faultyConn) error {
		nc, err := net.Dial("tcp", g.addr("tcp"))
		if err != nil {
			return err
		}
		defer nc.Close()
		fc.Conn = nc
		c := &client{t: t, nc: fc}
		key := g.key.PublicKey()
		i, hello, err := wire.NewHello(&key, &clientpb.HelloOffer{})
		if err != nil {
			return err
		}
		c.send(cmdHello, 0, hello)
		f, err := c.next()
		if err != nil {
			return err
		}
		if _, c.open, c.seal, err = i.Finish(f.body); err != nil {
			return err
		}
		c.send(cmdLogin, 0, loginBody("faulty", 1))
		c.send(cmdPull, 0, bytes.Repeat([]byte("p"), 300))
		for range 2 {
			if f, err = c.next(); err != nil {
				return err
			}
			if f.Status != status.OK {
				return fmt.Errorf("%v", f.Status)
			}
		}
		return nil
	}
	if err := run(&faultyConn{halve: true}); err != nil {
		t.Fatal("byte by byte:", err)
	}
	if err := run(&faultyConn{stall: time.Millisecond}); err != nil {
		t.Fatal("stalling:", err)
	}
	whole := &faultyConn{}
	if err := run(whole); err != nil {
		t.Fatal(err)
	}
	for cut := 1; cut < whole.sent; cut += 7 {
		if err := run(&faultyConn{cut: cut}); err == nil {
			t.Fatalf("cut at %d of %d was not noticed", cut, whole.sent)
		} else if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("cut at %d: the gate hangs", cut)
		}
	}
	eventuallyTrue(t, "all gone", func() bool { return g.connections.Load() == 0 && g.sessions.Load() == 0 })
}
