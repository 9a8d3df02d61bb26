package logic

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatepost/gatepost/idl/gen/gatepb"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/store"
)

// panickyDevices panics when it is asked who is known.
type panickyDevices struct {
	*fakeDevices
	armed *atomic.Bool
}

func (d *panickyDevices) Known(ctx context.Context, users []store.UserKey) ([]bool, error) {
	if d.armed.Load() {
		panic("known")
	}
	return d.fakeDevices.Known(ctx, users)
}

// A push whose lane panics has its outcome, gives its room back, and is made again.
func TestPanicInALaneKeepsNoRoomOfPushes(t *testing.T) {
	var armed atomic.Bool
	in := func(name string) {
		if armed.Load() && strings.Contains(stackOf(), name) {
			panic(name)
		}
	}
	for _, c := range []struct {
		name   string
		online bool
		plant  func(w *world, s *setup)
		want   string
	}{
		{"the commit", false, func(w *world, s *setup) {
			s.deps.Now = func() time.Time { in("(*committer).carry"); return w.now() }
		}, status.Timeout.String()},
		{"the look-up of who is known", false, func(w *world, s *setup) {
			s.deps.Domains.ByName["d"].RefuseUnknown = true
			for _, uid := range []string{"bob", "eve", "dan"} {
				w.devices.logins = append(w.devices.logins, store.Device{Owner: w.user(uid)})
			}
			s.deps.Devices = &panickyDevices{w.devices, &armed}
		}, status.Unavailable.String()},
		{"a call to a gate", true, func(w *world, _ *setup) {
			w.gates.onDeliver = func(context.Context, string, *gatepb.DeliverRequest) (*gatepb.DeliverResponse, error) {
				in("(*senders)")
				return nil, nil
			}
		}, status.Unavailable.String()},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, _, key, _ := newAppWorld(t, c.plant)
			w.beat(1, "g1")
			for _, uid := range []string{"bob", "eve", "dan"} {
				w.online(uid, 1, 1, 100)
			}
			req := pushTo(c.online, "bob", "eve", "dan")
			armed.Store(true)
			wantOutcomes(t, outcomes(t, w, key, req), c.want, c.want, c.want)
			eventually(t, "the room is given back", func() bool { return w.pushTargets() == 0 })
			armed.Store(false)
			req.Uids = req.Uids[:1]
			if got := outcomes(t, w, key, req)[0]; got != "accepted" && got != "sent" {
				t.Errorf("made again: %s", got)
			}
		})
	}
}

// A push that panics while its targets are handed out leaves nothing behind.
func TestPanicInAPushKeepsNoRoom(t *testing.T) {
	var armed atomic.Bool
	w, _, key, _ := newAppWorld(t, func(w *world, _ *setup) {
		w.presence.onLookup = func() {
			if armed.Load() {
				panic("look-up")
			}
		}
	})
	w.beat(1, "g1")
	armed.Store(true)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("nothing panicked")
			}
		}()
		_, _ = w.node.Push(t.Context(), key, pushTo(true, "bob", "eve"))
	}()
	armed.Store(false)
	if n := w.pushTargets(); n != 0 {
		t.Errorf("%d targets count", n)
	}
}

// A delivery that panicked becomes a hint.
func TestPanicInADeliveryBecomesAHint(t *testing.T) {
	var lookups atomic.Int32
	w := newWorld(t, func(w *world, _ *setup) {
		w.presence.onLookup = func() {
			if lookups.Add(1) == 1 {
				panic("look-up")
			}
		}
	})
	w.beat(1, "g1")
	w.online("bob", 1, 1, 100)
	w.accepted(c2cFrame(t, "ann", 1, "bob", 1))
	eventually(t, "bob is asked to pull", func() bool { return len(w.gates.seen(isSync)) == 1 })
}
