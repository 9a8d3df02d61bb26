package logic

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/gen/logicpb"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/mq"
	"github.com/gatepost/gatepost/store"
)

// fakeUplinks is a producer with one partition: records go one after the other, and Done comes from its own goroutine.
type fakeUplinks struct {
	queue chan *mq.Record
	done  chan struct{}

	mu      sync.Mutex
	kept    []mq.Record
	onWrite func(r *mq.Record) error // before a record is kept; set before the first one
}

func newFakeUplinks(t testing.TB) *fakeUplinks {
	f := &fakeUplinks{queue: make(chan *mq.Record, 1<<14), done: make(chan struct{})}
	go f.run()
	t.Cleanup(func() { close(f.queue); <-f.done })
	return f
}

func (f *fakeUplinks) Produce(r *mq.Record) { f.queue <- r }

func (f *fakeUplinks) run() {
	defer close(f.done)
	for r := range f.queue {
		r.Done(f.write(r))
	}
}

func (f *fakeUplinks) write(r *mq.Record) error {
	if r.Closed != nil && r.Closed() {
		return mq.ErrClosed
	}
	if f.onWrite != nil {
		if err := f.onWrite(r); err != nil {
			return err
		}
	}
	f.mu.Lock()
	f.kept = append(f.kept, *r)
	f.mu.Unlock()
	return nil
}

func (f *fakeUplinks) records(topic string) []mq.Record {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []mq.Record
	for _, r := range f.kept {
		if r.Topic == topic {
			out = append(out, r)
		}
	}
	return out
}

func (f *fakeUplinks) seqs(topic string) []uint64 {
	var out []uint64
	for _, r := range f.records(topic) {
		out = append(out, r.Event.Seq)
	}
	return out
}

// reporting is a world whose domain sends "pos.*" to positions, "order" to orders and nothing else.
func reporting(t testing.TB, onWrite func(r *mq.Record) error, change func(w *world, s *setup)) (*world, *fakeUplinks) {
	t.Helper()
	up := newFakeUplinks(t)
	up.onWrite = onWrite
	w := newWorld(t, func(w *world, s *setup) {
		s.deps.Uplinks = up
		s.deps.Domains.ByName["d"].Topics = mq.TopicMap{Topics: map[string]string{"pos.*": "positions", "order": "orders"}}
		if change != nil {
			change(w, s)
		}
	})
	return w, up
}

func report(n uint64) *clientpb.C2S {
	return &clientpb.C2S{ClientMsgId: bytes.Repeat([]byte{byte(n)}, 16), Stream: 99, Seq: n, Type: "pos.car", Content: []byte(fmt.Sprintf("at %d", n))}
}

func c2sFrame(t testing.TB, conn, n uint64) *logicpb.Frame {
	return frame(t, "ann", conn, clientpb.Cmd_CMD_C2S, report(n))
}

func reports(t testing.TB, conn, from, to uint64) []*logicpb.Frame {
	var frames []*logicpb.Frame
	for n := from; n <= to; n++ {
		frames = append(frames, c2sFrame(t, conn, n))
	}
	return frames
}

func TestReportBecomesARecord(t *testing.T) {
	w, up := reporting(t, nil, nil)
	m := report(1)
	m.AgeMs = 5000
	m.Traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	before := w.now()
	answers := w.handle(frame(t, "ann", 1, clientpb.Cmd_CMD_C2S, m))
	wantCodes(t, answers, status.OK)
	if decode[clientpb.C2SAnswer](t, answers[0]).ServerTimeMs == 0 {
		t.Error("no server time")
	}
	got := up.records("positions")
	if len(got) != 1 {
		t.Fatalf("%d records", len(got))
	}
	e := got[0].Event
	if e.ID != "01010101-0101-0101-0101-010101010101" || e.Source != "/d/ann" || e.Type != "pos.car" || e.Domain != "d" || e.UID != "ann" ||
		e.Device != "android" || e.Stream != 99 || e.Seq != 1 || e.Traceparent != m.Traceparent || string(e.Content) != "at 1" || e.ContentType != "" {
		t.Errorf("%+v", e)
	}
	if handed := before.Add(-5 * time.Second); e.Time.Location() != time.UTC || e.Time.Before(handed.Add(-time.Millisecond)) || e.Time.After(handed.Add(time.Minute)) {
		t.Errorf("time %v, handed over at %v", e.Time, handed)
	}
	if len(w.inbox.appends()) != 0 {
		t.Error("the database carries a report")
	}
}

