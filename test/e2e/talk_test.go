//go:build e2e

package e2e

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/gatepost/gatepost/idl/status"
	gatepost "github.com/gatepost/gatepost/sdk/go"
	"github.com/gatepost/gatepost/sdk/go/sqlitestore"
	"github.com/gatepost/gatepost/test/harness"
)

func TestTalk(t *testing.T) {
	a, b := person(t, "a").Login(), person(t, "b").Login()
	want := texts("to-b", 50)
	for _, text := range want {
		a.Send(b.UID, text)
	}
	b.Wants(want...)
	for _, m := range b.Got() {
		if m.From.UID != a.UID || m.FromDevice != gatepost.Android || m.Late || m.MaybeRepeated || m.MsgID == 0 || m.Type != "text" {
			t.Fatalf("%+v", m)
		}
	}
	b.Accepted(a.UID, "thanks")
	a.Wants("thanks")
	b.Leave()
}

// Who is away finds everything when he comes back, in order, once.
func TestAwayAndPull(t *testing.T) {
	a, b := person(t, "a").Login(), person(t, "b").Login()
	b.Restart(nil)
	want := texts("while-away", 300) // more than a page
	var last *gatepost.Sending
	for _, text := range want {
		last = a.Send(b.UID, text)
	}
	if _, err := a.Outcome(last); err != nil {
		t.Fatal(err)
	}
	b.Login()
	b.Wants(want...)
	b.Pull()
	b.Wants(want...)
	b.Leave()
}

func TestSendingOfflineWaitsForTheLogin(t *testing.T) {
	a, b := person(t, "a"), person(t, "b").Login()
	want := texts("early", 20)
	for _, text := range want {
		a.Send(b.UID, text)
	}
	a.Login()
	b.Wants(want...)
}

// The outbox and what was received outlive the app.
func TestRestartsOfTheApp(t *testing.T) {
	dir := t.TempDir()
	opener := func(name string) func() gatepost.Store {
		return func() gatepost.Store {
			s, err := sqlitestore.Open(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
	}
	openA, openB := opener("a.db"), opener("b.db")
	a, b := person(t, "a", harness.Keeping(openA())), person(t, "b", harness.Keeping(openB())).Login()
	want := texts("kept", 30)
	for _, text := range want[:10] {
		a.Send(b.UID, text)
	}
	a.Restart(openA) // nothing has left yet
	for _, text := range want[10:20] {
		a.Send(b.UID, text)
	}
	a.Login()
	b.Wants(want[:20]...)
	b.Restart(openB)
	for _, text := range want[20:] {
		a.Send(b.UID, text)
	}
	b.Login()
	b.Wants(want...)
	harness.Eventually(t, harness.Patience, func() error { return acceptedOnce(a, len(want)) })
	b.Leave()
}

// Each class of a user is owed every message; what one confirms stays for the other.
func TestTwoDeviceClasses(t *testing.T) {
	a := person(t, "a").Login()
	phone := person(t, "b").Login()
	desktop := again(t, phone, harness.On(gatepost.Desktop)).Login()
	a.Accepted(phone.UID, "one")
	phone.Wants("one")
	desktop.Wants("one")
	desktop.Restart(nil)
	a.Accepted(phone.UID, "two")
	phone.Wants("one", "two")
	phone.Pull()
	desktop.Login()
	desktop.Wants("one", "two")
	phone.Leave()
	desktop.Leave()
}

// A class that logged out is owed nothing any more, and what only it had not confirmed goes.
func TestLogoutRetiresTheClass(t *testing.T) {
	a := person(t, "a").Login()
	phone := person(t, "b").Login()
	desktop := again(t, phone, harness.On(gatepost.Desktop)).Login()
	ctx, cancel := withPatience()
	defer cancel()
	if err := desktop.Client.Logout(ctx); err != nil {
		t.Fatal(err)
	}
	a.Accepted(phone.UID, "after the logout")
	phone.Wants("after the logout")
	back := again(t, phone, harness.On(gatepost.Desktop)).Login()
	back.Pull()
	if got := back.Texts(); len(got) != 0 {
		t.Errorf("a class that had logged out was shown %q", got)
	}
}

func TestExpiredAndTooLargeAreRefusedWithTheirCode(t *testing.T) {
	a, b := person(t, "a"), person(t, "b").Login()
	expired := a.SendFor(b.UID, "too late", time.Millisecond)
	good := a.Send(b.UID, "good")
	began := time.Now()
	harness.Eventually(t, harness.Patience, func() error { // older than its time to live
		if age := time.Since(began); age < 20*time.Millisecond {
			return fmt.Errorf("only %s old", age)
		}
		return nil
	})
	a.Login()
	if _, err := a.Outcome(expired); harness.Code(err) != status.Expired {
		t.Errorf("expired: %v", err)
	}
	if _, err := a.Outcome(good); err != nil {
		t.Error(err)
	}
	ctx, cancel := withPatience()
	defer cancel()
	_, err := a.Client.C2C(ctx, gatepost.User{Domain: "local", UID: b.UID}, gatepost.Outgoing{Content: make([]byte, 32<<10+1)})
	if harness.Code(err) != status.TooLarge {
		t.Errorf("too large: %v", err)
	}
	b.Wants("good")
	a.Accepted(b.UID, "goes on")
	b.Wants("good", "goes on")
}

// What expires while the receiver is away is not shown to him, and does not hold up what follows.
func TestExpiryWhileAway(t *testing.T) {
	a, b := person(t, "a").Login(), person(t, "b").Login()
	b.Restart(nil)
	r, err := a.Outcome(a.SendFor(b.UID, "short-lived", 300*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	a.Accepted(b.UID, "long-lived")
	began := a.Client.ServerTime()
	harness.Eventually(t, harness.Patience, func() error { return waited(a, began, 400*time.Millisecond) })
	b.Login()
	b.Wants("long-lived")
	if got := b.Got(); got[0].Late {
		t.Errorf("%+v after %d", got[0], r.MsgID)
	}
}

// TLS 1.3 with its own certificate, and Noise inside when a key is pinned.
func TestTLS(t *testing.T) {
	for _, pinned := range []bool{true, false} {
		a := person(t, "a", overTLS(t, pinned)).Login()
		b := person(t, "b").Login()
		a.Accepted(b.UID, "over tls")
		b.Wants("over tls")
		b.Accepted(a.UID, "back")
		a.Wants("back")
	}
}
