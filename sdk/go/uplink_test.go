package gatepost_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/status"
	gatepost "github.com/gatepost/gatepost/sdk/go"
	"github.com/gatepost/gatepost/sdk/go/memstore"
)

// report sends one report for each content.
func report(t testing.TB, c *gatepost.Client, key string, contents ...string) (all []*gatepost.Sending) {
	t.Helper()
	for _, content := range contents {
		s, err := c.C2S(t.Context(), gatepost.Report{Type: "position", Content: []byte(content), ReplaceKey: key})
		if err != nil {
			t.Fatalf("report: %v", err)
		}
		all = append(all, s)
	}
	return all
}

func numbers(from, to int) (contents []string) {
	for i := from; i <= to; i++ {
		contents = append(contents, fmt.Sprint(i))
	}
	return contents
}

func TestUplinksInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a := newFakeGate(t), &app{}
		store := memstore.New()
		c := start(t, a.config(g, store))
		report(t, c, "", numbers(1, 100)...) // offline
		c.Close()
		c = start(t, a.config(g, store))
		login(t, c)
		waitAll(t, report(t, c, "", numbers(101, 200)...))
		synctest.Wait()
		if got := g.reported(); !slices.Equal(got, numbers(1, 200)) {
			t.Fatalf("the topic holds %v", got)
		}
		for i, m := range g.reports {
			if m.Seq != uint64(i+1) || m.Stream == 0 || m.Stream != g.reports[0].Stream {
				t.Fatalf("report %d has number %d of stream %d", i, m.Seq, m.Stream)
			}
		}
		if got := a.results(); len(got) != 200 || got[0].Kind != gatepost.SendUplink || got[0].To != (gatepost.User{}) {
			t.Fatalf("told %d outcomes, the first %+v", len(got), got[0])
		}
		if kept, _ := store.Copy().Load(); len(kept.Outbox) != 0 {
			t.Fatalf("%d are kept", len(kept.Outbox))
		}
	})
}

// Both streams are refused in the middle, again and again: each goes back to its own lowest entry, and neither waits for the other.
func TestGoBackNOfBothStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a := newFakeGate(t), &app{}
		refused := map[uint16]int{}
		var restarts []string
		g.on = func(c *gateConn, r req) bool {
			if r.Cmd != cmdC2C && r.Cmd != cmdC2S {
				return false
			}
			seq := c2sOf(r).Seq
			if r.Cmd == cmdC2C {
				seq = c2cOf(r).TargetSeq
			}
			if r.IsRestart() {
				restarts = append(restarts, fmt.Sprintf("%#x/%d", r.Cmd, seq))
			}
			if seq != 5 && seq != 8 || refused[r.Cmd] == 4 {
				return false
			}
			refused[r.Cmd]++
			if r.Cmd == cmdC2C {
				c.open = false
			} else {
				c.uplinks = false
			}
			c.answer(r, status.Unavailable, &clientpb.Refusal{Reason: "away", RetryAfterMs: 100})
			return true
		}
		c := start(t, a.config(g, memstore.New()))
		messages, uplinks := sendN(t, c, "bob", 10), report(t, c, "", numbers(1, 10)...)
		login(t, c)
		waitAll(t, messages)
		waitAll(t, uplinks)
		if got := acceptedSeqs(g); !slices.Equal(got, upTo(10)) {
			t.Errorf("accepted %v", got)
		}
		if got := g.reported(); !slices.Equal(got, numbers(1, 10)) {
			t.Errorf("the topic holds %v", got)
		}
		if len(g.reports) != 10 {
			t.Errorf("%d records", len(g.reports))
		}
		slices.Sort(restarts)
		want := []string{"0x101/1", "0x101/5", "0x101/5", "0x101/5", "0x201/1", "0x201/5", "0x201/5", "0x201/5"}
		if !slices.Equal(restarts, want) {
			t.Errorf("restart frames %v", restarts)
		}
	})
}

