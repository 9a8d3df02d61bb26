package logic

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"

	"github.com/cloudwego/prutal"

	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/gen/logicpb"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/store"
)

// session is what the gate stamped on a frame: who sends it, and under which login.
type session struct {
	user         store.UserKey
	class        store.DeviceClass
	number       uint64
	installation [16]byte
	counter      uint64
}

// call is one frame on its way through its verb. It holds copies only: nothing of the request is read once it has been answered.
// Whoever knows the outcome calls finish or refuse, from any goroutine; the first one counts.
type call struct {
	batch     *batch
	cmd       clientpb.Cmd
	gateEpoch uint64
	connID    uint64
	peer      string
	session   session
	guard     *streamGuard // of an ordered verb; else nil

	claimed atomic.Bool
	answer  logicpb.Answer // owned by who claimed, until batch.done
}

// batch is what the calls of one Handle share.
type batch struct {
	node *Node
	open atomic.Int64
	done chan struct{} // closed when each call has its answer
}

func (b *batch) one() {
	if b.open.Add(-1) == 0 {
		close(b.done)
	}
}

// answerBytes holds the answers to what is asked most.
const answerBytes = 32

// finish answers OK with body, and what set adds. body is freshly made by the caller, who keeps nothing of it.
func (c *call) finish(body any, set func(*logicpb.Answer)) {
	encoded, err := prutal.MarshalAppend(make([]byte, 0, answerBytes), body)
	if err != nil {
		c.refuse(status.Wrap(status.Unavailable, err, "the answer could not be encoded"))
		return
	}
	if !c.claimed.CompareAndSwap(false, true) {
		return
	}
	c.answer.Body = encoded
	if set != nil {
		set(&c.answer)
		c.batch.node.events.answered(c.session, &c.answer)
	}
	c.batch.node.metrics.answers.inc(status.OK)
	c.batch.one()
}

// refuse answers with e's code. A stream whose frame has no final outcome is closed before anyone can see the answer.
// Codes that close a connection do so.
func (c *call) refuse(e *status.Error) {
	if c.guard != nil && !e.Code.Final() {
		c.guard.close()
	}
	if !c.claimed.CompareAndSwap(false, true) {
		return
	}
	n := c.batch.node
	if cause := e.Unwrap(); cause != nil {
		n.logger.LogAttrs(context.Background(), slog.LevelDebug, "frame refused", slog.String("cmd", c.cmd.String()),
			slog.String("code", e.Code.String()), slog.String("domain", c.session.user.Domain), slog.String("uid", c.session.user.UID),
			slog.Uint64("conn", c.connID), slog.Any("error", cause))
	}
	c.answer.Status = uint32(e.Code)
	c.answer.Body = refusalBody(e)
	b := e.Code.Behaviour()
	c.answer.Close = b == status.Reconnect || b == status.StayAway
	n.metrics.answers.inc(e.Code)
	c.batch.one()
}

func refusalBody(e *status.Error) []byte {
	reason := e.Reason
	if len(reason) > maxReasonBytes {
		reason = strings.ToValidUTF8(reason[:maxReasonBytes], "")
	}
	body, err := prutal.MarshalAppend(nil, &clientpb.Refusal{Reason: reason, RetryAfterMs: e.RetryAfterMS})
	if err != nil {
		return nil // the code says what to do; the sentence is for humans
	}
	return body
}

// sessionOf copies what a gate stamped; ok is false for a frame on no session.
func sessionOf(s *logicpb.Session) (session, bool) {
	if s == nil || s.Domain == "" || s.Uid == "" {
		return session{}, false
	}
	out := session{
		user:    store.UserKey{Domain: s.Domain, UID: s.Uid},
		class:   store.DeviceClass(s.DeviceClass),
		number:  s.Number,
		counter: s.LoginCounter,
	}
	copy(out.installation[:], s.Installation)
	return out, true
}
