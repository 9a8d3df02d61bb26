package gatepost

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/cloudwego/prutal"
	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/idl/wire"
)

// link is the way to the gate. Its life is a circle: wait → dial → hello → LOGIN → first pull → online → lost → wait.
// All fields belong to the loop.
type link struct {
	wanted   bool     // Login was called, and nothing said to stay away since
	gates    []string // in this Client's own order
	nextGate int
	backoff  backoff
	retryAt  time.Time

	dialing context.CancelFunc // nil: no dialer is under way
	dial    uint64             // number of the last dialer; an older one is not heard
	logins  uint64             // that succeeded

	conn        *conn // nil: none
	loggedIn    bool
	loggedInAt  time.Time
	renewed     bool // the identity was renewed since the last login that succeeded
	keepaliveAt time.Time
	sweepAt     time.Time  // when the requests are looked through for one without an answer
	logout      chan error // waits for the answer to LOGOUT
	scratch     []byte     // for one plain body at a time
}

func (l *link) init(c *Client) {
	l.gates = c.cfg.Gates
	rand.Shuffle(len(l.gates), func(i, j int) { l.gates[i], l.gates[j] = l.gates[j], l.gates[i] })
	l.backoff = backoff{base: c.cfg.Timing.BackoffBase, cap: c.cfg.Timing.BackoffCap}
}

func (l *link) start() {
	l.wanted = true
	l.backoff.reset()
	l.retryAt = time.Time{}
}

// pumpLink dials, keeps alive and gives up on a silent gate, each when it is time.
func (c *Client) pumpLink(now time.Time) time.Time {
	l := &c.link
	switch {
	case l.conn == nil && l.wanted && l.dialing == nil:
		if now.Before(l.retryAt) {
			return l.retryAt
		}
		c.dialNext()
		return time.Time{}
	case l.conn == nil:
		return time.Time{}
	}
	return c.watch(now)
}

func (c *Client) dialNext() {
	l := &c.link
	gate := l.gates[l.nextGate%len(l.gates)]
	ctx, cancel := context.WithCancel(c.ctx)
	l.dialing = cancel
	l.dial++
	number := l.dial
	c.setState(StateChange{State: Connecting})
	go func() {
		conn, err := c.cfg.connect(ctx, gate)
		cancel()
		if !c.post(func() { c.dialed(number, conn, err) }) && conn != nil {
			conn.nc.Close()
		}
	}()
}

// dialed takes over a connection, and logs in once the counter of this attempt is durable [G5].
func (c *Client) dialed(number uint64, conn *conn, err error) {
	l := &c.link
	if number != l.dial || l.dialing == nil {
		if conn != nil {
			conn.nc.Close()
		}
		return
	}
	l.dialing = nil
	if err != nil {
		c.lost(err)
		return
	}
	l.conn = conn
	go c.readFrom(conn)
	c.id.LoginCounter++
	conn.counter = c.id.LoginCounter
	c.saveIdentity()
	c.after = append(c.after, func() {
		if l.conn == conn {
			c.sendLogin(conn)
		}
	})
}

func (c *Client) saveIdentity() {
	id := c.id
	c.changes.Identity = &id
	c.changes.Durable = true
}

func (c *Client) readFrom(conn *conn) {
	err := conn.read(func(frames []frame) bool {
		return c.post(func() {
			for _, f := range frames {
				c.handle(conn, f)
			}
		})
	})
	conn.nc.Close()
	c.post(func() {
		if c.link.conn == conn {
			c.lost(fmt.Errorf("connection to %s: %w", conn.gate, err))
		}
	})
}

// maxScratch is the largest plain body whose memory is kept for the next.
const maxScratch = 4096

// request sends a command and hears its answer; body nil is an empty one. It is only called while there is a connection.
func (c *Client) request(cmd clientpb.Cmd, flags wire.Flags, body any, timeout time.Duration, answer func(status.Code, []byte, *Error)) {
	var b []byte
	if body != nil {
		var err error
		if b, err = prutal.MarshalAppend(c.link.scratch[:0], body); err != nil {
			panic(fmt.Sprintf("gatepost: encode command %#x: %v", int32(cmd), err)) // plain structs of ours always encode
		}
		if cap(b) <= maxScratch {
			c.link.scratch = b
		}
	}
	conn, now := c.link.conn, time.Now()
	conn.seq++
	conn.requests[conn.seq] = request{deadline: now.Add(timeout), timeout: timeout, answer: answer}
	conn.lastSent = now
	c.link.keepaliveAt = now.Add(c.keepaliveWait())
	conn.send(wire.Header{Flags: flags, Cmd: uint16(cmd), Seq: conn.seq}, b)
}

