package logic

import (
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/gen/logicpb"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/store"
)

const copyStream = 88

// copied is c2c number n of ann to uid, whose copy is number n of what she sends to herself.
func copied(to string, n uint64) *clientpb.C2C {
	m := message(to, n)
	m.Copy = &clientpb.CopyNumber{Stream: copyStream, TargetSeq: n}
	return m
}

func copiedFrame(t testing.TB, to string, n uint64) *logicpb.Frame {
	return frame(t, "ann", 1, clientpb.Cmd_CMD_C2C, copied(to, n))
}

// owe registers device classes of uid.
func (w *world) owe(uid string, classes ...store.DeviceClass) {
	w.inbox.mu.Lock()
	defer w.inbox.mu.Unlock()
	for _, c := range classes {
		w.inbox.owed[w.user(uid)] |= c.Bit()
	}
}

func TestCopyForOwnOtherDevices(t *testing.T) {
	w := newWorld(t, func(_ *world, s *setup) { s.cfg.CommitLanes = 1 })
	w.beat(1, "g1")
	w.owe("ann", 1, 3)
	w.online("ann", 1, 1, 100)
	w.online("ann", 3, 1, 101)
	w.online("bob", 1, 1, 200)
	m := copied("bob", 7)
	m.Receipt = true
	id := w.accepted(frame(t, "ann", 1, clientpb.Cmd_CMD_C2C, m))
	if batches := w.inbox.appends(); len(batches) != 1 || len(batches[0]) != 2 {
		t.Fatalf("appends %+v", batches)
	}
	if rows := w.inbox.rows(w.user("bob")); len(rows) != 1 || uint64(rows[0].ID) != id {
		t.Errorf("bob has %+v, accepted was %d", rows, id)
	}
	rows := w.inbox.rows(w.user("ann"))
	if len(rows) != 1 {
		t.Fatalf("ann has %+v", rows)
	}
	c := rows[0]
	if c.Kind != store.KindCopy || c.From != w.user("ann") || c.FromClass != 1 || c.Target != w.user("bob") || c.Stream != copyStream || c.TargetSeq != 7 ||
		c.Flags != 0 || c.Type != "text" || string(c.Content) != "hello 7" || c.Digest != store.DigestOf(c.From, c.ClientMsgID, store.KindCopy, c.Owner) {
		t.Errorf("copy %+v", c)
	}
	eventually(t, "the other device has it", func() bool { return len(w.gates.seen(isKind(clientpb.MessageKind_MESSAGE_KIND_COPY))) > 0 })
	for _, d := range w.gates.seen(isKind(clientpb.MessageKind_MESSAGE_KIND_COPY)) {
		if d.item.ConnId != 101 || d.msgs[0].OriginalTo.GetUid() != "bob" || d.msgs[0].Receipt || d.msgs[0].Stream != copyStream {
			t.Errorf("delivered %+v to %d", d.msgs[0], d.item.ConnId)
		}
	}
	for _, d := range w.gates.seen(isKind(clientpb.MessageKind_MESSAGE_KIND_C2C)) {
		if d.msgs[0].OriginalTo != nil || d.item.Uid != "bob" {
			t.Errorf("delivered %+v to %s", d.msgs[0], d.item.Uid)
		}
	}
	eventually(t, "the sending class has confirmed it", func() bool { return w.inbox.confirmedBy(c.Digest) == store.DeviceClass(1).Bit() })
	other := confirmFrame(t, "ann", uint64(c.ID))
	other.Session.DeviceClass = 3
	wantCodes(t, w.handle(other), status.OK)
	if rows := w.inbox.rows(w.user("ann")); len(rows) != 0 {
		t.Errorf("ann still has %+v", rows)
	}
}

func (f *fakeInbox) confirmedBy(d store.Digest) uint32 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.confirmed[d]
}

// Where nobody knows where the sender's sessions are, each gate is asked for all of them.
func TestCopyWithoutPresenceGoesEverywhere(t *testing.T) {
	w := newWorld(t, nil)
	w.beat(1, "g1")
	w.owe("ann", 1, 3)
	w.presence.setAway(true)
	w.accepted(copiedFrame(t, "bob", 1))
	eventually(t, "the gate is asked", func() bool {
		got := w.gates.seen(isKind(clientpb.MessageKind_MESSAGE_KIND_COPY))
		return len(got) == 1 && got[0].item.ConnId == 0 && got[0].item.Uid == "ann"
	})
}

