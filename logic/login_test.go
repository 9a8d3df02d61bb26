package logic

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/gen/logicpb"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/store"
)

func loginOf(uid string, installation byte, counter uint64) *clientpb.Login {
	return &clientpb.Login{Domain: "d", Uid: uid, Token: []byte("good"), DeviceClass: 1, Installation: bytes.Repeat([]byte{installation}, 16), LoginCounter: counter}
}

func (w *world) login(conn uint64, m *clientpb.Login) *logicpb.Answer {
	return w.handle(frame(w.t, "", conn, clientpb.Cmd_CMD_LOGIN, m))[0]
}

func beatOf(epoch uint64, address string, presence uint64) *logicpb.BeatRequest {
	return &logicpb.BeatRequest{GateEpoch: epoch, Name: address, RpcAddress: address, PresenceEpoch: presence}
}

func TestLoginBindsAndRegisters(t *testing.T) {
	w := newWorld(t, nil)
	a := w.login(5, loginOf("ann", 1, 4))
	wantCodes(t, []*logicpb.Answer{a}, status.OK)
	b := a.Bind
	if b == nil || b.Domain != "d" || b.Uid != "ann" || b.DeviceClass != 1 || b.LoginCounter != 4 || !bytes.Equal(b.Installation, bytes.Repeat([]byte{1}, 16)) {
		t.Fatalf("bind %+v", b)
	}
	if m := decode[clientpb.LoginAnswer](t, a); m.Session != b.Number || m.ServerTimeMs == 0 {
		t.Errorf("%+v", m)
	}
	l, err := w.presence.Lookup(context.Background(), []store.UserKey{w.user("ann")})
	if err != nil || len(l.Routes[0]) != 1 || l.Routes[0][0].ConnID != 5 || l.Routes[0][0].Session != b.Number {
		t.Errorf("%+v %v", l, err)
	}
	again := w.login(5, loginOf("ann", 1, 4)) // the answer was lost
	wantCodes(t, []*logicpb.Answer{again}, status.OK)
	if again.Bind.Number != b.Number {
		t.Errorf("a repeated login changed the session from %d to %d", b.Number, again.Bind.Number)
	}
}

func TestLoginRefusals(t *testing.T) {
	w := newWorld(t, nil)
	for _, c := range []struct {
		name   string
		change func(*clientpb.Login)
		want   status.Code
		closes bool
	}{
		{"bad token", func(m *clientpb.Login) { m.Token = []byte("bad") }, status.BadToken, true},
		{"unknown domain", func(m *clientpb.Login) { m.Domain = "nowhere" }, status.UnknownDomain, true},
		{"no uid", func(m *clientpb.Login) { m.Uid = "" }, status.BadRequest, false},
		{"class 0", func(m *clientpb.Login) { m.DeviceClass = 0 }, status.BadRequest, false},
		{"class 32", func(m *clientpb.Login) { m.DeviceClass = 32 }, status.BadRequest, false},
		{"class of a newer client", func(m *clientpb.Login) { m.DeviceClass = 31 }, status.OK, false},
		{"short installation", func(m *clientpb.Login) { m.Installation = m.Installation[:15] }, status.BadRequest, false},
		{"huge token", func(m *clientpb.Login) { m.Token = make([]byte, maxTokenBytes+1) }, status.BadRequest, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := loginOf("ann", 1, 1)
			c.change(m)
			a := w.login(1, m)
			if status.Code(a.Status) != c.want || a.Close != c.closes || (a.Bind != nil) != (c.want == status.OK) {
				t.Errorf("%+v, want %v", a, c.want)
			}
		})
	}
	wantCodes(t, w.handle(frame(t, "ann", 1, clientpb.Cmd_CMD_LOGIN, loginOf("ann", 1, 1))), status.AlreadyLoggedIn)
}

