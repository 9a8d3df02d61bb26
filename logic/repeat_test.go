package logic

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gatepost/gatepost/idl/gen/appserverpb"
	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/gen/logicpb"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/store"
)

// fill makes the inbox of uid count as full, or not, until it is told otherwise.
func (w *world) fill(uid string, full bool) {
	b := w.node.bound
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.stateLocked(w.user(uid))
	s.full, s.counted = full, w.now().Add(time.Hour)
}

func TestRepeatedPushStaysAcceptedWhenTheInboxIsFull(t *testing.T) {
	w, _, key, _ := newAppWorld(t, func(w *world, s *setup) { s.cfg.InboxBound = 16 })
	first := pushTo(false, "bob")
	wantOutcomes(t, outcomes(t, w, key, first), "accepted")
	eventually(t, "the inbox is full", func() bool { return outcomes(t, w, key, pushTo(false, "bob"))[0] == status.InboxFull.String() })
	wantOutcomes(t, outcomes(t, w, key, first), "accepted")
}

// later moves the node's clock. Ids are reserved for some seconds ahead.
func (w *world) later(by time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.shift += by
}

// A push whose time to live has ended is no push any more, though its row still waits for the sweeper: its repeat is stored anew and
// lives as long again. To a full inbox it is one message more.
func TestRepeatedPushThatHasExpired(t *testing.T) {
	w, _, key, _ := newAppWorld(t, nil)
	push := pushTo(false, "bob")
	push.TtlMs = 1000
	result := func() *appserverpb.PushResult {
		t.Helper()
		res, err := w.node.Push(context.Background(), key, push)
		if err != nil {
			t.Fatal(err)
		}
		return res.Results[0]
	}
	first := result()
	push.TtlMs = 60_000
	if r := result(); !r.Duplicate || r.MsgId != first.MsgId {
		t.Fatalf("while the first one lives: %+v", r)
	}
	w.later(time.Second)
	anew := result()
	if anew.Outcome != appserverpb.PushOutcome_PUSH_ACCEPTED || anew.Duplicate || anew.MsgId == first.MsgId {
		t.Fatalf("%+v, the first one was %d", anew, first.MsgId)
	}
	rows := w.inbox.rows(w.user("bob"))
	if len(rows) != 1 || uint64(rows[0].ID) != anew.MsgId || rows[0].ExpiresAt.Before(w.now().Add(50*time.Second)) {
		t.Fatalf("%+v", rows)
	}
	push = pushTo(false, "bob")
	push.TtlMs = 1000
	result()
	w.fill("bob", true)
	if r := result(); r.Outcome != appserverpb.PushOutcome_PUSH_ACCEPTED || !r.Duplicate {
		t.Errorf("to a full inbox, while the first one lives: %+v", r)
	}
	w.later(time.Second)
	if r := result(); status.Code(r.Status) != status.InboxFull {
		t.Errorf("to a full inbox: %+v", r)
	}
}

func TestResendStaysAcceptedWhenTheInboxIsFull(t *testing.T) {
	w := newWorld(t, nil)
	w.beat(1, "g1")
	w.online("bob", 1, 1, 7)
	id := w.accepted(c2cFrame(t, "ann", 1, "bob", 1))
	eventually(t, "it is delivered", func() bool { return len(w.gates.seen(isDeliver)) == 1 })
	w.fill("bob", true)
	// What is new is refused for good, which closes nothing: the repetition behind it is accepted, and delivered once more.
	answers := w.handle(c2cFrame(t, "ann", 1, "bob", 2), c2cFrame(t, "ann", 1, "bob", 1), c2cFrame(t, "ann", 1, "eve", 3))
	wantCodes(t, answers, status.InboxFull, status.OK, status.OK)
	if a := decode[clientpb.C2CAnswer](t, answers[1]); a.MsgId != id || !a.Duplicate {
		t.Errorf("%+v, want a duplicate of %d", a, id)
	}
	eventually(t, "it is delivered again", func() bool { return len(w.gates.seen(isDeliver)) == 2 })
	if rows := w.inbox.rows(w.user("bob")); len(rows) != 1 {
		t.Errorf("bob has %d rows", len(rows))
	}
}

// Whether a message is there cannot be told while the database is away: it is to come again, and its stream waits.
func TestFullInboxWithoutTheDatabase(t *testing.T) {
	for how, find := range map[string]func([]store.Digest) error{
		"away":  func([]store.Digest) error { return fmt.Errorf("gone: %w", store.ErrUnavailable) },
		"panic": func([]store.Digest) error { panic("look-up") },
	} {
		t.Run(how, func(t *testing.T) {
			w := newWorld(t, nil)
			w.accepted(c2cFrame(t, "ann", 1, "bob", 1))
			w.inbox.onFind = find
			w.fill("bob", true)
			wantCodes(t, w.handle(c2cFrame(t, "ann", 1, "bob", 1), c2cFrame(t, "ann", 1, "bob", 2), c2cFrame(t, "eve", 2, "dan", 1)),
				status.Unavailable, status.StreamClosed, status.OK)
		})
	}
}

// findHold holds look-ups of messages until they are let go.
type findHold struct {
	entered chan int // how many digests one asks for
	release chan struct{}
	free    func() // lets go of them all, also those to come
}

func holdFind(w *world) *findHold {
	h := &findHold{entered: make(chan int, 64), release: make(chan struct{})}
	h.free = sync.OnceFunc(func() { close(h.release) })
	w.inbox.onFind = func(digests []store.Digest) error {
		h.entered <- len(digests)
		<-h.release
		return nil
	}
	w.t.Cleanup(h.free)
	return h
}

