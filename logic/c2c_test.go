package logic

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/gen/logicpb"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/store"
)

func TestC2CIsAcceptedAfterItsCommit(t *testing.T) {
	var committed atomic.Bool
	w := newWorld(t, func(w *world, s *setup) {
		w.inbox.onAppend = func([]store.Message) error { committed.Store(true); return nil }
	})
	answers := w.handle(c2cFrame(t, "ann", 1, "bob", 1))
	wantCodes(t, answers, status.OK)
	if !committed.Load() {
		t.Fatal("accepted before the commit")
	}
	rows := w.inbox.rows(w.user("bob"))
	if len(rows) != 1 {
		t.Fatalf("%d rows", len(rows))
	}
	a, r := decode[clientpb.C2CAnswer](t, answers[0]), rows[0]
	if a.MsgId != uint64(r.ID) || a.Duplicate || a.ServerTimeMs == 0 {
		t.Errorf("answer %+v for row %d", a, r.ID)
	}
	if r.From != w.user("ann") || r.FromClass != 1 || r.Stream != 77 || r.TargetSeq != 1 || r.Type != "text" || string(r.Content) != "hello 1" {
		t.Errorf("row %+v", r)
	}
	if r.Digest != store.DigestOf(r.From, r.ClientMsgID, store.KindC2C, r.Owner) {
		t.Error("wrong digest")
	}
	if life := r.ExpiresAt.Sub(r.CreatedAt); life != maxLife {
		t.Errorf("it lives %v", life)
	}
}

func TestC2CChecks(t *testing.T) {
	w := newWorld(t, nil)
	day := uint64(24 * time.Hour / time.Millisecond)
	for _, c := range []struct {
		name   string
		change func(m *clientpb.C2C)
		want   status.Code
	}{
		{"good", func(*clientpb.C2C) {}, status.OK},
		{"no type, no content", func(m *clientpb.C2C) { m.Type, m.Content = "", nil }, status.OK},
		{"largest content", func(m *clientpb.C2C) { m.Content = make([]byte, maxContentBytes) }, status.OK},
		{"too large", func(m *clientpb.C2C) { m.Content = make([]byte, maxContentBytes+1) }, status.TooLarge},
		{"short id", func(m *clientpb.C2C) { m.ClientMsgId = m.ClientMsgId[:15] }, status.BadRequest},
		{"zero id", func(m *clientpb.C2C) { m.ClientMsgId = make([]byte, 16) }, status.BadRequest},
		{"no stream", func(m *clientpb.C2C) { m.Stream = 0 }, status.BadRequest},
		{"no number", func(m *clientpb.C2C) { m.TargetSeq = 0 }, status.BadRequest},
		{"no receiver", func(m *clientpb.C2C) { m.To = nil }, status.BadRequest},
		{"empty uid", func(m *clientpb.C2C) { m.To.Uid = "" }, status.BadRequest},
		{"long uid", func(m *clientpb.C2C) { m.To.Uid = strings.Repeat("u", maxUIDBytes+1) }, status.BadRequest},
		{"long domain", func(m *clientpb.C2C) { m.To.Domain = strings.Repeat("u", maxDomainBytes+1) }, status.BadRequest},
		{"uid with control character", func(m *clientpb.C2C) { m.To.Uid = "a\nb" }, status.BadRequest},
		{"uid not UTF-8", func(m *clientpb.C2C) { m.To.Uid = "a\xffb" }, status.BadRequest},
		{"uid beyond ASCII", func(m *clientpb.C2C) { m.To.Uid = "zoë" }, status.OK},
		{"unknown domain", func(m *clientpb.C2C) { m.To.Domain = "nowhere" }, status.UnknownReceiver},
		{"long type", func(m *clientpb.C2C) { m.Type = strings.Repeat("t", maxTypeBytes+1) }, status.BadRequest},
		{"type not UTF-8", func(m *clientpb.C2C) { m.Type = "\xff" }, status.BadRequest},
		{"ttl of seven days", func(m *clientpb.C2C) { m.TtlMs = 7 * day }, status.OK},
		{"ttl above seven days", func(m *clientpb.C2C) { m.TtlMs = 7*day + 1 }, status.BadRequest},
		{"huge ttl", func(m *clientpb.C2C) { m.TtlMs = 1<<64 - 1 }, status.BadRequest},
		{"expired", func(m *clientpb.C2C) { m.TtlMs, m.AgeMs = 1000, 1000 }, status.Expired},
		{"not expired yet", func(m *clientpb.C2C) { m.TtlMs, m.AgeMs = 100000, 99000 }, status.OK},
		{"seven days old", func(m *clientpb.C2C) { m.AgeMs = 7 * day }, status.Expired},
		{"huge age", func(m *clientpb.C2C) { m.AgeMs = 1<<64 - 1 }, status.Expired},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := message("bob", 1)
			c.change(m)
			good := c2cFrame(t, "ann", 1, "eve", 1) // what stands behind it is not touched
			wantCodes(t, w.handle(frame(t, "ann", 1, clientpb.Cmd_CMD_C2C, m), good), c.want, status.OK)
		})
	}
}

