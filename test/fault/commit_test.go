//go:build e2e

package fault

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/gatepost/gatepost/audit/platform"
	"github.com/gatepost/gatepost/test/harness"
)

// Accepted only after the commit: everything, the database too, is killed right at an accept, and what was accepted is there afterwards.
func TestAcceptedIsDurable(t *testing.T) {
	for _, mode := range []harness.Mode{harness.Standalone, harness.Cluster} {
		t.Run(string(mode), func(t *testing.T) {
			p := start(t, mode)
			for round := range 3 {
				killAtAccepts(t, p, mode, 20+37*round)
			}
		})
	}
}

func killAtAccepts(t *testing.T, p *platform.Platform, mode harness.Mode, after int) {
	t.Helper()
	receiver := harness.NewPerson(t, p, harness.UID(t, "receiver")).Login() // registers, and is away
	receiver.Restart(nil)

	var mu sync.Mutex
	accepted := map[string]bool{}
	enough := make(chan struct{})
	sender := harness.NewPerson(t, p, harness.UID(t, "sender"))
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	sender.Login()
	for i := range 400 {
		text := fmt.Sprintf("m-%d", i)
		s := sender.Send(receiver.UID, text)
		go func() {
			if _, err := s.Wait(ctx); err != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			accepted[text] = true
			if len(accepted) == after {
				close(enough)
			}
		}()
	}
	select {
	case <-enough:
	case <-ctx.Done():
		t.Fatal("nothing is accepted")
	}
	var errs [2]error
	var wg sync.WaitGroup
	wg.Go(func() { errs[0] = p.Kill() })
	if mode == harness.Cluster {
		wg.Go(func() { errs[1] = servers.Kill(ctx, platform.MariaDB, platform.Redis) })
	}
	wg.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	before := len(accepted)
	told := make([]string, 0, before)
	for text := range accepted {
		told = append(told, text)
	}
	mu.Unlock()
	// The sender does not come back: nobody sends these again.
	sender.Close()
	if mode == harness.Cluster {
		if err := servers.Start(ctx, platform.MariaDB, platform.Redis); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Start(ctx); err != nil {
		t.Fatal(err)
	}
	receiver.Login()
	receiver.Pull()
	harness.Eventually(t, harness.Patience, func() error {
		shown := map[string]int{}
		for _, text := range receiver.Texts() {
			shown[text]++
		}
		for _, text := range told {
			if shown[text] != 1 {
				return fmt.Errorf("%s was accepted and is shown %d times (%d accepted, %d shown)", text, shown[text], before, len(shown))
			}
		}
		return nil
	})
	last := -1
	for _, m := range receiver.Got() {
		var n int
		if _, err := fmt.Sscanf(string(m.Content), "m-%d", &n); err != nil || n <= last && !m.Late {
			t.Errorf("%s after m-%d: %v", m.Content, last, err)
		}
		last = n
	}
	t.Logf("%d accepted before the kill, %d shown", before, len(receiver.Got()))
	receiver.Leave()
}
