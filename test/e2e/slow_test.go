//go:build e2e

package e2e

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"testing"
	"time"

	"github.com/gatepost/gatepost/audit/faults"
	"github.com/gatepost/gatepost/idl/status"
	gatepost "github.com/gatepost/gatepost/sdk/go"
	"github.com/gatepost/gatepost/test/harness"
)

// bulky are n texts that tell themselves apart and do not compress well.
func bulky(prefix string, n int) []string {
	out := texts(prefix, n)
	for i := range out {
		var b [400]byte
		rand.Read(b[:])
		out[i] += " " + hex.EncodeToString(b[:])
	}
	return out
}

// A reader with a thin line and an app that takes its time comes back to an inbox of many pages, while others go on sending to him.
func TestSlowReaderInTheMiddleOfAPull(t *testing.T) {
	const waiting, live, rate = 1600, 600, 512 << 10
	a, c := person(t, "a").Login(), person(t, "c").Login()
	begun, goOn := make(chan struct{}), make(chan struct{})
	shows := 0 // of the one goroutine that shows
	slow := func(ctx context.Context, _ gatepost.Message) error {
		if shows++; shows == 100 { // in the middle: what lies there is more than may wait for the app
			close(begun)
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-goOn:
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
			return nil
		}
	}
	proxy := harness.NewProxy(t, address(0), func(int) faults.Effect { return faults.Effect{DownRate: rate} })
	b := person(t, "b", harness.Through(proxy.Address()), harness.Showing(slow), func(cfg *gatepost.Config) { cfg.Limits.Unshown = 400 }).Login()
	b.Restart(nil)
	fromA, fromC := bulky("a", waiting/2+live), bulky("c", waiting/2+live)
	for i := range waiting / 2 {
		a.Send(b.UID, fromA[i])
		c.Send(b.UID, fromC[i])
	}
	for _, x := range []*harness.Person{a, c} {
		harness.Eventually(t, harness.Patience, func() error { return acceptedOnce(x, waiting/2) })
	}
	dialed := proxy.Connections()
	b.Login()
	select {
	case <-begun:
	case <-time.After(harness.Patience):
		t.Fatal("nothing was shown")
	}
	send := func(from, to int) {
		for i := from; i < to; i++ {
			a.Send(b.UID, fromA[i])
			c.Send(b.UID, fromC[i])
		}
	}
	send(waiting/2, waiting/2+live/2)
	for _, x := range []*harness.Person{a, c} {
		harness.Eventually(t, harness.Patience, func() error { return acceptedOnce(x, waiting/2+live/2) })
	}
	close(goOn)
	send(waiting/2+live/2, waiting/2+live)
	b.Pull()
	shownInTurn(t, b, fromA, fromC)
	for _, m := range b.Got() {
		if m.Late || m.MaybeRepeated {
			t.Fatalf("%.20s is flagged: late %t, maybe repeated %t", m.Content, m.Late, m.MaybeRepeated)
		}
	}
	for _, s := range b.States() {
		if s.Code() == status.Slow {
			t.Errorf("closed: %v", s.Err)
		}
	}
	if n := proxy.Connections() - dialed; n != 1 {
		t.Errorf("%d connections for one login", n)
	}
	b.Pull()
	b.Leave()
}
