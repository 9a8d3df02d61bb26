package gatepost_test

import (
	"testing"
	"testing/synctest"
	"time"
)

// allConfirmed waits until the clients of a bubble have sent the confirmations that gather, too.
func allConfirmed() {
	time.Sleep(time.Second)
	synctest.Wait()
}

// The first confirmation after a quiet time leaves at once, those of steady traffic gather, many do not wait, and nothing waits for an
// answer that does not come.
func TestConfirmationsGather(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a, _ := online(t)
		seq := uint64(0)
		comes := func(n, confirmed int) {
			t.Helper()
			for range n {
				seq++
				g.current().deliver(g.put("bob", 1, seq))
			}
			synctest.Wait()
			g.mu.Lock()
			got := len(g.confirmed)
			g.mu.Unlock()
			if n := len(a.seqs()); n != int(seq) || got != confirmed {
				t.Fatalf("of %d shown %d, confirmed %d; want %d", seq, n, got, confirmed)
			}
		}
		comes(1, 1)
		comes(1, 1)
		time.Sleep(100 * time.Millisecond)
		comes(1, 1)
		time.Sleep(100 * time.Millisecond)
		comes(0, 3)
		comes(31, 3)
		comes(1, 35)
		time.Sleep(time.Second)
		comes(1, 36)
		comes(1, 36)
		g.current().nc.Close()
		allConfirmed()
		time.Sleep(time.Minute) // at most the wait before the next login
		comes(0, 37)
	})
}

// A pull may bring what was shown before, once more; a second pull is behind its confirmation.
func TestPullIsBehindConfirmations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, _, c := online(t)
		g.current().deliver(g.put("bob", 1, 1))
		synctest.Wait()
		g.put("bob", 1, 1)
		for range 2 {
			if err := c.Pull(t.Context()); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		c.Close()
		time.Sleep(time.Minute)
		if len(g.inbox) != 0 {
			t.Errorf("left in the inbox: %d", len(g.inbox))
		}
	})
}

// What was shown before Logout is confirmed, and its receipt given.
func TestLogoutIsBehindConfirmations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, _, c := online(t)
		g.current().deliver(g.put("bob", 1, 1))
		synctest.Wait()
		m := g.put("bob", 1, 2)
		m.Receipt = true
		g.current().deliver(m)
		synctest.Wait()
		if err := c.Logout(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(g.inbox) != 0 {
			t.Errorf("shown, and left behind the logout: %d; receipts %v", len(g.inbox), g.receipted)
		}
	})
}
