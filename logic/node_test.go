package logic

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudwego/prutal"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/gen/gatepb"
	"github.com/gatepost/gatepost/idl/gen/logicpb"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/store"
)

func TestFramesThatAreNotUnderstood(t *testing.T) {
	w := newWorld(t, nil)
	garbled := c2cFrame(t, "ann", 1, "bob", 1)
	garbled.Body = []byte{0xff, 0xff, 0xff}
	wrongType := c2cFrame(t, "ann", 1, "bob", 1)
	wrongType.Body = []byte{0x08, 0x01} // client_msg_id as a number
	newField := c2cFrame(t, "ann", 1, "bob", 2)
	newField.Body = append(newField.Body, 0xfa, 0x3e, 0x01, 'x')
	answers := w.handle(
		frame(t, "ann", 1, clientpb.Cmd(0x01ff), &clientpb.Logout{}),
		frame(t, "ann", 1, clientpb.Cmd(0x03ff), &clientpb.Logout{}),
		garbled, wrongType,
		c2cFrame(t, "", 2, "bob", 1),
		pullFrame(t, "", &clientpb.Pull{}),
		newField,
	)
	wantCodes(t, answers, status.UnknownCommand, status.UnknownCommand, status.BadRequest, status.BadRequest, status.NotLoggedIn,
		status.NotLoggedIn, status.OK)
	for i, a := range answers[:6] {
		if decode[clientpb.Refusal](t, a).Reason == "" || a.Close {
			t.Errorf("answer %d: %+v", i, a)
		}
	}
	res, err := w.node.Handle(context.Background(), &logicpb.HandleRequest{})
	if err != nil || len(res.Answers) != 0 {
		t.Errorf("%v %v", res, err)
	}
}

func TestPanicCostsItsFrameAlone(t *testing.T) {
	w := newWorld(t, func(w *world, s *setup) {
		s.deps.Domains.ByName["d"].Auth = authFunc(func(context.Context, store.UserKey, []byte) error { panic("detached") })
		var calls atomic.Int32
		now := s.deps.Now
		s.deps.Now = func() time.Time { // the clock is read by the check of a message
			if w.node != nil && strings.Contains(stackOf(), "checkC2C") && calls.Add(1) == 2 {
				panic("ordered")
			}
			return now()
		}
	})
	wantCodes(t, w.handle(c2cFrame(t, "ann", 1, "bob", 1), c2cFrame(t, "ann", 1, "bob", 2), c2cFrame(t, "ann", 1, "bob", 3),
		frame(t, "", 3, clientpb.Cmd_CMD_LOGIN, loginOf("ann", 1, 1)), pullFrame(t, "bob", &clientpb.Pull{})),
		status.OK, status.Unstorable, status.OK, status.Unavailable, status.OK)
}

func TestClockSkewTakesNoMessages(t *testing.T) {
	w := newWorld(t, func(w *world, _ *setup) { w.nodes.err = store.ErrClockSkew })
	if w.beat(1, "g1").Ready {
		t.Error("ready with a wrong clock")
	}
	// Whoever was told this node's time would give up messages that are young, and a page would leave out what lives.
	timeOf := func(a *logicpb.Answer) int64 {
		t.Helper()
		var m clientpb.LoginAnswer
		if err := prutal.Unmarshal(a.Body, &m); err != nil {
			t.Fatal(err)
		}
		return m.ServerTimeMs
	}
	answers := w.handle(c2cFrame(t, "ann", 1, "bob", 1), frame(t, "", 3, clientpb.Cmd_CMD_LOGIN, loginOf("ann", 1, 1)),
		pullFrame(t, "bob", &clientpb.Pull{}))
	wantCodes(t, answers, status.Unavailable, status.OK, status.Unavailable)
	if at := timeOf(answers[1]); at != 0 {
		t.Errorf("a client is told %d by a clock that is off", at)
	}
	w.nodes.set(nil)
	eventually(t, "it is ready once the clock is right", func() bool { return w.beat(1, "g1").Ready })
	answers = w.handle(c2cFrame(t, "ann", 1, "bob", 1), frame(t, "", 3, clientpb.Cmd_CMD_LOGIN, loginOf("ann", 1, 2)),
		pullFrame(t, "bob", &clientpb.Pull{}))
	wantCodes(t, answers, status.OK, status.OK, status.OK)
	if timeOf(answers[1]) == 0 {
		t.Error("a client is told no time by a clock that is right")
	}
}

func TestSkewAndLostLeaseAtRenewal(t *testing.T) {
	w := newWorld(t, func(_ *world, s *setup) { s.cfg.NodeRenew = 5 * time.Millisecond })
	if !w.node.Ready() {
		t.Fatal("not ready")
	}
	w.nodes.set(store.ErrClockSkew)
	eventually(t, "it stops taking messages", func() bool { return !w.node.Ready() })
	w.nodes.set(nil)
	eventually(t, "it takes them again", w.node.Ready)
	w.nodes.mu.Lock()
	w.nodes.owner, w.nodes.number = "another one", 9
	w.nodes.mu.Unlock()
	eventually(t, "it takes another number", func() bool {
		id, err := w.node.ids.next()
		return err == nil && uint64(id)>>idSeqBits&(1<<idNodeBits-1) == 9
	})
}

