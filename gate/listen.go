package gate

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"time"

	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/limits"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/idl/wire"
)

// listener is one address where clients connect.
type listener struct {
	net.Listener
	tls *tls.Config // nil: plain TCP
}

// url is the listener's address as clients write it.
func (l *listener) url() string {
	if l.tls != nil {
		return "tls://" + l.Addr().String()
	}
	return "tcp://" + l.Addr().String()
}

func (g *Gate) listen(ctx context.Context) error {
	lc := net.ListenConfig{KeepAlive: -1} // the protocol has its own
	for _, a := range []struct {
		address string
		tls     *tls.Config
	}{{g.cfg.ListenTCP, nil}, {g.cfg.ListenTLS, g.tls}} {
		if a.address == "" {
			continue
		}
		ln, err := lc.Listen(ctx, "tcp", a.address)
		if err != nil {
			return fmt.Errorf("gate: listen for clients: %w", err)
		}
		g.listeners = append(g.listeners, &listener{ln, a.tls})
	}
	return nil
}

// accept takes connections until the listener closes.
func (g *Gate) accept(l *listener) {
	var pause time.Duration
	for {
		nc, err := l.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			// Out of open files, most likely: existing connections go on, new ones wait.
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			g.log.Error("accept failed", "listener", l.url(), "error", err)
			if !sleep(g.ctx, pause) {
				return
			}
			continue
		}
		pause = 0
		g.metrics.accepted.Inc()
		if code := g.admission(nc); code != status.OK {
			g.turnAway(l, nc, code)
			continue
		}
		nc.SetDeadline(time.Now().Add(g.cfg.HelloTimeout))
		if l.tls != nil {
			nc = tls.Server(nc, l.tls)
		}
		c := newConn(g, nc, l.tls != nil)
		g.wg.Add(1)
		go c.handshake()
	}
}

// admission takes a place among the connections and among the handshakes, or tells why there is none.
func (g *Gate) admission(nc net.Conn) status.Code {
	if g.draining.Load() {
		return status.Draining
	}
	if !g.rates.allow(nc.RemoteAddr(), time.Now()) {
		return status.TooManyConnections
	}
	select {
	case g.handshakes <- struct{}{}:
	default:
		return status.TooManyConnections
	}
	if g.connections.Add(1) > int64(g.cfg.MaxConnections) {
		g.release()
		<-g.handshakes
		return status.TooManyConnections
	}
	g.metrics.connections.Inc()
	return status.OK
}

// release gives the place of a connection back.
func (g *Gate) release() {
	g.connections.Add(-1)
	g.metrics.connections.Dec()
}

// turnAway closes a connection that has no place. A few bytes fit into the socket of a new connection: this does not wait.
func (g *Gate) turnAway(l *listener, nc net.Conn, code status.Code) {
	g.metrics.refused.WithLabelValues(codeName(code)).Inc()
	if l.tls == nil {
		nc.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
		var clear wire.Sealer
		nc.Write(clear.AppendFrame(nil, wire.Header{Cmd: uint16(clientpb.Cmd_CMD_CLOSE), Status: code, Seq: 1}, refusal(code, "")))
	}
	nc.Close()
}

// handshake is the first goroutine of a connection. When the handshake is done it starts the reading one and ends,
// and with it goes the stack that the handshake made it grow.
func (c *conn) handshake() {
	g := c.g
	defer g.wg.Done()
	err := c.hello()
	<-g.handshakes
	if err != nil {
		c.close(causeOfHello(err))
	} else {
		g.metrics.handshake.Observe(time.Since(c.since).Seconds())
		c.online()
	}
	c.write() // gives the write turn back, or closes
}

// online begins the reading, unless the connection has to leave already.
func (c *conn) online() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != stateNew {
		return
	}
	c.state = stateOnline
	c.loginBy = time.Now().Add(c.g.cfg.LoginTimeout)
	c.in.start(c.nc)
	c.g.wg.Add(1)
	go c.read()
}

