package gate

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudwego/prutal"
	"go.uber.org/goleak"

	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/gen/logicpb"
	"github.com/gatepost/gatepost/idl/limits"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/idl/wire"
)

const (
	cmdHello     = uint16(clientpb.Cmd_CMD_HELLO)
	cmdKeepalive = uint16(clientpb.Cmd_CMD_KEEPALIVE)
	cmdClose     = uint16(clientpb.Cmd_CMD_CLOSE)
	cmdC2C       = uint16(clientpb.Cmd_CMD_C2C)
	cmdC2S       = uint16(clientpb.Cmd_CMD_C2S)
	cmdLogin     = uint16(clientpb.Cmd_CMD_LOGIN)
	cmdLogout    = uint16(clientpb.Cmd_CMD_LOGOUT)
	cmdPull      = uint16(clientpb.Cmd_CMD_PULL)
	cmdDeliver   = uint16(clientpb.Cmd_CMD_DELIVER)
	cmdSync      = uint16(clientpb.Cmd_CMD_SYNC)
	cmdKick      = uint16(clientpb.Cmd_CMD_KICK)
)

// patience is how long a test waits for what must happen.
const patience = 10 * time.Second

// eventually polls until f returns nil.
func eventually(t testing.TB, f func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	t.Fatal(err)
}

func eventuallyTrue(t testing.TB, what string, f func() bool) {
	t.Helper()
	eventually(t, func() error {
		if f() {
			return nil
		}
		return errors.New("never came true: " + what)
	})
}

// fakeLogic is a logic node that binds whoever logs in and answers everything else OK with the body it was sent.
type fakeLogic struct {
	mu       sync.Mutex
	beat     logicpb.BeatResponse
	beatErr  error
	handle   func(context.Context, *logicpb.HandleRequest) (*logicpb.HandleResponse, error) // nil: each frame by answer
	answer   func(*logicpb.Frame) *logicpb.Answer                                           // nil: fakeAnswer
	outcome  func(*logicpb.SessionRef) (logicpb.RegisterOutcome, *logicpb.Winner)           // nil: kept
	frames   []*logicpb.Frame                                                               // handled, in order, bodies copied
	batches  int
	flying   int
	maxFly   int
	beats    []*logicpb.BeatRequest
	ended    []*logicpb.SessionRef
	register []*logicpb.SessionRef
	sessErr  error
	closed   bool
}

func newFake(epoch uint64) *fakeLogic {
	return &fakeLogic{beat: logicpb.BeatResponse{LogicEpoch: epoch, Ready: true, PresenceEpoch: 7}}
}

func (f *fakeLogic) set(change func(*fakeLogic)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

func (f *fakeLogic) Handle(ctx context.Context, req *logicpb.HandleRequest) (*logicpb.HandleResponse, error) {
	f.mu.Lock()
	f.batches++
	f.flying++
	f.maxFly = max(f.maxFly, f.flying)
	for _, fr := range req.Frames {
		c := *fr
		c.Body = append([]byte(nil), fr.Body...)
		f.frames = append(f.frames, &c)
	}
	handle, answer := f.handle, f.answer
	f.mu.Unlock()
	defer f.set(func(f *fakeLogic) { f.flying-- })
	if handle != nil {
		return handle(ctx, req)
	}
	if answer == nil {
		answer = fakeAnswer
	}
	resp := &logicpb.HandleResponse{}
	for _, fr := range req.Frames {
		resp.Answers = append(resp.Answers, answer(fr))
	}
	return resp, nil
}

func fakeAnswer(fr *logicpb.Frame) *logicpb.Answer {
	switch uint16(fr.Cmd) {
	case cmdLogin:
		var l clientpb.Login
		if err := prutal.Unmarshal(fr.Body, &l); err != nil {
			return &logicpb.Answer{Status: uint32(status.BadRequest)}
		}
		return &logicpb.Answer{Bind: &logicpb.Session{
			Domain: l.Domain, Uid: l.Uid, DeviceClass: int32(l.DeviceClass), Number: l.LoginCounter,
			Installation: l.Installation, LoginCounter: l.LoginCounter,
		}, Body: marshal(&clientpb.LoginAnswer{Session: l.LoginCounter})}
	case cmdLogout:
		return &logicpb.Answer{Unbind: true}
	default:
		return &logicpb.Answer{Body: append([]byte(nil), fr.Body...)}
	}
}

func (f *fakeLogic) Beat(_ context.Context, req *logicpb.BeatRequest) (*logicpb.BeatResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.beats = append(f.beats, req)
	if f.beatErr != nil {
		return nil, f.beatErr
	}
	resp := f.beat
	return &resp, nil
}

func (f *fakeLogic) Sessions(_ context.Context, req *logicpb.SessionsRequest) (*logicpb.SessionsResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.sessErr != nil {
		return nil, f.sessErr
	}
	f.ended = append(f.ended, req.Ended...)
	f.register = append(f.register, req.Register...)
	resp := &logicpb.SessionsResponse{PresenceEpoch: f.beat.PresenceEpoch}
	for _, ref := range req.Register {
		o, w := logicpb.RegisterOutcome_REGISTER_KEPT, &logicpb.Winner{}
		if f.outcome != nil {
			o, w = f.outcome(ref)
		}
		resp.Registered = append(resp.Registered, o)
		resp.Winners = append(resp.Winners, w)
	}
	return resp, nil
}

func (f *fakeLogic) Close() error {
	f.set(func(f *fakeLogic) { f.closed = true })
	return nil
}

// bodies of the handled frames of a command, in order.
func (f *fakeLogic) bodies(cmd uint16) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var bs []string
	for _, fr := range f.frames {
		if uint16(fr.Cmd) == cmd {
			bs = append(bs, string(fr.Body))
		}
	}
	return bs
}

