package logic

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatepost/gatepost/idl/gen/gatepb"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/store"
)

func TestDeliveryFindsEverySession(t *testing.T) {
	w := newWorld(t, nil)
	w.beat(1, "g1")
	w.beat(2, "g2")
	a := w.online("bob", 1, 1, 100)
	b := w.online("bob", 3, 2, 200)
	w.online("eve", 1, 1, 300)
	wantCodes(t, w.handle(c2cFrame(t, "ann", 1, "bob", 1)), status.OK)
	eventually(t, "both sessions have it", func() bool { return len(w.gates.seen(isDeliver)) == 2 })
	want := map[string]store.Route{"g1": a, "g2": b}
	for _, d := range w.gates.seen(isDeliver) {
		r := want[d.address]
		if d.item.ConnId != r.ConnID || d.item.Session != r.Session || d.item.Uid != "bob" || d.item.DeviceClass != int32(r.Class) {
			t.Errorf("item %+v at %s, want %+v", d.item, d.address, r)
		}
		m := d.msgs[0]
		if m.From.Uid != "ann" || m.TargetSeq != 1 || string(m.Content) != "hello 1" || m.MsgId == 0 || m.ExpiresAtMs == 0 {
			t.Errorf("message %+v", m)
		}
	}
}

// The sender's side commits, then looks up routes; the receiver's side registers its route, then pulls.
// Whichever way the two interleave, one of them finds the message.
func TestLoginRace(t *testing.T) {
	for _, loginAt := range []string{"before the commit", "before the look-up", "after the look-up"} {
		t.Run(loginAt, func(t *testing.T) {
			var pulled, looked atomic.Bool
			loginAndPull := func(w *world) {
				w.online("bob", 1, 1, 100)
				pulled.Store(len(w.inbox.rows(w.user("bob"))) > 0)
			}
			w := newWorld(t, func(w *world, _ *setup) {
				w.inbox.onAppend = func([]store.Message) error {
					if loginAt == "before the commit" {
						loginAndPull(w) // reads an empty inbox
					}
					return nil
				}
				w.presence.onLookup = func() {
					if len(w.inbox.rows(w.user("bob"))) == 0 {
						t.Error("routes were looked up before the commit")
					}
					if looked.CompareAndSwap(false, true) && loginAt == "before the look-up" {
						loginAndPull(w)
					}
				}
			})
			w.beat(1, "g1")
			wantCodes(t, w.handle(c2cFrame(t, "ann", 1, "bob", 1)), status.OK)
			eventually(t, "routes were looked up", looked.Load)
			if loginAt == "after the look-up" {
				loginAndPull(w)
			}
			eventually(t, "the receiver has it", func() bool { return pulled.Load() || len(w.gates.seen(isDeliver)) > 0 })
		})
	}
}

func TestFailedDeliveryBecomesAHint(t *testing.T) {
	w := newWorld(t, nil)
	w.beat(1, "g1")
	w.online("bob", 1, 1, 100)
	var failed atomic.Bool
	w.gates.setDeliver(func(context.Context, string, *gatepb.DeliverRequest) (*gatepb.DeliverResponse, error) {
		if failed.CompareAndSwap(false, true) {
			return nil, errors.New("connection reset")
		}
		return nil, nil
	})
	wantCodes(t, w.handle(c2cFrame(t, "ann", 1, "bob", 1)), status.OK)
	eventually(t, "a SYNC arrives", func() bool {
		w.beat(1, "g1")
		got := w.gates.seen(isSync)
		return len(got) > 0 && got[0].item.ConnId == 100
	})
}

func TestHangingGateHoldsUpNoOther(t *testing.T) {
	release := make(chan struct{})
	w := newWorld(t, func(_ *world, s *setup) { s.cfg.DeliverTimeout, s.cfg.DeliveryQueue = time.Minute, 64 })
	defer close(release) // before the node stops, which waits for its deliveries
	w.beat(1, "hangs")
	w.beat(2, "g2")
	w.online("bob", 1, 1, 100)
	w.online("eve", 1, 2, 200)
	w.gates.setDeliver(func(_ context.Context, address string, _ *gatepb.DeliverRequest) (*gatepb.DeliverResponse, error) {
		if address == "hangs" {
			<-release
		}
		return nil, nil
	})
	forEve := func(d delivered) bool { return isDeliver(d) && d.item.Uid == "eve" }
	for n := range uint64(200) { // more than the queue of the hanging gate holds, and never more for the other than its own holds
		wantCodes(t, w.handle(c2cFrame(t, "ann", 1, "bob", n+1), c2cFrame(t, "ann", 1, "eve", n+1)), status.OK, status.OK)
		if n%32 == 31 || n == 199 {
			eventually(t, "the other gate has all of its messages so far", func() bool { return len(w.gates.seen(forEve)) == int(n)+1 })
			w.beat(1, "hangs")
			w.beat(2, "g2")
		}
	}
	eventually(t, "what did not fit is a hint", func() bool {
		w.node.hints.mu.Lock()
		defer w.node.hints.mu.Unlock()
		_, ok := w.node.hints.set[w.user("bob")]
		return ok
	})
}