func TestCopyVanishesWithoutAnotherDevice(t *testing.T) {
	w := newWorld(t, nil)
	w.owe("ann", 1)
	w.accepted(copiedFrame(t, "bob", 1))
	eventually(t, "the copy is gone", func() bool { return len(w.inbox.rows(w.user("ann"))) == 0 })
	if rows := w.inbox.rows(w.user("bob")); len(rows) != 1 {
		t.Errorf("bob has %+v", rows)
	}
}

func TestRefusedMessageHasNoCopy(t *testing.T) {
	w := newWorld(t, func(w *world, s *setup) {
		s.cfg.CommitLanes = 1
		w.inbox.onAppend = func(batch []store.Message) error {
			for i, m := range batch {
				if m.Kind == store.KindC2C && (i+1 == len(batch) || batch[i+1].Kind != store.KindCopy || batch[i+1].ClientMsgID != m.ClientMsgID) {
					t.Errorf("a message without its copy in one insert: %+v", batch)
				}
				if m.Kind == store.KindC2C && m.TargetSeq == 3 || m.Kind == store.KindCopy && m.TargetSeq == 5 {
					return errPoison
				}
			}
			return nil
		}
	})
	w.owe("ann", 1, 3)
	var frames []*logicpb.Frame
	for n := uint64(1); n <= 6; n++ {
		frames = append(frames, copiedFrame(t, "bob", n))
	}
	large, nowhere, noStream, noNumber := copied("bob", 7), copied("bob", 8), copied("bob", 9), copied("bob", 10)
	large.Content = make([]byte, maxContentBytes+1)
	nowhere.To.Domain = "nowhere"
	noStream.Copy.Stream = 0
	noNumber.Copy.TargetSeq = 0
	for _, m := range []*clientpb.C2C{large, nowhere, noStream, noNumber} {
		frames = append(frames, frame(t, "ann", 1, clientpb.Cmd_CMD_C2C, m))
	}
	wantCodes(t, w.handle(frames...), status.OK, status.OK, status.Unstorable, status.OK, status.Unstorable, status.OK,
		status.TooLarge, status.UnknownReceiver, status.BadRequest, status.BadRequest)
	for _, uid := range []string{"ann", "bob"} {
		var seqs []uint64
		for _, r := range w.inbox.rows(w.user(uid)) {
			seqs = append(seqs, r.TargetSeq)
		}
		if !slices.Equal(seqs, []uint64{1, 2, 4, 6}) {
			t.Errorf("%s has %v", uid, seqs)
		}
	}
}

func TestTransientFailureStoresNeither(t *testing.T) {
	var once sync.Once
	w := newWorld(t, func(w *world, _ *setup) {
		w.inbox.onAppend = func([]store.Message) (err error) {
			once.Do(func() { err = store.ErrUnavailable })
			return err
		}
	})
	w.owe("ann", 1, 3)
	wantCodes(t, w.handle(copiedFrame(t, "bob", 1)), status.Unavailable)
	again := copiedFrame(t, "bob", 1)
	again.Restart = true
	id := w.accepted(again)
	// The resend of a message that is there finds both.
	answer := decode[clientpb.C2CAnswer](t, w.handle(copiedFrame(t, "bob", 1))[0])
	if !answer.Duplicate || answer.MsgId != id {
		t.Errorf("%+v, want a duplicate of %d", answer, id)
	}
	if a, b := w.inbox.rows(w.user("ann")), w.inbox.rows(w.user("bob")); len(a) != 1 || len(b) != 1 {
		t.Errorf("ann has %+v, bob has %+v", a, b)
	}
}

// The id of either row may be taken: it alone gets another one, and the sender hears of the message's own.
func TestIDCollisionOfAPair(t *testing.T) {
	for i, which := range []string{"the message", "the copy"} {
		t.Run(which, func(t *testing.T) {
			w := newWorld(t, nil)
			w.owe("ann", 1, 3)
			var once sync.Once
			w.inbox.onAppend = func(batch []store.Message) error {
				once.Do(func() {
					w.inbox.mu.Lock()
					w.inbox.byID[batch[i].ID] = store.Digest{1}
					w.inbox.mu.Unlock()
				})
				return nil
			}
			id := w.accepted(copiedFrame(t, "bob", 1))
			a, b := w.inbox.rows(w.user("ann")), w.inbox.rows(w.user("bob"))
			if len(a) != 1 || len(b) != 1 || uint64(b[0].ID) != id {
				t.Errorf("ann has %+v, bob has %+v, accepted was %d", a, b, id)
			}
			if batches := w.inbox.appends(); len(batches) != 2 || len(batches[1]) != 1 {
				t.Errorf("appends %+v", batches)
			}
		})
	}
}

