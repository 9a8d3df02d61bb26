package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	gatepost "github.com/gatepost/gatepost/sdk/go"
	"github.com/gatepost/gatepost/sdk/go/memstore"
)

// A store that was restored from a backup numbers its messages as before. The table of sessions has forgotten its login counter,
// because the platform was restarted (or the tombstone's time was over): the database has not, and the store becomes another
// installation, so that what it sends now is not taken for a repeat.
func TestRestoredStoreAfterARestart(t *testing.T) {
	cfg := testConfig(t)
	rt, stop := runs(t, cfg)
	person := func(uid string, store gatepost.Store, show func(gatepost.Message)) *gatepost.Client {
		t.Helper()
		keys, err := ReadKeys(rt.KeysFile)
		if err != nil {
			t.Fatal(err)
		}
		c, err := gatepost.New(gatepost.Config{
			Gates: []string{"tcp://" + rt.TCP}, Keys: keys.Public(), Device: gatepost.Desktop, Store: store,
			User:      gatepost.User{Domain: "any", UID: uid},
			Token:     func(context.Context) (string, error) { return MintToken(keys, "any", uid, time.Minute) },
			OnMessage: func(_ context.Context, m gatepost.Message) error { show(m); return nil },
			Timing:    gatepost.Timing{BackoffBase: 10 * time.Millisecond},
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if err := c.Login(ctx); err != nil {
			t.Fatal(err)
		}
		return c
	}
	send := func(c *gatepost.Client, text string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		s, err := c.C2C(ctx, gatepost.User{Domain: "any", UID: "bob"}, gatepost.Outgoing{Content: []byte(text)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Wait(ctx); err != nil {
			t.Fatal(err)
		}
	}
	var mu sync.Mutex
	var shown []string
	show := func(m gatepost.Message) {
		mu.Lock()
		defer mu.Unlock()
		shown = append(shown, string(m.Content))
	}
	wants := func(want ...string) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			mu.Lock()
			got := slices.Clone(shown)
			mu.Unlock()
			if slices.Equal(got, want) {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("shown %q, want %q", got, want)
			}
		}
	}

	phone, bobs := memstore.New(), memstore.New()
	bob := person("bob", bobs, show)
	alice := person("alice", phone, func(gatepost.Message) {})
	send(alice, "1")
	if err := alice.Close(); err != nil {
		t.Fatal(err)
	}
	backup := phone.Copy()
	alice = person("alice", phone, func(gatepost.Message) {})
	send(alice, "2")
	wants("1", "2")
	if err := errors.Join(alice.Close(), bob.Close(), stop()); err != nil {
		t.Fatal(err)
	}

	rt, stop = runs(t, cfg)
	bob = person("bob", bobs, show)
	alice = person("alice", backup, func(gatepost.Message) {})
	send(alice, "after the backup")
	wants("1", "2", "after the backup")
	if err := errors.Join(alice.Close(), bob.Close(), stop()); err != nil {
		t.Error(fmt.Errorf("stop: %w", err))
	}
}
