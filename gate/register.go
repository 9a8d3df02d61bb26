package gate

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/gen/logicpb"
	"github.com/gatepost/gatepost/idl/status"
)

// A gate holds the truth about its sessions; the presence table is an index of it. Three things keep the index true:
// the registrar puts sessions back into it, the reporter takes those out that ended, and the spreader has all clients pull
// after a logic node died with deliveries in its hands.

// sessionsChunk is how many sessions travel in one Sessions call.
const sessionsChunk = 500

// presence is what the gate knows of the presence table's epochs. An epoch is one life of the table: a new one began empty.
type presence struct {
	seen       atomic.Uint64 // the newest one heard of; 0: none yet
	registered atomic.Uint64 // the one under which all sessions have been registered
}

func (p *presence) current() uint64 { return p.seen.Load() }

// registrar registers sessions anew: all of them, paced, when the table began a new epoch; in an endless slow walk besides;
// and single ones whose login may have gone into a table that is gone.
type registrar struct {
	g    *Gate
	wake chan struct{} // of size 1

	mu   sync.Mutex
	some []*conn // to be registered again
}

// saw takes in the epoch that a logic node named.
func (r *registrar) saw(epoch uint64) {
	if r.g.presence.seen.Swap(epoch) != epoch || r.g.presence.registered.Load() != epoch {
		notify(r.wake)
	}
}

// again registers one connection's session once more.
func (r *registrar) again(c *conn) {
	r.mu.Lock()
	r.some = append(r.some, c)
	r.mu.Unlock()
	notify(r.wake)
}

func (r *registrar) run(ctx context.Context) {
	ticker := time.NewTicker(max(r.g.cfg.WalkInterval/tableShards, time.Millisecond))
	defer ticker.Stop()
	for next := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
			r.walk(ctx)
			r.registerSome(ctx)
		case <-ticker.C:
			r.registerSome(ctx)
			if r.g.presence.current() != 0 {
				r.register(ctx, r.g.table.shard(next))
				next = (next + 1) % tableShards
			}
		}
	}
}

// walk registers all sessions under the newest epoch, until it has done so in one go.
func (r *registrar) walk(ctx context.Context) {
	for ctx.Err() == nil {
		epoch := r.g.presence.current()
		if epoch == 0 || epoch == r.g.presence.registered.Load() {
			return
		}
		done := true
		for i := 0; i < tableShards && done; i++ {
			done = r.register(ctx, r.g.table.shard(i))
			done = done && r.g.presence.current() == epoch
		}
		if done {
			r.g.presence.registered.Store(epoch)
			r.g.log.Info("sessions registered", "presence_epoch", epoch)
			r.g.nodes.probeAll() // logic need not ask this gate about everybody any more
			return
		}
		if !sleep(ctx, r.g.cfg.BeatInterval/2) {
			return
		}
	}
}

// registerSome registers the single ones; what is not taken stays for the next time.
func (r *registrar) registerSome(ctx context.Context) {
	r.mu.Lock()
	some := r.some
	r.some = nil
	r.mu.Unlock()
	if len(some) > 0 && !r.register(ctx, some) {
		r.mu.Lock()
		r.some = append(r.some, some...)
		r.mu.Unlock()
	}
}

// register registers the sessions of cs in chunks; false: not all were taken.
func (r *registrar) register(ctx context.Context, cs []*conn) bool {
	refs := make([]*logicpb.SessionRef, 0, min(len(cs), sessionsChunk))
	held := make([]*conn, 0, cap(refs))
	for len(cs) > 0 {
		refs, held = refs[:0], held[:0]
		for len(cs) > 0 && len(refs) < sessionsChunk {
			c := cs[0]
			cs = cs[1:]
			if s := c.bound(); s != nil {
				refs, held = append(refs, &logicpb.SessionRef{ConnId: c.id, Session: s}), append(held, c)
			}
		}
		if len(refs) == 0 {
			return true
		}
		resp, err := r.g.callSessions(ctx, &logicpb.SessionsRequest{GateEpoch: r.g.epoch, Register: refs})
		if err != nil || len(resp.Registered) != len(refs) {
			if ctx.Err() == nil {
				r.g.log.Warn("sessions not registered", "sessions", len(refs), "error", err)
			}
			return false
		}
		for i, c := range held {
			var winner *logicpb.Winner
			if i < len(resp.Winners) {
				winner = resp.Winners[i]
			}
			c.registered(refs[i].Session, resp.Registered[i], winner)
		}
		if resp.PresenceEpoch != 0 && resp.PresenceEpoch != r.g.presence.current() {
			r.saw(resp.PresenceEpoch) // it went into another table than the one of this walk
			return false
		}
		if len(cs) > 0 && !sleep(ctx, r.g.cfg.RegisterPause) {
			return false
		}
	}
	return true
}

