package logic

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatepost/gatepost/idl/gen/logicpb"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/logic/hook"
	"github.com/gatepost/gatepost/store"
)

// twoDomains are d, whose users need nobody's leave, and b, which takes messages from d and has a hook.
func twoDomains(hook MayWrite, away HookAway) func(*world, *setup) {
	return func(_ *world, s *setup) {
		s.deps.Domains = Domains{ByName: map[string]*Domain{
			"d": {Auth: anyone}, "b": {Auth: anyone, AcceptFrom: []string{"d"}, MayWrite: hook, HookAway: away},
		}}
	}
}

var errRefused = errors.New("connection refused")

func nobodyThere(context.Context, store.UserKey, store.UserKey, string) (bool, string, error) {
	return false, "", errRefused
}

// Only users of the hook's own domain are ever told to wait for it. To others it costs the messages to that domain, and nothing else.
func TestHookAway(t *testing.T) {
	held := []status.Code{status.Unavailable, status.StreamClosed, status.StreamClosed, status.StreamClosed}
	passed := []status.Code{status.HookAway, status.HookAway, status.OK, status.OK}
	for name, c := range map[string]struct {
		away        HookAway
		own, abroad []status.Code
	}{
		"default": {0, repeat(status.HookAway, 4), passed},
		"refuse":  {HookAwayRefuse, repeat(status.HookAway, 4), passed},
		"retry":   {HookAwayRetry, held, passed},
		"allow":   {HookAwayAllow, repeat(status.OK, 4), repeat(status.OK, 4)},
	} {
		for how, hook := range map[string]hookFunc{
			"error": nobodyThere,
			"panic": func(context.Context, store.UserKey, store.UserKey, string) (bool, string, error) { panic("hook") },
		} {
			t.Run(name+" "+how, func(t *testing.T) {
				w := newWorld(t, twoDomains(hook, c.away))
				var own []*logicpb.Frame
				for n := range uint64(4) {
					own = append(own, across(t, "b", "ann", "b", "bob", n+1))
					own[n].ConnId = 8
				}
				wantCodes(t, w.handle(own...), c.own...)
				abroad := []*logicpb.Frame{across(t, "d", "alice", "b", "bob", 1), across(t, "d", "alice", "b", "bob", 2),
					across(t, "d", "alice", "d", "carol", 1), across(t, "d", "alice", "d", "carol", 2)}
				for _, f := range abroad {
					f.ConnId = 9 // of one device, in one stream
				}
				wantCodes(t, w.handle(abroad...), c.abroad...)
			})
		}
	}
}

// A hook that hangs is away before the call ends: its senders hear that, and not that the outcome is unknown, which would close their
// streams. That holds behind any number of messages that wait for it.
func TestHookThatHangs(t *testing.T) {
	hook := hookFunc(func(ctx context.Context, _, _ store.UserKey, _ string) (bool, string, error) {
		<-ctx.Done()
		return false, "", ctx.Err()
	})
	w := newWorld(t, func(w *world, s *setup) {
		twoDomains(hook, HookAwayRetry)(w, s)
		s.cfg.HandleTimeout, s.cfg.CommitTimeout, s.cfg.LoginTimeout = 2*time.Second, time.Second, time.Second
	})
	var frames []*logicpb.Frame
	var want []status.Code
	for i := range 3 * vetBatch {
		f := across(t, "d", fmt.Sprintf("user%d", i), "b", "bob", 1)
		f.ConnId = uint64(i + 1)
		g := across(t, "d", fmt.Sprintf("user%d", i), "d", "carol", 1)
		g.ConnId = f.ConnId
		frames, want = append(frames, f, g), append(want, status.HookAway, status.OK)
	}
	wantCodes(t, w.handle(frames...), want...)
}

