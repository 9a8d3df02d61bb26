package gatepost

import (
	"bufio"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/limits"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/idl/wire"
)

// conn is one secured connection: a goroutine that reads, and one that writes while there is something to write.
type conn struct {
	// fixed after the handshake
	nc           net.Conn
	gate         string
	settings     *clientpb.HelloSettings
	token        string // what LOGIN presents
	writeTimeout time.Duration

	// owned by the reader
	opener  wire.Opener
	scratch [wire.HeaderLen]byte

	// owned by the client's loop
	seq      uint32
	counter  uint64 // of its LOGIN
	requests map[uint32]request
	lastSent time.Time

	// any goroutine
	began   time.Time    // fixed
	heard   atomic.Int64 // when the last byte arrived: nanoseconds after began
	mu      sync.Mutex
	sealer  wire.Sealer
	out     []byte // sealed frames that wait for the writer; nil: none
	writing bool   // a writer is there, or the connection is broken

	// owned by the writer
	writeUntil time.Time // the deadline that nc has
}

// request is a frame that waits for its answer.
type request struct {
	deadline time.Time
	timeout  time.Duration
	// answer runs on the loop. body is valid until it returns; it is a Refusal unless code is OK, and err says so then.
	answer func(code status.Code, body []byte, err *Error)
}

// frame is what the reader hands to the loop, which releases body.
type frame struct {
	wire.Header
	body *wire.Buffer
}

// hearing reads from a connection, and notes when.
type hearing struct{ c *conn }

func (h hearing) Read(p []byte) (int, error) {
	n, err := h.c.nc.Read(p)
	if n > 0 {
		h.c.heard.Store(int64(time.Since(h.c.began)))
	}
	return n, err
}

// readBytes is how much is read from the connection at once.
const readBytes = 4096

// patience is how many time-outs an answer may take on a connection that brings other bytes meanwhile.
const patience = 4

// overdue reports whether r's answer is missing for so long that the connection counts as dead: nothing at all arrives any more, or
// the answer does not although other bytes do. A thin line may need more than one time-out for a large answer.
func (c *conn) overdue(r request, now time.Time) bool {
	if !now.After(r.deadline) {
		return false
	}
	silence := now.Sub(c.began.Add(time.Duration(c.heard.Load())))
	return silence >= r.timeout || now.After(r.deadline.Add((patience-1)*r.timeout))
}

// read hands on frames until the connection fails, which it returns. deliver reports whether the client still lives, and owns the frames
// then.
func (c *conn) read(deliver func([]frame) bool) error {
	in := bufio.NewReaderSize(hearing{c}, readBytes) // a burst of small frames comes with one system call
	var frames []frame
	for {
		f, err := c.readFrame(in)
		if err == nil {
			frames = append(frames, f)
			if hasFrame(in) {
				continue
			}
		}
		if len(frames) > 0 && !deliver(frames) {
			for _, f := range frames {
				f.body.Release()
			}
			return ErrClosed
		}
		if err != nil {
			return err
		}
		frames = make([]frame, 0, len(frames)) // as many as the last time
	}
}

func (c *conn) readFrame(in *bufio.Reader) (frame, error) {
	h, err := wire.ReadHeader(in, &c.scratch)
	if err != nil {
		return frame{}, err
	}
	body, err := wire.ReadBody(in, h, limits.BodyToClientBytes+wire.SealOverhead)
	if err != nil {
		return frame{}, err
	}
	body, err = c.opener.Open(h, body, limits.BodyToClientBytes)
	return frame{h, body}, err
}

// hasFrame reports whether a whole frame can be read without waiting.
func hasFrame(in *bufio.Reader) bool {
	if in.Buffered() < wire.HeaderLen {
		return false
	}
	head, _ := in.Peek(wire.HeaderLen) // it is there
	h, err := wire.ParseHeader(head)
	return err == nil && uint64(in.Buffered()) >= wire.HeaderLen+uint64(h.Length)
}

// send seals a frame and sees that it is written. It does not block and does not fail: a broken connection shows itself
// to its reader.
func (c *conn) send(h wire.Header, body []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.out == nil {
		c.out = (*writeBuffers.Get().(*[]byte))[:0]
	}
	c.out = c.sealer.AppendFrame(c.out, h, body)
	if c.sealer.Err() != nil {
		c.nc.Close()
	}
	if !c.writing {
		c.writing = true
		go c.write()
	}
}

// writeBuffers hold sealed frames on their way to a socket; larger ones than maxWriteBuffer are not kept.
var writeBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 1024); return &b }}

const maxWriteBuffer = 64 << 10

// write drains what waits, and ends. After an error it leaves writing set, so that nobody follows it.
func (c *conn) write() {
	for {
		runtime.Gosched() // whoever is about to send does so first: one write for all
		c.mu.Lock()
		buf := c.out
		c.out = nil
		if len(buf) == 0 {
			c.writing = false
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		// Each change costs, so a deadline stays as long as it leaves the time-out, and is set half of that later.
		if now := time.Now(); c.writeUntil.Sub(now) < c.writeTimeout {
			c.writeUntil = now.Add(c.writeTimeout + c.writeTimeout/2)
			c.nc.SetWriteDeadline(c.writeUntil)
		}
		if _, err := c.nc.Write(buf); err != nil {
			c.nc.Close()
			return
		}
		if cap(buf) <= maxWriteBuffer {
			writeBuffers.Put(&buf)
		}
	}
}
