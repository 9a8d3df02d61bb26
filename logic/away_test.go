package logic

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/gatepost/gatepost/idl/event"
	"github.com/gatepost/gatepost/idl/gen/appserverpb"
	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/gen/gatepb"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/mq"
	"github.com/gatepost/gatepost/store"
)

// awaiting is a world whose domain tells of messages that wait. Its gates g1 and g2 answer each item as answer says.
func awaiting(t *testing.T, answer func(address string, it *gatepb.Item) (gatepb.DeliverOutcome, error)) (*world, *fakeUplinks) {
	w, up := telling(t, func(w *world, s *setup) {
		s.cfg.LeaseTTL = time.Minute
		s.deps.Domains.ByName["d"].Events.Presence = false
		w.gates.onDeliver = func(_ context.Context, address string, req *gatepb.DeliverRequest) (*gatepb.DeliverResponse, error) {
			res := &gatepb.DeliverResponse{GateEpoch: req.GateEpoch}
			for _, it := range req.Items {
				o, err := answer(address, it)
				if err != nil {
					return nil, err
				}
				res.Outcomes = append(res.Outcomes, o)
			}
			return res, nil
		}
	})
	w.beat(1, "g1")
	w.beat(2, "g2")
	return w, up
}

func unknownAt(string, *gatepb.Item) (gatepb.DeliverOutcome, error) {
	return gatepb.DeliverOutcome_DELIVER_UNKNOWN, nil
}

func wantWaiting(t *testing.T, got []mq.Record, ids ...uint64) {
	t.Helper()
	for i, r := range got {
		if v := value[WaitingEvent](t, r); r.Event.Type != event.TypeWaiting || v.MsgID != ids[i] || v.UID != "bob" {
			t.Errorf("%s %+v", r.Event.Type, v)
		}
	}
}

// settled waits until nothing of what was committed is on its way, or owed.
func (w *world) settled() {
	w.t.Helper()
	eventually(w.t, "nothing is on its way", func() bool {
		n := w.node
		n.hints.mu.Lock()
		defer n.hints.mu.Unlock()
		return len(n.hints.set) == 0 && n.hints.notes == 0
	})
}

func TestWaitingEventBehindAWrongRoute(t *testing.T) {
	w, up := awaiting(t, unknownAt)
	w.online("bob", 1, 1, 100)
	w.online("bob", 3, 2, 200)
	first := w.accepted(c2cFrame(t, "ann", 1, "bob", 1))
	wantWaiting(t, told(t, up, 1), first)
	second := w.accepted(c2cFrame(t, "ann", 1, "bob", 2)) // no route is left
	wantWaiting(t, told(t, up, 2), first, second)
}