// A message that is stored stays accepted when its copy, which needed another id, then turns out to be what the database never takes.
func TestPoisonedCopyOfAStoredMessage(t *testing.T) {
	w := newWorld(t, nil)
	w.inbox.onAppend = func(batch []store.Message) error {
		if len(batch) == 1 {
			return errors.New("not this one")
		}
		w.inbox.mu.Lock()
		w.inbox.byID[batch[1].ID] = store.Digest{1}
		w.inbox.mu.Unlock()
		return nil
	}
	id := w.accepted(copiedFrame(t, "bob", 1))
	if rows := w.inbox.rows(w.user("bob")); len(rows) != 1 || uint64(rows[0].ID) != id {
		t.Errorf("bob has %+v, accepted was %d", rows, id)
	}
}

func TestCopiesAreCappedInRows(t *testing.T) {
	w := newWorld(t, one(4))
	w.owe("ann", 1, 3)
	hold := holdLane(w)
	var frames []*logicpb.Frame
	for n := uint64(1); n <= 8; n++ {
		frames = append(frames, copiedFrame(t, "bob", n))
	}
	var answers []*logicpb.Answer
	done := make(chan struct{})
	go func() { defer close(done); answers = w.handle(frames...) }()
	eventually(t, "all are queued", func() bool { return hold.waiting() == 8 })
	hold.release()
	<-done
	wantCodes(t, answers, repeat(status.OK, 8)...)
	for _, batch := range w.inbox.appends() {
		if len(batch) > 4 {
			t.Errorf("%d rows in one insert", len(batch))
		}
	}
}

// Copies count in the sender's own inbox: when that is full he hears so.
func TestCopyIntoAFullInbox(t *testing.T) {
	w := newWorld(t, func(w *world, s *setup) {
		s.cfg.InboxBound = 16
		w.inbox.count = func() int { return 16 }
	})
	w.owe("ann", 1, 3)
	w.accepted(copiedFrame(t, "bob", 1))
	w.drainCounts()
	wantCodes(t, w.handle(copiedFrame(t, "eve", 2), c2cFrame(t, "ann", 1, "eve", 3)), status.InboxFull, status.OK)
}

// The copies of what one device sends to different users are numbered together: none is stored before one with a lower number, which
// would be shown as late, however slow an insert is.
func TestCopiesAreStoredInOrder(t *testing.T) {
	entered, release := make(chan struct{}, 16), make(chan struct{})
	w := newWorld(t, func(w *world, s *setup) {
		s.cfg.CommitLanes = 8
		var once sync.Once
		w.inbox.onAppend = func([]store.Message) error {
			once.Do(func() {
				entered <- struct{}{}
				<-release
			})
			return nil
		}
	})
	free := sync.OnceFunc(func() { close(release) })
	t.Cleanup(free)
	w.beat(1, "g1")
	w.owe("ann", 1, 3)
	w.online("ann", 3, 1, 101)
	users := []string{"bob", "eve", "dan", "zoe", "joe", "max"}
	var calls sync.WaitGroup
	send := func(n uint64) {
		calls.Go(func() { wantCodesOf(t, w.handle(copiedFrame(t, users[n-1], n)), status.OK) })
	}
	send(1)
	<-entered
	for n := 2; n <= len(users); n++ {
		send(uint64(n))
		eventually(t, "it waits", func() bool { return w.inCommit() == n-1 || len(w.inbox.appends()) > 0 })
	}
	free()
	calls.Wait()
	copies := func() []delivered { return w.gates.seen(isKind(clientpb.MessageKind_MESSAGE_KIND_COPY)) }
	eventually(t, "all copies are delivered", func() bool { return len(copies()) == len(users) })
	for i, d := range copies() {
		if d.msgs[0].TargetSeq != uint64(i+1) {
			t.Errorf("copy %d comes at place %d", d.msgs[0].TargetSeq, i+1)
		}
	}
}

// inCommit is how many messages wait for an insert.
func (w *world) inCommit() (count int) {
	for _, l := range w.node.commit.lanes {
		l.mu.Lock()
		count += len(l.items)
		l.mu.Unlock()
	}
	return count
}

// wantCodesOf is wantCodes for goroutines beside the test's own.
func wantCodesOf(t *testing.T, answers []*logicpb.Answer, want ...status.Code) {
	t.Helper()
	if got := codes(answers); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