// handle is where all frames arrive.
func (c *Client) handle(conn *conn, f frame) {
	defer f.body.Release()
	if c.link.conn != conn {
		return
	}
	body := f.body.Bytes()
	if f.IsResponse() {
		if r, asked := conn.requests[f.Seq]; asked {
			delete(conn.requests, f.Seq)
			c.answered(conn, r, f.Status, body)
		}
		return
	}
	switch clientpb.Cmd(f.Cmd) {
	case clientpb.Cmd_CMD_CLOSE:
		c.lost(refusal(f.Status, body))
	case clientpb.Cmd_CMD_KICK:
		c.kicked(body)
	case clientpb.Cmd_CMD_DELIVER:
		var d clientpb.Deliver
		if err := prutal.Unmarshal(body, &d); err != nil {
			c.lost(fmt.Errorf("decode DELIVER: %w", err))
		} else if c.link.loggedIn {
			c.takeDelivered(d.Messages)
		}
	case clientpb.Cmd_CMD_SYNC:
		c.pull.want()
	}
}

// answered gives an answer to the one who asked. A code that ends the connection ends it, whoever asked.
func (c *Client) answered(conn *conn, r request, code status.Code, body []byte) {
	var err *Error
	if code != status.OK {
		err = refusal(code, body)
	}
	r.answer(code, body, err)
	if err != nil && c.link.conn == conn && (code.Behaviour() >= status.Reconnect || code == status.NotLoggedIn) {
		c.lost(err)
	}
}

func (c *Client) sendLogin(conn *conn) {
	c.request(clientpb.Cmd_CMD_LOGIN, 0, &clientpb.Login{
		Domain:       c.cfg.User.Domain,
		Uid:          c.cfg.User.UID,
		Token:        []byte(conn.token),
		DeviceClass:  clientpb.DeviceClass(c.cfg.Device),
		Installation: c.id.Installation[:],
		LoginCounter: conn.counter,
	}, c.cfg.Timing.Login, c.loginAnswered)
	conn.token = ""
}

func (c *Client) loginAnswered(code status.Code, body []byte, err *Error) {
	l := &c.link
	var answer clientpb.LoginAnswer
	switch {
	case code == status.StaleLogin && !l.renewed:
		// The server has seen a higher counter of this installation: the store is a restored backup or a clone. To take part
		// under the same name would mean to fight with the original, and to send numbers that were used.
		c.log.Warn("store was restored or cloned: taking a new installation id", "counter", c.id.LoginCounter)
		l.renewed = true
		c.renewIdentity()
		c.lost(&Error{Code: status.SessionLost, Reason: "the store was restored or cloned: logging in as a new installation"})
	case code.Behaviour() == status.NeverRetry:
		c.giveCounterBack()
		c.stayAway(err)
	case code.Behaviour() == status.StayAway:
		c.giveCounterBack()
		c.lost(err)
	case err != nil:
		c.lost(err)
	case prutal.Unmarshal(body, &answer) != nil:
		c.lost(fmt.Errorf("decode answer to LOGIN"))
	default:
		l.loggedIn, l.loggedInAt, l.renewed = true, time.Now(), false
		l.logins++
		c.setServerTime(answer.ServerTimeMs)
		c.pull.begin()
	}
}

// giveCounterBack lets the next login use the counter of the one that the server has just refused by name. A store that was restored
// from a backup would otherwise climb over what its original has used, refusal by refusal, and be taken for it.
func (c *Client) giveCounterBack() {
	if conn := c.link.conn; conn != nil && conn.counter == c.id.LoginCounter {
		c.id.LoginCounter--
		c.saveIdentity()
	}
}

// registered is called when the first pull of a login has registered this device, and when a later one tells that it had been retired.
func (c *Client) registered(retired bool) {
	c.setState(StateChange{State: Online, Retired: retired})
	c.finishLogins(nil)
}

// lost ends the connection or the attempt at one. What comes next is written in err's code: stay away, or come back, by
// default after a backoff and to the next gate.
func (c *Client) lost(err error) {
	l := &c.link
	if l.loggedIn && time.Since(l.loggedInAt) >= c.cfg.Timing.Stable {
		l.backoff.reset()
	}
	c.closeLink()
	if codeOf(err).Behaviour() == status.StayAway {
		c.stayAway(err)
		return
	}
	if !l.wanted {
		return
	}
	var retryAfter time.Duration
	if e := asError(err); e != nil {
		retryAfter = e.RetryAfter
	}
	l.nextGate++
	wait := jitter(l.backoff.base) + min(retryAfter, maxRetryAfter)
	if l.nextGate%len(l.gates) == 0 { // all have been tried: now it grows
		wait = l.backoff.next(retryAfter)
	}
	l.retryAt = time.Now().Add(wait)
	c.lastLost.Store(&err)
	c.setState(StateChange{State: Offline, Err: err})
}

