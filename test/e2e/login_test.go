//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"testing"

	"github.com/cloudwego/prutal"

	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/idl/wire"
	gatepost "github.com/gatepost/gatepost/sdk/go"
	"github.com/gatepost/gatepost/test/harness"
)

// closedBy waits until x stays away for code.
func closedBy(t *testing.T, x *harness.Person, code status.Code) {
	t.Helper()
	harness.Eventually(t, harness.Patience, func() error {
		states := x.States()
		if len(states) == 0 || states[len(states)-1].State != gatepost.Closed || states[len(states)-1].Code() != code {
			return fmt.Errorf("%s is not closed by %q: %+v", x.UID, code, states)
		}
		return nil
	})
}

// The newest login of a class wins, on whichever gate; the loser is told and stays away.
func TestSecondLoginOfAClassKicksTheFirst(t *testing.T) {
	first := person(t, "u", harness.Through("tcp://"+address(0))).Login()
	second := again(t, first, harness.Through("tcp://"+address(1))).Login()
	closedBy(t, first, status.Replaced)
	a := person(t, "a").Login()
	a.Accepted(first.UID, "for the winner")
	second.Wants("for the winner")
	third := again(t, first, harness.Through("tcp://"+address(0))).Login()
	closedBy(t, second, status.Replaced)
	a.Accepted(first.UID, "for the third")
	third.Wants("for the third")
}

func TestOtherClassesAreNotKicked(t *testing.T) {
	phone := person(t, "u").Login()
	again(t, phone, harness.On(gatepost.Web)).Login()
	again(t, phone, harness.On(gatepost.Desktop)).Login()
	a := person(t, "a").Login()
	a.Accepted(phone.UID, "still here")
	phone.Wants("still here")
}

// Inside one installation the higher counter wins; a lower one, whenever it arrives, undoes nothing.
func TestLoginCounterFences(t *testing.T) {
	uid := harness.UID(t, "u")
	winner := raw(t, 0)
	winner.Counter = 4
	if err := winner.LoginAs(t, p, uid, gatepost.Android); err != nil { // counter 5
		t.Fatal(err)
	}
	for _, counter := range []uint64{3, 4} { // 4 and 5 are tried
		late := raw(t, 1)
		late.Installation, late.Counter = winner.Installation, counter
		if err := late.LoginAs(t, p, uid, gatepost.Android); harness.Code(err) != status.StaleLogin {
			t.Fatalf("login with counter %d: %v", counter+1, err)
		}
	}
	if _, err := winner.Pull(0, 0); err != nil {
		t.Fatalf("the winner was harmed by late logins: %v", err)
	}
	newer := raw(t, 1)
	newer.Installation, newer.Counter = winner.Installation, 5
	if err := newer.LoginAs(t, p, uid, gatepost.Android); err != nil { // counter 6
		t.Fatal(err)
	}
	if newer.Session <= winner.Session {
		t.Errorf("the newer session %d is not above %d", newer.Session, winner.Session)
	}
	kick := awaitKick(t, winner)
	if status.Code(kick.Status) != status.Replaced || !bytes.Equal(kick.WinnerInstallation, newer.Installation[:]) || kick.WinnerCounter != newer.Counter {
		t.Errorf("kick %+v", kick)
	}
}

