package logic

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cloudwego/prutal"
	"go.uber.org/goleak"

	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/gen/gatepb"
	"github.com/gatepost/gatepost/idl/gen/logicpb"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/store"
	"github.com/gatepost/gatepost/store/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeInbox keeps rows in memory, with unique digests and ids as the real one.
type fakeInbox struct {
	mu        sync.Mutex
	byDigest  map[store.Digest]store.Message
	byID      map[store.MsgID]store.Digest
	batches   [][]store.Message        // every append, also those that failed
	owed      map[store.UserKey]uint32 // the registered classes of a user; 0: whoever confirms is the only one
	confirmed map[store.Digest]uint32
	confirms  [][]store.Confirmation

	onAppend  func(batch []store.Message) error // before anything is stored
	onFind    func(digests []store.Digest) error
	onConfirm func(batch []store.Confirmation) error
	onPage    func() error
	pageRows  []store.Message // when set, what Page returns
	count     func() int      // when set, what Count returns
	counts    int
}

func newFakeInbox() *fakeInbox {
	return &fakeInbox{byDigest: make(map[store.Digest]store.Message), byID: make(map[store.MsgID]store.Digest),
		owed: make(map[store.UserKey]uint32), confirmed: make(map[store.Digest]uint32)}
}

func (f *fakeInbox) Append(_ context.Context, batch []store.Message) ([]store.AppendResult, error) {
	if f.onAppend != nil {
		if err := f.onAppend(batch); err != nil {
			f.mu.Lock()
			f.batches = append(f.batches, slices.Clone(batch))
			f.mu.Unlock()
			return nil, err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.batches = append(f.batches, slices.Clone(batch))
	out := make([]store.AppendResult, len(batch))
	for i, m := range batch {
		if old, ok := f.byDigest[m.Digest]; ok && old.ExpiresAt.After(m.CreatedAt) {
			out[i] = store.AppendResult{ID: old.ID, Outcome: store.Duplicate}
			continue
		}
		if _, taken := f.byID[m.ID]; taken {
			out[i] = store.AppendResult{Outcome: store.IDCollision}
			continue
		}
		delete(f.byID, f.byDigest[m.Digest].ID) // it has expired
		f.byDigest[m.Digest], f.byID[m.ID] = m, m.Digest
		out[i] = store.AppendResult{ID: m.ID, Outcome: store.Stored}
	}
	return out, nil
}

func (f *fakeInbox) Find(_ context.Context, digests []store.Digest, now time.Time) ([]store.MsgID, error) {
	if f.onFind != nil {
		if err := f.onFind(digests); err != nil {
			return nil, err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	ids := make([]store.MsgID, len(digests))
	for i, d := range digests {
		if m := f.byDigest[d]; m.ExpiresAt.After(now) {
			ids[i] = m.ID
		}
	}
	return ids, nil
}

func (f *fakeInbox) rows(owner store.UserKey) []store.Message {
	f.mu.Lock()
	defer f.mu.Unlock()
	var rows []store.Message
	for _, m := range f.byDigest {
		if m.Owner == owner {
			rows = append(rows, m)
		}
	}
	slices.SortFunc(rows, func(a, b store.Message) int { return cmp.Compare(a.ID, b.ID) })
	return rows
}

func (f *fakeInbox) appends() [][]store.Message {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.batches)
}

func (f *fakeInbox) Page(_ context.Context, q store.PageQuery) ([]store.Message, store.MsgID, bool, error) {
	if f.onPage != nil {
		if err := f.onPage(); err != nil {
			return nil, 0, false, err
		}
	}
	rows := f.pageRows
	if rows == nil {
		rows = f.rows(q.Owner)
	}
	upto := q.Upto
	if upto == 0 && len(rows) > 0 {
		upto = rows[len(rows)-1].ID
	}
	var page []store.Message
	for _, m := range rows {
		if m.ID > q.After && m.ID <= upto {
			page = append(page, m)
		}
	}
	more := len(page) > q.Limit
	if more {
		page = page[:q.Limit]
	}
	return page, upto, more, nil
}

// Confirm does what the real one does for users whose registered classes are in f.owed; every other user has the one class that confirms.
func (f *fakeInbox) Confirm(_ context.Context, batch []store.Confirmation) ([]store.Message, error) {
	f.mu.Lock()
	f.confirms = append(f.confirms, slices.Clone(batch))
	hook := f.onConfirm
	f.mu.Unlock()
	if hook != nil {
		if err := hook(batch); err != nil {
			return nil, err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	receipts, err := f.receiptsLocked(batch)
	if err != nil {
		return nil, err
	}
	for _, c := range batch {
		ids := slices.Clone(c.IDs)
		for _, r := range c.Receipts {
			ids = append(ids, r.Of)
		}
		for _, id := range ids {
			d, ok := f.byID[id]
			if !ok || f.byDigest[d].Owner != c.Owner {
				continue
			}
			f.confirmed[d] |= c.Class.Bit()
			if f.confirmed[d]&f.owed[c.Owner] == f.owed[c.Owner] {
				delete(f.byID, id)
				delete(f.byDigest, d)
				delete(f.confirmed, d)
			}
		}
	}
	for _, r := range receipts {
		f.byDigest[r.Digest], f.byID[r.ID] = r, r.Digest
	}
	return receipts, nil
}

// receiptsLocked makes the receipts that batch owes: of rows that want one and that nobody confirmed yet, one for each row.
func (f *fakeInbox) receiptsLocked(batch []store.Confirmation) ([]store.Message, error) {
	var receipts []store.Message
	seen := map[store.MsgID]bool{}
	for _, c := range batch {
		for _, r := range c.Receipts {
			d, ok := f.byID[r.Of]
			row := f.byDigest[d]
			if !ok || row.Owner != c.Owner || row.Flags&store.FlagReceipt == 0 || f.confirmed[d] != 0 || seen[r.Of] {
				continue
			}
			seen[r.Of] = true
			receipt := store.ReceiptOf(&row, c.Class, r.ID, c.At, c.ReceiptExpires)
			if _, there := f.byDigest[receipt.Digest]; there {
				continue
			}
			if _, taken := f.byID[r.ID]; taken {
				return nil, fmt.Errorf("receipt %d: %w", r.ID, store.ErrIDCollision)
			}
			receipts = append(receipts, receipt)
		}
	}
	return receipts, nil
}

func (f *fakeInbox) Count(_ context.Context, owner store.UserKey, limit int) (int, error) {
	f.mu.Lock()
	f.counts++
	count := f.count
	f.mu.Unlock()
	if count != nil {
		return count(), nil
	}
	return min(len(f.rows(owner)), limit), nil
}

// fakeDevices keeps registered classes, fenced by session number as in the database.
type fakeDevices struct {
	mu      sync.Mutex
	devices []store.Device
	newest  map[deviceKey]uint64 // the highest session number that registered or retired
	logins  []store.Device       // all that registered
	retired []store.DeviceClass
	err     error
	log     func(what string)
}

type deviceKey struct {
	owner store.UserKey
	class store.DeviceClass
}

// fenced reports whether a newer session than d's was there, and notes d's if not.
func (f *fakeDevices) fenced(d store.Device) bool {
	key := deviceKey{d.Owner, d.Class}
	if d.Session < f.newest[key] {
		return true
	}
	if f.newest == nil {
		f.newest = map[deviceKey]uint64{}
	}
	f.newest[key] = d.Session
	return false
}

// remove takes out d's class.
func (f *fakeDevices) remove(d store.Device) (was bool) {
	n := len(f.devices)
	f.devices = slices.DeleteFunc(f.devices, func(x store.Device) bool { return x.Owner == d.Owner && x.Class == d.Class })
	return len(f.devices) < n
}

func (f *fakeDevices) Register(_ context.Context, d store.Device) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.log != nil {
		f.log("register")
	}
	if f.err != nil {
		return false, f.err
	}
	f.logins = append(f.logins, d)
	if !f.fenced(d) {
		f.remove(d)
		f.devices = append(f.devices, d)
	}
	return slices.Contains(f.retired, d.Class), nil
}

func (f *fakeDevices) Retire(_ context.Context, d store.Device) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return f.err
	}
	if !f.fenced(d) && f.remove(d) {
		f.retired = append(f.retired, d.Class)
	}
	return nil
}

func (f *fakeDevices) WasHere(_ context.Context, d store.Device) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.ContainsFunc(f.logins, func(x store.Device) bool {
		return x.Owner == d.Owner && x.Class == d.Class && x.Installation == d.Installation && x.LoginCounter >= d.LoginCounter
	}), f.err
}

func (f *fakeDevices) Known(_ context.Context, users []store.UserKey) ([]bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	known := make([]bool, len(users))
	for i, u := range users {
		known[i] = slices.ContainsFunc(f.logins, func(d store.Device) bool { return d.Owner == u })
	}
	return known, f.err
}

func (f *fakeDevices) List(_ context.Context, owner store.UserKey) ([]store.Device, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []store.Device
	for _, d := range f.devices {
		if d.Owner == owner {
			out = append(out, d)
		}
	}
	return out, f.err
}

// fakeNodes leases numbers as the database does: From is the high water of the last holder.
type fakeNodes struct {
	mu       sync.Mutex
	number   uint16
	high     time.Time
	owner    string
	err      error
	released int
}

func (f *fakeNodes) set(err error) {
	f.mu.Lock()
	f.err = err
	f.mu.Unlock()
}

func (f *fakeNodes) Lease(_ context.Context, owner string, now time.Time, _, ttl, ahead time.Duration) (store.NodeLease, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return store.NodeLease{}, f.err
	}
	l := store.NodeLease{Number: f.number, Owner: owner, From: f.high, Until: now.Add(ttl)}
	if now.After(f.high) {
		f.high = now
	}
	f.high, f.owner = f.high.Add(ahead), owner
	l.HighWater = f.high
	return l, nil
}

