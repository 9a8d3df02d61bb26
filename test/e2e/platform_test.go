//go:build e2e

package e2e

import (
	"testing"

	gatepost "github.com/gatepost/gatepost/sdk/go"
	"github.com/gatepost/gatepost/sdk/go/memstore"
	"github.com/gatepost/gatepost/test/harness"
)

// A stop in order and a start later: what was accepted is there, clients come back by themselves, tokens and keys are still good.
func TestThePlatformFindsItsDataAgain(t *testing.T) {
	a, b := person(t, "a").Login(), person(t, "b").Login()
	b.Restart(nil)
	want := texts("before", 20)
	for _, text := range want {
		a.Accepted(b.UID, text)
	}
	for _, proc := range p.Gates {
		if err := proc.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	for _, proc := range p.Logic {
		if err := proc.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	waiting := a.Send(b.UID, "while it was down")
	ctx, cancel := withPatience()
	defer cancel()
	if err := p.Start(ctx); err != nil {
		t.Fatal(err)
	}
	b.Login()
	if _, err := a.Outcome(waiting); err != nil {
		t.Fatal(err)
	}
	b.Wants(append(want, "while it was down")...)
	b.Leave()
}

// A device that was installed again has forgotten what it was shown, but not what it had confirmed: that is gone from the inbox.
// A sender that was installed again begins a new stream.
func TestReinstalledApps(t *testing.T) {
	a, b := person(t, "a").Login(), person(t, "b").Login()
	a.Accepted(b.UID, "old")
	b.Wants("old")
	b.Pull()
	b.Leave()
	b = again(t, b, harness.Keeping(memstore.New())).Login()
	a.Accepted(b.UID, "to the new installation")
	b.Wants("to the new installation")
	a.Restart(func() gatepost.Store { return memstore.New() })
	a.Login()
	a.Accepted(b.UID, "from the new installation")
	b.Wants("to the new installation", "from the new installation")
	for _, m := range b.Got() {
		if m.Late || m.MaybeRepeated {
			t.Errorf("%+v", m)
		}
	}
}
