package gate

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"github.com/cloudwego/prutal"

	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/gen/gatepb"
	"github.com/gatepost/gatepost/idl/gen/logicpb"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/idl/wire"
)

const (
	queued  = gatepb.DeliverOutcome_DELIVER_QUEUED
	held    = gatepb.DeliverOutcome_DELIVER_HELD
	unknown = gatepb.DeliverOutcome_DELIVER_UNKNOWN
)

func deliverBody(ids ...uint64) []byte {
	d := &clientpb.Deliver{}
	for _, id := range ids {
		d.Messages = append(d.Messages, &clientpb.Message{MsgId: id})
	}
	return marshal(d)
}

func (g *testGate) deliver1(p *gatepb.Payload, it *gatepb.Item) gatepb.DeliverOutcome {
	g.t.Helper()
	resp, err := g.Deliver(context.Background(), &gatepb.DeliverRequest{GateEpoch: g.Epoch(), Payloads: []*gatepb.Payload{p}, Items: []*gatepb.Item{it}})
	if err != nil || len(resp.Outcomes) != 1 {
		g.t.Fatal(resp, err)
	}
	return resp.Outcomes[0]
}

func durable(ids ...uint64) *gatepb.Payload {
	return &gatepb.Payload{Cmd: uint32(cmdDeliver), Body: deliverBody(ids...), Durable: true}
}

// One payload for many sessions comes to each of them, and to some it comes merged with others.
func TestDeliverToMany(t *testing.T) {
	g := startGate(t, nil, newFake(1))
	var clients []*client
	var items []*gatepb.Item
	for i := range 20 {
		uid := fmt.Sprintf("u%d", i)
		clients = append(clients, g.login(uid, 1))
		items = append(items, &gatepb.Item{Domain: "d", Uid: uid})
	}
	text := &gatepb.Payload{Cmd: uint32(cmdDeliver), Body: marshal(&clientpb.Deliver{Messages: []*clientpb.Message{{
		MsgId: 1, Type: "text", Content: bytes.Repeat([]byte("something that shrinks "), 20),
	}}})}
	other := durable(2)
	for i := range items {
		items = append(items, &gatepb.Item{Domain: "d", Uid: items[i].Uid, Payload: 1})
	}
	resp, err := g.Deliver(context.Background(), &gatepb.DeliverRequest{GateEpoch: g.Epoch(), Payloads: []*gatepb.Payload{text, other}, Items: items})
	if err != nil || len(resp.Outcomes) != len(items) {
		t.Fatal(resp, err)
	}
	want := append(bytes.Clone(text.Body), other.Body...)
	for i, c := range clients {
		var got []byte
		for len(got) < len(want) {
			got = append(got, c.recv().body...)
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("session %d: %d bytes, or others, want %d", i, len(got), len(want))
		}
	}
}

// connOf is the connection of a user's session.
func (g *testGate) connOf(uid string) *conn {
	g.t.Helper()
	es := g.table.find(nil, "d", uid, 0)
	if len(es) != 1 {
		g.t.Fatalf("%d sessions of %s", len(es), uid)
	}
	return es[0].c
}

func TestDeliver(t *testing.T) {
	g := startGate(t, nil, newFake(1))
	c := g.login("u", 5)
	id := g.connOf("u").id
	for name, tc := range map[string]struct {
		it   *gatepb.Item
		want gatepb.DeliverOutcome
	}{
		"by connection":         {&gatepb.Item{ConnId: id}, queued},
		"with session":          {&gatepb.Item{ConnId: id, Session: 5, Domain: "d", Uid: "u"}, queued},
		"older session":         {&gatepb.Item{ConnId: id, Session: 4}, unknown},
		"newer session":         {&gatepb.Item{ConnId: id, Session: 6}, unknown},
		"another user":          {&gatepb.Item{ConnId: id, Domain: "d", Uid: "v"}, unknown},
		"no such connection":    {&gatepb.Item{ConnId: 1 << 40}, unknown},
		"by user":               {&gatepb.Item{Domain: "d", Uid: "u"}, queued},
		"by user and class":     {&gatepb.Item{Domain: "d", Uid: "u", DeviceClass: 1}, queued},
		"by user, other class":  {&gatepb.Item{Domain: "d", Uid: "u", DeviceClass: 2}, unknown},
		"by user, old session":  {&gatepb.Item{Domain: "d", Uid: "u", Session: 4}, unknown},
		"by user, other domain": {&gatepb.Item{Domain: "e", Uid: "u"}, unknown},
	} {
		t.Run(name, func(t *testing.T) {
			if o := g.deliver1(durable(9), tc.it); o != tc.want {
				t.Fatalf("%v, want %v", o, tc.want)
			}
			if tc.want == queued {
				if f := c.recv(); f.Cmd != cmdDeliver || !bytes.Equal(f.body, deliverBody(9)) || f.IsResponse() {
					t.Fatal(f)
				}
			}
		})
	}
	resp, err := g.Deliver(context.Background(), &gatepb.DeliverRequest{
		GateEpoch: g.Epoch() + 1, Payloads: []*gatepb.Payload{durable(1)}, Items: []*gatepb.Item{{ConnId: id}},
	})
	if err != nil || len(resp.Outcomes) != 0 || resp.GateEpoch != g.Epoch() {
		t.Fatal("another life of this gate:", resp, err)
	}
	if _, err := g.Deliver(context.Background(), &gatepb.DeliverRequest{Items: []*gatepb.Item{{ConnId: id}}}); err == nil {
		t.Fatal("an item without its payload")
	}
	if a := c.call(cmdLogout, 0, nil); a.Status != status.OK {
		t.Fatal(a.Status)
	}
	if o := g.deliver1(durable(1), &gatepb.Item{ConnId: id, Session: 5}); o != unknown {
		t.Fatal("after logout:", o)
	}
}

