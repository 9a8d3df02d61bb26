package gatepost_test

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cloudwego/prutal"
	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/limits"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/idl/wire"
	gatepost "github.com/gatepost/gatepost/sdk/go"
	"github.com/gatepost/gatepost/sdk/go/memstore"
)

const (
	cmdLogin   = uint16(clientpb.Cmd_CMD_LOGIN)
	cmdLogout  = uint16(clientpb.Cmd_CMD_LOGOUT)
	cmdC2C     = uint16(clientpb.Cmd_CMD_C2C)
	cmdC2S     = uint16(clientpb.Cmd_CMD_C2S)
	cmdPull    = uint16(clientpb.Cmd_CMD_PULL)
	cmdConfirm = uint16(clientpb.Cmd_CMD_CONFIRM)
	cmdDeliver = uint16(clientpb.Cmd_CMD_DELIVER)
	cmdSync    = uint16(clientpb.Cmd_CMD_SYNC)
	cmdKick    = uint16(clientpb.Cmd_CMD_KICK)
	cmdAlive   = uint16(clientpb.Cmd_CMD_KEEPALIVE)
)

// fakeGate is the whole house as one client sees it: handshake, logins, an inbox, and the ordered stream. A test changes
// what it does through on.
type fakeGate struct {
	key wire.PrivateKey
	// on sees each frame after HELLO first, and reports true when it has dealt with it. It runs under no lock.
	on func(c *gateConn, r req) bool
	// refuseHello refuses HELLO with this status; OK: takes it.
	refuseHello func(keyID uint32) status.Code

	mu        sync.Mutex
	conns     []*gateConn
	reqs      []req // all that arrived, in order
	inbox     []*clientpb.Message
	pageRows  int
	lastID    uint64
	accepted  []*clientpb.C2C
	reports   []*clientpb.C2S   // as the topic holds them: a resend that was accepted twice is there twice
	counters  map[string]uint64 // by installation
	confirmed []uint64          // in the order of arrival
	receipted []uint64          // likewise, those named for a receipt
	dials     int
	wg        sync.WaitGroup
}

type req struct {
	wire.Header
	body []byte
}

func newFakeGate(t testing.TB) *fakeGate {
	t.Helper()
	key, err := wire.GenerateKey(7)
	if err != nil {
		t.Fatal(err)
	}
	return &fakeGate{key: key, pageRows: 100, lastID: 1000, counters: map[string]uint64{}}
}

// dial is a gatepost.Config.Dialer onto g by net.Pipe, which testing/synctest understands.
func (g *fakeGate) dial(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	g.mu.Lock()
	g.dials++
	g.mu.Unlock()
	g.wg.Add(1)
	go func() {
		defer g.wg.Done()
		g.serve(server)
	}()
	return client, nil
}

// gateConn is one connection of the fake.
type gateConn struct {
	g       *fakeGate
	nc      net.Conn
	wmu     sync.Mutex
	sealer  wire.Sealer
	open    bool // the ordered message stream
	uplinks bool // the ordered uplink stream is open
	counter uint64
	bound   bool
}