func TestNewerLoginKicksTheOlder(t *testing.T) {
	w := newWorld(t, nil)
	w.beat(1, "g1")
	first := w.login(5, loginOf("ann", 1, 4))
	second := w.login(6, loginOf("ann", 2, 1)) // between installations the later one wins
	if second.Bind.Number <= first.Bind.Number {
		t.Errorf("sessions %d, then %d", first.Bind.Number, second.Bind.Number)
	}
	eventually(t, "the old connection is kicked", func() bool { return len(w.gates.kicked()) == 1 })
	k := w.gates.kicked()[0]
	if k.address != "g1" || k.item.ConnId != 5 || k.item.BelowSession != second.Bind.Number || status.Code(k.item.Status) != status.Replaced ||
		k.item.WinnerCounter != 1 || !bytes.Equal(k.item.WinnerInstallation, second.Bind.Installation) {
		t.Errorf("%+v", k.item)
	}
	third := w.login(7, loginOf("ann", 2, 1)) // same installation, counter not higher
	if status.Code(third.Status) != status.StaleLogin || !third.Close || third.Bind != nil {
		t.Errorf("%+v", third)
	}
}

func TestFailedKickIsTriedAgain(t *testing.T) {
	w := newWorld(t, nil)
	w.beat(1, "g1")
	tries := 0
	w.gates.mu.Lock()
	w.gates.onKick = func(string) error {
		if tries++; tries < maxKickTries {
			return errors.New("reset")
		}
		return nil
	}
	w.gates.mu.Unlock()
	w.login(5, loginOf("ann", 1, 4))
	w.login(6, loginOf("ann", 2, 1))
	eventually(t, "it arrives", func() bool { return len(w.gates.kicked()) == 1 })
}

func TestLoginWithoutPresence(t *testing.T) {
	w := newWorld(t, nil)
	w.beat(1, "g1")
	w.beat(2, "g2")
	w.presence.setAway(true)
	a := w.login(5, loginOf("ann", 1, 4))
	wantCodes(t, []*logicpb.Answer{a}, status.OK)
	if micros := uint64(time.Now().UnixMicro()); a.Bind.Number > micros || a.Bind.Number < micros-60e6 {
		t.Errorf("session %d is not the clock's", a.Bind.Number)
	}
	eventually(t, "every gate was asked to kick", func() bool { return len(w.gates.kicked()) == 2 })
	for _, k := range w.gates.kicked() {
		if k.item.ConnId != 0 || k.item.Uid != "ann" || k.item.DeviceClass != 1 || k.item.BelowSession != a.Bind.Number {
			t.Errorf("%+v", k.item)
		}
	}
}

// A counter that the table of sessions has forgotten is known to the database: a store that was restored is found out all the same,
// and an installation that goes on counting is not.
func TestForgottenLoginCounter(t *testing.T) {
	installation := [16]byte(bytes.Repeat([]byte{1}, 16))
	w := newWorld(t, func(w *world, _ *setup) {
		w.devices.logins = []store.Device{{Owner: w.user("ann"), Class: 1, LoginCounter: 4, Installation: installation}} // retired since, or another's
	})
	for _, away := range []bool{false, true} {
		w.presence.setAway(away)
		for _, counter := range []uint64{3, 4} {
			wantCodes(t, []*logicpb.Answer{w.login(5, loginOf("ann", 1, counter))}, status.StaleLogin)
		}
		w.presence.setAway(false)
		l, err := w.presence.Lookup(context.Background(), []store.UserKey{w.user("ann")})
		if err != nil || len(l.Routes[0]) != 0 {
			t.Fatalf("a stale login left a route: %+v %v", l, err)
		}
	}
	wantCodes(t, []*logicpb.Answer{w.login(6, loginOf("ann", 1, 5)), w.login(7, loginOf("ann", 2, 1)), w.login(8, loginOf("bob", 1, 1))},
		status.OK, status.OK, status.OK)
}

