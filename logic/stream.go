package logic

import (
	"sync/atomic"

	"github.com/gatepost/gatepost/idl/gen/clientpb"
)

// stream is one ordered stream of one connection within one Handle call: its messages, or its uplinks.
type stream struct {
	frames uint32        // so far; owned by guards
	closed atomic.Uint32 // the place of the first frame whose outcome is not final; 0: open
}

// streamGuard is the place of a frame in its stream. A stream closes at the first frame whose outcome is not final; the frames behind
// it are then refused, here and at the gate, until one with the restart flag; those before it go on. Whoever carries frames looks at
// it again, the commit lane before each commit and the producer before each record, because the frames of one call may be split
// over several.
type streamGuard struct {
	stream *stream
	place  uint32 // 1, 2, 3…
}

// close closes the stream for this frame and those behind it.
func (g *streamGuard) close() {
	for {
		at := g.stream.closed.Load()
		if at != 0 && at <= g.place || g.stream.closed.CompareAndSwap(at, g.place) {
			return
		}
	}
}

// isClosed reports whether this frame, or one before it, has an outcome that is not final.
func (g *streamGuard) isClosed() bool {
	at := g.stream.closed.Load()
	return at != 0 && at <= g.place
}

// streamKey names a stream. A command's high byte says in which one it travels [P-3.1].
type streamKey struct {
	conn  uint64
	class clientpb.Cmd
}

// guards holds the streams of one Handle call. Consecutive frames are mostly of one stream.
type guards struct {
	key  streamKey
	last *stream
	all  map[streamKey]*stream
}

// of returns the place of the next frame of conn in the stream in which cmd travels, a new stream when restart opens it anew.
func (g *guards) of(conn uint64, cmd clientpb.Cmd, restart bool) *streamGuard {
	key := streamKey{conn, cmd >> 8}
	s := g.last
	if s == nil || g.key != key || restart {
		s = g.all[key]
	}
	if s == nil || restart {
		if g.all == nil {
			g.all = make(map[streamKey]*stream)
		}
		s = &stream{}
		g.all[key] = s
	}
	g.key, g.last = key, s
	s.frames++
	return &streamGuard{s, s.frames}
}
