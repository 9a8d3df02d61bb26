package logic

import "sync/atomic"

// streamGuard is the message stream of one connection within one Handle call. It closes at the first frame whose outcome is not
// final; the frames behind it are then refused, here and at the gate, until one with the restart flag. The commit lane looks at it
// again before each commit, because the frames of one call may be split over several.
type streamGuard struct{ closed atomic.Bool }

func (g *streamGuard) close()         { g.closed.Store(true) }
func (g *streamGuard) isClosed() bool { return g.closed.Load() }

// guards holds the streams of one Handle call by connection. Consecutive frames are mostly of one connection.
type guards struct {
	conn uint64
	last *streamGuard
	all  map[uint64]*streamGuard
}

// of returns conn's stream, a new one when restart opens it anew.
func (g *guards) of(conn uint64, restart bool) *streamGuard {
	if g.last != nil && g.conn == conn && !restart {
		return g.last
	}
	s := g.all[conn]
	if s == nil || restart {
		if g.all == nil {
			g.all = make(map[uint64]*streamGuard)
		}
		s = &streamGuard{}
		g.all[conn] = s
	}
	g.conn, g.last = conn, s
	return s
}
