package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudwego/prutal"

	"github.com/gatepost/gatepost/audit"
	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/limits"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/idl/wire"
)

// fakeGate shakes hands, answers LOGIN, PULL and KEEPALIVE, and counts them.
type fakeGate struct {
	key      wire.PrivateKey
	listener net.Listener
	all      sync.WaitGroup

	mu      sync.Mutex
	seen    map[clientpb.Cmd]int
	last    map[string]uint64 // uid → login counter
	refuse  int               // this LOGIN is refused; 0: none
	deaf    int               // this KEEPALIVE ends its connection; 0: none
	waiting int               // messages on a page
}

func newFakeGate(t *testing.T) *fakeGate {
	t.Helper()
	key, err := wire.GenerateKey(1)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &fakeGate{key: key, listener: l, seen: map[clientpb.Cmd]int{}, last: map[string]uint64{}}
	g.all.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			g.all.Go(func() {
				defer nc.Close()
				if err := g.serve(nc); err != nil {
					t.Log("a connection ended:", err)
				}
			})
		}
	})
	t.Cleanup(func() { l.Close(); g.all.Wait() })
	return g
}

func (g *fakeGate) target() audit.Target {
	return audit.Target{
		Gates: []string{"tcp://" + g.listener.Addr().String()}, Keys: []string{g.key.PublicKey().String()}, Domain: "local",
		Token: func(_ context.Context, uid string) (string, error) { return "token of " + uid, nil },
	}
}

func (g *fakeGate) serve(nc net.Conn) error {
	h, body, err := wire.ReadFrame(nc, limits.HelloBodyBytes)
	if err != nil {
		return err
	}
	accept, err := wire.AcceptHello(body.Bytes(), []wire.PrivateKey{g.key}, false, func(*clientpb.HelloOffer) *clientpb.HelloSettings {
		return &clientpb.HelloSettings{KeepaliveIntervalMs: 40}
	})
	if err != nil {
		return err
	}
	var clear wire.Sealer
	if _, err := nc.Write(clear.AppendFrame(nil, wire.Header{Cmd: h.Cmd, Seq: h.Seq, Flags: wire.FlagResponse}, accept.Answer)); err != nil {
		return err
	}
	for {
		h, body, err := wire.ReadFrame(nc, limits.BodyToClientBytes)
		if err != nil {
			return nil // the client left
		}
		if body, err = accept.Opener.Open(h, body, limits.BodyToClientBytes); err != nil {
			return err
		}
		code, answer, err := g.answer(clientpb.Cmd(h.Cmd), body.Bytes())
		if err != nil || h.Cmd == uint16(clientpb.Cmd_CMD_CLOSE) {
			return err
		}
		// Something that was not asked for comes before each answer.
		frames := accept.Sealer.AppendFrame(nil, wire.Header{Cmd: uint16(clientpb.Cmd_CMD_SYNC), Seq: 1}, nil)
		frames = accept.Sealer.AppendFrame(frames, wire.Header{Cmd: h.Cmd, Seq: h.Seq, Flags: wire.FlagResponse, Status: code}, answer)
		if _, err := nc.Write(frames); err != nil {
			return err
		}
	}
}

func (g *fakeGate) answer(cmd clientpb.Cmd, body []byte) (status.Code, []byte, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.seen[cmd]++
	var answer any
	switch cmd {
	case clientpb.Cmd_CMD_LOGIN:
		var l clientpb.Login
		if err := prutal.Unmarshal(body, &l); err != nil {
			return 0, nil, err
		}
		if string(l.Token) != "token of "+l.Uid || len(l.Installation) != 16 || l.LoginCounter != g.last[l.Uid]+1 {
			return 0, nil, fmt.Errorf("a login that is not as it should be: %+v after counter %d", &l, g.last[l.Uid])
		}
		g.last[string([]byte(l.Uid))] = l.LoginCounter // the body goes with its buffer
		if g.seen[cmd] == g.refuse {
			return status.BadToken, nil, nil
		}
		answer = &clientpb.LoginAnswer{Session: 7}
	case clientpb.Cmd_CMD_PULL:
		answer = &clientpb.PullAnswer{Messages: make([]*clientpb.Message, 0)}
		for range g.waiting {
			answer.(*clientpb.PullAnswer).Messages = append(answer.(*clientpb.PullAnswer).Messages, &clientpb.Message{MsgId: 1})
		}
	case clientpb.Cmd_CMD_KEEPALIVE:
		if g.seen[cmd] == g.deaf {
			return 0, nil, errors.New("as the test wants it")
		}
		return status.OK, nil, nil
	default:
		return status.OK, nil, nil
	}
	b, err := prutal.MarshalAppend(nil, answer)
	return status.OK, b, err
}