// While a message to a full inbox is looked up, those behind it wait, also when there is room again; other receivers do not.
func TestOrderBehindALookUp(t *testing.T) {
	w := newWorld(t, nil)
	w.accepted(c2cFrame(t, "ann", 1, "bob", 1))
	w.fill("bob", true)
	hold := holdFind(w)
	var wg sync.WaitGroup
	var first, second []*logicpb.Answer
	wg.Go(func() { first = w.handle(c2cFrame(t, "ann", 1, "bob", 1), c2cFrame(t, "ann", 1, "bob", 2)) })
	waiting := func() int {
		w.node.vet.mu.Lock()
		defer w.node.vet.mu.Unlock()
		return w.node.account("d").vetting
	}
	<-hold.entered
	eventually(t, "both are under way", func() bool { return waiting() == 2 })
	w.fill("bob", false)
	wg.Go(func() { second = w.handle(c2cFrame(t, "ann", 1, "bob", 3)) })
	eventually(t, "the later one waits behind", func() bool { return waiting() == 3 })
	wantCodes(t, w.handle(c2cFrame(t, "ann", 1, "eve", 1)), status.OK)
	hold.free()
	wg.Wait()
	wantCodes(t, first, status.OK, status.InboxFull)
	wantCodes(t, second, status.OK)
}

// Look-ups that come while one is on its way go together in the next.
func TestLookUpsAreBatched(t *testing.T) {
	w := newWorld(t, nil)
	hold := holdFind(w)
	var frames []*logicpb.Frame
	for i := range 40 {
		uid := fmt.Sprintf("user%d", i)
		w.fill(uid, true)
		frames = append(frames, c2cFrame(t, "ann", 1, uid, 1))
	}
	done := make(chan []*logicpb.Answer, 2)
	go func() { done <- w.handle(frames[0]) }()
	if n := <-hold.entered; n != 1 {
		t.Errorf("%d digests of one message", n)
	}
	go func() { done <- w.handle(frames[1:]...) }()
	lane := w.node.vet.repeats.asks
	eventually(t, "the others wait", func() bool {
		lane.mu.Lock()
		defer lane.mu.Unlock()
		return len(lane.items) == 39
	})
	hold.free()
	for range 2 {
		answers := <-done
		wantCodes(t, answers, repeat(status.InboxFull, len(answers))...)
	}
	if n := <-hold.entered; n != 39 {
		t.Errorf("%d digests in the next look-up", n)
	}
}

// With a copy two inboxes may be full: of the receiver, and of the sender's other devices.
func TestResendWithACopyWhenAnInboxIsFull(t *testing.T) {
	for _, c := range []struct {
		name           string
		sent           bool // it was accepted before
		gone           string
		full           []string
		want           status.Code
		rows, copyRows int
	}{
		{"new, the receiver is full", false, "", []string{"bob"}, status.InboxFull, 0, 0},
		{"new, the copy finds no room", false, "", []string{"ann"}, status.InboxFull, 0, 0},
		{"both are there", true, "", []string{"ann", "bob"}, status.OK, 1, 1},
		{"the copy has left, and there is no room for it", true, "ann", []string{"ann"}, status.OK, 1, 0},
		{"the copy has left, and there is room for it", true, "ann", []string{"bob"}, status.OK, 1, 1},
		{"the message has left, and there is room for it", true, "bob", []string{"ann"}, status.OK, 1, 1},
		{"the message has left, and there is no room for it", true, "bob", []string{"bob"}, status.InboxFull, 0, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil)
			w.owe("ann", 1, 3)
			if c.sent {
				w.accepted(copiedFrame(t, "bob", 1))
				w.forget(c.gone)
			}
			for _, uid := range c.full {
				w.fill(uid, true)
			}
			wantCodes(t, w.handle(copiedFrame(t, "bob", 1)), c.want)
			if rows, copies := w.inbox.rows(w.user("bob")), w.inbox.rows(w.user("ann")); len(rows) != c.rows || len(copies) != c.copyRows {
				t.Errorf("%d rows and %d copies, want %d and %d", len(rows), len(copies), c.rows, c.copyRows)
			}
		})
	}
}

// forget removes the rows of uid.
func (w *world) forget(uid string) {
	w.inbox.mu.Lock()
	defer w.inbox.mu.Unlock()
	for d, m := range w.inbox.byDigest {
		if m.Owner == w.user(uid) {
			delete(w.inbox.byDigest, d)
			delete(w.inbox.byID, m.ID)
		}
	}
}

// A repetition was allowed when it was accepted: nobody is asked about it again. What is refused for want of room asks nobody either.
func TestFullInboxAsksNoHook(t *testing.T) {
	hook := newBlockingHook(func(_, _ store.UserKey) bool { return true })
	w := newWorld(t, withDomain(&Domain{}))
	w.accepted(c2cFrame(t, "ann", 1, "bob", 1))
	if err := w.node.SetDomains(Domains{Other: &Domain{Auth: anyone, MayWrite: hook, RefuseUnknown: true}}); err != nil {
		t.Fatal(err)
	}
	w.fill("bob", true)
	got := codes(w.handle(c2cFrame(t, "ann", 1, "bob", 1), c2cFrame(t, "ann", 1, "bob", 2)))
	if !slices.Equal(got, []status.Code{status.OK, status.InboxFull}) {
		t.Errorf("%v", got)
	}
}
