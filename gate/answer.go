package gate

import (
	"bytes"
	"time"

	"github.com/cloudwego/prutal"

	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/gen/logicpb"
	"github.com/gatepost/gatepost/idl/limits"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/idl/wire"
)

// act does what logic's answer to r says, in this order: bind, queue the answer, unbind, close.
// The connection's mutex is held over all of it, so that no delivery of the new session can stand before the answer.
func (c *conn) act(r *request, a *logicpb.Answer) {
	code := status.Code(a.Status)
	if len(a.Body) > limits.BodyToClientBytes {
		c.g.log.Error("answer of logic is too large for a frame", "conn", c.id, "cmd", r.cmd, "bytes", len(a.Body))
		c.refuseRequest(r, status.Unavailable)
		return
	}
	if replaced := c.apply(r, code, a); replaced != nil {
		replaced.close(causeReplaced(a.Bind))
	}
}

// apply is act under the mutex. It returns the connection that lost its session to this one, to be closed without the mutex.
func (c *conn) apply(r *request, code status.Code, a *logicpb.Answer) (replaced *conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settleLocked(r, code)
	if a.Bind != nil {
		var ok bool
		if replaced, ok = c.bindLocked(r, ownSession(a.Bind)); !ok {
			return nil
		}
	}
	c.answerLocked(r.cmd, r.seq, code, a.Body)
	if a.Unbind {
		c.unbindLocked()
		c.armUnboundLocked()
	}
	if a.Close {
		c.closeLocked(cause{code: code, reason: reasonOf(code, a.Body)})
	}
	c.leftLocked()
	return replaced
}

// refuseRequest answers an admitted request that has no answer of logic.
func (c *conn) refuseRequest(r *request, code status.Code) {
	r.release()
	c.g.metrics.answers.WithLabelValues(codeName(code)).Inc()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settleLocked(r, code)
	c.answerLocked(r.cmd, r.seq, code, refusal(code, ""))
	c.leftLocked()
}

// settleLocked takes r off what is in flight, and closes its stream when its outcome is not final.
func (c *conn) settleLocked(r *request, code status.Code) {
	c.inFlight--
	c.roomLocked()
	if s := c.streams.of(wire.Class(r.cmd >> 8)); s != nil && !code.Final() {
		s.fail(r.generation)
	}
}

// ownSession copies a session to be kept as long as its connection: what was decoded shares memory with all that came with it.
func ownSession(s *logicpb.Session) *logicpb.Session {
	name := s.Domain + s.Uid
	return &logicpb.Session{
		Domain: name[:len(s.Domain)], Uid: name[len(s.Domain):], DeviceClass: s.DeviceClass, Number: s.Number,
		Installation: bytes.Clone(s.Installation), LoginCounter: s.LoginCounter,
	}
}

// bindLocked makes s the connection's session. False: it must not be, the connection closes and its LOGIN is not answered.
// replaced is the connection whose session was replaced; its caller closes it without holding c.mu.
func (c *conn) bindLocked(r *request, s *logicpb.Session) (replaced *conn, ok bool) {
	switch {
	case c.state >= stateClosing:
	case c.fence.refuses(s):
		c.closeLocked(c.fence.by)
	default:
		if old := c.unbindLocked(); old != nil && old.Number != s.Number {
			c.g.reporter.ended(c.id, old)
		}
		replaced, winner := c.g.table.bind(c, s)
		if winner != nil {
			c.closeLocked(causeReplaced(winner))
			break
		}
		c.session, c.last, c.fence = s, max(c.last, s.Number), nil
		c.g.sessions.Add(1)
		c.g.metrics.sessions.Inc()
		if c.state == stateOnline {
			c.armLocked(time.Now())
		}
		if r.epoch != c.g.presence.current() {
			c.g.registrar.again(c) // its route may lie in a table that is gone
		}
		return replaced, true
	}
	// Logic has made a route for it, which leads nowhere.
	c.g.reporter.ended(c.id, s)
	return nil, false
}

// unbindLocked forgets the session and returns it; nil when there is none.
func (c *conn) unbindLocked() *logicpb.Session {
	s := c.session
	if s == nil {
		return nil
	}
	c.g.table.unbind(c, s)
	c.session = nil
	c.out.syncOwed = false
	for i := range c.streams {
		c.streams[i].close()
	}
	c.g.sessions.Add(-1)
	c.g.metrics.sessions.Dec()
	return s
}

// armUnboundLocked gives the connection LoginTimeout from now on to log in.
func (c *conn) armUnboundLocked() {
	c.loginBy = time.Now().Add(c.g.cfg.LoginTimeout)
	if c.state == stateOnline {
		c.armLocked(time.Now())
	}
}

// causeReplaced is why a connection closes whose session was replaced by winner.
func causeReplaced(winner *logicpb.Session) cause {
	const reason = "a newer login of this device class won"
	return cause{code: status.Replaced, reason: reason, kick: &clientpb.Kick{
		Status: uint32(status.Replaced), Reason: reason,
		WinnerInstallation: winner.Installation, WinnerCounter: winner.LoginCounter,
	}}
}

// reasonOf is the reason in the body of a refused answer.
func reasonOf(code status.Code, body []byte) string {
	var r clientpb.Refusal
	if code == status.OK || prutal.Unmarshal(body, &r) != nil {
		return ""
	}
	return r.Reason
}