func (f *fakeNodes) Renew(_ context.Context, l store.NodeLease, now time.Time, _, ttl, ahead time.Duration) (store.NodeLease, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return store.NodeLease{}, f.err
	}
	if f.owner != l.Owner {
		return store.NodeLease{}, store.ErrLeaseLost
	}
	if h := now.Add(ahead); h.After(f.high) {
		f.high = h
	}
	l.HighWater, l.Until = f.high, now.Add(ttl)
	return l, nil
}

func (f *fakeNodes) Release(context.Context, store.NodeLease) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.released++
	f.owner = ""
	return nil
}

// fakeSweeper has a few rows to remove.
type fakeSweeper struct {
	mu      sync.Mutex
	steps   int
	leased  bool
	retired int
	owner   string
}

func (f *fakeSweeper) TryLease(_ context.Context, name, owner string, _ time.Duration) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.owner != "" && f.owner != owner {
		return false, nil
	}
	f.owner, f.leased = owner, name == sweepLease
	return true, nil
}

func (f *fakeSweeper) Sweep(_ context.Context, after store.MsgID, limit int, _ time.Time) (store.MsgID, int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.steps++
	if after >= store.MsgID(3*limit) {
		return 0, 0, nil
	}
	return after + store.MsgID(limit), 1, nil
}