// The table was emptied and another installation of the class has logged in since: the restored store is found out all the same.
// The other one is replaced, as by any later login: it is told so, because its route is gone.
func TestForgottenLoginCounterBesideAnotherInstallation(t *testing.T) {
	w := newWorld(t, func(w *world, _ *setup) {
		w.devices.logins = []store.Device{{Owner: w.user("ann"), Class: 1, LoginCounter: 4, Installation: [16]byte(bytes.Repeat([]byte{1}, 16))}}
	})
	w.beat(1, "g1")
	other := w.login(6, loginOf("ann", 2, 1))
	wantCodes(t, []*logicpb.Answer{other, w.login(5, loginOf("ann", 1, 3))}, status.OK, status.StaleLogin)
	eventually(t, "the other installation is kicked", func() bool { return len(w.gates.kicked()) == 1 })
	if k := w.gates.kicked()[0].item; k.ConnId != 6 || k.BelowSession <= other.Bind.Number {
		t.Errorf("%+v", k)
	}
	wantCodes(t, []*logicpb.Answer{w.login(7, loginOf("ann", 1, 5))}, status.OK)
}

func TestForgottenLoginCounterWithoutDatabase(t *testing.T) {
	w := newWorld(t, func(w *world, _ *setup) { w.devices.err = store.ErrUnavailable })
	wantCodes(t, []*logicpb.Answer{w.login(5, loginOf("ann", 1, 1))}, status.OK)
}

// A login stalls in an outside check while the client logs in elsewhere: the stalled one is stale when it comes to the table.
func TestStalledLoginIsStale(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	w := newWorld(t, func(_ *world, s *setup) {
		s.deps.Domains.ByName["d"] = &Domain{Auth: authFunc(func(_ context.Context, _ store.UserKey, token []byte) error {
			if string(token) == "slow" {
				close(entered)
				<-release
			}
			return nil
		})}
	})
	slow := loginOf("ann", 1, 1)
	slow.Token = []byte("slow")
	stalled := make(chan *logicpb.Answer)
	go func() { stalled <- w.login(1, slow) }()
	<-entered
	wantCodes(t, []*logicpb.Answer{w.login(2, loginOf("ann", 1, 2))}, status.OK) // and is not held up
	close(release)
	wantCodes(t, []*logicpb.Answer{<-stalled}, status.StaleLogin)
}

func TestSlowAuthenticatorIsBoundedAndAlone(t *testing.T) {
	entered := make(chan struct{}, 8)
	w := newWorld(t, func(_ *world, s *setup) {
		s.cfg.LoginConcurrency, s.cfg.LoginTimeout = 1, 50*time.Millisecond
		s.deps.Domains.ByName["slow"] = &Domain{Auth: authFunc(func(ctx context.Context, _ store.UserKey, _ []byte) error {
			entered <- struct{}{}
			<-ctx.Done()
			return ctx.Err()
		})}
	})
	slow := func(uid string) *logicpb.Frame {
		m := loginOf(uid, 1, 1)
		m.Domain = "slow"
		return frame(t, "", 1, clientpb.Cmd_CMD_LOGIN, m)
	}
	answers := make(chan []*logicpb.Answer)
	go func() { answers <- w.handle(slow("a"), slow("b"), slow("c")) }()
	<-entered
	wantCodes(t, []*logicpb.Answer{w.login(9, loginOf("ann", 1, 1))}, status.OK)
	for _, c := range codes(<-answers) {
		if c != status.Unavailable && c != status.Overloaded {
			t.Errorf("got %v", c)
		}
	}
}

// A change of the table frees nothing that is in use.
func TestLoginSlotsStayOverAChange(t *testing.T) {
	entered, release := make(chan struct{}, 1), make(chan struct{})
	d := &Domain{Auth: authFunc(func(ctx context.Context, _ store.UserKey, _ []byte) error {
		entered <- struct{}{}
		<-release
		return nil
	})}
	w := newWorld(t, func(_ *world, s *setup) {
		s.cfg.LoginConcurrency, s.cfg.LoginTimeout = 1, 50*time.Millisecond
		s.deps.Domains = Domains{ByName: map[string]*Domain{"d": d}, Other: d}
	})
	first := make(chan *logicpb.Answer)
	go func() { first <- w.login(1, loginOf("ann", 1, 1)) }()
	<-entered
	if err := w.node.SetDomains(Domains{ByName: map[string]*Domain{"d": {Auth: anyone}}, Other: d}); err != nil {
		t.Fatal(err)
	}
	wantCodes(t, []*logicpb.Answer{w.login(2, loginOf("bob", 1, 1))}, status.Overloaded)
	close(release)
	wantCodes(t, []*logicpb.Answer{<-first}, status.OK)
	wantCodes(t, []*logicpb.Answer{w.login(3, loginOf("bob", 1, 2))}, status.OK)
}