// A delivery that overtakes the answer to LOGIN is held; what comes once the session is bound stands behind that answer.
func TestDeliverBeforeLogin(t *testing.T) {
	f := newFake(1)
	g := startGate(t, nil, f)
	c := g.connect()
	var overtaking gatepb.DeliverOutcome
	f.set(func(f *fakeLogic) {
		f.handle = func(_ context.Context, req *logicpb.HandleRequest) (*logicpb.HandleResponse, error) {
			overtaking = g.deliver1(durable(1), &gatepb.Item{ConnId: req.Frames[0].ConnId, Session: 5})
			return &logicpb.HandleResponse{Answers: []*logicpb.Answer{fakeAnswer(req.Frames[0])}}, nil
		}
	})
	done := make(chan struct{})
	go func() { // delivers at every moment of the login
		defer close(done)
		for g.deliver1(durable(2), &gatepb.Item{Domain: "d", Uid: "u", Session: 5}) != queued {
		}
	}()
	if a := c.call(cmdLogin, 0, loginBody("u", 5)); a.Status != status.OK {
		t.Fatal(a.Status)
	}
	<-done
	if overtaking != held {
		t.Fatal(overtaking)
	}
	if f := c.recv(); f.Cmd != cmdDeliver || !bytes.Equal(f.body, deliverBody(2)) {
		t.Fatal(f)
	}
}

func TestConsecutiveDeliveriesMerge(t *testing.T) {
	batch := []outFrame{
		{cmd: cmdDeliver, live: true, body: deliverBody(1)}, {cmd: cmdDeliver, live: true, body: deliverBody(2, 3)},
		{cmd: cmdPull, flags: wire.FlagResponse, body: []byte("x")}, {cmd: cmdDeliver, live: true, body: deliverBody(4)},
	}
	n, body := mergeRun(batch)
	var d clientpb.Deliver
	if err := prutal.Unmarshal(body, &d); err != nil || n != 2 || len(d.Messages) != 3 || d.Messages[2].MsgId != 3 {
		t.Fatal(n, d, err)
	}
	if !bytes.Equal(batch[0].body, deliverBody(1)) {
		t.Fatal("a shared body was changed")
	}
	if n, _ := mergeRun(batch[2:]); n != 1 {
		t.Fatal("an answer was merged")
	}
	large := make([]byte, 200<<10)
	if n, _ := mergeRun([]outFrame{{cmd: cmdDeliver, body: large}, {cmd: cmdDeliver, body: large}}); n != 1 {
		t.Fatal("above the limit of a frame")
	}
}

