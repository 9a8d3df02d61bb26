package logic

import (
	"sync/atomic"

	"github.com/gatepost/gatepost/idl/gen/clientpb"
)

// streamGuard is one ordered stream of one connection within one Handle call: its messages, or its uplinks. It closes at the first
// frame whose outcome is not final; the frames behind it are then refused, here and at the gate, until one with the restart flag.
// Whoever carries frames looks at it again, the commit lane before each commit and the producer before each record, because the
// frames of one call may be split over several.
type streamGuard struct{ closed atomic.Bool }

func (g *streamGuard) close()         { g.closed.Store(true) }
func (g *streamGuard) isClosed() bool { return g.closed.Load() }

// streamKey names a stream. A command's high byte says in which one it travels [P-3.1].
type streamKey struct {
	conn  uint64
	class clientpb.Cmd
}

// guards holds the streams of one Handle call. Consecutive frames are mostly of one stream.
type guards struct {
	key  streamKey
	last *streamGuard
	all  map[streamKey]*streamGuard
}

// of returns the stream of conn in which cmd travels, a new one when restart opens it anew.
func (g *guards) of(conn uint64, cmd clientpb.Cmd, restart bool) *streamGuard {
	key := streamKey{conn, cmd >> 8}
	if g.last != nil && g.key == key && !restart {
		return g.last
	}
	s := g.all[key]
	if s == nil || restart {
		if g.all == nil {
			g.all = make(map[streamKey]*streamGuard)
		}
		s = &streamGuard{}
		g.all[key] = s
	}
	g.key, g.last = key, s
	return s
}
