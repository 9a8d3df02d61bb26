package gate

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/cloudwego/prutal"

	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/gen/logicpb"
	"github.com/gatepost/gatepost/idl/limits"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/idl/wire"
)

// state of a connection; it only moves forward. Whether it has a session is said by conn.session.
type state uint8

const (
	stateNew     state = iota // in its handshake
	stateOnline               // frames go both ways
	stateLeaving              // draining: nothing is read any more, what was read is answered
	stateClosing              // nothing is queued any more; the writer finishes
	stateClosed               // the books are closed
)

// conn is one connection of a client.
type conn struct {
	// fixed after newConn
	g      *Gate
	id     uint64 // never reused within the gate's epoch
	nc     net.Conn
	secure bool      // the transport protects it: clear frames are fine
	since  time.Time // accepted

	// owned by the reading goroutine
	open    wire.Opener
	in      readAhead
	scratch [wire.HeaderLen]byte

	// owned by whoever has the write turn
	seal    wire.Sealer
	pushSeq uint32

	// any goroutine
	mu       sync.Mutex
	state    state
	out      queue
	session  *logicpb.Session // nil: not logged in. What it points to never changes.
	last     uint64           // highest session number bound so far
	fence    *fence           // nil: none
	streams  streams
	inFlight int           // requests that are not answered yet
	resume   chan struct{} // not nil: the reader waits for an answer to leave
	loginBy  time.Time     // without a session until then, the connection is closed
	frameBy  time.Time     // until then the next frame has to come
	lively   bool          // the deadline of reading is await's, which comes before frameBy
	why      *cause        // of the close; nil until then
}

// fence refuses sessions that a kick overtook on its way: their LOGIN is not answered yet.
type fence struct {
	user  userKey // empty: whoever it is
	below uint64
	by    cause
}

// refuses reports whether s must not be bound. A nil fence refuses nothing.
func (f *fence) refuses(s *logicpb.Session) bool {
	return f != nil && s.Number < f.below && (f.user == userKey{} || f.user == userKey{s.Domain, s.Uid})
}

// cause says why a connection closes. The first cause wins.
type cause struct {
	code   status.Code // OK: the client left
	reason string      // for the peer, one sentence; empty: the code's name
	kick   *clientpb.Kick
	broken bool // the socket is of no use any more: nothing is written
}

// newConn enters a connection that was just accepted. Its handshake has to follow.
func newConn(g *Gate, nc net.Conn, secure bool) *conn {
	c := &conn{g: g, id: g.lastConn.Add(1), nc: nc, secure: secure, since: time.Now()}
	c.out.writing = true // the handshake has the write turn
	g.table.add(c)
	return c
}

// unansweredLocked counts the requests whose answers have not left: a client that pipelines faster than it reads is slowed down, not closed.
func (c *conn) unansweredLocked() int { return c.inFlight + c.out.count - c.out.liveCount }

func (c *conn) maxInFlightLocked() int {
	if c.session == nil {
		return c.g.cfg.MaxInFlightUnbound
	}
	return c.g.cfg.MaxInFlight
}

// roomLocked lets the reader go on once there is room for a request.
func (c *conn) roomLocked() {
	if c.unansweredLocked() < c.maxInFlightLocked() {
		c.resumeLocked()
	}
}

func (c *conn) resumeLocked() {
	if c.resume != nil {
		close(c.resume)
		c.resume = nil
	}
}

// causeOfLocked says why a connection closes whose reading failed.
func (c *conn) causeOfLocked(err error) cause {
	var refused *status.Error
	switch {
	case errors.As(err, &refused):
		return cause{code: refused.Code, reason: refused.Reason}
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, errLateBody):
		if c.session == nil && !time.Now().Before(c.loginBy) {
			return cause{code: status.LoginTimeout, reason: fmt.Sprintf("no login within %v", c.g.cfg.LoginTimeout)}
		}
		if errors.Is(err, errLateBody) {
			return cause{code: status.Idle, reason: fmt.Sprintf("the body of a frame did not come within %v", c.g.cfg.BodyTimeout)}
		}
		return cause{code: status.Idle, reason: fmt.Sprintf("nothing came for %v", c.g.cfg.idle())}
	case errors.Is(err, wire.ErrTooLarge), errors.Is(err, wire.ErrMagic), errors.Is(err, wire.ErrVersion),
		errors.Is(err, wire.ErrSeal), errors.Is(err, wire.ErrNonce), errors.Is(err, wire.ErrDeflate), errors.Is(err, wire.ErrLength):
		return cause{code: status.BadFrame, reason: err.Error()}
	case errors.Is(err, io.EOF):
		return cause{code: status.OK} // what is queued may still arrive: the client may have closed one direction only
	default:
		return cause{code: status.OK, broken: true}
	}
}

// dispatch acts on one frame from the client. body is dispatch's from here on.
func (c *conn) dispatch(h wire.Header, body *wire.Buffer) error {
	if h.IsResponse() { // nothing that a gate sends asks for an answer
		body.Release()
		return nil
	}
	switch h.Class() {
	case wire.ClassConnection:
		body.Release()
		return c.connectionCommand(h)
	case wire.ClassMessage, wire.ClassUplink, wire.ClassRequest:
		c.request(h, body)
		return nil
	default:
		body.Release()
		c.refuse(h, status.UnknownCommand)
		return nil
	}
}

// connectionCommand acts on a command of class 0x00 after the handshake.
func (c *conn) connectionCommand(h wire.Header) error {
	switch clientpb.Cmd(h.Cmd) {
	case clientpb.Cmd_CMD_KEEPALIVE:
		c.mu.Lock()
		defer c.mu.Unlock()
		c.answerLocked(h.Cmd, h.Seq, status.OK, nil)
		return nil
	case clientpb.Cmd_CMD_CLOSE:
		return io.EOF
	case clientpb.Cmd_CMD_HELLO:
		return status.New(status.BadFrame, "a second hello")
	default:
		c.refuse(h, status.UnknownCommand)
		return nil
	}
}

