package gatepost_test

import (
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/status"
	gatepost "github.com/gatepost/gatepost/sdk/go"
	"github.com/gatepost/gatepost/sdk/go/memstore"
)

func TestShownOnceInOrderAndConfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a := newFakeGate(t), &app{}
		for seq := range uint64(250) {
			g.put("bob", 1, seq+1)
		}
		c := start(t, a.config(g, memstore.New()))
		login(t, c)
		live := g.put("bob", 1, 251)
		g.current().deliver(live, live)
		g.current().deliver(live)
		allConfirmed()
		if got := a.seqs(); !slices.Equal(got, upTo(251)) {
			t.Fatalf("shown %v", got)
		}
		if len(g.inbox) != 0 {
			t.Fatalf("%d messages are left in the inbox", len(g.inbox))
		}
		// A resend after the row is gone: a new row with the old number is confirmed and not shown.
		again := g.put("bob", 1, 7)
		g.current().deliver(again)
		allConfirmed()
		if len(a.seqs()) != 251 || len(g.inbox) != 0 {
			t.Fatalf("shown %d, inbox %d", len(a.seqs()), len(g.inbox))
		}
	})
}

// A jump holds back its own sequence alone. A pull that began before the jump does not settle it; the next one does.
func TestJumpIsSettledByALaterPull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a, _ := online(t)
		g.current().deliver(g.put("bob", 1, 1))
		synctest.Wait()

		var held []req
		g.setOn(func(c *gateConn, r req) bool {
			if r.Cmd == cmdPull {
				g.mu.Lock()
				held = append(held, r)
				g.mu.Unlock()
				return true
			}
			return false
		})
		g.current().push(cmdSync, nil)
		synctest.Wait() // pull A is under way
		g.current().deliver(&clientpb.Message{MsgId: 9003, From: &clientpb.User{Domain: "d", Uid: "bob"}, Stream: 1, TargetSeq: 3})
		g.current().deliver(g.put("carol", 2, 1))
		synctest.Wait()
		if len(held) != 1 {
			t.Fatalf("%d pulls under way", len(held))
		}
		g.current().answer(held[0], status.OK, &clientpb.PullAnswer{}) // A found nothing
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if len(a.shown) != 2 || a.shown[1].From.UID != "carol" {
			t.Fatalf("shown %v: bob's 3 must wait, carol must not", a.shown)
		}
		if len(held) != 2 {
			t.Fatalf("%d pulls: a second one must follow the jump", len(held))
		}
		missing := &clientpb.Message{MsgId: 9002, From: &clientpb.User{Domain: "d", Uid: "bob"}, Stream: 1, TargetSeq: 2}
		g.current().answer(held[1], status.OK, &clientpb.PullAnswer{Messages: []*clientpb.Message{missing}, Upto: 9002})
		synctest.Wait()
		if got := a.seqs(); !slices.Equal(got, []uint64{1, 1, 2, 3}) {
			t.Fatalf("shown %v", got)
		}
	})
}

func TestJumpThatStaysIsPassedAndLateIsFlagged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a, _ := online(t)
		g.current().deliver(g.put("bob", 1, 3)) // an unknown stream that does not begin with 1
		time.Sleep(5 * time.Second)
		synctest.Wait()
		late := g.put("bob", 1, 2)
		g.current().deliver(late, late)
		g.current().deliver(g.put("bob", 1, 4))
		synctest.Wait()
		if got := a.seqs(); !slices.Equal(got, []uint64{3, 2, 4}) {
			t.Fatalf("shown %v", got)
		}
		if a.shown[0].Late || !a.shown[1].Late || a.shown[2].Late {
			t.Fatalf("late: %+v", a.shown)
		}
	})
}

// While pages are read the inbox grows with each of them: the pull still ends at what its first page named.
func TestPullEndsUnderSteadyTraffic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a := newFakeGate(t), &app{}
		g.pageRows = 10
		seq := uint64(0)
		for range 50 {
			seq++
			g.put("bob", 1, seq)
		}
		pages := 0
		g.on = func(c *gateConn, r req) bool {
			if r.Cmd == cmdPull {
				pages++
				var live []*clientpb.Message
				for range 20 {
					seq++
					live = append(live, g.put("bob", 1, seq))
				}
				if pages < 1000 {
					c.serve(r)
					c.deliver(live...)
					return true
				}
			}
			return r.Cmd == cmdConfirm // never answered: the inbox does not shrink
		}
		cfg := a.config(g, memstore.New())
		cfg.Timing.PullEvery = 24 * time.Hour
		cfg.Timing.Request = 24 * time.Hour
		c := start(t, cfg)
		login(t, c)
		time.Sleep(time.Second)
		if err := c.Pull(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := a.seqs(); !slices.Equal(got, upTo(uint64(len(got)))) {
			t.Fatalf("shown %v", got)
		}
		if pages >= 1000 {
			t.Fatal("pulls do not end")
		}
	})
}

func TestUnnumberedAreShownOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a, _ := online(t)
		m := g.put("shop", 0, 0)
		again := *m
		again.MsgId += 100
		g.current().deliver(m)
		g.current().deliver(&again, m)
		allConfirmed()
		if len(a.shown) != 1 || !slices.Contains(g.confirmed, again.MsgId) {
			t.Fatalf("shown %d, confirmed %v", len(a.shown), g.confirmed)
		}
	})
}

// A failing callback stops its own stream, which goes on after the message was parked.
func TestFailingCallbackIsRetriedThenParked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a := newFakeGate(t), &app{}
		tries := 0
		a.refuse = func(m gatepost.Message) error {
			switch {
			case m.From.UID == "bob" && m.TargetSeq == 2:
				if tries++; tries == 3 {
					panic("and panics")
				}
				return errApp
			case m.From.UID == "bob" && m.TargetSeq == 3 && tries < 5:
				t.Error("3 came before 2 was settled")
			}
			return nil
		}
		c := start(t, a.config(g, memstore.New()))
		login(t, c)
		g.current().deliver(g.put("bob", 1, 1), g.put("bob", 1, 2), g.put("bob", 1, 3), g.put("carol", 1, 1))
		synctest.Wait()
		if shown := a.messages(); len(shown) != 2 || shown[1].From.UID != "carol" {
			t.Fatalf("before the retries: %v", shown)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if tries != 5 || len(a.parked) != 1 || len(a.shown) != 3 || len(g.inbox) != 0 {
			t.Fatalf("tries %d, parked %d, shown %d, inbox %d", tries, len(a.parked), len(a.shown), len(g.inbox))
		}
	})
}

// Someone makes up streams and numbers: nobody else waits, the state stays bounded, and pulls are paced.
func TestForgedJumpsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a := newFakeGate(t), &app{}
		store := memstore.New()
		c := start(t, a.config(g, store))
		login(t, c)
		g.current().deliver(g.put("bob", 1, 1))
		synctest.Wait()
		before := g.count(cmdPull)
		for i := range uint64(2000) {
			g.current().deliver(&clientpb.Message{
				MsgId: 50_000 + i, From: &clientpb.User{Domain: "d", Uid: "mallory"}, Stream: 100 + i, TargetSeq: 1<<63 + i,
				Content: make([]byte, 4096),
			})
		}
		g.current().deliver(g.put("bob", 1, 2))
		synctest.Wait()
		if got := a.seqsOf("bob"); !slices.Equal(got, []uint64{1, 2}) {
			t.Fatalf("shown %v", got)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if n := g.count(cmdPull) - before; n > 11 {
			t.Fatalf("%d pulls in ten seconds", n)
		}
		c.Close()
		kept, _ := store.Load()
		if len(kept.Marks) > 65 {
			t.Fatalf("%d marks", len(kept.Marks))
		}
	})
}

// The highest number there is jumps like any other: it is passed and shown, and takes nobody's place.
func TestHighestNumberIsPassed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a := newFakeGate(t), &app{}
		for i := range uint64(300) { // more than may jump at a time, and before bob's in the inbox
			g.inbox = append(g.inbox, &clientpb.Message{
				MsgId: 1 + i, From: &clientpb.User{Domain: "d", Uid: "mallory"}, Stream: 100 + i, TargetSeq: math.MaxUint64,
			})
		}
		g.inbox = append(g.inbox, &clientpb.Message{MsgId: 1000, From: &clientpb.User{Domain: "d", Uid: "bob"}, Stream: 1, TargetSeq: 7})
		c := start(t, a.config(g, memstore.New()))
		login(t, c)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := a.seqsOf("bob"); !slices.Equal(got, []uint64{7}) {
			t.Errorf("shown of bob's: %v", got)
		}
		if n := len(g.inbox); n != 0 {
			t.Errorf("%d messages are never confirmed", n)
		}
		before := g.count(cmdPull)
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := g.count(cmdPull) - before; n > 1 {
			t.Errorf("%d pulls in a quiet minute", n)
		}
	})
}

// More comes than the app takes: what does not fit stays in the inbox, and all is shown in the end, in order.
func TestSlowAppLeavesTheRestInTheInbox(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a := newFakeGate(t), &app{}
		a.refuse = func(gatepost.Message) error { time.Sleep(10 * time.Millisecond); return nil }
		cfg := a.config(g, memstore.New())
		cfg.Limits.Unshown = 20
		g.pageRows = 10
		c := start(t, cfg)
		login(t, c)
		for seq := range uint64(500) {
			g.current().deliver(g.put("bob", 1, seq+1))
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if got := a.seqs(); !slices.Equal(got, upTo(500)) {
			t.Fatalf("shown %v", got)
		}
		if len(g.inbox) != 0 {
			t.Fatalf("%d left", len(g.inbox))
		}
	})
}

func TestConfirmIsRepeatedUntilAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a := newFakeGate(t), &app{}
		n := 0
		g.on = func(c *gateConn, r req) bool {
			if r.Cmd != cmdConfirm {
				return false
			}
			switch n++; n {
			case 1:
				c.answer(r, status.Unavailable, nil)
				return true
			case 2:
				c.nc.Close()
				return true
			}
			return false
		}
		c := start(t, a.config(g, memstore.New()))
		login(t, c)
		g.current().deliver(g.put("bob", 1, 1))
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(g.inbox) != 0 || len(a.shown) != 1 || n < 3 {
			t.Fatalf("inbox %d, shown %d, confirmations %d", len(g.inbox), len(a.shown), n)
		}
	})
}

// The process dies after any commit of receiving: nothing is lost, and shown again is only what may have been in the callback.
func TestDeathBetweenAnyTwoSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a := newFakeGate(t), &app{}
		store := &stepStore{Store: memstore.New()}
		c := start(t, a.config(g, store))
		login(t, c)
		g.current().deliver(g.put("bob", 1, 1), g.put("bob", 1, 2))
		g.current().deliver(g.put("bob", 1, 4))
		time.Sleep(5 * time.Second)
		g.current().deliver(g.put("bob", 1, 3), g.put("carol", 9, 1))
		synctest.Wait()
		c.Close()
		if len(a.shown) != 5 || len(store.steps) < 6 {
			t.Fatalf("shown %d in %d steps", len(a.shown), len(store.steps))
		}
		for i, step := range store.steps {
			// The server has confirmed nothing, or all that this store had not to confirm any more.
			for _, confirmed := range []bool{false, true} {
				g2, b := newFakeGate(t), &app{}
				kept := map[uint64]bool{}
				for _, r := range step.kept.Received {
					kept[r.Message.MsgID] = true
				}
				for _, m := range []struct {
					uid         string
					stream, seq uint64
				}{{"bob", 1, 1}, {"bob", 1, 2}, {"bob", 1, 4}, {"bob", 1, 3}, {"carol", 9, 1}} {
					row := g2.put(m.uid, m.stream, m.seq)
					if confirmed && kept[row.MsgId] {
						g2.inbox = g2.inbox[:len(g2.inbox)-1]
					}
				}
				c := start(t, b.config(g2, step.store.Copy()))
				login(t, c)
				time.Sleep(5 * time.Second)
				synctest.Wait()
				c.Close()
				for _, m := range b.shown {
					before := slices.ContainsFunc(step.shown, func(id uint64) bool { return id == m.MsgID })
					if before && !m.MaybeRepeated {
						t.Fatalf("step %d: %s/%d shown twice without a flag", i, m.From.UID, m.TargetSeq)
					}
				}
				for _, id := range []uint64{1001, 1002, 1003, 1004, 1005} {
					if !slices.Contains(step.marked, id) && !slices.ContainsFunc(b.shown, func(m gatepost.Message) bool { return m.MsgID == id }) {
						t.Fatalf("step %d, confirmed %v: %d is lost", i, confirmed, id)
					}
				}
				if len(g2.inbox) != 0 {
					t.Fatalf("step %d: %d rows are left", i, len(g2.inbox))
				}
			}
		}
	})
}

// stepStore keeps a copy after each commit.
type stepStore struct {
	*memstore.Store
	steps  []*step
	put    map[uint64]uint64 // number → msg_id
	marked []uint64
}

type step struct {
	store  *memstore.Store
	kept   *gatepost.Snapshot
	marked []uint64 // msg_ids set shown by now
	shown  []uint64 // msg_ids whose callback may have run
}

func (s *stepStore) Commit(c *gatepost.Changes) error {
	if err := s.Store.Commit(c); err != nil {
		return err
	}
	if s.put == nil {
		s.put = map[uint64]uint64{}
	}
	for _, r := range c.PutReceived {
		s.put[r.Number] = r.Message.MsgID
	}
	for _, n := range c.SetShown {
		s.marked = append(s.marked, s.put[n])
	}
	kept, err := s.Copy().Load()
	if err != nil {
		return err
	}
	var all []uint64
	for _, id := range s.put {
		all = append(all, id)
	}
	s.steps = append(s.steps, &step{store: s.Copy(), kept: kept, marked: slices.Clone(s.marked), shown: all})
	return nil
}