// bound returns the connection's session, nil when it has none.
func (c *conn) bound() *logicpb.Session {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session
}

// registered does what the outcome of a registration of s asks for.
func (c *conn) registered(s *logicpb.Session, o logicpb.RegisterOutcome, winner *logicpb.Winner) {
	c.g.metrics.registered.WithLabelValues(outcomeName(o)).Inc()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session != s {
		return
	}
	switch o {
	case logicpb.RegisterOutcome_REGISTER_MADE: // what was sent while there was no route lies in the inbox
		c.oweSyncLocked()
	case logicpb.RegisterOutcome_REGISTER_REFUSED:
		if winner != nil && len(winner.Installation) > 0 {
			c.closeLocked(causeReplaced(&logicpb.Session{Installation: winner.Installation, LoginCounter: winner.LoginCounter}))
			return
		}
		const reason = "the session ended elsewhere"
		c.closeLocked(cause{code: status.SessionLost, reason: reason, kick: &clientpb.Kick{Status: uint32(status.SessionLost), Reason: reason}})
	}
}

func outcomeName(o logicpb.RegisterOutcome) string {
	switch o {
	case logicpb.RegisterOutcome_REGISTER_KEPT:
		return "kept"
	case logicpb.RegisterOutcome_REGISTER_MADE:
		return "made"
	case logicpb.RegisterOutcome_REGISTER_REFUSED:
		return "refused"
	default:
		return "other"
	}
}

// reporter tells logic which sessions ended with their connection. What cannot be told waits, bounded.
type reporter struct {
	g    *Gate
	wake chan struct{} // of size 1

	mu      sync.Mutex
	waiting []*logicpb.SessionRef // those being told included
}

// ended queues one report. It is called under a connection's mutex too, and does no I/O.
func (r *reporter) ended(conn uint64, s *logicpb.Session) {
	r.mu.Lock()
	if len(r.waiting) >= r.g.cfg.MaxEnded {
		r.waiting = r.waiting[1:]
		r.g.metrics.endedLost.Inc()
	}
	r.waiting = append(r.waiting, &logicpb.SessionRef{ConnId: conn, Session: s})
	r.mu.Unlock()
	notify(r.wake)
}

// empty reports whether everything has been told.
func (r *reporter) empty() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.waiting) == 0
}

func (r *reporter) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		}
		for !r.empty() {
			if !r.tell(ctx) && !sleep(ctx, r.g.cfg.BeatInterval) {
				return
			}
		}
	}
}

// tell reports one chunk; false: nobody took it.
func (r *reporter) tell(ctx context.Context) bool {
	r.mu.Lock()
	chunk := append([]*logicpb.SessionRef(nil), r.waiting[:min(len(r.waiting), sessionsChunk)]...)
	r.mu.Unlock()
	if len(chunk) == 0 {
		return true
	}
	if _, err := r.g.callSessions(ctx, &logicpb.SessionsRequest{GateEpoch: r.g.epoch, Ended: chunk}); err != nil {
		r.g.log.LogAttrs(ctx, slog.LevelDebug, "ended sessions not reported", slog.Int("sessions", len(chunk)), slog.Any("error", err))
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, ref := range chunk { // the oldest may have been dropped meanwhile
		if len(r.waiting) > 0 && r.waiting[0] == ref {
			r.waiting = r.waiting[1:]
		}
	}
	return true
}

// spreader sends SYNC to all sessions, spread over SyncSpread.
type spreader struct {
	g    *Gate
	wake chan struct{} // of size 1: a second death during a round is followed by one more round
}

func (s *spreader) begin() { notify(s.wake) }

func (s *spreader) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		}
		n := 0
		for i := range tableShards {
			for _, c := range s.g.table.shard(i) {
				if c.oweSync() {
					n++
				}
			}
			if !sleep(ctx, s.g.cfg.SyncSpread/tableShards) {
				return
			}
		}
		s.g.log.Info("sync spread", "sessions", n)
	}
}

// oweSync lets SYNC follow, if there is a session.
func (c *conn) oweSync() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.oweSyncLocked()
	return c.session != nil
}

// callSessions makes one Sessions call, to whichever node is alive.
func (g *Gate) callSessions(ctx context.Context, req *logicpb.SessionsRequest) (*logicpb.SessionsResponse, error) {
	n := g.nodes.pick(int(g.turn.Add(1)>>1), false)
	if n == nil {
		return nil, errNoNode
	}
	ctx, cancel := context.WithTimeout(ctx, g.cfg.SessionsTimeout)
	defer cancel()
	return n.logic.Sessions(ctx, req)
}

// notify wakes the owner of a channel of size 1.
func notify(wake chan struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}

// sleep waits for d; false: ctx ended before.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
