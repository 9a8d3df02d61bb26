package gate

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gatepost/gatepost/idl/gen/logicpb"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/idl/wire"
)

// request is an admitted frame on its way to logic. Whoever holds it answers it once: by conn.act or conn.refuseRequest.
type request struct {
	c          *conn
	session    *logicpb.Session // as it was when the frame was read; nil before the login
	cmd        uint16
	seq        uint32
	restart    bool
	generation uint32       // of its stream
	epoch      uint64       // of the presence table, when the frame was read
	body       *wire.Buffer // nil: empty, or released
}

func (r *request) release() {
	r.body.Release()
	r.body = nil
}

// laneKind is how the frames of a lane travel, and the label of its metrics.
type laneKind string

const (
	laneMessage laneKind = "message"
	laneUplink  laneKind = "uplink"
	laneRequest laneKind = "request"
	laneEntry   laneKind = "entry" // requests before the login
)

// lanes of a gate.
type lanes struct {
	message, uplink []*lane
	request, entry  *lane
}

func newLanes(g *Gate) *lanes {
	c := &g.cfg.Lanes
	ls := &lanes{
		request: newLane(g, laneRequest, 0, c.RequestBatches, c.BatchFrames, c.BatchTimeout),
		entry:   newLane(g, laneEntry, 0, c.EntryBatches, c.EntryFrames, c.EntryTimeout),
	}
	for i := range c.Message {
		ls.message = append(ls.message, newLane(g, laneMessage, i, 1, c.BatchFrames, c.BatchTimeout))
	}
	for i := range c.Uplink {
		ls.uplink = append(ls.uplink, newLane(g, laneUplink, i, 1, c.BatchFrames, c.BatchTimeout))
	}
	return ls
}

// of returns the lane of a frame. An ordered stream stays in one lane.
func (ls *lanes) of(conn uint64, class wire.Class, session *logicpb.Session) *lane {
	switch {
	case class == wire.ClassMessage:
		return ls.message[conn%uint64(len(ls.message))]
	case class == wire.ClassUplink:
		return ls.uplink[conn%uint64(len(ls.uplink))]
	case session != nil:
		return ls.request
	default:
		return ls.entry
	}
}

// lane carries requests to logic in batches: what comes while its batches are in flight makes the next one.
// Whoever finds a lane with room for a batch starts a worker, which goes on until nothing waits; an idle lane has none.
//
// An ordered lane has one batch in flight. Between two batches nothing is on its way, so it may change the logic node there
// without changing the order.
type lane struct {
	g         *Gate
	kind      laneKind
	index     int
	parallel  int // batches in flight
	maxFrames int // of a batch
	timeout   time.Duration

	depth  prometheus.Gauge
	frames prometheus.Observer
	time   prometheus.Observer

	mu      sync.Mutex
	queue   []request
	head    int // queue[:head] is gone
	bytes   int // of bodies in the queue
	workers int
	shift   int // how often the lane moved away from a node that failed
}

func newLane(g *Gate, kind laneKind, index, parallel, maxFrames int, timeout time.Duration) *lane {
	m := g.metrics
	return &lane{
		g: g, kind: kind, index: index, parallel: parallel, maxFrames: maxFrames, timeout: timeout,
		depth:  m.laneDepth.WithLabelValues(string(kind)),
		frames: m.batchFrames.WithLabelValues(string(kind)),
		time:   m.batchTime.WithLabelValues(string(kind)),
	}
}

// submit queues r; false: the lane is full and r is still its caller's.
func (l *lane) submit(r request) bool {
	n := len(r.body.Bytes())
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue)-l.head >= l.g.cfg.Lanes.QueueFrames || l.bytes+n > l.g.cfg.Lanes.QueueBytes {
		return false
	}
	l.queue = append(l.queue, r)
	l.bytes += n
	l.depth.Inc()
	if l.workers < l.parallel {
		l.workers++
		l.g.wg.Add(1)
		go l.work()
	}
	return true
}

func (l *lane) work() {
	defer l.g.wg.Done()
	var batch []request
	for {
		if batch = l.take(batch[:0]); len(batch) == 0 {
			return
		}
		l.carry(batch)
		clear(batch)
	}
}

// take moves the next batch into dst; when nothing waits, the worker is off the books.
func (l *lane) take(dst []request) []request {
	l.mu.Lock()
	defer l.mu.Unlock()
	bytes := 0
	for l.head < len(l.queue) && len(dst) < l.maxFrames {
		r := l.queue[l.head]
		n := len(r.body.Bytes())
		if len(dst) > 0 && bytes+n > l.g.cfg.Lanes.BatchBytes {
			break
		}
		l.queue[l.head] = request{}
		l.head++
		bytes += n
		dst = append(dst, r)
	}
	l.bytes -= bytes
	l.depth.Sub(float64(len(dst)))
	switch rest := len(l.queue) - l.head; {
	case rest == 0 && cap(l.queue) > 1024:
		l.queue, l.head = nil, 0
	case rest <= l.head: // at least as much room in front as there is to move
		m := copy(l.queue, l.queue[l.head:])
		clear(l.queue[m:])
		l.queue, l.head = l.queue[:m], 0
	}
	if len(dst) == 0 {
		l.workers--
	}
	return dst
}