func TestC2CAgeShortensLife(t *testing.T) {
	w := newWorld(t, nil)
	m := message("bob", 1)
	m.TtlMs, m.AgeMs = 60_000, 45_000
	wantCodes(t, w.handle(frame(t, "ann", 1, clientpb.Cmd_CMD_C2C, m)), status.OK)
	r := w.inbox.rows(w.user("bob"))[0]
	if left := r.ExpiresAt.Sub(r.CreatedAt); left != 15*time.Second {
		t.Errorf("%v are left", left)
	}
}

func TestBatchIsOneCommitInOrder(t *testing.T) {
	w := newWorld(t, nil)
	var frames []*logicpb.Frame
	for n := range uint64(50) {
		frames = append(frames, c2cFrame(t, "ann", 1, "bob", n+1))
	}
	wantCodes(t, w.handle(frames...), repeat(status.OK, 50)...)
	rows := w.inbox.rows(w.user("bob")) // by id
	for i, r := range rows {
		if r.TargetSeq != uint64(i+1) {
			t.Fatalf("row %d has number %d", i, r.TargetSeq)
		}
	}
	if len(rows) != 50 {
		t.Fatalf("%d rows", len(rows))
	}
}

func TestDuplicateIsAcceptedWithTheStoredID(t *testing.T) {
	w := newWorld(t, nil)
	w.beat(1, "g1")
	w.online("bob", 1, 1, 100)
	first := decode[clientpb.C2CAnswer](t, w.handle(c2cFrame(t, "ann", 1, "bob", 1))[0])
	again := w.handle(c2cFrame(t, "ann", 2, "bob", 1))
	wantCodes(t, again, status.OK)
	second := decode[clientpb.C2CAnswer](t, again[0])
	if !second.Duplicate || second.MsgId != first.MsgId {
		t.Errorf("%+v after %+v", second, first)
	}
	eventually(t, "it is delivered twice under one id", func() bool {
		got := w.gates.seen(isDeliver)
		return len(got) == 2 && got[0].msgs[0].MsgId == first.MsgId && got[1].msgs[0].MsgId == first.MsgId
	})
}

func TestIDCollisionGetsANewID(t *testing.T) {
	w := newWorld(t, nil)
	var once sync.Once
	w.inbox.onAppend = func(batch []store.Message) error {
		once.Do(func() { // the id of the last row belongs to another one
			w.inbox.mu.Lock()
			defer w.inbox.mu.Unlock()
			w.inbox.byID[batch[len(batch)-1].ID] = store.Digest{1}
		})
		return nil
	}
	answers := w.handle(c2cFrame(t, "ann", 1, "bob", 1), c2cFrame(t, "ann", 1, "bob", 2), c2cFrame(t, "ann", 1, "bob", 3))
	wantCodes(t, answers, repeat(status.OK, 3)...)
	if rows := w.inbox.rows(w.user("bob")); len(rows) != 3 {
		t.Fatalf("%d rows", len(rows))
	}
	for _, answer := range answers {
		if a := decode[clientpb.C2CAnswer](t, answer); a.Duplicate || a.MsgId == 0 {
			t.Errorf("%+v", a)
		}
	}
}

// one makes a node whose rows all go through one lane.
func one(rows int) func(*world, *setup) {
	return func(_ *world, s *setup) { s.cfg.CommitLanes, s.cfg.CommitRows = 1, rows }
}