func TestDatabaseAwayAtStart(t *testing.T) {
	w := newWorld(t, func(w *world, _ *setup) { w.nodes.err = store.ErrUnavailable })
	wantCodes(t, w.handle(c2cFrame(t, "ann", 1, "bob", 1)), status.Unavailable)
	w.nodes.set(nil)
	eventually(t, "it becomes ready", w.node.Ready)
}

// A node crashes and its number is leased again at once, by a node whose clock is behind: no id comes twice.
func TestNumberLeasedAgainAfterACrash(t *testing.T) {
	nodes := &fakeNodes{number: 7}
	at := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	seen := make(map[store.MsgID]bool)
	var last store.MsgID
	for run := range 5 {
		now := at.Add(-time.Duration(run) * time.Second) // each clock is further behind
		ids := &idMaker{now: func() time.Time { return now }}
		l, err := nodes.Lease(context.Background(), fmt.Sprint(run), now, 0, time.Second, 50*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		ids.grant(l, true)
		made := 0
		for {
			id, err := ids.next()
			if err != nil {
				break // the reserved ids are used up: the clock stands still
			}
			if seen[id] || id <= last {
				t.Fatalf("run %d: id %d came twice or went back", run, id)
			}
			seen[id], last = true, id
			made++
		}
		if made == 0 {
			t.Fatalf("run %d made no ids", run)
		}
	}
}

func TestIDsNeverGoBack(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	ids := &idMaker{now: func() time.Time { return now }}
	ids.grant(store.NodeLease{Number: 3, HighWater: now.Add(time.Minute)}, true)
	var last store.MsgID
	for i := range 20000 {
		switch i {
		case 5000:
			now = now.Add(-time.Hour)
		case 10000:
			now = now.Add(time.Hour + time.Second)
		}
		id, err := ids.next()
		if err != nil || id <= last || id>>63 != 0 {
			t.Fatalf("id %d after %d: %v", id, last, err)
		}
		last = id
	}
	now = now.Add(time.Hour)
	if _, err := ids.next(); err == nil || ids.ready() {
		t.Error("an id above the high water")
	}
}

func TestStopDrains(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	w := newWorld(t, func(w *world, s *setup) {
		s.cfg.StopGrace, s.cfg.CommitLanes = 20*time.Second, 1
		s.cfg.RPCAddress = "logic:1"
		w.inbox.onAppend = func([]store.Message) error { close(entered); <-release; return nil }
	})
	w.beat(1, "g1")
	w.online("bob", 1, 1, 100)
	answered := make(chan []*logicpb.Answer, 1)
	go func() { answered <- w.handle(c2cFrame(t, "ann", 1, "bob", 1)) }()
	<-entered
	stopped := make(chan error, 1)
	go func() { stopped <- w.node.Stop(context.Background()) }()
	eventually(t, "the gate hears it", func() bool {
		res := w.beat(1, "g1")
		return res.Stopping && !res.Ready
	})
	eventually(t, "new frames are refused", func() bool {
		return status.Code(w.handle(pullFrame(t, "bob", &clientpb.Pull{}))[0].Status) == status.Stopping
	})
	close(release)
	wantCodes(t, <-answered, status.OK)
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	if n := len(w.gates.seen(isDeliver)); n != 1 {
		t.Errorf("what was accepted was delivered %d times before the end", n)
	}
	if w.nodes.released != 1 {
		t.Error("the node number was not given back")
	}
	if err := w.node.Stop(context.Background()); err != nil {
		t.Error(err)
	}
	if _, err := w.node.Sessions(context.Background(), &logicpb.SessionsRequest{}); err == nil {
		t.Error("a stopped node noted sessions")
	}
}

// Gates that heard of a planned stop spread no SYNC: a delivery that fails during it is made good before the node ends.
func TestStopHintsWhatFailedMeanwhile(t *testing.T) {
	w := newWorld(t, func(_ *world, s *setup) { s.cfg.StopGrace = 20 * time.Second })
	w.beat(1, "g1")
	w.online("bob", 1, 1, 100)
	entered, release := make(chan struct{}), make(chan struct{})
	var calls, synced atomic.Int32
	w.gates.setDeliver(func(_ context.Context, _ string, r *gatepb.DeliverRequest) (*gatepb.DeliverResponse, error) {
		if clientpb.Cmd(r.Payloads[0].Cmd) == clientpb.Cmd_CMD_SYNC && r.Items[0].Uid == "bob" {
			synced.Add(1)
		}
		if calls.Add(1) == 1 {
			close(entered)
			<-release
			return nil, errors.New("the gate did not answer")
		}
		return &gatepb.DeliverResponse{GateEpoch: r.GateEpoch, Outcomes: make([]gatepb.DeliverOutcome, len(r.Items))}, nil
	})
	wantCodes(t, w.handle(c2cFrame(t, "ann", 1, "bob", 1)), status.OK)
	<-entered
	stopped := make(chan error, 1)
	go func() { stopped <- w.node.Stop(context.Background()) }()
	eventually(t, "the lanes have drained up to the sender", func() bool {
		w.beat(1, "g1")
		w.node.senders.mu.Lock()
		defer w.node.senders.mu.Unlock()
		return w.node.senders.closed
	})
	close(release)
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	if syncs := synced.Load(); syncs != 1 {
		t.Errorf("bob was told to pull %d times", syncs)
	}
}

func TestStopIsCutOff(t *testing.T) {
	w := newWorld(t, func(_ *world, s *setup) { s.cfg.DeliverTimeout = time.Hour })
	w.beat(1, "g1")
	w.online("bob", 1, 1, 100)
	entered := make(chan struct{}, 8)
	w.gates.setDeliver(func(ctx context.Context, _ string, _ *gatepb.DeliverRequest) (*gatepb.DeliverResponse, error) {
		entered <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	})
	wantCodes(t, w.handle(c2cFrame(t, "ann", 1, "bob", 1)), status.OK)
	<-entered
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = w.node.Stop(ctx) // returns, and leaves no goroutine behind
}

func TestBeatTellsOfLogicNodes(t *testing.T) {
	w := newWorld(t, func(_ *world, s *setup) { s.cfg.RPCAddress = "logic:1"; s.cfg.LeaseRefresh = 5 * time.Millisecond })
	eventually(t, "this node is announced", func() bool {
		return slices.Equal(w.beat(1, "g1").LogicAddresses, []string{"logic:1"})
	})
	res := w.beat(1, "g1")
	if res.LogicEpoch != w.node.epoch || res.PresenceEpoch == 0 || !res.Ready || res.Stopping || res.ServerTimeMs == 0 {
		t.Errorf("%+v", res)
	}
	gates, err := w.presence.Gates(context.Background())
	if err != nil || len(gates) != 1 || gates[0].RPCAddress != "g1" || gates[0].PresenceEpoch != res.PresenceEpoch {
		t.Errorf("%+v %v", gates, err)
	}
}

func TestSweepWalksToTheEnd(t *testing.T) {
	w := newWorld(t, func(_ *world, s *setup) { s.cfg.SweepEvery, s.cfg.SweepPause = time.Millisecond, 0 })
	eventually(t, "a walk is complete", func() bool {
		w.sweeper.mu.Lock()
		defer w.sweeper.mu.Unlock()
		return w.sweeper.leased && w.sweeper.steps >= 4 && w.sweeper.retired > retireRows
	})
	other := newWorld(t, func(o *world, s *setup) { s.deps.Sweeper = w.sweeper })
	w.sweeper.mu.Lock()
	owner := w.sweeper.owner
	w.sweeper.mu.Unlock()
	if err := other.node.sweepOnce(context.Background()); err != nil || owner != w.node.owner {
		t.Errorf("owner %q, %v", owner, err)
	}
}

// What has expired is told by this node's clock: a node whose clock is off, or that cannot know, removes nothing.
func TestSweepNeedsARightClock(t *testing.T) {
	w := newWorld(t, func(w *world, s *setup) {
		s.cfg.SweepEvery, s.cfg.SweepPause = time.Millisecond, 0
		w.nodes.err = store.ErrClockSkew
	})
	sweeps := func() int {
		w.sweeper.mu.Lock()
		defer w.sweeper.mu.Unlock()
		return w.sweeper.steps + w.sweeper.retired
	}
	time.Sleep(50 * time.Millisecond)
	if n := sweeps(); n != 0 {
		t.Errorf("%d steps with a wrong clock", n)
	}
	w.nodes.set(nil)
	eventually(t, "it sweeps once the clock is right", func() bool { return sweeps() > 0 })
}

func TestConfigAndDeps(t *testing.T) {
	if err := Default().Validate(); err != nil {
		t.Fatal(err)
	}
	bad := Default()
	bad.CommitLanes, bad.CommitTimeout, bad.NodeRenew = 0, time.Hour, time.Hour
	err := bad.Validate()
	if err == nil {
		t.Fatal("a bad configuration was taken")
	}
	for _, want := range []string{"commit_lanes", "commit_timeout", "node_renew"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s is not named in: %v", want, err)
		}
	}
	if _, err := New(Default(), Deps{}); err == nil || !strings.Contains(err.Error(), "Inbox") || !strings.Contains(err.Error(), "Gates") {
		t.Errorf("%v", err)
	}
}

func TestMetricsAreRegisteredAndLeftBehind(t *testing.T) {
	r := prometheus.NewPedanticRegistry()
	for range 2 { // two nodes of one process, one after the other
		w := newWorld(t, func(_ *world, s *setup) { s.deps.Metrics = r })
		wantCodes(t, w.handle(c2cFrame(t, "ann", 1, "bob", 1), pullFrame(t, "", &clientpb.Pull{})), status.OK, status.NotLoggedIn)
		families, err := r.Gather()
		if err != nil || len(families) < 10 {
			t.Fatalf("%d families, %v", len(families), err)
		}
		if err := w.node.Stop(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	if families, _ := r.Gather(); len(families) != 0 {
		t.Errorf("%d families stayed", len(families))
	}
}