// hello does the handshake of TLS, if there is one, and that of the protocol. It has the write turn.
func (c *conn) hello() (err error) {
	defer func() {
		if p := recover(); p != nil {
			c.g.log.Error("a handshake panicked", "conn", c.id, "panic", p, "stack", string(debug.Stack()))
			err = status.New(status.GateError, "handshake failed")
		}
	}()
	if t, ok := c.nc.(*tls.Conn); ok {
		if err := t.Handshake(); err != nil {
			return err
		}
	}
	h, body, err := wire.ReadFrame(c.nc, limits.HelloBodyBytes)
	if err != nil {
		return err
	}
	defer body.Release()
	if h.Cmd != uint16(clientpb.Cmd_CMD_HELLO) || h.IsResponse() || h.Flags&(wire.FlagSealed|wire.FlagCompressed) != 0 {
		return status.New(status.BadHandshake, "the first frame is not a plain hello")
	}
	a, err := wire.AcceptHello(body.Bytes(), c.g.deps.Keys, c.secure || c.g.cfg.AllowClear, c.g.settings)
	if err != nil {
		return err
	}
	var clear wire.Sealer
	frame := clear.AppendFrame(nil, wire.Header{Flags: wire.FlagResponse, Cmd: h.Cmd, Seq: h.Seq}, a.Answer)
	if _, err := c.nc.Write(frame); err != nil {
		return err
	}
	c.open, c.seal = a.Opener, a.Sealer
	return nil
}

// settings is what HELLO is answered.
func (g *Gate) settings(*clientpb.HelloOffer) *clientpb.HelloSettings {
	s := &clientpb.HelloSettings{
		KeepaliveIntervalMs: uint32(g.cfg.Keepalive.Milliseconds()),
		MaxBodyBytes:        limits.BodyToGateBytes,
		MaxContentBytes:     limits.ContentBytes,
		ServerTimeMs:        time.Now().UnixMilli(),
		MaxInFlight:         uint32(g.cfg.MaxInFlight),
	}
	if g.cfg.Compress {
		s.Compression = clientpb.Compression_COMPRESSION_DEFLATE
	}
	return s
}

// causeOfHello says why a handshake failed.
func causeOfHello(err error) cause {
	var refused *status.Error
	var timeout net.Error
	switch {
	case errors.As(err, &refused):
		return cause{code: refused.Code, reason: refused.Reason}
	case errors.As(err, &timeout) && timeout.Timeout():
		return cause{code: status.HelloTimeout}
	case errors.Is(err, wire.ErrVersion):
		return cause{code: status.UnsupportedVersion, reason: err.Error()}
	case errors.Is(err, wire.ErrMagic), errors.Is(err, wire.ErrTooLarge):
		return cause{code: status.BadHandshake, reason: err.Error()}
	default:
		return cause{code: status.OK, broken: true}
	}
}

// rates limits how many handshakes an address may begin: a token bucket for each, in two generations of bounded size,
// of which the older one is dropped when the newer one is full. An address that comes often stays in the newer one.
type rates struct {
	perSecond, burst float64

	mu       sync.Mutex
	now, old map[netip.Prefix]bucket
}

type bucket struct {
	tokens float64
	at     time.Time
}

// maxBuckets of one generation.
const maxBuckets = 1 << 15

func newRates(perSecond, burst int) *rates {
	return &rates{perSecond: float64(perSecond), burst: float64(burst), now: make(map[netip.Prefix]bucket)}
}

// allow takes a token of the address, false when it has none left. One IPv6 /64 counts as one address.
func (r *rates) allow(a net.Addr, at time.Time) bool {
	if r.perSecond == 0 {
		return true
	}
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return true
	}
	ip, bits := ap.Addr().Unmap().WithZone(""), 32
	if ip.Is6() {
		bits = 64
	}
	key, _ := ip.Prefix(bits)
	r.mu.Lock()
	defer r.mu.Unlock()
	b, ok := r.now[key]
	if !ok {
		b, ok = r.old[key]
	}
	if !ok {
		b = bucket{tokens: r.burst, at: at}
	}
	b.tokens = min(r.burst, b.tokens+at.Sub(b.at).Seconds()*r.perSecond)
	b.at = at
	allowed := b.tokens >= 1
	if allowed {
		b.tokens--
	}
	if len(r.now) >= maxBuckets {
		r.old, r.now = r.now, make(map[netip.Prefix]bucket)
	}
	r.now[key] = b
	return allowed
}
