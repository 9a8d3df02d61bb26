package logic

import (
	"context"
	"log/slog"
	"runtime/debug"

	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/gen/logicpb"
	"github.com/gatepost/gatepost/idl/status"
)

// Handle carries frames of many connections and answers in their order. It never fails as a whole: each frame has its own outcome.
// Frames of one stream are checked and queued in order; the others run beside each other. When Handle has returned,
// nothing of req is read any more.
func (n *Node) Handle(ctx context.Context, req *logicpb.HandleRequest) (*logicpb.HandleResponse, error) {
	if len(req.Frames) == 0 {
		return &logicpb.HandleResponse{}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, n.cfg.HandleTimeout)
	defer cancel()

	b := &batch{node: n, done: make(chan struct{})}
	b.open.Store(int64(len(req.Frames)))
	calls := make([]call, len(req.Frames))
	answers := make([]*logicpb.Answer, len(req.Frames))
	for i := range calls {
		calls[i].batch = b
		answers[i] = &calls[i].answer
	}

	if n.calls.enter() {
		defer n.calls.leave()
		var streams guards
		for i, f := range req.Frames {
			n.begin(ctx, &calls[i], f, req.GateEpoch, &streams)
		}
	} else {
		for i := range calls {
			calls[i].refuse(status.New(status.Stopping, "this node is stopping"))
		}
	}

	select {
	case <-b.done:
	case <-ctx.Done():
		for i := range calls {
			calls[i].refuse(status.New(status.Timeout, "the outcome is not known yet"))
		}
		<-b.done // who was just writing an answer has written it
	}
	return &logicpb.HandleResponse{Answers: answers}, nil
}

// begin decodes one frame and runs its verb, as the table says.
func (n *Node) begin(ctx context.Context, c *call, f *logicpb.Frame, gateEpoch uint64, streams *guards) {
	defer n.recoverFrame(c)
	if f == nil {
		c.refuse(status.New(status.BadRequest, "an empty frame"))
		return
	}
	c.cmd, c.connID, c.gateEpoch, c.peer = clientpb.Cmd(f.Cmd), f.ConnId, gateEpoch, f.Peer
	var bound bool
	c.session, bound = sessionOf(f.Session)

	v, known := verbs[c.cmd]
	if !known {
		c.refuse(status.New(status.UnknownCommand, "command %#04x is not known here", f.Cmd))
		return
	}
	if v.session && !bound {
		c.refuse(status.New(status.NotLoggedIn, "log in first"))
		return
	}
	if v.kind == ordered {
		c.guard = streams.of(f.ConnId, c.cmd, f.Restart)
		if c.guard.isClosed() {
			c.refuse(errStreamClosed)
			return
		}
	}
	run, refusal := v.start(n, c, f.Body)
	if refusal != nil {
		c.refuse(refusal)
		return
	}
	if v.kind != detached {
		run(ctx)
		return
	}
	n.calls.more()
	go func() {
		defer n.calls.leave()
		defer n.recoverFrame(c)
		run(ctx)
	}()
}

var errStreamClosed = status.New(status.StreamClosed, "an earlier frame of the stream had no final outcome")

// recoverFrame turns a panic into the refusal of its frame alone. A frame of a stream is refused for good: it would panic again,
// and must not block what stands behind it.
func (n *Node) recoverFrame(c *call) {
	p := recover()
	if p == nil {
		return
	}
	n.metrics.panics.Inc()
	n.logger.Error("panic in a handler", slog.String("cmd", c.cmd.String()), slog.Uint64("conn", c.connID), slog.Any("panic", p),
		slog.String("stack", string(debug.Stack())))
	if c.guard != nil {
		c.refuse(status.New(status.Unstorable, "this message cannot be handled"))
		return
	}
	c.refuse(status.New(status.Unavailable, "this request could not be handled"))
}