func TestHookQueueIsBoundedForEachDomain(t *testing.T) {
	hook := newBlockingHook(func(_, to store.UserKey) bool { return to.Domain == "b" })
	w := newWorld(t, func(w *world, s *setup) {
		twoDomains(hook, HookAwayRetry)(w, s)
		s.cfg.CommitQueue = 3
		s.deps.Domains.ByName["e"] = &Domain{Auth: anyone, AcceptFrom: []string{"*"}, MayWrite: hook}
	})
	done := make(chan []*logicpb.Answer)
	go func() {
		done <- w.handle(across(t, "d", "ann", "b", "a", 1), across(t, "d", "ann", "b", "b", 2), across(t, "d", "ann", "b", "c", 3))
	}()
	for range 3 {
		<-hook.entered
	}
	// Those of its own domain wait and try again; those of others hear that there was no answer.
	wantCodes(t, w.handle(across(t, "b", "eve", "b", "dan", 4)), status.Overloaded)
	abroad := []*logicpb.Frame{across(t, "d", "eve", "b", "dan", 1), across(t, "d", "eve", "e", "dan", 2), across(t, "d", "eve", "d", "dan", 3)}
	for _, f := range abroad {
		f.ConnId = 9
	}
	wantCodes(t, w.handle(abroad...), status.HookAway, status.OK, status.OK)
	close(hook.release)
	wantCodes(t, <-done, repeat(status.OK, 3)...)
}

// What was accepted is not refused when its sender, who had not heard so, sends it again while the hook is away (G2). When that
// cannot be looked up, the database is away.
func TestRepeatWhileTheHookIsAway(t *testing.T) {
	var away atomic.Bool
	w := newWorld(t, twoDomains(hookFunc(func(ctx context.Context, from, to store.UserKey, messageType string) (bool, string, error) {
		if away.Load() {
			return nobodyThere(ctx, from, to, messageType)
		}
		return true, "", nil
	}), HookAwayRefuse))
	first := w.accepted(across(t, "d", "alice", "b", "bob", 1))
	away.Store(true)
	if again := w.accepted(across(t, "d", "alice", "b", "bob", 1)); again != first {
		t.Errorf("stored as %d, then as %d", first, again)
	}
	wantCodes(t, w.handle(across(t, "d", "alice", "b", "bob", 2)), status.HookAway)
	w.inbox.onFind = func([]store.Digest) error { return store.ErrUnavailable }
	wantCodes(t, w.handle(across(t, "d", "alice", "b", "bob", 3)), status.Unavailable)
}

// The hook of a domain by HTTP: it is away, its breaker opens, and closes when it is back.
func TestHookIsAwayAndComesBack(t *testing.T) {
	var away atomic.Bool
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		if away.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		fmt.Fprint(w, `{"allow":true}`)
	}))
	defer server.Close()
	h, err := hook.New(hook.Config{URL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	w := newWorld(t, withDomain(&Domain{MayWrite: h, HookAway: HookAwayRetry}))
	send := func(n uint64) status.Code { return status.Code(w.handle(c2cFrame(t, "ann", 1, "bob", n))[0].Status) }
	if got := send(1); got != status.OK {
		t.Fatal(got)
	}
	away.Store(true)
	for range 20 {
		if got := send(2); got != status.Unavailable {
			t.Fatal(got)
		}
	}
	if n := asked.Load(); n >= 20 {
		t.Errorf("asked %d times while it was away", n)
	}
	away.Store(false)
	eventually(t, "it is asked again", func() bool { return send(2) == status.OK })
}

// A node that is told to stop at once waits for no hook, and blames none.
func TestStopWhileAHookHangs(t *testing.T) {
	hook := newBlockingHook(func(_, _ store.UserKey) bool { return true })
	w := newWorld(t, withDomain(&Domain{MayWrite: hook}))
	out := make(chan []*logicpb.Answer)
	go func() { out <- w.handle(c2cFrame(t, "ann", 1, "bob", 1)) }()
	<-hook.entered
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := w.node.Stop(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("stop: %v", err)
	}
	if c := status.Code((<-out)[0].Status); c != status.Stopping {
		t.Errorf("answered %v", c)
	}
}