// errNoNode: no logic node takes these frames now.
var errNoNode = errors.New("no logic node is ready")

// carry sends one batch to logic and acts on the answers. A batch is never sent twice: what became of a batch that failed
// is not known, and a client's restart decides about it.
func (l *lane) carry(batch []request) {
	answered := 0
	defer func() {
		if p := recover(); p != nil {
			l.g.log.Error("a batch panicked", "lane", string(l.kind), "panic", p, "stack", string(debug.Stack()))
			l.abandon(batch[answered:], status.Unavailable)
		}
	}()
	if batch = l.sift(batch); len(batch) == 0 {
		return
	}
	l.frames.Observe(float64(len(batch)))
	answers, err := l.call(batch)
	if err != nil {
		l.fail(batch, err)
		return
	}
	for i := range batch {
		r := &batch[i]
		r.release()
		answered++
		r.c.act(r, answers[i])
	}
}

// sift refuses what a failure ahead of it closed the stream for, and returns the others.
func (l *lane) sift(batch []request) []request {
	kept := batch[:0]
	for i := range batch {
		r := batch[i]
		if code := r.c.verdict(&r); code != status.OK {
			r.c.refuseRequest(&r, code)
			continue
		}
		kept = append(kept, r)
	}
	return kept
}

// verdict tells whether r may still go on to logic.
func (c *conn) verdict(r *request) status.Code {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.streams.of(wire.Class(r.cmd >> 8)); s != nil && !s.open(r.generation) {
		return status.StreamClosed
	}
	return status.OK
}

// call sends a batch to the lane's node. There is an answer for each request, or an error.
func (l *lane) call(batch []request) ([]*logicpb.Answer, error) {
	n := l.node()
	if n == nil {
		return nil, errNoNode
	}
	req := &logicpb.HandleRequest{GateEpoch: l.g.epoch, Frames: make([]*logicpb.Frame, len(batch))}
	frames := make([]logicpb.Frame, len(batch))
	for i := range batch {
		r := &batch[i]
		frames[i] = logicpb.Frame{ConnId: r.c.id, Session: r.session, Cmd: uint32(r.cmd), Restart: r.restart, Body: r.body.Bytes()}
		if r.session == nil {
			frames[i].Peer = r.c.peer()
		}
		req.Frames[i] = &frames[i]
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(l.g.ctx), l.timeout)
	defer cancel()
	begun := time.Now()
	resp, err := n.logic.Handle(ctx, req)
	l.time.Observe(time.Since(begun).Seconds())
	switch {
	case err != nil:
		var said *status.Error
		if !errors.As(err, &said) {
			l.move(n)
		}
		return nil, fmt.Errorf("logic node %s: %w", n.address, err)
	case len(resp.Answers) != len(batch):
		return nil, fmt.Errorf("logic node %s: %d answers to %d frames", n.address, len(resp.Answers), len(batch))
	}
	return resp.Answers, nil
}

// node picks the logic node of the next batch. An ordered lane stays on one until that one fails or is not to be used any more,
// or until the set of nodes changes; unordered batches go round.
func (l *lane) node() *node {
	ordered := l.kind == laneMessage || l.kind == laneUplink
	l.mu.Lock()
	if !ordered {
		l.shift++
	}
	i := l.index + l.shift
	l.mu.Unlock()
	return l.g.nodes.pick(i, ordered)
}

// move leaves node n, which failed, and has it looked at.
func (l *lane) move(n *node) {
	l.mu.Lock()
	l.shift++
	l.mu.Unlock()
	n.probe()
}

// fail answers a batch that logic did not answer.
func (l *lane) fail(batch []request, err error) {
	code := status.Unavailable
	var said *status.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		code = status.Timeout
	case errors.As(err, &said) && said.Code.Behaviour() == status.RetryLater:
		code = said.Code
	}
	l.g.metrics.batchFaults.WithLabelValues(string(l.kind), codeName(code)).Inc()
	l.g.log.Warn("batch failed", "lane", string(l.kind), "frames", len(batch), "reason", code.String(), "error", err)
	if errors.Is(err, errNoNode) {
		l.refuse(batch, code)
	} else {
		l.abandon(batch, code)
	}
}

// abandon refuses requests whose bodies somebody may still be reading: those are left to the garbage collector.
func (l *lane) abandon(batch []request, code status.Code) {
	for i := range batch {
		batch[i].body = nil
	}
	l.refuse(batch, code)
}

func (l *lane) refuse(batch []request, code status.Code) {
	for i := range batch {
		batch[i].c.refuseRequest(&batch[i], code)
	}
}