func TestWrongRouteIsRemoved(t *testing.T) {
	for _, c := range []struct {
		name string
		res  func(*gatepb.DeliverRequest) *gatepb.DeliverResponse
	}{
		{"unknown", func(req *gatepb.DeliverRequest) *gatepb.DeliverResponse {
			return &gatepb.DeliverResponse{GateEpoch: req.GateEpoch, Outcomes: []gatepb.DeliverOutcome{gatepb.DeliverOutcome_DELIVER_UNKNOWN}}
		}},
		{"another gate at that address", func(*gatepb.DeliverRequest) *gatepb.DeliverResponse { return &gatepb.DeliverResponse{GateEpoch: 9} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil)
			w.beat(1, "g1")
			w.online("bob", 1, 1, 100)
			w.gates.setDeliver(func(_ context.Context, _ string, req *gatepb.DeliverRequest) (*gatepb.DeliverResponse, error) {
				return c.res(req), nil
			})
			wantCodes(t, w.handle(c2cFrame(t, "ann", 1, "bob", 1)), status.OK)
			eventually(t, "the route is gone", func() bool {
				l, err := w.presence.Lookup(context.Background(), []store.UserKey{w.user("bob")})
				return err == nil && len(l.Routes[0]) == 0
			})
		})
	}
}

func TestPresenceAwayAsksEveryGate(t *testing.T) {
	for _, how := range []string{"away", "emptied"} {
		t.Run(how, func(t *testing.T) {
			w := newWorld(t, nil)
			w.beat(1, "g1")
			w.beat(2, "g2")
			if how == "away" {
				w.presence.setAway(true)
			} else {
				w.presence.Clear()
			}
			wantCodes(t, w.handle(c2cFrame(t, "ann", 1, "bob", 1)), status.OK)
			eventually(t, "both gates were asked for every session of his", func() bool {
				asked := map[string]bool{}
				for _, d := range w.gates.seen(isDeliver) {
					asked[d.address] = d.item.ConnId == 0 && d.item.Session == 0 && d.item.Uid == "bob"
				}
				return asked["g1"] && asked["g2"]
			})
			if res := w.beat(1, "g1"); how == "away" && res.PresenceEpoch != 0 {
				t.Errorf("presence epoch %d while the table is away", res.PresenceEpoch)
			}
		})
	}
}

func TestUnregisteredGateIsAskedForUsersWithoutRoute(t *testing.T) {
	w := newWorld(t, nil)
	w.beat(1, "g1")
	if _, err := w.node.Beat(context.Background(), beatOf(2, "g2", 12345)); err != nil { // registered under another table
		t.Fatal(err)
	}
	wantCodes(t, w.handle(c2cFrame(t, "ann", 1, "bob", 1)), status.OK)
	eventually(t, "it is asked", func() bool {
		return len(w.gates.seen(func(d delivered) bool { return d.address == "g2" && d.item.ConnId == 0 })) == 1
	})
	if n := len(w.gates.seen(func(d delivered) bool { return d.address == "g1" })); n != 0 {
		t.Errorf("the gate that had registered was asked %d times", n)
	}
}

func TestDeadGateIsNotDeliveredTo(t *testing.T) {
	w := newWorld(t, nil)
	w.beat(1, "g1")
	w.online("bob", 1, 7, 100) // of a gate nobody knows
	w.online("bob", 2, 1, 200)
	wantCodes(t, w.handle(c2cFrame(t, "ann", 1, "bob", 1)), status.OK)
	eventually(t, "the live one has it", func() bool { return len(w.gates.seen(isDeliver)) == 1 })
	if d := w.gates.seen(isDeliver)[0]; d.item.ConnId != 200 {
		t.Errorf("%+v", d.item)
	}
}

func TestPayloadsAreStoredOnceForAllReceivers(t *testing.T) {
	w := newWorld(t, nil)
	g := store.Gate{Epoch: 1, RPCAddress: "g1"}
	p := &push{cmd: syncPush.cmd}
	var batch []parcel
	for i := range 5 {
		batch = append(batch, parcel{push: p, to: w.user(fmt.Sprint(i))})
	}
	w.node.senders.carry(context.Background(), g, batch)
	w.gates.mu.Lock()
	defer w.gates.mu.Unlock()
	if len(w.gates.calls) != 1 || len(w.gates.calls[0].Payloads) != 1 || len(w.gates.calls[0].Items) != 5 {
		t.Errorf("%+v", w.gates.calls)
	}
}

func TestHintsAreBounded(t *testing.T) {
	w := newWorld(t, func(_ *world, s *setup) { s.cfg.HintUsers = 3 })
	h := newHints(w.node)
	for i := range 10 {
		h.add(w.user(fmt.Sprint(i)), 0)
		h.add(w.user("0"), 0)
	}
	h.add(w.user("1"), maxHintTries)
	if len(h.set) != 3 {
		t.Errorf("%d hints", len(h.set))
	}
}
