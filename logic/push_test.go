package logic

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/gatepost/gatepost/idl/gen/appserverpb"
	"github.com/gatepost/gatepost/idl/gen/gatepb"
	"github.com/gatepost/gatepost/idl/gen/logicpb"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/store"
)

// fakeAppKeys are keys that a test can hold up and take away.
type fakeAppKeys struct {
	mu    sync.Mutex
	keys  map[string]store.AppKey
	err   error
	gets  int
	onGet func(ctx context.Context) // after the answer was made
}

func (f *fakeAppKeys) Get(ctx context.Context, id string) (store.AppKey, error) {
	f.mu.Lock()
	f.gets++
	k, ok := f.keys[id]
	err, hook := f.err, f.onGet
	f.mu.Unlock()
	if hook != nil {
		hook(ctx)
	}
	if err == nil && !ok {
		err = fmt.Errorf("app key: %w", store.ErrNotFound)
	}
	return k, err
}

func (f *fakeAppKeys) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fakeAppKeys) revoke(id string) {
	f.set(func() {
		k := f.keys[id]
		k.RevokedAt = time.Now()
		f.keys[id] = k
	})
}

func (f *fakeAppKeys) asked() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.gets
}

// newAppWorld is a world with a key of domain d that has all rights.
func newAppWorld(t *testing.T, change func(w *world, s *setup)) (w *world, keys *fakeAppKeys, key, id string) {
	t.Helper()
	key, k, err := NewAppKey("d", AppRights())
	if err != nil {
		t.Fatal(err)
	}
	keys = &fakeAppKeys{keys: map[string]store.AppKey{k.ID: k}}
	w = newWorld(t, func(w *world, s *setup) {
		s.deps.AppKeys = keys
		if change != nil {
			change(w, s)
		}
	})
	return w, keys, key, k.ID
}

func pushTo(online bool, uids ...string) *appserverpb.PushRequest {
	return &appserverpb.PushRequest{ClientMsgId: uuid.NewString(), Uids: uids, Type: "t", Content: []byte("hello"), OnlineOnly: online}
}

// outcomes are those of a push, refusals by their status.
func outcomes(t *testing.T, w *world, key string, req *appserverpb.PushRequest) []string {
	t.Helper()
	res, err := w.node.Push(context.Background(), key, req)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for i, r := range res.Results {
		if r.Uid != req.Uids[i] {
			t.Errorf("result %d is of %q", i, r.Uid)
		}
		out = append(out, pushLabel(r))
	}
	return out
}