// While the topic is away for minutes, as the server says, messages go; while messages are held up, reports do.
func TestUplinksAndMessagesDoNotWaitForEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, away := range []uint16{cmdC2S, cmdC2C} {
			g, a := newFakeGate(t), &app{}
			var frames []time.Time
			g.on = func(c *gateConn, r req) bool {
				if r.Cmd != away {
					return false
				}
				frames = append(frames, time.Now())
				if len(frames) > 1 {
					return false
				}
				c.answer(r, status.Unavailable, &clientpb.Refusal{RetryAfterMs: 300_000})
				return true
			}
			c := start(t, a.config(g, memstore.New()))
			login(t, c)
			began := time.Now()
			uplinks, messages := report(t, c, "", "1", "2"), sendN(t, c, "bob", 2)
			waits, goes := uplinks, messages
			if away == cmdC2C {
				waits, goes = messages, uplinks
			}
			waitAll(t, goes)
			if time.Since(began) > time.Second {
				t.Errorf("%#x held the other up for %v", away, time.Since(began))
			}
			waitAll(t, waits)
			if wait := frames[1].Sub(frames[0]); wait < 5*time.Minute || wait > 6*time.Minute {
				t.Errorf("%#x was sent again after %v", away, wait)
			}
			c.Close()
		}
	})
}

// A STREAM_CLOSED for a later frame may overtake the refusal that names the wait.
func TestRetryAfterBehindStreamClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a := newFakeGate(t), &app{}
		var first *req
		answered, done := false, false
		g.on = func(c *gateConn, r req) bool {
			if r.Cmd != cmdC2S || done {
				return false
			}
			switch m := c2sOf(r); {
			case string(m.Content) == "2" && first == nil:
				first = &r
				c.uplinks = false
				return true
			case string(m.Content) == "3" && first != nil && !answered:
				c.answer(r, status.StreamClosed, nil)
				c.answer(*first, status.Unavailable, &clientpb.Refusal{RetryAfterMs: 300_000})
				answered = true
				return true
			case r.IsRestart() && first != nil:
				done = true
			}
			return false
		}
		c := start(t, a.config(g, memstore.New()))
		login(t, c)
		waitAll(t, report(t, c, "", "1"))
		began := time.Now()
		waitAll(t, report(t, c, "", "2", "3"))
		if wait := time.Since(began); wait < 5*time.Minute {
			t.Fatalf("sent again after %v", wait)
		}
		if got := g.reported(); !slices.Equal(got, numbers(1, 3)) {
			t.Fatalf("the topic holds %v", got)
		}
	})
}

func TestUplinksExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a := newFakeGate(t), &app{}
		store := memstore.New()
		c := start(t, a.config(g, store))
		for _, ttl := range []time.Duration{time.Minute, time.Hour, 0} {
			if _, err := c.C2S(t.Context(), gatepost.Report{Type: "t", Content: []byte(ttl.String()), TTL: ttl}); err != nil {
				t.Fatal(err)
			}
		}
		waiting, err := c.C2S(t.Context(), gatepost.Report{Type: "t", TTL: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := waiting.Wait(t.Context()); err == nil { // without a connection too
			t.Fatal("accepted by nobody")
		}
		c.Close()
		time.Sleep(10 * time.Minute)
		c = start(t, a.config(g, store))
		login(t, c)
		synctest.Wait()
		if got := g.reported(); !slices.Equal(got, []string{"1h0m0s", "0s"}) {
			t.Fatalf("the topic holds %v", got)
		}
		if age := time.Duration(g.reports[0].AgeMs) * time.Millisecond; age < 10*time.Minute || age > 11*time.Minute {
			t.Fatalf("age %v", age)
		}
		expired := 0
		for _, r := range a.results() {
			var e *gatepost.Error
			if errors.As(r.Err, &e) && e.Code == status.Expired {
				expired++
			}
		}
		if expired != 2 || len(a.results()) != 4 {
			t.Fatalf("told %+v", a.results())
		}
		// Sent and refused for now, its time ends while it waits: it is not sent again.
		g.setOn(func(c *gateConn, r req) bool {
			if r.Cmd == cmdC2S {
				c.answer(r, status.Unavailable, &clientpb.Refusal{RetryAfterMs: 60_000})
			}
			return r.Cmd == cmdC2S
		})
		frames, began := g.count(cmdC2S), time.Now()
		s, err := c.C2S(t.Context(), gatepost.Report{Type: "t", TTL: 10 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		var e *gatepost.Error
		if _, err := s.Wait(t.Context()); !errors.As(err, &e) || e.Code != status.Expired {
			t.Fatalf("outcome %v", err)
		}
		if n := g.count(cmdC2S) - frames; n != 1 || time.Since(began) > 11*time.Second {
			t.Fatalf("%d frames, failed after %v", n, time.Since(began))
		}
	})
}

// Of those that were never sent only the latest waits, over a restart too; what was sent once stays.
func TestReplaceByKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a := newFakeGate(t), &app{}
		store := memstore.New()
		c := start(t, a.config(g, store))
		first := report(t, c, "pos", "1")
		report(t, c, "other", "o")
		report(t, c, "pos", "2")
		if _, err := first[0].Wait(t.Context()); !errors.Is(err, gatepost.ErrReplaced) {
			t.Fatalf("the first: %v", err)
		}
		c.Close()
		c = start(t, a.config(g, store))
		report(t, c, "pos", "3")
		g.setOn(func(_ *gateConn, r req) bool { return r.Cmd == cmdC2S }) // arrives, is never answered
		login(t, c)
		synctest.Wait() // the lowest is out: o
		report(t, c, "pos", "4")
		report(t, c, "other", "p")
		synctest.Wait()
		c.Close()
		c = start(t, a.config(g, store))
		report(t, c, "other", "q") // o was sent, p was not
		report(t, c, "pos", "5")
		g.setOn(nil)
		login(t, c)
		synctest.Wait()
		if got := g.reported(); !slices.Equal(got, []string{"o", "q", "5"}) {
			t.Fatalf("the topic holds %v", got)
		}
		for i := 1; i < len(g.reports); i++ {
			if g.reports[i].Seq <= g.reports[i-1].Seq {
				t.Fatalf("number %d after %d", g.reports[i].Seq, g.reports[i-1].Seq)
			}
		}
		replaced := 0
		for _, r := range a.results() {
			if errors.Is(r.Err, gatepost.ErrReplaced) {
				replaced++
			}
		}
		if replaced != 5 || len(a.results()) != 8 {
			t.Fatalf("%d replaced, told %+v", replaced, a.results())
		}
	})
}

// A flood of uplinks leaves messages their room, and a full outbox of positions takes the next position all the same.
func TestUplinksHaveRoomOfTheirOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a := newFakeGate(t), &app{}
		cfg := a.config(g, memstore.New())
		cfg.Limits.OutboxUplinks = 3
		c := start(t, cfg)
		report(t, c, "", "1", "2")
		report(t, c, "pos", "3")
		if _, err := c.C2S(t.Context(), gatepost.Report{Type: "t"}); !errors.Is(err, gatepost.ErrOutboxFull) {
			t.Fatalf("fourth: %v", err)
		}
		report(t, c, "pos", "4")
		all := sendN(t, c, "bob", 10)
		login(t, c)
		waitAll(t, all)
		synctest.Wait()
		if got := g.reported(); !slices.Equal(got, []string{"1", "2", "4"}) {
			t.Fatalf("the topic holds %v", got)
		}
	})
}

func TestReportsThatCanNeverBeSent(t *testing.T) {
	g, a := newFakeGate(t), &app{}
	c := start(t, a.config(g, memstore.New()))
	for _, r := range []gatepost.Report{
		{}, {Type: string(make([]byte, 65))}, {Type: "t", Content: make([]byte, 32769)}, {Type: "t", TTL: -1},
		{Type: "t", ReplaceKey: string(make([]byte, 129))}, {Type: "t", Traceparent: "00-x"},
	} {
		var e *gatepost.Error
		if _, err := c.C2S(t.Context(), r); !errors.As(err, &e) || e.Behaviour() != status.NeverRetry {
			t.Errorf("%+v: %v", r, err)
		}
	}
	trace := "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	if _, err := c.C2S(t.Context(), gatepost.Report{Type: "t", Traceparent: trace}); err != nil {
		t.Errorf("a good one: %v", err)
	}
}