func (f *fakeSweeper) RetireIdle(_ context.Context, _ time.Time, limit int) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.retired == 0 {
		f.retired = limit
		return limit, nil
	}
	f.retired++
	return 1, nil
}

// fakePresence is the table in memory, which can be away.
type fakePresence struct {
	*memory.Presence
	mu       sync.Mutex
	away     bool
	onLogin  func()
	onLookup func()
}

func (f *fakePresence) setAway(away bool) {
	f.mu.Lock()
	f.away = away
	f.mu.Unlock()
}

func (f *fakePresence) gone() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.away {
		return fmt.Errorf("presence: %w", store.ErrUnavailable)
	}
	return nil
}

func (f *fakePresence) Login(ctx context.Context, u store.UserKey, r store.Route) (store.LoginResult, error) {
	if f.onLogin != nil {
		f.onLogin()
	}
	if err := f.gone(); err != nil {
		return store.LoginResult{}, err
	}
	return f.Presence.Login(ctx, u, r)
}

func (f *fakePresence) Unregister(ctx context.Context, u store.UserKey, c store.DeviceClass, s uint64) error {
	if err := f.gone(); err != nil {
		return err
	}
	return f.Presence.Unregister(ctx, u, c, s)
}

func (f *fakePresence) Register(ctx context.Context, b []store.Registration) ([]store.RegisterResult, error) {
	if err := f.gone(); err != nil {
		return nil, err
	}
	return f.Presence.Register(ctx, b)
}

func (f *fakePresence) Lookup(ctx context.Context, u []store.UserKey) (store.Lookup, error) {
	if f.onLookup != nil {
		f.onLookup()
	}
	if err := f.gone(); err != nil {
		return store.Lookup{}, err
	}
	return f.Presence.Lookup(ctx, u)
}

func (f *fakePresence) BeatGate(ctx context.Context, g store.Gate, ttl time.Duration) (uint64, error) {
	if err := f.gone(); err != nil {
		return 0, err
	}
	return f.Presence.BeatGate(ctx, g, ttl)
}

func (f *fakePresence) Gates(ctx context.Context) ([]store.Gate, error) {
	if err := f.gone(); err != nil {
		return nil, err
	}
	return f.Presence.Gates(ctx)
}