// testGate is a running gate with its logic nodes, which are called "a", "b"…
type testGate struct {
	*Gate
	t   testing.TB
	key wire.PrivateKey
}

func testConfig() Config {
	cfg := Default()
	cfg.ListenTCP = "127.0.0.1:0"
	cfg.HandshakeRate = 0
	cfg.BeatInterval = 20 * time.Millisecond
	cfg.SyncSpread = 10 * time.Millisecond
	cfg.RegisterPause = time.Millisecond
	cfg.CloseTimeout = 300 * time.Millisecond
	cfg.DrainTime = 20 * time.Millisecond
	return cfg
}

// startGate starts a gate over the fakes, waits until it is ready, and at the end of the test stops it and looks for goroutines that stayed.
func startGate(t testing.TB, change func(*Config), fakes ...*fakeLogic) *testGate {
	t.Helper()
	leaks := goleak.IgnoreCurrent()
	key, err := wire.GenerateKey(3)
	if err != nil {
		t.Fatal(err)
	}
	cfg := testConfig()
	byAddress := map[string]*fakeLogic{}
	for i, f := range fakes {
		a := string(rune('a' + i))
		byAddress[a] = f
		cfg.Logic = append(cfg.Logic, a)
	}
	if change != nil {
		change(&cfg)
	}
	level := slog.LevelError
	if testing.Verbose() {
		level = slog.LevelDebug
	}
	deps := Deps{
		Logger: slog.New(slog.NewTextHandler(logWriter{}, &slog.HandlerOptions{Level: level})),
		Keys:   []wire.PrivateKey{key},
		Dial: func(a string) (Logic, error) {
			if f := byAddress[a]; f != nil {
				return f, nil
			}
			return nil, errors.New("no such node")
		},
	}
	if cfg.ListenTLS != "" {
		deps.TLS = testTLS(t)
	}
	g, err := New(cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		g.Close()
		if err := goleak.Find(leaks); err != nil {
			t.Error(err)
		}
	})
	eventuallyTrue(t, "ready", func() bool { return g.Ready() || len(fakes) == 0 || !fakes[0].beat.Ready })
	return &testGate{Gate: g, t: t, key: key}
}

type logWriter struct{}

func (logWriter) Write(p []byte) (int, error) { return os.Stderr.Write(p) }

func testTLS(t testing.TB) *tls.Config {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"gate"}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

func (g *testGate) addr(scheme string) string {
	for _, a := range g.Addrs() {
		if rest, ok := strings.CutPrefix(a, scheme+"://"); ok {
			return rest
		}
	}
	g.t.Fatalf("no %s listener", scheme)
	return ""
}

// client speaks the client's side of the wire and nothing of its rules.
type client struct {
	t    testing.TB
	nc   net.Conn
	open wire.Opener
	seal wire.Sealer
	seq  uint32
}

type frame struct {
	wire.Header
	body []byte
}

// raw connects and says nothing.
func (g *testGate) raw() *client {
	g.t.Helper()
	nc, err := net.Dial("tcp", g.addr("tcp"))
	if err != nil {
		g.t.Fatal(err)
	}
	return g.over(nc)
}