func TestPoisonIsRefusedAlone(t *testing.T) {
	for _, bad := range [][]uint64{{1}, {17}, {50}, {3, 4, 40}} {
		t.Run(fmt.Sprint(bad), func(t *testing.T) {
			w := newWorld(t, one(512))
			w.inbox.onAppend = func(batch []store.Message) error {
				for _, m := range batch {
					if slices.Contains(bad, m.TargetSeq) {
						return errPoison
					}
				}
				return nil
			}
			var frames []*logicpb.Frame
			want := repeat(status.OK, 50)
			for n := range uint64(50) {
				frames = append(frames, c2cFrame(t, "ann", 1, "bob", n+1))
			}
			for _, n := range bad {
				want[n-1] = status.Unstorable
			}
			wantCodes(t, w.handle(frames...), want...)
			if rows := w.inbox.rows(w.user("bob")); len(rows) != 50-len(bad) {
				t.Errorf("%d rows", len(rows))
			}
		})
	}
}

func TestPanicInTheStoreIsPoison(t *testing.T) {
	w := newWorld(t, one(512))
	w.inbox.onAppend = func(batch []store.Message) error {
		for _, m := range batch {
			if m.TargetSeq == 2 {
				panic("cannot encode")
			}
		}
		return nil
	}
	wantCodes(t, w.handle(c2cFrame(t, "ann", 1, "bob", 1), c2cFrame(t, "ann", 1, "bob", 2), c2cFrame(t, "ann", 1, "bob", 3)),
		status.OK, status.Unstorable, status.OK)
}

func TestTransientFailureClosesTheStream(t *testing.T) {
	w := newWorld(t, one(2))
	var appends atomic.Int32
	w.inbox.onAppend = func([]store.Message) error {
		if appends.Add(1) == 1 {
			return fmt.Errorf("server has gone away: %w", store.ErrUnavailable)
		}
		return nil
	}
	// A batch split over several commits: the first fails, so what stands behind it is not stored, though the database is back.
	// The lane is held until everything is queued, so that the split is always the same.
	hold := holdLane(w)
	var answers []*logicpb.Answer
	done := make(chan struct{})
	go func() {
		defer close(done)
		answers = w.handle(c2cFrame(t, "ann", 1, "bob", 1), c2cFrame(t, "ann", 1, "bob", 2), c2cFrame(t, "ann", 1, "bob", 3),
			c2cFrame(t, "ann", 1, "bob", 4), c2cFrame(t, "eve", 2, "bob", 1))
	}()
	eventually(t, "all are queued", func() bool { return hold.waiting() >= 5 })
	hold.release()
	<-done
	wantCodes(t, answers, status.Unavailable, status.Unavailable, status.StreamClosed, status.StreamClosed, status.OK)
	if rows := w.inbox.rows(w.user("bob")); len(rows) != 1 || rows[0].From.UID != "eve" {
		t.Errorf("rows %+v", rows)
	}
}

// heldLane keeps the only commit lane busy with a row of its own.
type heldLane struct {
	w    *world
	gate chan struct{}
	done chan struct{}
}

func holdLane(w *world) *heldLane {
	h := &heldLane{w: w, gate: make(chan struct{}), done: make(chan struct{})}
	entered := make(chan struct{})
	inner := w.inbox.onAppend
	w.inbox.onAppend = func(batch []store.Message) error {
		if batch[0].Owner.UID == "holder" {
			close(entered)
			<-h.gate
			return nil
		}
		if inner != nil {
			return inner(batch)
		}
		return nil
	}
	go func() {
		defer close(h.done)
		w.handle(c2cFrame(w.t, "holder", 999, "holder", 1))
	}()
	<-entered
	return h
}

func (h *heldLane) waiting() int {
	l := h.w.node.commit.lanes[0]
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.items)
}

func (h *heldLane) release() {
	close(h.gate)
	<-h.done
}

func TestFinalRefusalClosesNothing(t *testing.T) {
	w := newWorld(t, nil)
	var frames []*logicpb.Frame
	for n := range uint64(8) {
		frames = append(frames, c2cFrame(t, "ann", 1, "bob", n+1))
	}
	large := message("bob", 5)
	large.Content = make([]byte, maxContentBytes+1)
	frames[4] = frame(t, "ann", 1, clientpb.Cmd_CMD_C2C, large)
	want := repeat(status.OK, 8)
	want[4] = status.TooLarge
	wantCodes(t, w.handle(frames...), want...)
}