// A client that does not read: deliveries are held when its queue is half full, one SYNC follows when it has drained,
// and its own answers come through all the while.
func TestSlowReaderGetsSync(t *testing.T) {
	f := newFake(1)
	g := startGate(t, nil, f)
	c := g.login("u", 5)
	id := g.connOf("u").id
	large := &gatepb.Payload{Cmd: uint32(cmdDeliver), Durable: true, Body: marshal(&clientpb.Deliver{
		Messages: []*clientpb.Message{{MsgId: 1, Content: make([]byte, 30<<10)}},
	})}
	// Once held, all are held until the queue has drained and a SYNC is in it: also when the writer was only late.
	n, holds := 0, 0
	for inARow := 0; inARow < 100; {
		if n > 10_000 {
			t.Fatal("never held")
		}
		switch o := g.deliver1(large, &gatepb.Item{ConnId: id}); {
		case o == queued:
			n, inARow = n+1, 0
		case o != held:
			t.Fatal("while it is full:", o)
		default:
			if inARow++; inARow == 1 {
				holds++
			}
		}
	}
	pull := c.send(cmdPull, 0, make([]byte, 60<<10))
	got, syncs, answered := 0, 0, false
	for syncs < holds {
		switch f := c.recv(); f.Cmd {
		case cmdDeliver:
			var d clientpb.Deliver
			if err := prutal.Unmarshal(f.body, &d); err != nil {
				t.Fatal(err)
			}
			got += len(d.Messages)
		case cmdPull:
			answered = f.Seq == pull && f.Status == status.OK
		case cmdSync:
			syncs++
		default:
			t.Fatalf("%#x %v %q", f.Cmd, f.Status, f.body)
		}
	}
	for !answered { // the pull may be behind the SYNC
		f := c.recv()
		answered = f.Cmd == cmdPull && f.Status == status.OK
	}
	if got != n {
		t.Fatalf("%d of %d deliveries came", got, n)
	}
	if o := g.deliver1(durable(3), &gatepb.Item{ConnId: id}); o != queued {
		t.Fatal("after SYNC:", o)
	}
	if f := c.recv(); f.Cmd != cmdDeliver {
		t.Fatalf("a second SYNC, or %#x", f.Cmd)
	}
}

// A SYNC that logic sends, for a delivery that failed elsewhere, is not lost when the client's queue is half full.
func TestSyncToASlowReaderIsOwed(t *testing.T) {
	g := startGate(t, nil, newFake(1))
	g.login("u", 5)
	conn := g.connOf("u")
	f := outFrame{cmd: uint16(cmdDeliver), live: true, body: marshal(&clientpb.Deliver{
		Messages: []*clientpb.Message{{MsgId: 1, Content: make([]byte, 30<<10)}},
	})}
	for n := 0; ; n++ { // fill it without one that is held, which would owe a SYNC by itself
		conn.mu.Lock()
		ok := conn.queueLocked(f)
		conn.mu.Unlock()
		if !ok {
			break
		}
		if n > 10_000 {
			t.Fatal("never full")
		}
	}
	small := &gatepb.Payload{Cmd: uint32(cmdSync)}
	for n := 0; g.deliver1(small, &gatepb.Item{ConnId: conn.id}) == queued; n++ {
		if n > 10_000 {
			t.Fatal("never held")
		}
	}
	conn.mu.Lock()
	owed := conn.out.syncOwed
	conn.mu.Unlock()
	if !owed {
		t.Fatal("a SYNC that did not fit is not owed")
	}
}

// When not even answers fit, the connection closes.
func TestSlowReaderIsClosed(t *testing.T) {
	f := newFake(1)
	f.answer = func(fr *logicpb.Frame) *logicpb.Answer {
		a := fakeAnswer(fr)
		if uint16(fr.Cmd) == cmdPull {
			a.Body = make([]byte, 200<<10)
		}
		return a
	}
	g := startGate(t, nil, f)
	c := g.login("u", 5)
	conn := g.connOf("u")
	for range 200 {
		c.send(cmdPull, 0, nil)
	}
	eventuallyTrue(t, "closed as slow", func() bool {
		conn.mu.Lock()
		defer conn.mu.Unlock()
		return conn.state == stateClosed && conn.why.code == status.Slow
	})
	eventuallyTrue(t, "reported", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(f.ended) == 1
	})
}

func TestQueueBounds(t *testing.T) {
	const frames, bytes = 8, 8000
	live := func(n int) *outFrame { return &outFrame{live: true, body: make([]byte, n-wire.HeaderLen)} }
	answer := func(n int) *outFrame { return &outFrame{body: make([]byte, n-wire.HeaderLen)} }
	var q queue
	if !q.fits(live(100_000), frames, bytes) {
		t.Fatal("an empty queue takes any frame")
	}
	for range 4 {
		if !q.fits(live(100), frames, bytes) {
			t.Fatal("within half")
		}
		q.add(*live(100))
	}
	if q.fits(live(100), frames, bytes) || !q.fits(answer(7000), frames, bytes) || q.fits(answer(8000), frames, bytes) {
		t.Fatal("half of the frames are for live traffic, the whole for answers")
	}
	batch := q.take(250)
	if len(batch) != 2 || q.count != 4 {
		t.Fatal("what is being written counts")
	}
	q.written(batch)
	if q.count != 2 || q.bytes != 200 || q.liveCount != 2 || q.liveBytes != 200 {
		t.Fatalf("%+v", q)
	}
	q.discard()
	if q.count != 0 || q.bytes != 0 || q.liveBytes != 0 || q.frames != nil {
		t.Fatalf("%+v", q)
	}
}