func (g *fakeGate) count(cmd clientpb.Cmd) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.seen[cmd]
}

func TestLoginsAreCounted(t *testing.T) {
	for _, known := range []int{0, 5} {
		g := newFakeGate(t)
		b := Logins{Target: g.target(), Workers: 3, Users: known, Pull: known > 0, Warmup: 20 * time.Millisecond, Duration: 200 * time.Millisecond}
		r, err := b.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		logins, pulls := g.count(clientpb.Cmd_CMD_LOGIN), g.count(clientpb.Cmd_CMD_PULL)
		if v := r.Verdict; !v.Pass || v.Accepted == 0 || v.Accepted+known != logins || *r.LoginsPerS <= 0 || r.Login == nil || r.AcceptedPerS != nil {
			t.Errorf("%d known: %s, the gate saw %d", known, v, logins)
		}
		if known == 0 && pulls != 0 || known > 0 && pulls != logins {
			t.Errorf("%d known: %d logins and %d pulls", known, logins, pulls)
		}
		g.mu.Lock()
		if users := len(g.last); known > 0 && users != known || known == 0 && users != logins {
			t.Errorf("%d known: %d users logged in %d times", known, users, logins)
		}
		g.mu.Unlock()
	}
}

func TestRefusedLoginFails(t *testing.T) {
	g := newFakeGate(t)
	g.refuse = 10
	r, err := Logins{Target: g.target(), Workers: 2, Duration: 200 * time.Millisecond}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if v := r.Verdict; v.Pass || v.Refused != 1 || len(v.Violations) != 1 || !strings.Contains(v.Violations[0].History, status.BadToken.String()) {
		t.Errorf("%s %+v", v, v.Violations)
	}
}

func TestIdleConnectionsLive(t *testing.T) {
	if _, err := os.Stat("/proc/self/status"); err != nil {
		t.Log("no memory can be read on this system")
		return
	}
	g := newFakeGate(t)
	b := Connections{Target: g.target(), Number: 20, AtOnce: 4, Wait: 150 * time.Millisecond, Servers: []audit.Server{{Name: "this", PID: os.Getpid()}}}
	r, err := b.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// At least one round of keepalives while it waits, and one at the end.
	if v := r.Verdict; !v.Pass || v.Accepted != 20 || r.Idle.Processes["this"].After.RSS == 0 || g.count(clientpb.Cmd_CMD_KEEPALIVE) < 40 || g.count(clientpb.Cmd_CMD_PULL) != 20 {
		t.Errorf("%s %+v, %d keepalives", v, r.Idle, g.count(clientpb.Cmd_CMD_KEEPALIVE))
	}
	g = newFakeGate(t)
	g.deaf = 7
	b.Target, b.Wait = g.target(), 10*time.Millisecond // shorter than an interval: keepalives at the end only
	if r, err = b.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if v := r.Verdict; v.Pass || v.Accepted != 19 || len(v.Violations) != 1 {
		t.Errorf("a connection that died: %s", v)
	}
}

func TestPullsNeedFullPages(t *testing.T) {
	g := newFakeGate(t)
	g.waiting = page
	l, err := Pulls(t.Context(), g.target(), []string{"a", "b"})
	if err != nil || l.P50 <= 0 {
		t.Error(l, err)
	}
	g.waiting = page - 1
	if _, err := Pulls(t.Context(), g.target(), []string{"c"}); err == nil || !strings.Contains(err.Error(), "99 messages came") {
		t.Errorf("%v", err)
	}
}