func (g *testGate) over(nc net.Conn) *client {
	g.t.Cleanup(func() { nc.Close() })
	return &client{t: g.t, nc: nc}
}

// connect connects and says hello.
func (g *testGate) connect() *client {
	g.t.Helper()
	c := g.raw()
	k := g.key.PublicKey()
	if f := c.hello(&k); f.Status != status.OK {
		g.t.Fatalf("hello: %v", f.Status)
	}
	return c
}

// login connects and logs in.
func (g *testGate) login(uid string, session uint64) *client {
	g.t.Helper()
	c := g.connect()
	if f := c.call(cmdLogin, 0, loginBody(uid, session)); f.Status != status.OK {
		g.t.Fatalf("login: %v", f.Status)
	}
	return c
}

func loginBody(uid string, session uint64) []byte {
	return marshal(&clientpb.Login{Domain: "d", Uid: uid, DeviceClass: 1, LoginCounter: session, Installation: []byte(uid + "0123456789abcdef")[:16]})
}

func (c *client) hello(key *wire.PublicKey) frame {
	c.t.Helper()
	i, body, err := wire.NewHello(key, &clientpb.HelloOffer{Sdk: "test/1"})
	if err != nil {
		c.t.Fatal(err)
	}
	c.send(cmdHello, 0, body)
	f := c.recv()
	if f.Cmd == cmdHello && f.Status == status.OK {
		var settings *clientpb.HelloSettings
		if settings, c.open, c.seal, err = i.Finish(f.body); err != nil {
			c.t.Fatal(err)
		}
		if settings.MaxBodyBytes != limits.BodyToGateBytes || settings.KeepaliveIntervalMs == 0 {
			c.t.Fatalf("settings %+v", settings)
		}
	}
	return f
}

// send sends a request and returns its seq.
func (c *client) send(cmd uint16, flags wire.Flags, body []byte) uint32 {
	c.seq++
	c.write(c.seal.AppendFrame(nil, wire.Header{Cmd: cmd, Flags: flags, Seq: c.seq}, body))
	return c.seq
}

func (c *client) write(b []byte) {
	c.nc.SetWriteDeadline(time.Now().Add(patience))
	c.nc.Write(b) // an error shows itself by what is not answered
}

// next reads a frame; the error is that of the socket.
func (c *client) next() (frame, error) {
	c.nc.SetReadDeadline(time.Now().Add(patience))
	h, b, err := wire.ReadFrame(c.nc, limits.BodyToClientBytes+wire.SealOverhead)
	if err != nil {
		return frame{}, err
	}
	if b, err = c.open.Open(h, b, limits.BodyToClientBytes); err != nil {
		return frame{}, err
	}
	f := frame{h, append([]byte(nil), b.Bytes()...)}
	b.Release()
	return f, nil
}

func (c *client) recv() frame {
	c.t.Helper()
	f, err := c.next()
	if err != nil {
		c.t.Fatalf("receive: %v", err)
	}
	return f
}

// call sends a request and returns the frame that follows, which must be its answer.
func (c *client) call(cmd uint16, flags wire.Flags, body []byte) frame {
	c.t.Helper()
	seq := c.send(cmd, flags, body)
	f := c.recv()
	if f.Cmd != cmd || f.Seq != seq || !f.IsResponse() {
		c.t.Fatalf("answer to %#x/%d is %#x/%d %v", cmd, seq, f.Cmd, f.Seq, f.Status)
	}
	return f
}

// closes reads up to CLOSE, which must have that status, and the end of the connection behind it. It returns what came before.
func (c *client) closes(code status.Code) (before []frame) {
	c.t.Helper()
	for {
		f := c.recv()
		if f.Cmd != cmdClose {
			before = append(before, f)
			continue
		}
		if f.Status != code {
			c.t.Fatalf("closed with %v, want %v", f.Status, code)
		}
		var r clientpb.Refusal
		if err := prutal.Unmarshal(f.body, &r); err != nil || r.Reason == "" {
			c.t.Fatalf("refusal %+v, %v", r, err)
		}
		if f, err := c.next(); err == nil {
			c.t.Fatalf("behind CLOSE came %#x", f.Cmd)
		} else if !errors.Is(err, io.EOF) {
			c.t.Logf("end of the connection: %v", err)
		}
		return before
	}
}
