package gate

import (
	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/limits"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/idl/wire"
)

// outFrame is a frame that waits for the socket. Its body is shared and never changed.
type outFrame struct {
	cmd    uint16
	status status.Code
	flags  wire.Flags
	live   bool   // a push: counted against the live half
	seq    uint32 // of answers; pushes get theirs when they are sealed
	body   []byte
	shared *wire.Shared // nil unless body goes to other connections too
}

func (f *outFrame) size() int { return wire.HeaderLen + len(f.body) }

// queue is what waits for one socket, bounded in frames and bytes. It never drops: who is told that a frame does not fit decides.
// A frame counts until it has been written. The zero value needs its bounds. It is guarded by the connection's mutex.
//
// Two bounds: pushes together may fill half of it, answers the whole. So live traffic cannot keep a client from the answers
// to its own pulls, which is how it catches up.
type queue struct {
	frames []outFrame // nil while nothing waits

	count, bytes         int // all that is queued or being written
	liveCount, liveBytes int // pushes among them

	// writing: somebody has the write turn. The handshake has it first.
	writing bool
	// syncOwed: a durable delivery was dropped (or may have been, elsewhere). SYNC follows when the queue has drained,
	// and until then durable deliveries are dropped too.
	syncOwed bool
}

// fits reports whether f may be queued. An empty queue takes any frame.
func (q *queue) fits(f *outFrame, maxFrames, maxBytes int) bool {
	if f.live && q.liveCount > 0 && (q.liveCount+1 > maxFrames/2 || q.liveBytes+f.size() > maxBytes/2) {
		return false
	}
	return q.count == 0 || (q.count+1 <= maxFrames && q.bytes+f.size() <= maxBytes)
}

func (q *queue) add(f outFrame) {
	q.frames = append(q.frames, f)
	q.count++
	q.bytes += f.size()
	if f.live {
		q.liveCount++
		q.liveBytes += f.size()
	}
}

// take removes the frames that go into one write: at least one, and no more than about maxBytes of bodies.
func (q *queue) take(maxBytes int) []outFrame {
	n, bytes := 0, 0
	for n < len(q.frames) && (n == 0 || bytes+q.frames[n].size() <= maxBytes) {
		bytes += q.frames[n].size()
		n++
	}
	batch := q.frames[:n:n]
	if q.frames = q.frames[n:]; len(q.frames) == 0 {
		q.frames = nil
	}
	return batch
}

// written takes frames that are out off the counts.
func (q *queue) written(batch []outFrame) {
	for i := range batch {
		f := &batch[i]
		q.count--
		q.bytes -= f.size()
		if f.live {
			q.liveCount--
			q.liveBytes -= f.size()
		}
	}
}

// discard drops what waits; the counts keep what is being written.
func (q *queue) discard() {
	q.written(q.frames)
	q.frames = nil
	q.syncOwed = false
}

// mergeRun returns how many frames at the head of batch, at least one, go out as one, and its body. Consecutive deliveries do:
// a body of Deliver is one repeated field, so two bodies in a row are one.
func mergeRun(batch []outFrame) (n int, body []byte) {
	const deliver = uint16(clientpb.Cmd_CMD_DELIVER)
	bytes := 0
	for n < len(batch) && batch[n].cmd == deliver && (n == 0 || bytes+len(batch[n].body) <= limits.BodyToClientBytes) {
		bytes += len(batch[n].body)
		n++
	}
	if n <= 1 {
		return 1, batch[0].body
	}
	body = make([]byte, 0, bytes)
	for i := range batch[:n] {
		body = append(body, batch[i].body...)
	}
	return n, body
}
