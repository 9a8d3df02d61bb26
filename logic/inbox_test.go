package logic

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudwego/prutal"

	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/gen/logicpb"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/store"
)

func pullFrame(t testing.TB, uid string, m *clientpb.Pull) *logicpb.Frame {
	return frame(t, uid, 1, clientpb.Cmd_CMD_PULL, m)
}

func TestPullPages(t *testing.T) {
	w := newWorld(t, nil)
	for n := range uint64(5) {
		wantCodes(t, w.handle(c2cFrame(t, "ann", 1, "bob", n+1)), status.OK)
	}
	var got []uint64
	q := &clientpb.Pull{Limit: 2}
	for range 10 {
		a := w.handle(pullFrame(t, "bob", q))
		wantCodes(t, a, status.OK)
		page := decode[clientpb.PullAnswer](t, a[0])
		for _, m := range page.Messages {
			got = append(got, m.TargetSeq)
			q.After = m.MsgId
		}
		q.Upto = page.Upto
		if !page.More {
			break
		}
		wantCodes(t, w.handle(c2cFrame(t, "ann", 1, "bob", q.After)), status.OK) // steady traffic: the pull ends all the same
	}
	if !slices.Equal(got, []uint64{1, 2, 3, 4, 5}) {
		t.Errorf("got %v", got)
	}
	empty := decode[clientpb.PullAnswer](t, w.handle(pullFrame(t, "nobody", &clientpb.Pull{}))[0])
	if empty.Upto != 0 || empty.More || len(empty.Messages) != 0 || empty.ServerTimeMs == 0 {
		t.Errorf("%+v", empty)
	}
}

func TestPullRegistersBeforeItReads(t *testing.T) {
	var mu sync.Mutex
	var order []string
	note := func(what string) {
		mu.Lock()
		order = append(order, what)
		mu.Unlock()
	}
	w := newWorld(t, func(w *world, _ *setup) {
		w.devices.log = note
		w.inbox.onPage = func() error { note("read"); return nil }
	})
	wantCodes(t, w.handle(pullFrame(t, "bob", &clientpb.Pull{Register: true})), status.OK)
	wantCodes(t, w.handle(pullFrame(t, "bob", &clientpb.Pull{Register: true, After: 1, Upto: 2})), status.OK) // not a first page
	wantCodes(t, w.handle(pullFrame(t, "bob", &clientpb.Pull{})), status.OK)
	if !slices.Equal(order, []string{"register", "read", "read", "read"}) {
		t.Errorf("got %v", order)
	}
	if d := w.devices.devices[0]; d.Owner != w.user("bob") || d.Class != 1 || d.LoginCounter != 3 || d.Session == 0 || d.Installation == [16]byte{} || d.SeenAt.IsZero() {
		t.Errorf("%+v", d)
	}
	w.devices.mu.Lock()
	w.devices.err = store.ErrUnavailable
	w.devices.mu.Unlock()
	wantCodes(t, w.handle(pullFrame(t, "bob", &clientpb.Pull{Register: true})), status.Unavailable)
}

func TestPullTellsRetiredClass(t *testing.T) {
	w := newWorld(t, nil)
	pull := func(m *clientpb.Pull) *clientpb.PullAnswer {
		t.Helper()
		answers := w.handle(pullFrame(t, "bob", m))
		wantCodes(t, answers, status.OK)
		var got clientpb.PullAnswer
		if err := prutal.Unmarshal(answers[0].Body, &got); err != nil {
			t.Fatal(err)
		}
		return &got
	}
	if pull(&clientpb.Pull{Register: true}).Retired {
		t.Error("a class that registers first is told that it had been retired")
	}
	if err := w.devices.Retire(t.Context(), w.devices.devices[0]); err != nil {
		t.Fatal(err)
	}
	if !pull(&clientpb.Pull{Register: true}).Retired {
		t.Error("a retired class is not told so")
	}
	if pull(&clientpb.Pull{}).Retired {
		t.Error("a page that does not register tells of a retirement")
	}
}

func TestPullRefusals(t *testing.T) {
	w := newWorld(t, func(w *world, _ *setup) { w.inbox.onPage = func() error { return store.ErrUnavailable } })
	wantCodes(t, w.handle(pullFrame(t, "bob", &clientpb.Pull{}), pullFrame(t, "bob", &clientpb.Pull{Limit: 501}),
		pullFrame(t, "bob", &clientpb.Pull{After: 7})), status.Unavailable, status.BadRequest, status.BadRequest)
}

func TestPullFitsOneBody(t *testing.T) {
	w := newWorld(t, nil)
	for i := range 500 { // long names weigh more than the content
		w.inbox.pageRows = append(w.inbox.pageRows, store.Message{
			ID: store.MsgID(i + 1), From: store.UserKey{Domain: strings.Repeat("d", maxDomainBytes), UID: strings.Repeat("u", maxUIDBytes)},
			Type: strings.Repeat("t", maxTypeBytes), Content: make([]byte, 390), CreatedAt: time.Now(), ExpiresAt: time.Now(),
		})
	}
	seen := 0
	q := &clientpb.Pull{Limit: 500}
	for more := true; more; {
		a := w.handle(pullFrame(t, "bob", q))[0]
		if len(a.Body) > 256<<10 {
			t.Fatalf("a body of %d bytes", len(a.Body))
		}
		page := decode[clientpb.PullAnswer](t, a)
		seen += len(page.Messages)
		q.After, q.Upto, more = page.Messages[len(page.Messages)-1].MsgId, page.Upto, page.More
	}
	if seen != 500 {
		t.Errorf("%d of 500 rows", seen)
	}
}