// stayAway stops until the app calls Login again.
func (c *Client) stayAway(err error) {
	c.closeLink()
	c.link.wanted = false
	c.setState(StateChange{State: Closed, Err: err})
	c.finishLogins(err)
}

// closeLink drops the connection and the dialer, and all that waited for answers.
func (c *Client) closeLink() {
	l := &c.link
	if l.dialing != nil {
		l.dialing()
		l.dialing = nil
	}
	if l.conn == nil {
		return
	}
	l.conn.nc.Close()
	l.conn, l.loggedIn, l.sweepAt = nil, false, time.Time{}
	if l.logout != nil {
		l.logout <- ErrOffline
		l.logout = nil
	}
	c.outbox.interrupted()
	c.confirms.interrupted()
	c.pull.interrupted()
}

// kicked acts on KICK. When the winner is this very installation with a counter that it has given out itself, the session
// lost to a newer login of our own: only the connection goes. A higher counter than any of ours was given out by a clone.
func (c *Client) kicked(body []byte) {
	var k clientpb.Kick
	if err := prutal.Unmarshal(body, &k); err != nil {
		c.lost(fmt.Errorf("decode KICK: %w", err))
		return
	}
	if bytes.Equal(k.WinnerInstallation, c.id.Installation[:]) && k.WinnerCounter <= c.id.LoginCounter {
		c.lost(&Error{Code: status.SessionLost, Reason: "a newer login of this client took over"})
		return
	}
	c.lost(&Error{Code: status.Code(k.Status), Reason: string([]byte(k.Reason))})
}

// defaultKeepalive serves when neither the gate nor the app names an interval.
const defaultKeepalive = time.Minute

// keepaliveWait is the interval less up to a quarter, so that many clients do not beat together.
func (c *Client) keepaliveWait() time.Duration {
	d := c.cfg.Timing.Keepalive
	if d <= 0 {
		d = time.Duration(c.link.conn.settings.KeepaliveIntervalMs) * time.Millisecond
	}
	if d <= 0 {
		d = defaultKeepalive
	}
	return d - jitter(d/4)
}

// watch sends a keepalive when nothing else was sent for long, and drops a connection on which an answer is overdue.
func (c *Client) watch(now time.Time) time.Time {
	l := &c.link
	if l.loggedIn && !now.Before(l.keepaliveAt) {
		c.sendKeepalive(c.cfg.Timing.Request)
	}
	if len(l.conn.requests) == 0 {
		l.sweepAt = time.Time{}
	} else if l.sweepAt.IsZero() {
		l.sweepAt = now.Add(c.sweepEvery())
	} else if !now.Before(l.sweepAt) {
		l.sweepAt = now.Add(c.sweepEvery())
		for _, r := range l.conn.requests {
			if l.conn.overdue(r, now) {
				c.lost(&Error{Code: status.Timeout, Reason: "the gate did not answer in time"})
				return l.retryAt
			}
		}
	}
	if !l.loggedIn {
		return l.sweepAt
	}
	return earliest(l.sweepAt, l.keepaliveAt)
}

func (c *Client) sweepEvery() time.Duration { return c.cfg.Timing.Request / 4 }

func (c *Client) sendKeepalive(timeout time.Duration) {
	c.request(clientpb.Cmd_CMD_KEEPALIVE, 0, nil, timeout, func(status.Code, []byte, *Error) {})
}

// probeTimeout is how long a connection has to prove that it lives after the network changed.
const probeTimeout = 3 * time.Second

func (c *Client) networkChanged() {
	l := &c.link
	switch {
	case l.loggedIn:
		wait := min(probeTimeout, c.cfg.Timing.Request)
		c.sendKeepalive(wait)
		l.sweepAt = time.Now().Add(wait + wait/16)
	case l.wanted:
		c.closeLink()
		l.backoff.reset()
		l.retryAt = time.Time{}
	}
}

func (c *Client) sendLogout(answered chan error) {
	c.link.wanted = false
	if !c.link.loggedIn {
		answered <- ErrOffline
		return
	}
	c.link.logout = answered
	c.confirms.hurry()
	c.pumpConfirms(time.Now())
	c.request(clientpb.Cmd_CMD_LOGOUT, 0, &clientpb.Logout{}, c.cfg.Timing.Request, func(_ status.Code, _ []byte, err *Error) {
		c.link.logout = nil
		if err != nil {
			answered <- err
			return
		}
		answered <- nil
	})
}