func (g *fakeGate) serve(nc net.Conn) {
	defer nc.Close()
	h, body, err := wire.ReadFrame(nc, limits.HelloBodyBytes)
	if err != nil {
		return
	}
	var hello clientpb.Hello
	if prutal.Unmarshal(body.Bytes(), &hello) != nil {
		return
	}
	var clear wire.Sealer
	if g.refuseHello != nil {
		if code := g.refuseHello(hello.KeyId); code != status.OK {
			nc.Write(clear.AppendFrame(nil, wire.Header{Flags: wire.FlagResponse, Cmd: h.Cmd, Seq: h.Seq, Status: code}, nil))
			return
		}
	}
	accept, err := wire.AcceptHello(body.Bytes(), []wire.PrivateKey{g.key}, false, func(*clientpb.HelloOffer) *clientpb.HelloSettings {
		return &clientpb.HelloSettings{
			KeepaliveIntervalMs: 60_000, Compression: clientpb.Compression_COMPRESSION_DEFLATE, Dictionary: 1,
			ServerTimeMs: time.Now().UnixMilli(), MaxInFlight: limits.MaxInFlight,
		}
	})
	if err != nil {
		code := status.Of(err, status.BadHandshake).Code
		nc.Write(clear.AppendFrame(nil, wire.Header{Flags: wire.FlagResponse, Cmd: h.Cmd, Seq: h.Seq, Status: code}, nil))
		return
	}
	nc.Write(clear.AppendFrame(nil, wire.Header{Flags: wire.FlagResponse, Cmd: h.Cmd, Seq: h.Seq}, accept.Answer))
	c := &gateConn{g: g, nc: nc, sealer: accept.Sealer}
	g.mu.Lock()
	g.conns = append(g.conns, c)
	g.mu.Unlock()
	for {
		h, body, err := wire.ReadFrame(nc, limits.BodyToGateBytes)
		if err != nil {
			return
		}
		plain, err := accept.Opener.Open(h, body, limits.BodyToGateBytes)
		if err != nil {
			return
		}
		r := req{h, slices.Clone(plain.Bytes())}
		plain.Release()
		g.mu.Lock()
		g.reqs = append(g.reqs, r)
		on := g.on
		g.mu.Unlock()
		if on == nil || !on(c, r) {
			c.serve(r)
		}
	}
}

func (c *gateConn) send(h wire.Header, msg any) {
	var body []byte
	if msg != nil {
		body, _ = prutal.MarshalAppend(nil, msg)
	}
	c.wmu.Lock()
	defer c.wmu.Unlock()
	c.nc.Write(c.sealer.AppendFrame(nil, h, body))
}

func (c *gateConn) answer(r req, code status.Code, msg any) {
	c.send(wire.Header{Flags: wire.FlagResponse, Cmd: r.Cmd, Seq: r.Seq, Status: code}, msg)
}

func (c *gateConn) push(cmd uint16, msg any) { c.send(wire.Header{Cmd: cmd}, msg) }

func (c *gateConn) deliver(ms ...*clientpb.Message) {
	c.push(cmdDeliver, &clientpb.Deliver{Messages: ms})
}

// serve does what the house does.
func (c *gateConn) serve(r req) {
	g := c.g
	switch r.Cmd {
	case cmdLogin:
		var l clientpb.Login
		prutal.Unmarshal(r.body, &l)
		g.mu.Lock()
		stale := l.LoginCounter <= g.counters[string(l.Installation)]
		if !stale {
			g.counters[string(l.Installation)] = l.LoginCounter
			c.counter, c.bound = l.LoginCounter, true
		}
		g.mu.Unlock()
		if stale {
			c.answer(r, status.StaleLogin, nil)
			return
		}
		c.answer(r, status.OK, &clientpb.LoginAnswer{Session: l.LoginCounter, ServerTimeMs: time.Now().UnixMilli()})
	case cmdC2C:
		c.c2c(r)
	case cmdC2S:
		c.c2s(r)
	case cmdPull:
		var p clientpb.Pull
		prutal.Unmarshal(r.body, &p)
		c.answer(r, status.OK, g.page(&p))
	case cmdConfirm:
		var f clientpb.Confirm
		prutal.Unmarshal(r.body, &f)
		g.mu.Lock()
		g.confirmed = append(g.confirmed, f.MsgIds...)
		g.receipted = append(g.receipted, f.ReceiptIds...)
		g.inbox = slices.DeleteFunc(g.inbox, func(m *clientpb.Message) bool {
			return slices.Contains(f.MsgIds, m.MsgId) || slices.Contains(f.ReceiptIds, m.MsgId)
		})
		g.mu.Unlock()
		c.answer(r, status.OK, nil)
	default:
		c.answer(r, status.OK, nil)
	}
}