func TestKick(t *testing.T) {
	f := newFake(1)
	g := startGate(t, nil, f)
	kick := func(it *gatepb.KickItem) uint32 {
		resp, err := g.Kick(context.Background(), &gatepb.KickRequest{Items: []*gatepb.KickItem{it}})
		if err != nil {
			t.Fatal(err)
		}
		return resp.Kicked
	}
	c := g.login("u", 5)
	id := g.connOf("u").id
	for _, it := range []*gatepb.KickItem{
		{ConnId: id, BelowSession: 5}, {Domain: "d", Uid: "u", BelowSession: 4}, {Domain: "d", Uid: "u", DeviceClass: 2},
		{ConnId: 1 << 40}, {ConnId: id, Domain: "d", Uid: "other"},
	} {
		if kick(it) != 0 {
			t.Fatalf("%+v kicked", it)
		}
	}
	winner := []byte("fedcba9876543210")
	if kick(&gatepb.KickItem{ConnId: id, BelowSession: 6, Status: uint32(status.Replaced), Reason: "r", WinnerInstallation: winner, WinnerCounter: 8}) != 1 {
		t.Fatal("not kicked")
	}
	before := c.closes(status.Replaced)
	var k clientpb.Kick
	if len(before) != 1 || before[0].Cmd != cmdKick || prutal.Unmarshal(before[0].body, &k) != nil {
		t.Fatal(before)
	}
	if k.Status != uint32(status.Replaced) || !bytes.Equal(k.WinnerInstallation, winner) || k.WinnerCounter != 8 {
		t.Fatalf("%+v", &k)
	}

	// A kick that overtakes the answer to LOGIN.
	f.set(func(f *fakeLogic) {
		f.handle = func(_ context.Context, req *logicpb.HandleRequest) (*logicpb.HandleResponse, error) {
			kick(&gatepb.KickItem{ConnId: req.Frames[0].ConnId, Domain: "d", Uid: "v", BelowSession: 9, Status: uint32(status.Replaced)})
			return &logicpb.HandleResponse{Answers: []*logicpb.Answer{fakeAnswer(req.Frames[0])}}, nil
		}
	})
	d := g.connect()
	d.send(cmdLogin, 0, loginBody("v", 8))
	for _, f := range d.closes(status.Replaced) {
		if f.Cmd == cmdLogin {
			t.Fatal("the fenced login was answered", f.Status)
		}
	}
	e := g.connect()
	if a := e.call(cmdLogin, 0, loginBody("v", 9)); a.Status != status.OK {
		t.Fatal("the winner:", a.Status)
	}
}

// The session table is fenced by the session number.
func TestFencing(t *testing.T) {
	f := newFake(1)
	g := startGate(t, nil, f)
	old := g.login("u", 5)
	newer := g.login("u", 6)
	if before := old.closes(status.Replaced); len(before) != 1 || before[0].Cmd != cmdKick {
		t.Fatal(before)
	}
	late := g.connect()
	late.send(cmdLogin, 0, loginBody("u", 4))
	before := late.closes(status.Replaced)
	var k clientpb.Kick
	if len(before) != 1 || prutal.Unmarshal(before[0].body, &k) != nil || k.WinnerCounter != 6 {
		t.Fatal(before)
	}
	if o := g.deliver1(durable(1), &gatepb.Item{Domain: "d", Uid: "u", Session: 6}); o != queued {
		t.Fatal(o)
	}
	if f := newer.recv(); f.Cmd != cmdDeliver {
		t.Fatal(f)
	}
	eventuallyTrue(t, "both losers reported, the winner not", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		numbers := map[uint64]bool{}
		for _, r := range f.ended {
			numbers[r.Session.Number] = true
		}
		return numbers[4] && numbers[5] && !numbers[6]
	})
	eventuallyTrue(t, "one session", func() bool { return g.sessions.Load() == 1 })
}

// bind, the answer, unbind, close: in this order.
func TestOrderOfActions(t *testing.T) {
	f := newFake(1)
	f.answer = func(fr *logicpb.Frame) *logicpb.Answer {
		switch uint16(fr.Cmd) {
		case cmdPull:
			return &logicpb.Answer{Status: uint32(status.BadToken), Body: refusal(status.BadToken, "gone"), Unbind: true, Close: true}
		default:
			return fakeAnswer(fr)
		}
	}
	g := startGate(t, nil, f)
	c := g.login("u", 5)
	id := g.connOf("u").id
	seq := c.send(cmdPull, 0, nil)
	before := c.closes(status.BadToken)
	if len(before) != 1 || before[0].Seq != seq || before[0].Status != status.BadToken {
		t.Fatal(before)
	}
	if o := g.deliver1(durable(1), &gatepb.Item{ConnId: id, Session: 5}); o != unknown {
		t.Fatal(o)
	}
	if g.sessions.Load() != 0 {
		t.Fatal("still bound")
	}
}