func TestRefusalWithRetryClosesTheStreamUntilRestart(t *testing.T) {
	registry := prometheus.NewRegistry()
	w := newWorld(t, func(_ *world, s *setup) {
		s.cfg.CommitLanes, s.cfg.CommitQueue, s.deps.Metrics = 1, 4, registry
	})
	hold := holdLane(w)
	var frames []*logicpb.Frame
	for n := range uint64(7) {
		frames = append(frames, c2cFrame(t, "ann", 1, "bob", n+1)) // four fit, the fifth does not
	}
	frames = append(frames, c2cFrame(t, "eve", 2, "bob", 1)) // nor does another connection's
	var answers []*logicpb.Answer
	done := make(chan struct{})
	go func() { defer close(done); answers = w.handle(frames...) }()
	eventually(t, "the lane is full, and what does not fit is refused", func() bool {
		return hold.waiting() == 4 && answered(t, registry, status.Overloaded) == 2
	})
	hold.release()
	<-done
	got := codes(answers)
	// The lane looks at the stream again: what was queued before the refusal but not yet committed may be refused with it.
	for i, c := range got[:4] {
		if c != status.OK && c != status.StreamClosed {
			t.Errorf("frame %d: %v", i+1, c)
		}
	}
	if got[4] != status.Overloaded || got[5] != status.StreamClosed || got[6] != status.StreamClosed || got[7] != status.Overloaded {
		t.Fatalf("got %v", got)
	}
	again := c2cFrame(t, "ann", 1, "bob", 1)
	again.Restart = true
	wantCodes(t, w.handle(again, c2cFrame(t, "ann", 1, "bob", 2)), status.OK, status.OK)
}

func TestRestartWithinABatchOpensTheStream(t *testing.T) {
	var g guards
	first := g.of(1, clientpb.Cmd_CMD_C2C, false)
	first.close()
	if !g.of(1, clientpb.Cmd_CMD_C2C, false).isClosed() || g.of(2, clientpb.Cmd_CMD_C2C, false).isClosed() || !g.of(1, clientpb.Cmd_CMD_C2C, false).isClosed() {
		t.Fatal("a stream is not its connection's")
	}
	if g.of(1, clientpb.Cmd_CMD_C2C, true).isClosed() || g.of(1, clientpb.Cmd_CMD_C2C, false).isClosed() {
		t.Fatal("restart did not open the stream")
	}
	if !first.isClosed() {
		t.Fatal("what stood before the restart was opened too")
	}
}

func TestTimeOutAnswersEveryFrame(t *testing.T) {
	release := make(chan struct{})
	w := newWorld(t, func(w *world, s *setup) {
		s.cfg.CommitLanes = 1
		s.cfg.CommitTimeout, s.cfg.LoginTimeout, s.cfg.HandleTimeout = 20*time.Millisecond, 20*time.Millisecond, 50*time.Millisecond
		w.inbox.onAppend = func([]store.Message) error { <-release; return nil } // ignores its deadline
	})
	answers := w.handle(c2cFrame(t, "ann", 1, "bob", 1), c2cFrame(t, "eve", 2, "bob", 1))
	wantCodes(t, answers, status.Timeout, status.Timeout)
	close(release)
}

func TestCommitIsCappedInBytes(t *testing.T) {
	w := newWorld(t, func(_ *world, s *setup) { s.cfg.CommitLanes, s.cfg.CommitBytes = 1, 100<<10 })
	hold := holdLane(w)
	var frames []*logicpb.Frame
	for n := range uint64(8) {
		m := message("bob", n+1)
		m.Content = bytes.Repeat([]byte{'x'}, 30<<10)
		frames = append(frames, frame(t, "ann", 1, clientpb.Cmd_CMD_C2C, m))
	}
	var answers []*logicpb.Answer
	done := make(chan struct{})
	go func() { defer close(done); answers = w.handle(frames...) }()
	eventually(t, "all are queued", func() bool { return hold.waiting() == 8 })
	hold.release()
	<-done
	wantCodes(t, answers, repeat(status.OK, 8)...)
	for _, batch := range w.inbox.appends() {
		if len(batch) > 3 {
			t.Errorf("%d rows of 30 KiB in one commit", len(batch))
		}
	}
}