// awaitKick reads until the KICK, and checks that the connection closes behind it.
func awaitKick(t *testing.T, r *harness.Raw) *clientpb.Kick {
	t.Helper()
	var kick *clientpb.Kick
	for {
		f, err := r.Read()
		if err != nil {
			if kick == nil {
				t.Fatalf("the connection ended without a kick: %v", err)
			}
			return kick
		}
		if f.Cmd == uint16(clientpb.Cmd_CMD_KICK) {
			kick = &clientpb.Kick{}
			if err := prutal.Unmarshal(f.Body, kick); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestOneLoginForEachConnection(t *testing.T) {
	uid := harness.UID(t, "u")
	r := rawAs(t, 0, uid)
	if err := r.LoginAs(t, p, uid, gatepost.Android); harness.Code(err) != status.AlreadyLoggedIn {
		t.Fatalf("second login: %v", err)
	}
	if _, err := r.Pull(0, 0); err != nil {
		t.Fatal(err)
	}
}

func TestTokensAreChecked(t *testing.T) {
	ctx, cancel := withPatience()
	defer cancel()
	uid, other := harness.UID(t, "u"), harness.UID(t, "other")
	good, err := p.Token(ctx, other)
	if err != nil {
		t.Fatal(err)
	}
	for name, token := range map[string]string{"another user's": good, "garbage": "x.y.z", "empty": "", "cut": good[:len(good)-2]} {
		r := raw(t, 0)
		r.Counter = 1
		if err := r.Login(uid, token, gatepost.Android); harness.Code(err) != status.BadToken {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The SDK stays away and says so.
	x := person(t, "sdk", func(c *gatepost.Config) {
		c.Token = func(context.Context) (string, error) { return good, nil }
	})
	if err := x.TryLogin(); harness.Code(err) != status.BadToken {
		t.Errorf("the SDK: %v", err)
	}
}

func TestForeignKeysAreRefused(t *testing.T) {
	unknown, err := wire.GenerateKey(77)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := harness.DialRaw(address(0), unknown.PublicKey().String()); harness.Code(err) != status.UnknownKey {
		t.Errorf("a key id that the gate does not have: %v", err)
	}
	known, err := wire.ParsePublicKey(p.Keys()[0])
	if err != nil {
		t.Fatal(err)
	}
	imposter, err := wire.GenerateKey(known.ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := harness.DialRaw(address(0), imposter.PublicKey().String()); harness.Code(err) != status.BadHandshake {
		t.Errorf("another key with the gate's id: %v", err)
	}
	if _, err := harness.DialRaw(address(0), ""); harness.Code(err) != status.ClearRefused {
		t.Errorf("no key where one is wanted: %v", err)
	}
	x := person(t, "sdk", func(c *gatepost.Config) { c.Keys = []gatepost.Key{unknown.PublicKey()} })
	if err := x.TryLogin(); harness.Code(err) != status.UnknownKey {
		t.Errorf("the SDK: %v", err)
	}
}

// A login that hangs on its way does not undo the one that was made meanwhile, when it arrives at last.
func TestStalledLogin(t *testing.T) {
	uid := harness.UID(t, "u")
	stalled := raw(t, 0) // has said hello, and goes no further
	stalled.Counter = 1
	winner := raw(t, 1)
	winner.Installation, winner.Counter = stalled.Installation, 2
	if err := winner.LoginAs(t, p, uid, gatepost.Android); err != nil { // counter 3
		t.Fatal(err)
	}
	if err := stalled.LoginAs(t, p, uid, gatepost.Android); harness.Code(err) != status.StaleLogin { // counter 2
		t.Fatalf("the stalled login: %v", err)
	}
	a := rawAs(t, 0, harness.UID(t, "a"))
	if err := a.Call(clientpb.Cmd_CMD_C2C, wire.FlagRestart, harness.C2C(uid, "x", 5, 1), &clientpb.C2CAnswer{}); err != nil {
		t.Fatal(err)
	}
	if m := awaitDeliver(t, winner); string(m.Content) != "x" {
		t.Errorf("%+v", m)
	}
}

// awaitDeliver waits for a message that is pushed.
func awaitDeliver(t *testing.T, r *harness.Raw) *clientpb.Message {
	t.Helper()
	for {
		found, err := r.NextPushed()
		if err != nil {
			t.Fatal(err)
		}
		if len(found) > 0 {
			return found[0]
		}
	}
}

// Who connects and says nothing is closed, with a code.
func TestDeadlinesOfHelloAndLogin(t *testing.T) {
	silent, err := net.Dial("tcp", address(0))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	idle := raw(t, 0)
	if code := closeCode(t, &harness.Raw{Conn: silent}); code != status.HelloTimeout {
		t.Errorf("without hello: %s", code)
	}
	if code := closeCode(t, idle); code != status.LoginTimeout {
		t.Errorf("without login: %s", code)
	}
}

// closeCode reads until the connection closes, and returns the code of the CLOSE before it; OK when there was none.
func closeCode(t *testing.T, r *harness.Raw) status.Code {
	t.Helper()
	code := status.OK
	for {
		f, err := r.Read()
		if err != nil {
			if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
				t.Fatal("the connection stays open")
			}
			return code
		}
		if f.Cmd == uint16(clientpb.Cmd_CMD_CLOSE) {
			code = f.Status
		}
	}
}