func TestWaitingEventBehindADeadGate(t *testing.T) {
	w, up := awaiting(t, func(string, *gatepb.Item) (gatepb.DeliverOutcome, error) { return 0, errors.New("connection refused") })
	w.online("bob", 1, 1, 100)
	id := w.accepted(c2cFrame(t, "ann", 1, "bob", 1))
	eventually(t, "it is owed", func() bool {
		w.node.hints.mu.Lock()
		defer w.node.hints.mu.Unlock()
		return w.node.hints.notes == 1
	})
	told(t, up, 0) // the gate may be back
	if err := w.presence.DropGate(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	g := w.node.gates
	g.mu.Lock()
	delete(g.heard, 1)
	delete(g.leased, 1)
	g.mu.Unlock()
	wantWaiting(t, told(t, up, 1), id)
	w.settled()
	wantWaiting(t, told(t, up, 1), id)
}

// One of two sessions is there, or a new one elsewhere when the wrong route is found: nobody is away.
func TestNoWaitingEventWhenSomebodyIsThere(t *testing.T) {
	w, up := awaiting(t, func(address string, _ *gatepb.Item) (gatepb.DeliverOutcome, error) {
		if address == "g1" {
			return gatepb.DeliverOutcome_DELIVER_UNKNOWN, nil
		}
		return gatepb.DeliverOutcome_DELIVER_HELD, nil
	})
	w.online("bob", 1, 1, 100)
	w.online("bob", 3, 2, 200)
	w.accepted(c2cFrame(t, "ann", 1, "bob", 1))
	eventually(t, "the wrong route is removed", func() bool {
		found, err := w.presence.Presence.Lookup(t.Context(), []store.UserKey{w.user("bob")})
		return err == nil && len(found.Routes[0]) == 1
	})
	told(t, up, 0)

	syncs := make(chan string, 1)
	w2, up := awaiting(t, unknownAt)
	w2.online("bob", 1, 1, 100)
	w2.gates.setDeliver(func(_ context.Context, address string, req *gatepb.DeliverRequest) (*gatepb.DeliverResponse, error) {
		res := &gatepb.DeliverResponse{GateEpoch: req.GateEpoch, Outcomes: []gatepb.DeliverOutcome{gatepb.DeliverOutcome_DELIVER_QUEUED}}
		if address == "g1" {
			w2.online("bob", 3, 2, 200)
			res.Outcomes[0] = gatepb.DeliverOutcome_DELIVER_UNKNOWN
		} else if clientpb.Cmd(req.Payloads[0].Cmd) == clientpb.Cmd_CMD_SYNC {
			syncs <- address
		}
		return res, nil
	})
	w2.accepted(c2cFrame(t, "ann", 1, "bob", 1))
	if at := <-syncs; at != "g2" {
		t.Errorf("hinted at %s", at)
	}
	told(t, up, 0)
}

// What is owed to users who may be away is bounded, and given up when it cannot be told any more.
func TestNotesAreBounded(t *testing.T) {
	w, up := awaiting(t, unknownAt)
	h := w.node.hints
	notes := make([]*WaitingEvent, maxEvents+3)
	for i := range notes {
		notes[i] = &WaitingEvent{Domain: "d", UID: "bob", MsgID: uint64(i + 1)}
	}
	h.add(w.user("bob"), 2, notes[:3]...)
	h.add(w.user("bob"), 2, notes...)
	h.mu.Lock()
	if got := len(h.set[w.user("bob")].notes); got != maxEvents || h.notes != maxEvents {
		t.Errorf("%d notes, %d are counted", got, h.notes)
	}
	h.mu.Unlock()
	h.add(w.user("eve"), maxHintTries, notes...)
	w.settled()
	eventually(t, "they are told", func() bool { return len(up.records("events")) > 0 })
}

// offlines are the offline events that are in the topic, of which there are to be count.
func offlines(t *testing.T, up *fakeUplinks, count int) []PresenceEvent {
	t.Helper()
	var list []PresenceEvent
	for _, r := range told(t, up, count) {
		if r.Event.Type != event.TypeOffline {
			t.Errorf("an event %s", r.Event.Type)
		}
		list = append(list, value[PresenceEvent](t, r))
	}
	return list
}

// tellingKeys is telling with a key for app-servers.
func tellingKeys(t *testing.T) (w *world, up *fakeUplinks, kick func(class store.DeviceClass) (uint32, error)) {
	text, k, err := NewAppKey("d", AppRights())
	if err != nil {
		t.Fatal(err)
	}
	w, up = telling(t, func(_ *world, s *setup) { s.deps.AppKeys = &fakeAppKeys{keys: map[string]store.AppKey{k.ID: k}} })
	return w, up, func(class store.DeviceClass) (uint32, error) {
		res, err := w.node.Kick(t.Context(), text, &appserverpb.KickRequest{Uid: "bob", DeviceClass: appserverpb.DeviceClass(class)})
		return res.GetSessions(), err
	}
}

// A kick tells of each session that it ends; what the gates report of them afterwards, and other kicks, are no news.
func TestKickTellsOnce(t *testing.T) {
	w, up, kick := tellingKeys(t)
	w.beat(1, "g1")
	w.beat(2, "g2")
	one, three := w.online("bob", 1, 1, 100), w.online("bob", 3, 2, 200)
	if _, err := kick(1); err != nil {
		t.Fatal(err)
	}
	got := offlines(t, up, 1)
	if v := got[0]; v.Reason != ReasonKicked || v.UID != "bob" || v.Session != one.Session || v.Device != className(1) {
		t.Errorf("%+v", v)
	}
	// The call to the gate fails: the session's route is gone, and the caller repeats the kick.
	w.gates.mu.Lock()
	w.gates.onKick = func(string) error { return errors.New("gone") }
	w.gates.mu.Unlock()
	_, err := kick(0)
	wantFault(t, err, AppUnavailable)
	if _, err := kick(0); err != nil {
		t.Error(err)
	}
	endedAtGate(w, "bob", 1, one.Session)
	endedAtGate(w, "bob", 3, three.Session)
	endedAtGate(w, "bob", 3, three.Session)
	if v := offlines(t, up, 2)[1]; v.Reason != ReasonKicked || v.Session != three.Session {
		t.Errorf("%+v", v)
	}
	// Nothing was kicked of the next session: its gate tells.
	next := w.online("bob", 1, 1, 101)
	endedAtGate(w, "bob", 1, next.Session)
	endedAtGate(w, "bob", 1, next.Session) // its answer was lost
	if v := offlines(t, up, 3)[2]; v.Reason != ReasonEnded || v.Session != next.Session {
		t.Errorf("%+v", v)
	}
}

// While the presence table is away a kick asks every gate: the end is told when the gate has reported it.
func TestKickWithoutTheTableTellsOnce(t *testing.T) {
	w, up, kick := tellingKeys(t)
	w.beat(1, "g1")
	r := w.online("bob", 1, 1, 100)
	w.presence.setAway(true)
	if _, err := kick(0); err != nil {
		t.Fatal(err)
	}
	told(t, up, 0)
	w.presence.setAway(false)
	endedAtGate(w, "bob", 1, r.Session)
	endedAtGate(w, "eve", 1, 5) // logged in while the table was away: nothing is known of her, and her end is told
	got := offlines(t, up, 2)
	if got[0].Session != r.Session || got[0].Reason != ReasonEnded || got[1].UID != "eve" {
		t.Errorf("%+v", got)
	}
}

// A logout, and a route that was found wrong, are told of once as well.
func TestEndsAreToldOnce(t *testing.T) {
	w, up := telling(t, nil)
	w.beat(1, "g1")
	m := decode[clientpb.LoginAnswer](t, w.handle(login(t, "ann", "good", 1, 1))[0])
	out := frame(t, "ann", 1, clientpb.Cmd_CMD_LOGOUT, &clientpb.Logout{})
	out.Session.Number = m.Session
	wantCodes(t, w.handle(out), status.OK)
	endedAtGate(w, "ann", 1, m.Session)
	if got := told(t, up, 2); value[PresenceEvent](t, got[1]).Reason != ReasonLogout {
		t.Errorf("%+v", got)
	}

	w, up = telling(t, func(w *world, s *setup) {
		s.deps.Domains.ByName["d"].Events.Waiting = false
		w.gates.onDeliver = func(_ context.Context, _ string, req *gatepb.DeliverRequest) (*gatepb.DeliverResponse, error) {
			res := &gatepb.DeliverResponse{GateEpoch: req.GateEpoch}
			for range req.Items {
				res.Outcomes = append(res.Outcomes, gatepb.DeliverOutcome_DELIVER_UNKNOWN)
			}
			return res, nil
		}
	})
	w.beat(1, "g1")
	r := w.online("bob", 1, 1, 100)
	w.handle(c2cFrame(t, "ann", 1, "bob", 1), c2cFrame(t, "ann", 1, "bob", 2), c2cFrame(t, "ann", 1, "bob", 3))
	if v := offlines(t, up, 1)[0]; v.Session != r.Session || v.Reason != ReasonEnded {
		t.Errorf("%+v", v)
	}
	endedAtGate(w, "bob", 1, r.Session)
	offlines(t, up, 1)
}