// request hands a frame on to its lane, or refuses it.
func (c *conn) request(h wire.Header, body *wire.Buffer) {
	r := request{c: c, cmd: h.Cmd, seq: h.Seq, restart: h.IsRestart(), body: body, epoch: c.g.presence.current()}
	code := c.admit(&r, h.Class())
	if code == status.OK {
		if c.g.lanes.of(c.id, h.Class(), r.session).submit(r) {
			return
		}
		c.refuseRequest(&r, status.Overloaded)
		return
	}
	body.Release()
	c.refuse(h, code)
}

// admit stamps the session on r and counts it as in flight; or says why not.
func (c *conn) admit(r *request, class wire.Class) status.Code {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state >= stateClosing {
		return status.Stopping // nobody hears it
	}
	r.session = c.session
	if s := c.streams.of(class); s != nil {
		if c.session == nil {
			return status.NotLoggedIn
		}
		generation, ok := s.admit(r.restart)
		if !ok {
			return status.StreamClosed
		}
		r.generation = generation
	}
	c.inFlight++
	return status.OK
}

// refuse answers a frame that was not admitted.
func (c *conn) refuse(h wire.Header, code status.Code) {
	c.g.metrics.answers.WithLabelValues(codeName(code)).Inc()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answerLocked(h.Cmd, h.Seq, code, refusal(code, ""))
}

// answerLocked queues an answer. One that does not fit closes the connection: the client does not read.
func (c *conn) answerLocked(cmd uint16, seq uint32, code status.Code, body []byte) {
	f := outFrame{cmd: cmd, seq: seq, status: code, flags: wire.FlagResponse, body: body}
	if !c.queueLocked(f) && c.state < stateClosing {
		c.closeLocked(cause{code: status.Slow, reason: "answers do not fit into the queue any more"})
	}
}

// leave ends reading; the connection closes once all that was read is answered.
func (c *conn) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.state == stateNew:
		c.closeLocked(cause{code: status.Draining})
	case c.state == stateOnline:
		c.state = stateLeaving
		c.nc.SetReadDeadline(past)
		c.resumeLocked()
		c.leftLocked()
	}
}

// leftLocked closes a connection that is leaving and owes no answer any more.
func (c *conn) leftLocked() {
	if c.state == stateLeaving && c.inFlight == 0 {
		c.closeLocked(cause{code: status.Draining})
	}
}

var past = time.Unix(1, 0)

// close ends the connection. It may be called any number of times by anyone; the first call counts.
// What is queued goes out first, then a CLOSE frame, within CloseTimeout; the writer does that and then calls finish.
func (c *conn) close(why cause) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closeLocked(why)
}

func (c *conn) closeLocked(why cause) {
	if c.state >= stateClosing {
		return
	}
	c.why = &why
	c.resumeLocked()
	c.nc.SetReadDeadline(past)
	if why.broken || why.code == status.Slow {
		c.out.discard()
	}
	if !why.broken && why.code != status.OK {
		if why.kick != nil {
			c.out.add(outFrame{cmd: uint16(clientpb.Cmd_CMD_KICK), body: marshal(why.kick)})
		}
		c.out.add(outFrame{cmd: uint16(clientpb.Cmd_CMD_CLOSE), status: why.code, body: refusal(why.code, why.reason)})
	}
	c.nc.SetWriteDeadline(time.Now().Add(c.g.cfg.CloseTimeout))
	c.startWriterLocked()
	c.state = stateClosing
}

// finish takes the session out of the books and closes the socket. Its caller has the write turn, and keeps it.
func (c *conn) finish() {
	c.mu.Lock()
	if c.state == stateClosed {
		c.mu.Unlock()
		return
	}
	c.state = stateClosed
	c.out.discard()
	why := *c.why
	session := c.unbindLocked()
	c.mu.Unlock()

	if session != nil {
		c.g.reporter.ended(c.id, session)
	}
	if !why.broken {
		c.linger()
	}
	c.nc.Close()
	c.g.table.remove(c)
	c.g.release()
	c.g.metrics.closes.WithLabelValues(codeName(why.code)).Inc()
	c.g.log.LogAttrs(c.g.ctx, slog.LevelDebug, "connection closed",
		slog.Uint64("conn", c.id), slog.String("reason", why.code.String()), slog.Duration("after", time.Since(c.since)))
}

// linger gives the client time to take CLOSE in: closing a socket with unread bytes in it makes the kernel reset the connection,
// and a reset may overtake what was written.
func (c *conn) linger() {
	half, ok := c.nc.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	c.nc.SetReadDeadline(time.Now().Add(c.g.cfg.CloseTimeout))
	io.CopyN(io.Discard, c.nc, 1<<20)
}

// peer is the client's address as text; it is made when needed, not kept.
func (c *conn) peer() string { return c.nc.RemoteAddr().String() }

// refusal is the body of an answer or CLOSE whose status is code. Without a reason it is the code's name.
func refusal(code status.Code, reason string) []byte {
	if code == status.OK {
		return nil
	}
	if reason == "" {
		reason = code.String()
	}
	if len(reason) > limits.ReasonBytes {
		reason = strings.ToValidUTF8(reason[:limits.ReasonBytes], "")
	}
	return marshal(&clientpb.Refusal{Reason: reason})
}

// marshal encodes one of our own messages, which cannot fail.
func marshal(m any) []byte {
	b, err := prutal.MarshalAppend(nil, m)
	if err != nil {
		panic(fmt.Sprintf("gate: encode %T: %v", m, err))
	}
	return b
}
