//go:build e2e

package e2e

import (
	"fmt"
	"testing"

	"github.com/gatepost/gatepost/audit/platform"
	gatepost "github.com/gatepost/gatepost/sdk/go"
	"github.com/gatepost/gatepost/sdk/go/memstore"
	"github.com/gatepost/gatepost/test/harness"
)

func user(uid string) gatepost.User { return gatepost.User{Domain: platform.Domain, UID: uid} }

// Who asks for a receipt gets one, with the first confirmation, also when he was away; who does not ask gets none.
func TestReceipts(t *testing.T) {
	a, phone := person(t, "a").Login(), person(t, "b").Login()
	desktop := again(t, phone, harness.On(gatepost.Desktop)).Login()
	asked := a.SendAs(user(phone.UID), gatepost.Outgoing{Type: "text", Content: []byte("read me"), Receipt: true})
	a.Accepted(phone.UID, "no receipt")
	phone.Wants("read me", "no receipt")
	desktop.Wants("read me", "no receipt")
	receipts(a, t, asked)

	a.Restart(nil)
	phone.Send(a.UID, "are you there")
	a.Login()
	a.Wants("are you there")
	phone.Restart(nil)
	desktop.Restart(nil)
	second := a.SendAs(user(phone.UID), gatepost.Outgoing{Type: "text", Content: []byte("away"), Receipt: true})
	if _, err := a.Outcome(second); err != nil {
		t.Fatal(err)
	}
	a.Restart(nil)
	phone.Login()
	desktop.Login()
	phone.Wants("read me", "no receipt", "away")
	desktop.Wants("read me", "no receipt", "away")
	phone.Leave()
	a.Login()
	receipts(a, t, asked, second)
	a.Leave()
	desktop.Leave()
}

// receipts waits until x was told exactly these.
func receipts(x *harness.Person, t *testing.T, want ...*gatepost.Sending) {
	t.Helper()
	harness.Eventually(t, harness.Patience, func() error {
		got := x.Receipts()
		if len(got) != len(want) {
			return fmt.Errorf("%d receipts, want %d", len(got), len(want))
		}
		for i, r := range got {
			if r.ClientMsgID != want[i].ID() || r.By.Domain != platform.Domain || r.ByDevice == 0 || r.At.IsZero() {
				return fmt.Errorf("receipt %d: %+v, want one for %s", i, r, want[i].ID())
			}
		}
		return nil
	})
}

// A copy goes to the sender's other devices, those that are away too, and not to the one that sent.
func TestCopiesToOwnDevices(t *testing.T) {
	phone, b := person(t, "a").Login(), person(t, "b").Login()
	desktop := again(t, phone, harness.On(gatepost.Desktop)).Login()
	want := texts("copied", 20)
	for _, text := range want[:10] {
		phone.SendAs(user(b.UID), gatepost.Outgoing{Type: "text", Content: []byte(text), Copy: true})
	}
	b.Wants(want[:10]...)
	desktop.Wants(want[:10]...)
	desktop.Restart(nil)
	for _, text := range want[10:] {
		phone.SendAs(user(b.UID), gatepost.Outgoing{Type: "text", Content: []byte(text), Copy: true})
	}
	b.Wants(want...)
	desktop.Login()
	desktop.Wants(want...)
	for _, m := range desktop.Got() {
		if m.From != user(phone.UID) || m.To != user(b.UID) || m.FromDevice != gatepost.Android || m.Late {
			t.Fatalf("%+v", m)
		}
	}
	phone.Pull()
	phone.Wants()
	desktop.Leave()
	phone.Leave()
	b.Leave()
}

// Who has one device asks for copies in vain, and nothing of them stays.
func TestCopyWithoutAnotherDevice(t *testing.T) {
	a, b := person(t, "a").Login(), person(t, "b").Login()
	a.SendAs(user(b.UID), gatepost.Outgoing{Type: "text", Content: []byte("alone"), Copy: true})
	b.Wants("alone")
	a.Pull()
	a.Wants()
	a.Leave()
	harness.InboxIsEmpty(t, p, a.UID, gatepost.Web)
}

// A new installation of a class shows receipts and copies as any other message; memory of the old one is not needed.
func TestReceiptForAReinstalledSender(t *testing.T) {
	a, b := person(t, "a").Login(), person(t, "b").Login()
	b.Restart(nil)
	s := a.SendAs(user(b.UID), gatepost.Outgoing{Type: "text", Content: []byte("later"), Receipt: true})
	if _, err := a.Outcome(s); err != nil {
		t.Fatal(err)
	}
	a.Restart(func() gatepost.Store { return memstore.New() })
	a.Login()
	b.Login()
	b.Wants("later")
	receipts(a, t, s)
	a.Leave()
}
