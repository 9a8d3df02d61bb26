package logic

import (
	"bytes"
	"context"
	"encoding/json"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/gatepost/gatepost/idl/event"
	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/gen/logicpb"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/mq"
	"github.com/gatepost/gatepost/store"
)

// telling is a world whose domain writes its events to the topic "events".
func telling(t testing.TB, change func(w *world, s *setup)) (*world, *fakeUplinks) {
	return reporting(t, nil, func(w *world, s *setup) {
		s.deps.Domains.ByName["d"].Events = DomainEvents{Topic: "events", Presence: true, Waiting: true}
		if change != nil {
			change(w, s)
		}
	})
}

// told polls until count events are in the topic.
func told(t testing.TB, up *fakeUplinks, count int) []mq.Record {
	t.Helper()
	eventually(t, strconv.Itoa(count)+" events", func() bool { return len(up.records("events")) >= count })
	up.flush()
	got := up.records("events")
	if len(got) != count {
		t.Fatalf("%d events, want %d: %+v", len(got), count, got)
	}
	return got
}

func value[T any](t testing.TB, r mq.Record) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(r.Event.Content, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func endedAtGate(w *world, uid string, class store.DeviceClass, session uint64) {
	w.t.Helper()
	_, err := w.node.Sessions(context.Background(), &logicpb.SessionsRequest{GateEpoch: 1, Ended: []*logicpb.SessionRef{{
		ConnId: 1, Session: &logicpb.Session{Domain: "d", Uid: uid, DeviceClass: int32(class), Number: session},
	}}})
	if err != nil {
		w.t.Fatal(err)
	}
}

func login(t testing.TB, uid, token string, conn, counter uint64) *logicpb.Frame {
	return frame(t, "", conn, clientpb.Cmd_CMD_LOGIN, &clientpb.Login{
		Domain: "d", Uid: uid, Token: []byte(token), DeviceClass: 1, Installation: bytes.Repeat([]byte{9}, 16), LoginCounter: counter,
	})
}

func TestPresenceEvents(t *testing.T) {
	w, up := telling(t, nil)
	w.beat(1, "g1")
	first := decode[clientpb.LoginAnswer](t, w.handle(login(t, "ann", "good", 1, 1))[0]).Session
	wantCodes(t, w.handle(login(t, "eve", "forged", 2, 1)), status.BadToken)
	r := told(t, up, 1)[0]
	id, err := uuid.Parse(r.Event.ID)
	if err != nil || id.Version() != 7 {
		t.Errorf("id %q", r.Event.ID)
	}
	if e := r.Event; e.Type != event.TypeOnline || e.Key() != "d/ann" || e.Source != "/d/ann" || e.Device != "android" || e.ContentType != "application/json" ||
		e.Stream != 0 || e.Seq != 0 || e.Time.Location() != time.UTC {
		t.Errorf("%+v", e)
	}
	if v := value[PresenceEvent](t, r); v.Domain != "d" || v.UID != "ann" || v.Device != "android" || v.Session != first || v.Reason != ReasonLogin ||
		v.AtMS != r.Event.Time.UnixMilli() || v.AtMS == 0 {
		t.Errorf("%+v", v)
	}

	// The session is replaced by the same device: what its gate reports of the old one is no news, and what it reports of the new one is.
	second := decode[clientpb.LoginAnswer](t, w.handle(login(t, "ann", "good", 3, 2))[0]).Session
	endedAtGate(w, "ann", 1, first)
	endedAtGate(w, "ann", 1, second)
	got := told(t, up, 3)
	if v := value[PresenceEvent](t, got[1]); got[1].Event.Type != event.TypeOnline || v.Session != second {
		t.Errorf("%s %+v", got[1].Event.Type, v)
	}
	if v := value[PresenceEvent](t, got[2]); got[2].Event.Type != event.TypeOffline || v.Session != second || v.Reason != ReasonEnded {
		t.Errorf("%s %+v", got[2].Event.Type, v)
	}

	wantCodes(t, w.handle(frame(t, "ann", 4, clientpb.Cmd_CMD_LOGOUT, &clientpb.Logout{})), status.OK)
	got = told(t, up, 4)
	if v := value[PresenceEvent](t, got[3]); got[3].Event.Type != event.TypeOffline || v.Session != 10 || v.Reason != ReasonLogout {
		t.Errorf("%s %+v", got[3].Event.Type, v)
	}
}

func TestWaitingEvents(t *testing.T) {
	w, up := telling(t, func(_ *world, s *setup) { s.cfg.DeliveryLanes = 1 })
	w.beat(1, "g1")
	w.online("eve", 1, 1, 100)
	w.online("zoe", 1, 77, 300) // at a gate that is gone
	m := message("bob", 1)
	m.Receipt = true
	id := w.accepted(frame(t, "ann", 1, clientpb.Cmd_CMD_C2C, m))
	w.accepted(c2cFrame(t, "ann", 1, "eve", 1)) // she is there
	away := w.accepted(copiedFrame(t, "zoe", 2))
	got := told(t, up, 2)
	r := got[0]
	if e := r.Event; e.ID != "waiting-"+strconv.FormatUint(id, 10) || e.Type != event.TypeWaiting || e.Key() != "d/bob" || e.Source != "/d/bob" || e.Device != "" {
		t.Errorf("%+v", e)
	}
	if v := value[WaitingEvent](t, r); v.Domain != "d" || v.UID != "bob" || v.MsgID != id || v.From != (EventUser{"d", "ann"}) || v.Kind != "c2c" || v.Type != "text" || v.CreatedAtMS == 0 {
		t.Errorf("%+v", v)
	}
	if v := value[WaitingEvent](t, got[1]); v.UID != "zoe" || v.MsgID != away {
		t.Errorf("%+v", v)
	}
	// A resend has the same id; a receipt waits in silence.
	w.handle(frame(t, "ann", 1, clientpb.Cmd_CMD_C2C, m))
	wantCodes(t, w.handle(receiptFrame(t, "bob", 1, id)), status.OK)
	if got := told(t, up, 3); got[2].Event.ID != r.Event.ID {
		t.Errorf("%+v", got[2].Event)
	}
}

// A user who may have a session that the table does not tell of is not said to be away.
func TestNoWaitingEventWhileNobodyKnows(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(w *world)
	}{
		{"the table is away", func(w *world) { w.presence.setAway(true) }},
		{"the table was emptied", func(w *world) { w.presence.Clear() }},
		{"a gate has not registered its sessions", func(w *world) {
			if _, err := w.node.Beat(context.Background(), beatOf(2, "g2", 12345)); err != nil {
				w.t.Fatal(err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, up := telling(t, nil)
			w.beat(1, "g1")
			c.make(w)
			w.accepted(c2cFrame(t, "ann", 1, "bob", 1))
			eventually(t, "a gate is asked", func() bool { return len(w.gates.seen(isDeliver)) > 0 })
			told(t, up, 0)
		})
	}
}

func TestEventsAreOffByDefault(t *testing.T) {
	for _, on := range []DomainEvents{{}, {Topic: "events"}, {Topic: "events", Presence: true}, {Topic: "events", Waiting: true}} {
		w, up := telling(t, func(_ *world, s *setup) { s.deps.Domains.ByName["d"].Events = on })
		w.beat(1, "g1")
		wantCodes(t, w.handle(login(t, "ann", "good", 1, 1)), status.OK)
		w.accepted(c2cFrame(t, "ann", 1, "bob", 1))
		want := 0
		if on.Presence || on.Waiting {
			want = 1
		}
		for _, r := range told(t, up, want) {
			if (r.Event.Type == event.TypeOnline) != on.Presence || (r.Event.Type == event.TypeWaiting) != on.Waiting {
				t.Errorf("%s with %+v", r.Event.Type, on)
			}
		}
	}
	w, _ := telling(t, func(_ *world, s *setup) { s.deps.Uplinks = nil })
	wantCodes(t, w.handle(login(t, "ann", "good", 1, 1)), status.OK)
	w.accepted(c2cFrame(t, "ann", 1, "bob", 1))
}

// Events never hold up a login: what the producer does not take is dropped, and what comes on top of a full set as well.
func TestEventsAreBoundedAndDropped(t *testing.T) {
	hold := &heldUplinks{}
	w, _ := telling(t, func(_ *world, s *setup) { s.deps.Uplinks = hold })
	e := w.node.events
	for i := range maxEvents + 5 {
		e.presence(event.TypeOnline, ended{user: w.user("ann"), class: 1, session: uint64(i + 1)}, ReasonLogin)
	}
	if len(hold.records) != maxEvents {
		t.Fatalf("%d events are under way", len(hold.records))
	}
	wantCodes(t, w.handle(login(t, "ann", "good", 1, 1)), status.OK)
	for _, r := range hold.records {
		r.Done(mq.ErrUnavailable)
	}
	if e.inFlight.Load() != 0 {
		t.Errorf("%d are still counted", e.inFlight.Load())
	}
	e.presence(event.TypeOnline, ended{user: w.user("ann"), class: 1, session: 1}, ReasonLogin)
	if len(hold.records) != maxEvents+1 {
		t.Error("there is no room again")
	}
}

// heldUplinks keeps what is produced without an outcome.
type heldUplinks struct{ records []*mq.Record }

func (h *heldUplinks) Produce(r *mq.Record) { h.records = append(h.records, r) }
