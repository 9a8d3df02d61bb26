package faults

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// Effect is what happens to one connection through a Proxy. Counts are bytes; 0 is never.
type Effect struct {
	CutUp     int64 // the connection is cut after this many bytes towards the gate
	CutDown   int64 // after this many bytes towards the client
	StallUp   int64 // from this byte on nothing reaches the gate, and the connection stays open
	StallDown int64
	Halve     bool  // every chunk arrives in two halves
	DownRate  int64 // at most this many bytes in a second reach the client, and the gate feels it
}

// Proxy passes TCP on to a gate, and does to each connection what it is told.
type Proxy struct {
	listener net.Listener
	target   string
	effect   func(n int) Effect

	mu    sync.Mutex
	n     int
	conns map[net.Conn]struct{}
	wg    sync.WaitGroup
	ended bool
}

// NewProxy starts a proxy to target, host:port; effect says what happens to the n-th connection, counted from 0; nil: nothing.
// The caller closes it.
func NewProxy(target string, effect func(n int) Effect) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("proxy to %s: %w", target, err)
	}
	if effect == nil {
		effect = func(int) Effect { return Effect{} }
	}
	p := &Proxy{listener: l, target: target, effect: effect, conns: map[net.Conn]struct{}{}}
	p.wg.Go(p.accept)
	return p, nil
}

// Address is what a client is given as a gate.
func (p *Proxy) Address() string { return "tcp://" + p.listener.Addr().String() }

// Connections is how many there were.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.n
}

// Close ends the proxy and all that passes through it.
func (p *Proxy) Close() {
	p.mu.Lock()
	p.ended = true
	p.mu.Unlock()
	_ = p.listener.Close() // accept ends by its error
	p.Cut()
	p.wg.Wait()
}

// Cut closes every connection that passes now.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close() // the copying goroutines notice
	}
}

func (p *Proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		n := p.n
		p.n++
		p.mu.Unlock()
		p.wg.Go(func() { p.serve(c, p.effect(n)) })
	}
}

func (p *Proxy) serve(client net.Conn, e Effect) {
	defer client.Close()
	gate, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer gate.Close()
	p.mu.Lock()
	if p.ended {
		p.mu.Unlock()
		return
	}
	p.conns[client], p.conns[gate] = struct{}{}, struct{}{}
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.conns, client)
		delete(p.conns, gate)
	}()
	done := make(chan struct{}, 2)
	pass := func(to, from net.Conn, source io.Reader, cut, stall int64) {
		_ = passOn(to, source, cut, stall, e.Halve) // whatever it is, the connection is over
		_ = to.Close()
		_ = from.Close()
		done <- struct{}{}
	}
	go pass(gate, client, client, e.CutUp, e.StallUp)
	go pass(client, gate, throttled(gate, e.DownRate), e.CutDown, e.StallDown)
	<-done
	<-done
}

// throttled reads from gate at most rate bytes in a second, and leaves little room for what waits; 0: as it is.
func throttled(gate net.Conn, rate int64) io.Reader {
	if rate <= 0 {
		return gate
	}
	if tcp, ok := gate.(*net.TCPConn); ok {
		_ = tcp.SetReadBuffer(64 << 10) // a larger buffer throttles as well, only later
	}
	return &throttle{from: gate, rate: rate, began: time.Now()}
}

// throttle is a reader that is never ahead of its rate.
type throttle struct {
	from   io.Reader
	rate   int64
	began  time.Time
	passed int64
}

func (t *throttle) Read(b []byte) (int, error) {
	due := t.began.Add(time.Duration(t.passed) * time.Second / time.Duration(t.rate))
	if wait := time.Until(due); wait > 0 {
		time.Sleep(wait)
	} else {
		t.began, t.passed = time.Now(), 0 // idle time is not saved up
	}
	n, err := t.from.Read(b[:min(len(b), 4<<10)])
	t.passed += int64(n)
	return n, err
}

var errCut = errors.New("cut")

func passOn(to io.Writer, from io.Reader, cut, stall int64, halve bool) error {
	buf := make([]byte, 32<<10)
	var passed int64
	for {
		n, err := from.Read(buf)
		chunk := buf[:n]
		last := false
		if cut > 0 && passed+int64(n) >= cut {
			chunk, last = chunk[:cut-passed], true
		}
		if stall > 0 {
			chunk = chunk[:max(0, min(int64(len(chunk)), stall-passed))]
		}
		passed += int64(n)
		if halve && len(chunk) > 1 {
			if _, err := to.Write(chunk[:len(chunk)/2]); err != nil {
				return err
			}
			chunk = chunk[len(chunk)/2:]
		}
		if len(chunk) > 0 {
			if _, err := to.Write(chunk); err != nil {
				return err
			}
		}
		if last {
			return errCut
		}
		if err != nil {
			return err
		}
	}
}