func TestC2SChecks(t *testing.T) {
	day := uint64(24 * time.Hour / time.Millisecond)
	w, _ := reporting(t, nil, func(_ *world, s *setup) {
		s.deps.Domains.ByName["d"].Limits = DomainLimits{ContentBytes: 100, Life: time.Hour}
	})
	for _, c := range []struct {
		name   string
		change func(m *clientpb.C2S)
		want   status.Code
	}{
		{"good", func(*clientpb.C2S) {}, status.OK},
		{"no content", func(m *clientpb.C2S) { m.Content = nil }, status.OK},
		{"largest content", func(m *clientpb.C2S) { m.Content = make([]byte, 100) }, status.OK},
		{"too large for the domain", func(m *clientpb.C2S) { m.Content = make([]byte, 101) }, status.TooLarge},
		{"short id", func(m *clientpb.C2S) { m.ClientMsgId = m.ClientMsgId[1:] }, status.BadRequest},
		{"zero id", func(m *clientpb.C2S) { m.ClientMsgId = make([]byte, 16) }, status.BadRequest},
		{"no stream", func(m *clientpb.C2S) { m.Stream = 0 }, status.BadRequest},
		{"no number", func(m *clientpb.C2S) { m.Seq = 0 }, status.BadRequest},
		{"a number far ahead", func(m *clientpb.C2S) { m.Seq = 1 << 63 }, status.OK},
		{"no type", func(m *clientpb.C2S) { m.Type = "" }, status.BadRequest},
		{"long type", func(m *clientpb.C2S) { m.Type = "pos." + strings.Repeat("t", maxTypeBytes) }, status.BadRequest},
		{"type not UTF-8", func(m *clientpb.C2S) { m.Type = "pos.\xff" }, status.BadRequest},
		{"the platform's type", func(m *clientpb.C2S) { m.Type = "gatepost.presence.online" }, status.BadRequest},
		{"no topic", func(m *clientpb.C2S) { m.Type = "chat" }, status.NoTopic},
		{"ttl above seven days", func(m *clientpb.C2S) { m.TtlMs = 7*day + 1 }, status.BadRequest},
		{"ttl is cut to the domain's", func(m *clientpb.C2S) { m.TtlMs, m.AgeMs = 7*day, day/24 }, status.Expired},
		{"expired", func(m *clientpb.C2S) { m.TtlMs, m.AgeMs = 1000, 1000 }, status.Expired},
		{"huge age", func(m *clientpb.C2S) { m.AgeMs = 1<<64 - 1 }, status.Expired},
		{"no traceparent", func(m *clientpb.C2S) { m.Traceparent = "nonsense\n" }, status.OK},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := report(1)
			c.change(m)
			wantCodes(t, w.handle(frame(t, "ann", 1, clientpb.Cmd_CMD_C2S, m), c2sFrame(t, 1, 2)), c.want, status.OK)
		})
	}
	wantCodes(t, w.handle(frame(t, "", 1, clientpb.Cmd_CMD_C2S, report(1))), status.NotLoggedIn)
}

func TestReportsWithoutAProducerHaveNoTopic(t *testing.T) {
	w, _ := reporting(t, nil, func(_ *world, s *setup) { s.deps.Uplinks = nil })
	wantCodes(t, w.handle(c2sFrame(t, 1, 1)), status.NoTopic)
}

func TestTraceparentShape(t *testing.T) {
	const good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
	if !isTraceparent(good) {
		t.Error("a good one is left out")
	}
	for _, bad := range []string{
		"", good[:54], good + "-", "ff" + good[2:], strings.ToUpper(good), strings.Replace(good, "-", "_", 1),
		"00-00000000000000000000000000000000-00f067aa0ba902b7-00", "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-00", good[:54] + "g",
	} {
		if isTraceparent(bad) {
			t.Errorf("%q is taken", bad)
		}
	}
}

// retryIn is the error of a breaker.
type retryIn struct{ time.Duration }

func (retryIn) Error() string               { return "the breaker is open" }
func (e retryIn) RetryAfter() time.Duration { return e.Duration }

// Kafka fails for one record: what it refuses for good costs that record alone, what it could not take closes the stream.
func TestKafkaFailsForOneRecord(t *testing.T) {
	for _, c := range []struct {
		name  string
		err   error
		want  status.Code
		final bool
	}{
		{"refused", fmt.Errorf("bad record: %w", mq.ErrRefused), status.Unstorable, true},
		{"too large", fmt.Errorf("broker: %w", mq.ErrTooLarge), status.TooLarge, true},
		{"away", fmt.Errorf("%w: %w", mq.ErrUnavailable, retryIn{1500 * time.Millisecond}), status.Unavailable, false},
		{"something else", errors.New("strange"), status.Unavailable, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var once sync.Once
			w, up := reporting(t, func(r *mq.Record) (err error) {
				if r.Event.Seq == 5 {
					once.Do(func() { err = c.err })
				}
				return err
			}, nil)
			answers := w.handle(reports(t, 1, 1, 8)...)
			want := repeat(status.OK, 8)
			want[4] = c.want
			kept := []uint64{1, 2, 3, 4, 6, 7, 8}
			if !c.final {
				want = append(append(want[:4:4], c.want), repeat(status.StreamClosed, 3)...)
				kept = []uint64{1, 2, 3, 4}
			}
			wantCodes(t, answers, want...)
			if got := up.seqs("positions"); !slices.Equal(got, kept) {
				t.Fatalf("kept %v, want %v", got, kept)
			}
			if ms := decode[clientpb.Refusal](t, answers[4]).RetryAfterMs; c.name == "away" && ms != 1500 {
				t.Errorf("retry after %d ms", ms)
			}
			if c.final {
				return
			}
			again := reports(t, 1, 5, 8)
			again[0].Restart = true
			wantCodes(t, w.handle(again...), repeat(status.OK, 4)...)
			if got := up.seqs("positions"); !slices.Equal(got, []uint64{1, 2, 3, 4, 5, 6, 7, 8}) {
				t.Errorf("kept %v", got)
			}
		})
	}
}