// The process dies after any commit of sending: each report is in the topic or was replaced, in order, and each outcome is told.
func TestUplinkDeathBetweenAnyTwoCommits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a := newFakeGate(t), &app{}
		store := &stepStore{Store: memstore.New()}
		c := start(t, a.config(g, store))
		report(t, c, "", "1")
		report(t, c, "pos", "2", "3")
		login(t, c)
		waitAll(t, report(t, c, "pos", "4"))
		g.current().nc.Close()
		report(t, c, "", "5")
		report(t, c, "pos", "6", "7")
		login(t, c)
		waitAll(t, report(t, c, "", "8"))
		synctest.Wait()
		c.Close()
		if len(store.steps) < 10 {
			t.Fatalf("%d steps", len(store.steps))
		}
		all := g.reported()
		for i, step := range store.steps {
			waits, finals := 0, 0
			for _, e := range step.kept.Outbox {
				if waits++; e.Outcome != nil {
					finals++
				}
			}
			for _, sentBefore := range []bool{false, true} {
				g2, b := newFakeGate(t), &app{}
				g2.counters = map[string]uint64{}
				var want []string
				for _, e := range step.kept.Outbox {
					if e.Outcome == nil {
						want = append(want, string(e.Content))
					}
				}
				died := step.store.Copy()
				if step.kept.Identity.Stream == 0 {
					continue
				}
				c := start(t, b.config(g2, died))
				if sentBefore { // a new position comes before the login: only what was never sent goes for it
					report(t, c, "pos", "new")
					want = slices.DeleteFunc(want, func(content string) bool {
						return slices.ContainsFunc(step.kept.Outbox, func(e gatepost.OutboxEntry) bool {
							return string(e.Content) == content && e.ReplaceKey == "pos" && !e.Sent
						})
					})
					want = append(want, "new")
				}
				login(t, c)
				synctest.Wait()
				c.Close()
				if got := g2.reported(); !slices.Equal(got, want) {
					t.Fatalf("step %d: the topic got %v, want %v", i, got, want)
				}
				told := waits
				if sentBefore {
					told++
				}
				if n := len(b.results()); n != told {
					t.Fatalf("step %d: told %d outcomes, want %d", i, n, told)
				}
				if kept, _ := died.Copy().Load(); len(kept.Outbox) != 0 || kept.Identity.UplinkStream != step.kept.Identity.UplinkStream {
					t.Fatalf("step %d: left %+v", i, kept)
				}
				for k := 1; k < len(g2.reports); k++ {
					if g2.reports[k].Seq <= g2.reports[k-1].Seq {
						t.Fatalf("step %d: number %d after %d", i, g2.reports[k].Seq, g2.reports[k-1].Seq)
					}
				}
			}
		}
		if !slices.IsSortedFunc(all, func(a, b string) int { return int(a[0]) - int(b[0]) }) || all[len(all)-1] != "8" {
			t.Fatalf("the topic holds %v", all)
		}
	})
}

// A clone numbers what was never sent in a stream of its own, and tells that the rest is in doubt.
func TestCloneTakesANewUplinkStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a := newFakeGate(t), &app{}
		store := memstore.New()
		c := start(t, a.config(g, store))
		report(t, c, "", "1")
		c.Close()
		clone := store.Copy()
		c = start(t, a.config(g, store))
		login(t, c)
		synctest.Wait()

		b := &app{}
		d := start(t, b.config(g, clone))
		fresh := report(t, d, "", "2", "3")
		login(t, d)
		waitAll(t, fresh)
		synctest.Wait()
		if got := g.reported(); !slices.Equal(got, numbers(1, 3)) {
			t.Fatalf("the topic holds %v", got)
		}
		if m := g.reports[1]; m.Stream == g.reports[0].Stream || m.Seq != 1 {
			t.Fatalf("the clone used number %d of stream %d", m.Seq, m.Stream)
		}
		if r := b.results(); len(r) != 3 || !errors.Is(r[0].Err, gatepost.ErrRestored) {
			t.Fatalf("told %+v", r)
		}
	})
}