func wantOutcomes(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func wantFault(t *testing.T, err error, want AppFault) {
	t.Helper()
	var e *AppError
	if !errors.As(err, &e) || e.Fault != want {
		t.Errorf("got %v, want a fault %v", err, want)
	}
}

func TestPushOnlineOutcomes(t *testing.T) {
	w, _, key, _ := newAppWorld(t, nil)
	w.beat(1, "g1")
	w.beat(2, "g2")
	for conn, uid := range []string{"queued", "held", "unknown", "both", "failed"} {
		w.online(uid, 1, 1, uint64(conn+1))
	}
	w.online("both", 2, 2, 9)
	w.gates.setDeliver(func(_ context.Context, address string, req *gatepb.DeliverRequest) (*gatepb.DeliverResponse, error) {
		res := &gatepb.DeliverResponse{GateEpoch: req.GateEpoch}
		for _, it := range req.Items {
			o := gatepb.DeliverOutcome_DELIVER_QUEUED
			switch {
			case it.Uid == "held":
				o = gatepb.DeliverOutcome_DELIVER_HELD
			case it.Uid == "unknown" || it.Uid == "both" && address == "g1":
				o = gatepb.DeliverOutcome_DELIVER_UNKNOWN
			case it.Uid == "failed":
				return nil, errors.New("gone")
			}
			res.Outcomes = append(res.Outcomes, o)
		}
		return res, nil
	})
	wantOutcomes(t, outcomes(t, w, key, pushTo(true, "queued", "held", "unknown", "both", "nobody")),
		"sent", status.Overloaded.String(), "not online", "sent", "not online")
	wantOutcomes(t, outcomes(t, w, key, pushTo(true, "failed")), status.Unavailable.String())
	eventually(t, "the wrong route is removed", func() bool {
		found, err := w.presence.Presence.Lookup(context.Background(), []store.UserKey{w.user("unknown")})
		return err == nil && len(found.Routes[0]) == 0
	})
	w.node.hints.mu.Lock()
	defer w.node.hints.mu.Unlock()
	if len(w.node.hints.set) != 0 {
		t.Error("what lies in no inbox became a hint")
	}
}

func TestPushOnlineAsksEveryGateWithoutTheTable(t *testing.T) {
	w, _, key, _ := newAppWorld(t, nil)
	w.beat(1, "g1")
	w.beat(2, "g2")
	w.presence.setAway(true)
	w.gates.setDeliver(func(_ context.Context, address string, req *gatepb.DeliverRequest) (*gatepb.DeliverResponse, error) {
		res := &gatepb.DeliverResponse{GateEpoch: req.GateEpoch}
		for _, it := range req.Items {
			o := gatepb.DeliverOutcome_DELIVER_UNKNOWN
			if it.Uid == "bob" && address == "g2" && it.ConnId == 0 {
				o = gatepb.DeliverOutcome_DELIVER_QUEUED
			}
			res.Outcomes = append(res.Outcomes, o)
		}
		return res, nil
	})
	wantOutcomes(t, outcomes(t, w, key, pushTo(true, "carol", "bob")), "not online", "sent")
	_, err := w.node.Presence(context.Background(), key, &appserverpb.PresenceRequest{Uids: []string{"bob"}})
	wantFault(t, err, AppUnavailable)
}

func TestPresenceIsToldOnlyWhenItIsComplete(t *testing.T) {
	w, _, key, _ := newAppWorld(t, nil)
	w.beat(1, "g1")
	w.online("bob", 3, 1, 5)
	w.online("bob", 1, 99, 6) // at a gate that is gone
	ask := func() (*appserverpb.PresenceResponse, error) {
		return w.node.Presence(context.Background(), key, &appserverpb.PresenceRequest{Uids: []string{"bob", "carol"}})
	}
	res, err := ask()
	if err != nil || len(res.Users) != 2 || len(res.Users[1].Online) != 0 || !slices.Equal(res.Users[0].Online, []appserverpb.DeviceClass{3}) {
		t.Errorf("got %v, %v", res, err)
	}
	// A gate that has not registered its sessions may have anybody.
	if _, err := w.node.Beat(context.Background(), &logicpb.BeatRequest{GateEpoch: 3, Name: "g3", RpcAddress: "g3"}); err != nil {
		t.Fatal(err)
	}
	_, err = ask()
	wantFault(t, err, AppUnavailable)
}

func TestKickWhereTheTableDoesNotKnow(t *testing.T) {
	w, _, key, _ := newAppWorld(t, nil)
	w.beat(1, "g1")
	w.beat(2, "g2")
	w.presence.setAway(true)
	kick := func() error {
		_, err := w.node.Kick(context.Background(), key, &appserverpb.KickRequest{Uid: "bob", DeviceClass: 2, Reason: "why"})
		return err
	}
	if err := kick(); err != nil {
		t.Fatal(err)
	}
	kicked := w.gates.kicked()
	if len(kicked) != 2 || kicked[0].address == kicked[1].address {
		t.Fatalf("kicked %v", kicked)
	}
	for _, k := range kicked {
		if k.item.ConnId != 0 || k.item.Uid != "bob" || k.item.DeviceClass != 2 || status.Code(k.item.Status) != status.Kicked || k.item.Reason != "why" {
			t.Errorf("item %v", k.item)
		}
	}
	// A gate that fails once: the caller hears of it, and the kick is tried again behind the scenes.
	failed := false
	w.gates.mu.Lock()
	w.gates.onKick = func(address string) error {
		if address == "g1" && !failed {
			failed = true
			return errors.New("gone")
		}
		return nil
	}
	w.gates.mu.Unlock()
	wantFault(t, kick(), AppUnavailable)
	eventually(t, "both gates were told", func() bool { return len(w.gates.kicked()) == 4 })
}

// A push whose outcome is not known in time says so, and counts until it has one.
func TestPushInDoubt(t *testing.T) {
	release := make(chan struct{})
	free := sync.OnceFunc(func() { close(release) })
	defer free()
	w, _, key, _ := newAppWorld(t, func(w *world, s *setup) {
		w.inbox.onAppend = func([]store.Message) error { <-release; return nil }
	})
	ctx, cancel := context.WithCancel(context.Background())
	req := pushTo(false, "bob", "\n", "carol")
	answered := make(chan *appserverpb.PushResponse, 1)
	go func() {
		res, err := w.node.Push(ctx, key, req)
		if err != nil {
			t.Error(err)
		}
		answered <- res
	}()
	eventually(t, "the push is on its way", func() bool { return w.pushTargets() == 3 })
	cancel()
	res := <-answered
	var got []string
	for _, r := range res.Results {
		got = append(got, pushLabel(r))
	}
	wantOutcomes(t, got, status.Timeout.String(), status.BadRequest.String(), status.Timeout.String())
	if n := w.pushTargets(); n != 3 {
		t.Errorf("%d targets count", n)
	}
	free()
	eventually(t, "it has its outcome", func() bool { return w.pushTargets() == 0 })
	wantOutcomes(t, outcomes(t, w, key, req), "accepted", status.BadRequest.String(), "accepted")
	if len(w.inbox.rows(w.user("bob"))) != 1 {
		t.Error("it was stored twice")
	}
}

func (w *world) pushTargets() int {
	w.node.pushes.mu.Lock()
	defer w.node.pushes.mu.Unlock()
	return w.node.pushes.targets
}

func TestPushesAreBounded(t *testing.T) {
	release := make(chan struct{})
	w, _, key, _ := newAppWorld(t, func(w *world, s *setup) {
		w.inbox.onAppend = func([]store.Message) error { <-release; return nil }
	})
	var uids []string
	for i := range maxAppTargets {
		uids = append(uids, fmt.Sprintf("u%d", i))
	}
	var calls sync.WaitGroup
	const most = maxPushTargets / maxAppTargets
	for range most {
		calls.Go(func() {
			if _, err := w.node.Push(context.Background(), key, pushTo(false, uids...)); err != nil {
				t.Error(err)
			}
		})
	}
	eventually(t, "they are on their way", func() bool { return w.pushTargets() == most*maxAppTargets })
	_, err := w.node.Push(context.Background(), key, pushTo(false, uids...))
	wantFault(t, err, AppExhausted)
	close(release)
	calls.Wait()
	if _, err = w.node.Push(context.Background(), key, pushTo(false, uids...)); err != nil {
		t.Error(err)
	}
}

func TestPushKeepsTheLimitsOfItsDomain(t *testing.T) {
	w, _, key, _ := newAppWorld(t, func(w *world, s *setup) {
		s.deps.Domains.ByName["d"].Limits = DomainLimits{ContentBytes: 5, Life: time.Hour, Pushes: 2}
	})
	long := pushTo(false, "bob")
	long.Content = []byte("hello!")
	_, err := w.node.Push(context.Background(), key, long)
	wantFault(t, err, AppInvalid)
	wantOutcomes(t, outcomes(t, w, key, pushTo(false, "bob")), "accepted")
	row := w.inbox.rows(w.user("bob"))[0]
	if row.ExpiresAt.Sub(row.CreatedAt) != time.Hour || row.Kind != store.KindS2C || row.From != (store.UserKey{Domain: "d"}) || row.Stream != 0 {
		t.Errorf("row %+v", row)
	}
	for range 2 { // a push is taken whole; what it took beyond the rate is missing afterwards
		req := pushTo(false)
		for i := range maxAppTargets {
			req.Uids = append(req.Uids, fmt.Sprintf("u%d", i))
		}
		_, err = w.node.Push(context.Background(), key, req)
	}
	wantFault(t, err, AppExhausted)
}

func TestAppCallsNeedKeysAndRights(t *testing.T) {
	w := newWorld(t, nil)
	text, _, err := NewAppKey("d", []string{RightPush})
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.node.Push(context.Background(), text, pushTo(false, "bob"))
	wantFault(t, err, AppUnavailable) // no keys were given to the node
	for _, rights := range [][]string{nil, {"all"}} {
		if _, _, err := NewAppKey("d", rights); err == nil {
			t.Errorf("a key was made with the rights %v", rights)
		}
	}
	if _, _, err := NewAppKey("", []string{RightPush}); err == nil {
		t.Error("a key was made for no domain")
	}
}