func confirmFrame(t testing.TB, uid string, ids ...uint64) *logicpb.Frame {
	return frame(t, uid, 1, clientpb.Cmd_CMD_CONFIRM, &clientpb.Confirm{MsgIds: ids})
}

func TestConfirm(t *testing.T) {
	w := newWorld(t, func(_ *world, s *setup) { s.cfg.ConfirmLanes = 1 })
	id := decode[clientpb.C2CAnswer](t, w.handle(c2cFrame(t, "ann", 1, "bob", 1))[0]).MsgId
	wantCodes(t, w.handle(confirmFrame(t, "eve", id)), status.OK) // of another one: passed over
	if len(w.inbox.rows(w.user("bob"))) != 1 {
		t.Fatal("a foreign confirmation removed it")
	}
	wantCodes(t, w.handle(confirmFrame(t, "bob", id, 12345)), status.OK)
	if len(w.inbox.rows(w.user("bob"))) != 0 {
		t.Fatal("it is still there after the answer")
	}
	wantCodes(t, w.handle(confirmFrame(t, "bob"), confirmFrame(t, "bob", make([]uint64, 501)...)), status.BadRequest, status.BadRequest)
}

func TestConfirmFailures(t *testing.T) {
	w := newWorld(t, func(w *world, s *setup) {
		s.cfg.ConfirmLanes = 1
		w.inbox.onConfirm = func(batch []store.Confirmation) error {
			for _, c := range batch {
				switch c.IDs[0] {
				case 666:
					return errors.New("it does not like this one")
				case 503:
					return store.ErrUnavailable
				}
			}
			return nil
		}
	})
	wantCodes(t, w.handle(confirmFrame(t, "bob", 503)), status.Unavailable)
	var frames []*logicpb.Frame
	want := repeat(status.OK, 9)
	for i := range uint64(9) {
		frames = append(frames, confirmFrame(t, "bob", 100+i))
	}
	frames[4], want[4] = confirmFrame(t, "bob", 666), status.Unavailable
	wantCodes(t, w.handle(frames...), want...)
}

func TestFullInboxRetiresAbsentDevicesFirst(t *testing.T) {
	w := newWorld(t, func(w *world, s *setup) {
		s.cfg.InboxBound = 16
		w.inbox.count = func() int {
			w.devices.mu.Lock()
			defer w.devices.mu.Unlock()
			if len(w.devices.devices) > 1 {
				return 16 // what the absent class has not confirmed
			}
			return 1
		}
		w.devices.devices = []store.Device{
			{Owner: store.UserKey{Domain: "d", UID: "bob"}, Class: 2, Session: 9, SeenAt: time.Now()},
			{Owner: store.UserKey{Domain: "d", UID: "bob"}, Class: 1, Session: 9, SeenAt: time.Now().Add(-time.Hour)},
		}
	})
	w.beat(1, "g1")
	w.online("bob", 1, 1, 100)
	wantCodes(t, w.handle(c2cFrame(t, "ann", 1, "bob", 1)), status.OK)
	eventually(t, "the absent class is retired", func() bool {
		w.devices.mu.Lock()
		defer w.devices.mu.Unlock()
		return slices.Equal(w.devices.retired, []store.DeviceClass{2})
	})
	w.drainCounts()
	wantCodes(t, w.handle(c2cFrame(t, "ann", 1, "bob", 2)), status.OK)
}

// drainCounts waits until no inbox is being counted.
func (w *world) drainCounts() {
	w.t.Helper()
	eventually(w.t, "counts are done", func() bool {
		b := w.node.bound
		b.mu.Lock()
		defer b.mu.Unlock()
		for e := b.order.Front(); e != nil; e = e.Next() {
			if e.Value.(*inboxState).counting {
				return false
			}
		}
		return true
	})
}

func TestFullInboxIsRefusedForGoodAndNobodyElse(t *testing.T) {
	var full sync.Map
	full.Store("full", true)
	w := newWorld(t, func(w *world, s *setup) {
		s.cfg.InboxBound = 16
		w.inbox.count = func() int {
			if _, ok := full.Load("full"); ok {
				return 16
			}
			return 3
		}
		w.devices.devices = []store.Device{{Owner: store.UserKey{Domain: "d", UID: "bob"}, Class: 2, Session: 9}} // away, and the only one
	})
	w.beat(1, "g1")
	wantCodes(t, w.handle(c2cFrame(t, "ann", 1, "bob", 1)), status.OK)
	w.drainCounts()
	wantCodes(t, w.handle(c2cFrame(t, "ann", 1, "bob", 2), c2cFrame(t, "ann", 1, "eve", 1)), status.InboxFull, status.OK)
	if len(w.devices.retired) != 0 {
		t.Error("the only device of a user was retired")
	}
	full.Delete("full")
	w.mu.Lock()
	w.shift += 2 * recountFull
	w.mu.Unlock()
	eventually(t, "there is room again", func() bool {
		return status.Code(w.handle(c2cFrame(t, "ann", 1, "bob", 3))[0].Status) == status.OK
	})
}

func TestInboxBoundForgets(t *testing.T) {
	w := newWorld(t, func(_ *world, s *setup) { s.cfg.InboxUsers = 3 })
	for _, uid := range []string{"a", "b", "c", "a", "d", "e"} {
		w.node.bound.appended(w.user(uid))
	}
	b := w.node.bound
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.users) != 3 || b.order.Len() != 3 || b.users[w.user("a")] == nil || b.users[w.user("b")] != nil {
		t.Errorf("%v", b.users)
	}
}
