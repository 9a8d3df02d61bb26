package gate

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/idl/wire"
)

// writeBytes is about how much goes into one write to the socket.
const writeBytes = 64 << 10

// writeBuffers hold sealed frames on their way to a socket. Larger ones, for the largest answers, are not kept.
var writeBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 4096); return &b }}

// queueLocked queues f, and starts the writer if nobody writes. False: f does not fit, or the connection is closing.
func (c *conn) queueLocked(f outFrame) bool {
	if c.state >= stateClosing || !c.out.fits(&f, c.g.cfg.QueueFrames, c.g.cfg.QueueBytes) {
		return false
	}
	c.out.add(f)
	c.startWriterLocked()
	return true
}

func (c *conn) startWriterLocked() {
	if c.out.writing {
		return
	}
	c.out.writing = true
	c.g.turns.give(c)
}

// turns are the goroutines that write for connections. A few wait for the next connection that has something to say, with the stack
// that the last one made them grow; an idle connection has none.
type turns struct {
	g    *Gate
	next chan *conn // taken by a writer that waits
	idle atomic.Int32
}

// maxIdleWriters wait at most, whatever a burst has started.
const maxIdleWriters = 64

// give lets a writer write for c, which has the write turn from now on. It does not wait.
func (t *turns) give(c *conn) {
	select {
	case t.next <- c:
	default:
		t.g.wg.Add(1)
		go t.run(c)
	}
}

func (t *turns) run(c *conn) {
	defer t.g.wg.Done()
	for {
		c.write()
		if t.idle.Add(1) > maxIdleWriters {
			t.idle.Add(-1)
			return
		}
		select {
		case c = <-t.next:
			t.idle.Add(-1)
		case <-t.g.ctx.Done():
			return
		}
	}
}

// oweSyncLocked lets one SYNC follow when the queue has drained; however often it is asked for.
func (c *conn) oweSyncLocked() {
	if c.session == nil || c.state >= stateClosing {
		return
	}
	c.out.syncOwed = true
	c.startWriterLocked()
}

// write is the write turn: it seals and writes what is queued until nothing is, and gives the turn back.
// Sealing happens in here only, so frames are sealed in the order in which they go out [P-5.1].
func (c *conn) write() {
	var written []outFrame
	for {
		c.mu.Lock()
		c.out.written(written)
		c.roomLocked()
		batch := c.out.take(writeBytes)
		if len(batch) == 0 {
			if c.out.syncOwed && c.state < stateClosing {
				c.out.syncOwed = false
				c.out.add(outFrame{cmd: uint16(clientpb.Cmd_CMD_SYNC), live: true})
				c.g.metrics.syncs.Inc()
				written = nil
				c.mu.Unlock()
				continue
			}
			if c.state < stateClosing {
				c.out.writing = false
				c.mu.Unlock()
				return
			}
			c.mu.Unlock()
			c.finish()
			return
		}
		if c.state < stateClosing { // a closing connection has its last deadline already
			c.nc.SetWriteDeadline(time.Now().Add(c.g.cfg.WriteTimeout))
		}
		c.mu.Unlock()

		if err := c.writeBatch(batch); err != nil {
			code := status.OK // the client left
			if errors.Is(err, os.ErrDeadlineExceeded) {
				code = status.Slow
			}
			c.close(cause{code: code, broken: true})
			c.finish()
			return
		}
		written = batch
	}
}

func (c *conn) writeBatch(batch []outFrame) error {
	buf := writeBuffers.Get().(*[]byte)
	b := (*buf)[:0]
	defer func() {
		if cap(b) <= 2*writeBytes {
			*buf = b
			writeBuffers.Put(buf)
		}
	}()
	m := c.g.metrics
	for len(batch) > 0 {
		f := &batch[0]
		n, body := mergeRun(batch)
		batch = batch[n:]
		h := wire.Header{Flags: f.flags, Cmd: f.cmd, Status: f.status, Seq: f.seq}
		if !h.IsResponse() {
			c.pushSeq++
			h.Seq = c.pushSeq
		}
		if n == 1 && f.shared != nil {
			b = c.seal.AppendShared(b, h, f.shared)
		} else {
			b = c.seal.AppendFrame(b, h, body)
		}
		m.framesOut.inc(h.Class())
	}
	if err := c.seal.Err(); err != nil {
		return err
	}
	m.bytesOut.Add(float64(len(b)))
	_, err := c.nc.Write(b)
	return err
}