func (c *gateConn) c2c(r req) {
	g := c.g
	if r.IsRestart() {
		c.open = true
	}
	if !c.open {
		c.answer(r, status.StreamClosed, nil)
		return
	}
	m := &clientpb.C2C{}
	prutal.Unmarshal(r.body, m)
	g.mu.Lock()
	duplicate := slices.ContainsFunc(g.accepted, func(a *clientpb.C2C) bool { return string(a.ClientMsgId) == string(m.ClientMsgId) })
	if !duplicate {
		g.accepted = append(g.accepted, m)
	}
	g.lastID++
	id := g.lastID
	g.mu.Unlock()
	c.answer(r, status.OK, &clientpb.C2CAnswer{MsgId: id, Duplicate: duplicate, ServerTimeMs: time.Now().UnixMilli()})
}

func (c *gateConn) c2s(r req) {
	if r.IsRestart() {
		c.uplinks = true
	}
	if !c.uplinks {
		c.answer(r, status.StreamClosed, nil)
		return
	}
	c.g.mu.Lock()
	c.g.reports = append(c.g.reports, c2sOf(r))
	c.g.mu.Unlock()
	c.answer(r, status.OK, &clientpb.C2SAnswer{ServerTimeMs: time.Now().UnixMilli()})
}

func c2sOf(r req) *clientpb.C2S {
	m := &clientpb.C2S{}
	prutal.Unmarshal(r.body, m)
	return m
}

// reported is the contents of what the topic holds, repeats left out.
func (g *fakeGate) reported() (contents []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	seen := map[string]bool{}
	for _, m := range g.reports {
		if !seen[string(m.ClientMsgId)] {
			contents = append(contents, string(m.Content))
		}
		seen[string(m.ClientMsgId)] = true
	}
	return contents
}

func (g *fakeGate) page(p *clientpb.Pull) *clientpb.PullAnswer {
	g.mu.Lock()
	defer g.mu.Unlock()
	a := &clientpb.PullAnswer{Upto: p.Upto, ServerTimeMs: time.Now().UnixMilli()}
	if a.Upto == 0 {
		for _, m := range g.inbox {
			a.Upto = max(a.Upto, m.MsgId)
		}
	}
	rows := slices.SortedFunc(slices.Values(g.inbox), func(a, b *clientpb.Message) int { return int(int64(a.MsgId - b.MsgId)) })
	for _, m := range rows {
		if m.MsgId <= p.After || m.MsgId > a.Upto {
			continue
		}
		if len(a.Messages) == g.pageRows {
			a.More = true
			break
		}
		a.Messages = append(a.Messages, m)
	}
	return a
}

// put adds a message of a sender's stream to the inbox and returns it.
func (g *fakeGate) put(from string, stream, seq uint64) *clientpb.Message {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lastID++
	m := &clientpb.Message{
		MsgId: g.lastID, From: &clientpb.User{Domain: "d", Uid: from}, FromClass: 1, Stream: stream, TargetSeq: seq,
		ClientMsgId: []byte{byte(stream), byte(seq), byte(g.lastID >> 8), byte(g.lastID), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1},
		Type:        "t", Content: []byte(from),
	}
	g.inbox = append(g.inbox, m)
	return m
}

// putKind adds a message of another kind to the inbox, which change completes, and returns it.
func (g *fakeGate) putKind(kind clientpb.MessageKind, from string, stream, seq uint64, change func(m *clientpb.Message)) *clientpb.Message {
	m := g.put(from, stream, seq)
	g.mu.Lock()
	defer g.mu.Unlock()
	m.Kind = kind
	if change != nil {
		change(m)
	}
	return m
}

// current is the newest connection.
func (g *fakeGate) current() *gateConn {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.conns[len(g.conns)-1]
}

// count is how many frames of cmd have arrived.
func (g *fakeGate) count(cmd uint16) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := 0
	for _, r := range g.reqs {
		if r.Cmd == cmd {
			n++
		}
	}
	return n
}

func (g *fakeGate) setOn(on func(c *gateConn, r req) bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.on = on
}

func c2cOf(r req) *clientpb.C2C {
	m := &clientpb.C2C{}
	prutal.Unmarshal(r.body, m)
	return m
}