// delivered is one item that a gate was handed.
type delivered struct {
	address string
	cmd     clientpb.Cmd
	item    *gatepb.Item
	msgs    []*clientpb.Message
}

// fakeGates are the gates of a test by address. A gate's epoch is told by its beats.
type fakeGates struct {
	mu        sync.Mutex
	got       []delivered
	calls     []*gatepb.DeliverRequest
	kicks     []kicked
	onDeliver func(ctx context.Context, address string, req *gatepb.DeliverRequest) (*gatepb.DeliverResponse, error) // nil, nil: go on
	onKick    func(address string) error
}

type kicked struct {
	address string
	item    *gatepb.KickItem
}

func (f *fakeGates) Deliver(ctx context.Context, address string, req *gatepb.DeliverRequest) (*gatepb.DeliverResponse, error) {
	f.mu.Lock()
	hook := f.onDeliver
	f.mu.Unlock()
	if hook != nil {
		if res, err := hook(ctx, address, req); res != nil || err != nil {
			return res, err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, req)
	for _, it := range req.Items {
		p := req.Payloads[it.Payload]
		d := delivered{address: address, cmd: clientpb.Cmd(p.Cmd), item: it}
		if d.cmd == clientpb.Cmd_CMD_DELIVER {
			var m clientpb.Deliver
			if err := prutal.Unmarshal(p.Body, &m); err != nil {
				return nil, err
			}
			d.msgs = m.Messages
		}
		f.got = append(f.got, d)
	}
	return &gatepb.DeliverResponse{GateEpoch: req.GateEpoch, Outcomes: make([]gatepb.DeliverOutcome, len(req.Items))}, nil
}

func (f *fakeGates) Kick(_ context.Context, address string, req *gatepb.KickRequest) (*gatepb.KickResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.onKick != nil {
		if err := f.onKick(address); err != nil {
			return nil, err
		}
	}
	for _, it := range req.Items {
		f.kicks = append(f.kicks, kicked{address, it})
	}
	return &gatepb.KickResponse{}, nil
}

func (f *fakeGates) setDeliver(hook func(context.Context, string, *gatepb.DeliverRequest) (*gatepb.DeliverResponse, error)) {
	f.mu.Lock()
	f.onDeliver = hook
	f.mu.Unlock()
}

func (f *fakeGates) seen(want func(delivered) bool) []delivered {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []delivered
	for _, d := range f.got {
		if want(d) {
			out = append(out, d)
		}
	}
	return out
}

func (f *fakeGates) kicked() []kicked {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.kicks)
}

// authFunc is an authenticator of a test.
type authFunc func(ctx context.Context, u store.UserKey, token []byte) error

func (f authFunc) Authenticate(ctx context.Context, u store.UserKey, _ store.DeviceClass, token []byte) error {
	return f(ctx, u, token)
}

// world is a node with everything around it.
type world struct {
	t        testing.TB
	node     *Node
	inbox    *fakeInbox
	devices  *fakeDevices
	nodes    *fakeNodes
	sweeper  *fakeSweeper
	presence *fakePresence
	gates    *fakeGates

	mu    sync.Mutex
	shift time.Duration // of the node's clock
}

type setup struct {
	cfg  Config
	deps Deps
}

// newWorld starts a node; change may alter its configuration and ports first. It is stopped at the end of the test.
func newWorld(t testing.TB, change func(w *world, s *setup)) *world {
	t.Helper()
	w := &world{
		t: t, inbox: newFakeInbox(), devices: &fakeDevices{}, nodes: &fakeNodes{number: 5}, sweeper: &fakeSweeper{},
		presence: &fakePresence{Presence: memory.New(memory.Default())}, gates: &fakeGates{},
	}
	s := setup{cfg: Default()}
	s.cfg.SweepEvery = 0
	s.cfg.StopGrace = 0
	s.deps = Deps{
		Inbox: w.inbox, Devices: w.devices, Nodes: w.nodes, Sweeper: w.sweeper, Presence: w.presence, Leases: w.presence, Gates: w.gates,
		Domains: Domains{ByName: map[string]*Domain{"d": {Auth: authFunc(func(_ context.Context, _ store.UserKey, token []byte) error {
			if string(token) != "good" {
				return status.New(status.BadToken, "bad token")
			}
			return nil
		})}}},
		Logger: slog.New(slog.DiscardHandler),
		Now:    w.now,
	}
	if change != nil {
		change(w, &s)
	}
	n, err := New(s.cfg, s.deps)
	if err != nil {
		t.Fatal(err)
	}
	w.node = n
	if err := n.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := n.Stop(ctx); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return w
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Now().Add(w.shift)
}