func TestLogout(t *testing.T) {
	w := newWorld(t, nil)
	r := w.online("ann", 1, 1, 100)
	w.devices.devices = []store.Device{{Owner: w.user("ann"), Class: 1, Session: r.Session}}
	logout := func() *logicpb.Answer {
		f := frame(t, "ann", 100, clientpb.Cmd_CMD_LOGOUT, &clientpb.Logout{})
		f.Session.Number = r.Session
		return w.handle(f)[0]
	}
	w.devices.mu.Lock()
	w.devices.err = store.ErrUnavailable
	w.devices.mu.Unlock()
	a := logout()
	if status.Code(a.Status) != status.Unavailable || a.Unbind || a.Close {
		t.Fatalf("while the database is away: %+v", a)
	}
	w.devices.mu.Lock()
	w.devices.err = nil
	w.devices.mu.Unlock()
	a = logout()
	if status.Code(a.Status) != status.OK || !a.Unbind {
		t.Fatalf("%+v", a)
	}
	if len(w.devices.retired) != 1 {
		t.Error("the class is still owed messages")
	}
	l, err := w.presence.Lookup(context.Background(), []store.UserKey{w.user("ann")})
	if err != nil || len(l.Routes[0]) != 0 {
		t.Errorf("the route stayed: %+v %v", l, err)
	}
}

// The KICK of a session that lost its place does not arrive, and the winner logs out: the loser is found by its gate's walk all the
// same, comes back nowhere, and its own logout ends nothing (G5).
func TestKickIsLostAndTheWinnerLogsOut(t *testing.T) {
	for name, winner := range map[string]*clientpb.Login{"another installation": loginOf("ann", 2, 1), "the same installation": loginOf("ann", 1, 5)} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			w.beat(1, "g1")
			w.gates.mu.Lock()
			w.gates.onKick = func(string) error { return errors.New("reset") }
			w.gates.mu.Unlock()
			on := func(bind *logicpb.Session, conn uint64, cmd clientpb.Cmd, body any) {
				t.Helper()
				f := frame(t, "ann", conn, cmd, body)
				f.Session = bind
				wantCodes(t, w.handle(f), status.OK)
			}
			lost := w.login(5, loginOf("ann", 1, 4)).Bind
			on(lost, 5, clientpb.Cmd_CMD_PULL, &clientpb.Pull{Register: true})
			won := w.login(6, winner).Bind
			on(won, 6, clientpb.Cmd_CMD_PULL, &clientpb.Pull{Register: true})
			on(lost, 5, clientpb.Cmd_CMD_PULL, &clientpb.Pull{Register: true}) // late
			on(lost, 5, clientpb.Cmd_CMD_LOGOUT, &clientpb.Logout{})
			if len(w.devices.retired) != 0 {
				t.Error("a fenced session retired the class")
			}
			l, err := w.presence.Lookup(context.Background(), []store.UserKey{w.user("ann")})
			if err != nil || len(l.Routes[0]) != 1 || l.Routes[0][0].ConnID != 6 {
				t.Errorf("a fenced session undid the route: %+v %v", l, err)
			}
			on(won, 6, clientpb.Cmd_CMD_LOGOUT, &clientpb.Logout{})
			if len(w.devices.retired) != 1 {
				t.Error("the class is still owed messages")
			}
			res, err := w.node.Sessions(context.Background(), &logicpb.SessionsRequest{GateEpoch: 1, Register: []*logicpb.SessionRef{{ConnId: 5, Session: lost}}})
			if err != nil || res.Registered[0] != logicpb.RegisterOutcome_REGISTER_REFUSED || !bytes.Equal(res.Winners[0].Installation, won.Installation) {
				t.Errorf("the walk of the loser's gate: %+v %v", res, err)
			}
		})
	}
}