// app records what a client's callbacks are told.
type app struct {
	mu     sync.Mutex
	shown  []gatepost.Message
	hears  []gatepost.Receipt
	sent   []gatepost.SendResult
	states []gatepost.StateChange
	parked []gatepost.Message
	refuse func(m gatepost.Message) error
}

func (a *app) onMessage(_ context.Context, m gatepost.Message) error {
	a.mu.Lock()
	refuse := a.refuse
	a.mu.Unlock()
	if refuse != nil {
		if err := refuse(m); err != nil {
			return err
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.shown = append(a.shown, m)
	return nil
}

func (a *app) onReceipt(_ context.Context, r gatepost.Receipt) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.hears = append(a.hears, r)
	return nil
}

func (a *app) seqs() (seqs []uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, m := range a.shown {
		seqs = append(seqs, m.TargetSeq)
	}
	return seqs
}

// messages is what was shown by now.
func (a *app) messages() []gatepost.Message {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.shown)
}

func (a *app) seqsOf(uid string) (seqs []uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, m := range a.shown {
		if m.From.UID == uid {
			seqs = append(seqs, m.TargetSeq)
		}
	}
	return seqs
}

func (a *app) results() []gatepost.SendResult {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.sent)
}

func (a *app) lastState() gatepost.StateChange {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.states) == 0 {
		return gatepost.StateChange{}
	}
	return a.states[len(a.states)-1]
}

func (a *app) config(g *fakeGate, store gatepost.Store) gatepost.Config {
	return gatepost.Config{
		Gates:     []string{"tcp://gate:1"},
		Keys:      []gatepost.Key{g.key.PublicKey()},
		User:      gatepost.User{Domain: "d", UID: "alice"},
		Device:    gatepost.Android,
		Token:     func(context.Context) (string, error) { return "token", nil },
		Store:     store,
		Dialer:    g.dial,
		OnMessage: a.onMessage,
		OnReceipt: a.onReceipt,
		OnSent:    func(r gatepost.SendResult) { a.mu.Lock(); a.sent = append(a.sent, r); a.mu.Unlock() },
		OnState:   func(s gatepost.StateChange) { a.mu.Lock(); a.states = append(a.states, s); a.mu.Unlock() },
		OnParked:  func(m gatepost.Message, _ error) { a.mu.Lock(); a.parked = append(a.parked, m); a.mu.Unlock() },
	}
}

// start makes a client that is closed at the end of the test.
func start(t testing.TB, cfg gatepost.Config) *gatepost.Client {
	t.Helper()
	c, err := gatepost.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func login(t testing.TB, c *gatepost.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := c.Login(ctx); err != nil {
		t.Fatalf("login: %v", err)
	}
}

// online is a client in memory that has logged in, with its gate and its app.
func online(t *testing.T) (*fakeGate, *app, *gatepost.Client) {
	t.Helper()
	g, a := newFakeGate(t), &app{}
	c := start(t, a.config(g, memstore.New()))
	login(t, c)
	return g, a, c
}

func sendN(t testing.TB, c *gatepost.Client, to string, n int) []*gatepost.Sending {
	t.Helper()
	var all []*gatepost.Sending
	for range n {
		s, err := c.C2C(t.Context(), gatepost.User{Domain: "d", UID: to}, gatepost.Outgoing{Type: "t", Content: []byte("x")})
		if err != nil {
			t.Fatalf("send: %v", err)
		}
		all = append(all, s)
	}
	return all
}

func waitAll(t testing.TB, all []*gatepost.Sending) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	for i, s := range all {
		if _, err := s.Wait(ctx); err != nil {
			t.Fatalf("message %d: %v", i+1, err)
		}
	}
}

func acceptedSeqs(g *fakeGate) (seqs []uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, m := range g.accepted {
		seqs = append(seqs, m.TargetSeq)
	}
	return seqs
}

func upTo(n uint64) (seqs []uint64) {
	for i := uint64(1); i <= n; i++ {
		seqs = append(seqs, i)
	}
	return seqs
}

var errApp = errors.New("app says no")

var _ io.Closer = (*gatepost.Client)(nil)

// dialed is how many connections were begun.
func (g *fakeGate) dialed() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.dials
}