func TestRefusedFrameClosesNoUplinkStream(t *testing.T) {
	w, up := reporting(t, nil, nil)
	frames := reports(t, 1, 1, 8)
	large := report(5)
	large.Content = make([]byte, maxContentBytes+1)
	frames[4] = frame(t, "ann", 1, clientpb.Cmd_CMD_C2S, large)
	want := repeat(status.OK, 8)
	want[4] = status.TooLarge
	wantCodes(t, w.handle(frames...), want...)
	if got := up.seqs("positions"); !slices.Equal(got, []uint64{1, 2, 3, 4, 6, 7, 8}) {
		t.Errorf("kept %v", got)
	}
}

// Messages and reports of one connection are two streams: while either waits for what carries it, the other flows.
func TestStreamsOfAConnectionAreTwo(t *testing.T) {
	t.Run("no database", func(t *testing.T) {
		w, up := reporting(t, nil, nil)
		w.inbox.onAppend = func([]store.Message) error { return store.ErrUnavailable }
		var frames []*logicpb.Frame
		var want []status.Code
		for n := uint64(1); n <= 5; n++ {
			frames = append(frames, c2cFrame(t, "ann", 1, "bob", n), c2sFrame(t, 1, n))
			want = append(want, status.Unavailable, status.OK)
		}
		answers := w.handle(frames...)
		for i, c := range codes(answers) {
			if i%2 == 1 && c != status.OK || i%2 == 0 && c != status.Unavailable && c != status.StreamClosed {
				t.Fatalf("got %v, want %v", codes(answers), want)
			}
		}
		if got := up.seqs("positions"); !slices.Equal(got, []uint64{1, 2, 3, 4, 5}) {
			t.Errorf("kept %v", got)
		}
	})
	t.Run("no Kafka", func(t *testing.T) {
		w, up := reporting(t, func(*mq.Record) error { return mq.ErrUnavailable }, nil)
		var frames []*logicpb.Frame
		for n := uint64(1); n <= 5; n++ {
			frames = append(frames, c2sFrame(t, 1, n), c2cFrame(t, "ann", 1, "bob", n))
		}
		got := codes(w.handle(frames...))
		for i, c := range got {
			if i%2 == 1 && c != status.OK || i%2 == 0 && c != status.Unavailable && c != status.StreamClosed {
				t.Fatalf("got %v", got)
			}
		}
		if rows := w.inbox.rows(w.user("bob")); len(rows) != 5 {
			t.Errorf("%d rows", len(rows))
		}
		if got := up.records("positions"); len(got) != 0 {
			t.Errorf("kept %v", got)
		}
	})
}

// A time-out closes the stream before its answer is seen: what still waits in the producer is not sent behind the client's back.
func TestTimeOutClosesTheUplinkStream(t *testing.T) {
	release := make(chan struct{})
	w, up := reporting(t, func(r *mq.Record) error {
		if r.Event.Seq == 2 {
			<-release
			return mq.ErrUnavailable
		}
		return nil
	}, func(_ *world, s *setup) {
		s.cfg.CommitTimeout, s.cfg.LoginTimeout, s.cfg.HandleTimeout = 100*time.Millisecond, 100*time.Millisecond, 500*time.Millisecond
	})
	wantCodes(t, w.handle(reports(t, 1, 1, 4)...), status.OK, status.Timeout, status.Timeout, status.Timeout)
	close(release)
	up.flush()
	if got := up.seqs("positions"); !slices.Equal(got, []uint64{1}) {
		t.Errorf("kept %v", got)
	}
}

// flush waits until everything that was produced has its outcome.
func (f *fakeUplinks) flush() {
	done := make(chan struct{})
	f.queue <- &mq.Record{Closed: func() bool { return true }, Done: func(error) { close(done) }}
	<-done
}
