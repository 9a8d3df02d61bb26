package gate

import (
	"errors"
	"os"
	"runtime/debug"
	"time"

	"github.com/gatepost/gatepost/idl/limits"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/idl/wire"
)

// Reading goes in turns, of one goroutine each. The one that reads frames and acts on them has a stack of 4 KiB or more: most of what
// an idle connection would cost. So once nothing has come for a while it ends, and one follows that does nothing but wait: 2 KiB.

// read is the turn of reading. It has a place in the gate's wait group, which the next turn takes over.
func (c *conn) read() {
	if c.readFrames() {
		go c.wait()
	} else {
		c.g.wg.Done()
	}
}

// readFrames reads until the connection closes, or is quiet.
func (c *conn) readFrames() (quiet bool) {
	defer c.in.drop()
	defer c.survive()
	for {
		switch err := c.readFrame(); {
		case errors.Is(err, errQuiet):
			return true
		case err != nil:
			c.readEnded(err)
			return false
		}
	}
}

// wait is the turn of waiting: for something to read, or for the deadline, which whoever closes the connection sets too.
// All that it calls before read has to do with the stack that a goroutine begins with.
func (c *conn) wait() {
	if err := c.in.wait(); err != nil {
		defer c.g.wg.Done()
		defer c.survive()
		c.readEnded(err)
		return
	}
	go c.read()
}

// survive is deferred by a turn: a panic costs one connection.
func (c *conn) survive() {
	if p := recover(); p != nil {
		c.g.log.Error("reading a connection panicked", "conn", c.id, "panic", p, "stack", string(debug.Stack()))
		c.close(cause{code: status.GateError})
	}
}

// readEnded closes the connection, unless it still owes answers to what was read before it was told to leave.
func (c *conn) readEnded(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == stateLeaving {
		c.leftLocked()
		return
	}
	c.closeLocked(c.causeOfLocked(err))
}

var (
	// errLeaving ends reading: the connection is closing, or draining.
	errLeaving = errors.New("connection leaves")
	// errLateBody: a header came, and its body did not follow in time.
	errLateBody = errors.New("late body")
	// errQuiet ends a turn of reading: nothing came for a while.
	errQuiet = errors.New("connection is quiet")
)

// readFrame waits for one frame and acts on it. While it waits it holds nothing but scratch.
func (c *conn) readFrame() error {
	if err := c.await(); err != nil {
		return err
	}
	h, err := wire.ReadHeader(&c.in, &c.scratch)
	if err != nil {
		return err
	}
	limit := c.bodyLimit()
	onWire := limit
	if c.open.Secured() {
		onWire += wire.SealOverhead
	}
	if int(h.Length) > c.in.buffered() {
		c.nc.SetReadDeadline(time.Now().Add(c.g.cfg.BodyTimeout))
	}
	body, err := wire.ReadBody(&c.in, h, onWire)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errLateBody
	}
	if err != nil {
		return err
	}
	body, err = c.open.Open(h, body, limit)
	if err != nil {
		return err
	}
	c.g.metrics.bytesIn.Add(float64(wire.HeaderLen + h.Length))
	c.g.metrics.framesIn.inc(h.Class())
	return c.dispatch(h, body)
}

// bodyLimit is the limit of a body whose header has just come: the session may have been bound while the reader waited for it.
func (c *conn) bodyLimit() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session == nil {
		return limits.BodyBeforeLoginBytes
	}
	return limits.BodyToGateBytes
}

// await waits until the next frame has begun to come. errQuiet: nothing has for a while, and it is still in time.
func (c *conn) await() error {
	if err := c.arm(); err != nil || !c.in.waits() {
		return err
	}
	err := c.in.fill()
	switch {
	case err == nil && c.in.buffered() < wire.HeaderLen:
		return c.arm() // the rest of the header has all the time there is
	case errors.Is(err, os.ErrDeadlineExceeded) && c.quiet():
		return errQuiet
	default:
		return err
	}
}

// arm prepares for the next frame: waits while too many requests are unanswered, then sets the deadline if it has not come already.
func (c *conn) arm() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.state == stateOnline && c.unansweredLocked() >= c.maxInFlightLocked() {
		c.resume = make(chan struct{})
		resume := c.resume
		c.mu.Unlock()
		<-resume
		c.mu.Lock()
	}
	switch {
	case c.state != stateOnline:
		return errLeaving
	case c.in.waits():
		now := time.Now()
		c.lively = true
		c.armLocked(now)
		c.nc.SetReadDeadline(earlier(c.frameBy, now.Add(c.g.cfg.lively())))
	case c.in.buffered() < wire.HeaderLen:
		c.lively = false
		c.armLocked(time.Now())
	}
	return nil
}

// armLocked sets the deadline of the next frame. A bind and an unbind do it too, while the reader waits; on a lively connection
// they leave await's deadline, which is earlier.
func (c *conn) armLocked(now time.Time) {
	c.frameBy = now.Add(c.g.cfg.idle())
	if c.session == nil {
		c.frameBy = earlier(c.frameBy, c.loginBy)
	}
	if !c.lively {
		c.nc.SetReadDeadline(c.frameBy)
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// quiet ends being lively and sets the deadline of the next frame. False: it has passed, or reading has to end.
func (c *conn) quiet() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != stateOnline || !time.Now().Before(c.frameBy) {
		return false
	}
	c.lively = false
	c.nc.SetReadDeadline(c.frameBy)
	return true
}