// A LOGIN dies after the Lua: its route leads to a connection without a session. The next one takes its place, and what comes late
// of the first changes nothing.
func TestLoginDiesAfterTheTable(t *testing.T) {
	w := newWorld(t, nil)
	w.beat(1, "g1")
	dead := w.login(5, loginOf("ann", 1, 4)).Bind // nobody hears it
	next := w.login(6, loginOf("ann", 1, 5)).Bind
	if next.Number <= dead.Number {
		t.Fatalf("session %d after %d", next.Number, dead.Number)
	}
	if _, err := w.node.Sessions(context.Background(), &logicpb.SessionsRequest{GateEpoch: 1, Ended: []*logicpb.SessionRef{{ConnId: 5, Session: dead}}}); err != nil {
		t.Fatal(err)
	}
	wantCodes(t, []*logicpb.Answer{w.login(5, loginOf("ann", 1, 4))}, status.StaleLogin)
	l, err := w.presence.Lookup(context.Background(), []store.UserKey{w.user("ann")})
	if err != nil || len(l.Routes[0]) != 1 || l.Routes[0][0].ConnID != 6 || l.Routes[0][0].Session != next.Number {
		t.Errorf("%+v %v", l, err)
	}
	wantCodes(t, w.handle(c2cFrame(t, "bob", 1, "ann", 1)), status.OK)
	eventually(t, "it is delivered to the one that lives", func() bool {
		got := w.gates.seen(func(delivered) bool { return true })
		return len(got) == 1 && got[0].item.ConnId == 6
	})
}

func TestSessionsEndAndRegister(t *testing.T) {
	w := newWorld(t, nil)
	epoch := w.beat(1, "g1").PresenceEpoch
	old := w.online("ann", 1, 1, 100)
	now := w.online("ann", 1, 1, 101) // replaced it
	ref := func(uid string, r store.Route) *logicpb.SessionRef {
		return &logicpb.SessionRef{ConnId: r.ConnID, Session: &logicpb.Session{Domain: "d", Uid: uid, DeviceClass: int32(r.Class), Number: r.Session,
			Installation: r.Installation[:], LoginCounter: r.LoginCounter}}
	}
	sessions := func(req *logicpb.SessionsRequest) *logicpb.SessionsResponse {
		t.Helper()
		req.GateEpoch = 1
		res, err := w.node.Sessions(context.Background(), req)
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	sessions(&logicpb.SessionsRequest{Ended: []*logicpb.SessionRef{ref("ann", old), {}}})
	fresh := store.Route{Class: 2, ConnID: 102, Session: uint64(time.Now().UnixMicro()), Installation: [16]byte{2}, LoginCounter: 1}
	res := sessions(&logicpb.SessionsRequest{Register: []*logicpb.SessionRef{ref("ann", now), ref("ann", old), ref("bob", fresh), {}}})
	want := []logicpb.RegisterOutcome{logicpb.RegisterOutcome_REGISTER_KEPT, logicpb.RegisterOutcome_REGISTER_REFUSED,
		logicpb.RegisterOutcome_REGISTER_MADE, logicpb.RegisterOutcome_REGISTER_REFUSED}
	for i, o := range want {
		if res.Registered[i] != o {
			t.Errorf("session %d: %v, want %v", i, res.Registered[i], o)
		}
	}
	if len(res.Winners) != 4 || res.Winners[1].LoginCounter != now.LoginCounter || res.PresenceEpoch != epoch {
		t.Errorf("%+v", res)
	}
	w.presence.setAway(true)
	if _, err := w.node.Sessions(context.Background(), &logicpb.SessionsRequest{Ended: []*logicpb.SessionRef{ref("ann", now)}}); err == nil {
		t.Error("an end that was not noted was answered as if it were")
	}
}