func (w *world) user(uid string) store.UserKey { return store.UserKey{Domain: "d", UID: uid} }

// beat is a heartbeat of a gate, which has registered under the presence epoch it learns.
func (w *world) beat(epoch uint64, address string) *logicpb.BeatResponse {
	w.t.Helper()
	req := &logicpb.BeatRequest{GateEpoch: epoch, Name: address, RpcAddress: address}
	res, err := w.node.Beat(context.Background(), req)
	if err != nil {
		w.t.Fatal(err)
	}
	if res.PresenceEpoch != 0 {
		req.PresenceEpoch = res.PresenceEpoch
		if res, err = w.node.Beat(context.Background(), req); err != nil {
			w.t.Fatal(err)
		}
	}
	return res
}

// online puts a route of uid into the table.
func (w *world) online(uid string, class store.DeviceClass, gate, conn uint64) store.Route {
	w.t.Helper()
	r := store.Route{Class: class, GateEpoch: gate, ConnID: conn, Session: uint64(time.Now().UnixMicro()), Installation: [16]byte{byte(class)}, LoginCounter: conn}
	res, err := w.presence.Presence.Login(context.Background(), w.user(uid), r)
	if err != nil {
		w.t.Fatal(err)
	}
	r.Session = res.Session
	return r
}

func (w *world) handle(frames ...*logicpb.Frame) []*logicpb.Answer {
	w.t.Helper()
	res, err := w.node.Handle(context.Background(), &logicpb.HandleRequest{GateEpoch: 1, Frames: frames})
	if err != nil {
		w.t.Fatal(err)
	}
	if len(res.Answers) != len(frames) {
		w.t.Fatalf("%d answers to %d frames", len(res.Answers), len(frames))
	}
	for _, f := range frames { // nothing of a request is read once it has been answered
		for i := range f.Body {
			f.Body[i] = 0xee
		}
	}
	return res.Answers
}

func frame(t testing.TB, uid string, conn uint64, cmd clientpb.Cmd, body any) *logicpb.Frame {
	t.Helper()
	b, err := prutal.MarshalAppend(nil, body)
	if err != nil {
		t.Fatal(err)
	}
	f := &logicpb.Frame{ConnId: conn, Cmd: uint32(cmd), Body: b, Peer: "192.0.2.1:1"}
	if uid != "" {
		f.Session = &logicpb.Session{Domain: "d", Uid: uid, DeviceClass: 1, Number: 10, Installation: bytes.Repeat([]byte{9}, 16), LoginCounter: 3}
	}
	return f
}

// message is c2c number n of a stream to uid.
func message(to string, n uint64) *clientpb.C2C {
	id := make([]byte, 16)
	id[0] = 1
	copy(id[1:8], to)
	binary.BigEndian.PutUint64(id[8:], n)
	return &clientpb.C2C{ClientMsgId: id, To: &clientpb.User{Domain: "d", Uid: to}, Stream: 77, TargetSeq: n, Type: "text", Content: []byte(fmt.Sprintf("hello %d", n))}
}

func c2cFrame(t testing.TB, from string, conn uint64, to string, n uint64) *logicpb.Frame {
	return frame(t, from, conn, clientpb.Cmd_CMD_C2C, message(to, n))
}

func codes(answers []*logicpb.Answer) []status.Code {
	out := make([]status.Code, len(answers))
	for i, a := range answers {
		out[i] = status.Code(a.Status)
	}
	return out
}

func wantCodes(t testing.TB, answers []*logicpb.Answer, want ...status.Code) {
	t.Helper()
	if got := codes(answers); !slices.Equal(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
}

func repeat(code status.Code, n int) []status.Code { return slices.Repeat([]status.Code{code}, n) }

func decode[T any](t testing.TB, a *logicpb.Answer) *T {
	t.Helper()
	m := new(T)
	if err := prutal.Unmarshal(a.Body, m); err != nil {
		t.Fatal(err)
	}
	return m
}

// eventually polls until ok, for ten seconds at most.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

var errPoison = errors.New("incorrect string value")

func isDeliver(d delivered) bool { return d.cmd == clientpb.Cmd_CMD_DELIVER }
func isSync(d delivered) bool    { return d.cmd == clientpb.Cmd_CMD_SYNC }

// stackOf is the stack of the caller's goroutine.
func stackOf() string { return string(debug.Stack()) }
