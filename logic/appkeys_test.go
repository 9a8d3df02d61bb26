package logic

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatepost/gatepost/store"
)

// A call that begins after a revocation is refused, also when a look-up that had the old answer is still in flight.
func TestKeyIsRevokedAtOnce(t *testing.T) {
	w, keys, key, id := newAppWorld(t, nil)
	read, release := make(chan struct{}), make(chan struct{})
	var first sync.Once
	keys.set(func() {
		keys.onGet = func(context.Context) {
			first.Do(func() { close(read); <-release })
		}
	})
	push := func() error {
		_, err := w.node.Push(context.Background(), key, pushTo(false, "bob"))
		return err
	}
	before := make(chan error, 1)
	go func() { before <- push() }()
	<-read // the first call has the good answer, and hangs
	keys.revoke(id)
	const callers = 20
	after := make(chan error, callers)
	for range callers {
		go func() { after <- push() }()
	}
	eventually(t, "they wait", func() bool {
		w.node.keys.mu.Lock()
		defer w.node.keys.mu.Unlock()
		q := w.node.keys.waiting[id]
		return q != nil && q.next != nil
	})
	close(release)
	if err := <-before; err != nil {
		t.Errorf("the call before the revocation: %v", err)
	}
	for range callers {
		wantFault(t, <-after, AppUnauthenticated)
	}
	eventually(t, "nothing is kept of it", func() bool {
		w.node.keys.mu.Lock()
		defer w.node.keys.mu.Unlock()
		return len(w.node.keys.waiting) == 0
	})
}

func TestCallsShareALookUp(t *testing.T) {
	w, keys, key, id := newAppWorld(t, nil)
	read, release := make(chan struct{}, 100), make(chan struct{})
	keys.set(func() { keys.onGet = func(context.Context) { read <- struct{}{}; <-release } })
	var calls sync.WaitGroup
	one := func() {
		calls.Go(func() {
			if _, refusal := w.node.keys.check(context.Background(), key); refusal != nil {
				t.Error(refusal)
			}
		})
	}
	if !w.node.calls.enter() {
		t.Fatal("the node is shut")
	}
	defer w.node.calls.leave()
	one()
	<-read
	for range 50 {
		one()
	}
	eventually(t, "one is to follow", func() bool {
		w.node.keys.mu.Lock()
		defer w.node.keys.mu.Unlock()
		return w.node.keys.waiting[id].next != nil
	})
	close(release)
	calls.Wait()
	if n := keys.asked(); n > 51 {
		t.Errorf("%d look-ups for 51 calls", n)
	}
}

func TestKeysWithoutTheDatabase(t *testing.T) {
	w, keys, key, id := newAppWorld(t, nil)
	push := func(key string) error {
		_, err := w.node.Push(context.Background(), key, pushTo(true, "bob"))
		return err
	}
	away := func(err error) { keys.set(func() { keys.err = err }) }
	gone := fmt.Errorf("app keys: %w", store.ErrUnavailable)
	away(gone)
	wantFault(t, push(key), AppUnavailable) // it was never seen
	away(nil)
	if err := push(key); err != nil {
		t.Fatal(err)
	}
	away(gone)
	if err := push(key); err != nil {
		t.Errorf("a known key: %v", err)
	}
	wantFault(t, push(id+"."+base64.RawURLEncoding.EncodeToString(make([]byte, secretBytes))), AppUnauthenticated)
	if err := push(key); err != nil {
		t.Errorf("after somebody showed a wrong secret: %v", err)
	}
	w.mu.Lock()
	w.shift = keyMemory + time.Second
	w.mu.Unlock()
	wantFault(t, push(key), AppUnavailable)
	away(nil)
	if err := push(key); err != nil {
		t.Errorf("the database is back: %v", err)
	}
	keys.revoke(id)
	wantFault(t, push(key), AppUnauthenticated)
	away(gone)
	wantFault(t, push(key), AppUnavailable)
}

// Ids that nobody has cost bounded memory, and do not keep the bearers of known keys out.
func TestUnknownKeysAreBounded(t *testing.T) {
	w, keys, key, id := newAppWorld(t, nil)
	if _, err := w.node.Push(context.Background(), key, pushTo(true, "bob")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	stuck := make(chan struct{})
	keys.set(func() { keys.onGet = func(context.Context) { <-stuck } })
	secret := "." + strings.Repeat("A", base64.RawURLEncoding.EncodedLen(secretBytes))
	var calls sync.WaitGroup
	for i := range keyLookups {
		calls.Go(func() {
			_, err := w.node.Push(ctx, fmt.Sprint("stranger", i)+secret, pushTo(true, "bob"))
			if err == nil {
				t.Error("a stranger was let in")
			}
		})
	}
	eventually(t, "strangers fill their slots", func() bool { return len(w.node.keys.unknown) == cap(w.node.keys.unknown) })
	keys.set(func() { keys.onGet = nil })
	if _, err := w.node.Push(context.Background(), key, pushTo(true, "bob")); err != nil {
		t.Errorf("a known key: %v", err)
	}
	close(stuck)
	cancel()
	calls.Wait()
	eventually(t, "nothing is kept of them", func() bool {
		w.node.keys.mu.Lock()
		defer w.node.keys.mu.Unlock()
		_, known := w.node.keys.valid[id]
		return len(w.node.keys.waiting) == 0 && len(w.node.keys.valid) == 1 && known
	})
}

// A caller who is slow with the answer of an older look-up does not make a key count again that was revoked meanwhile.
func TestRevokedKeyIsNotRememberedAgain(t *testing.T) {
	for name, end := range map[string]func(keys *fakeAppKeys, id string){
		"revoked": func(keys *fakeAppKeys, id string) { keys.revoke(id) },
		"removed": func(keys *fakeAppKeys, id string) { keys.set(func() { delete(keys.keys, id) }) },
	} {
		t.Run(name, func(t *testing.T) {
			w, keys, key, id := newAppWorld(t, nil)
			a := w.node.keys
			_, hash, _ := parseAppKey(key)
			if !w.node.calls.enter() {
				t.Fatal("the node is shut")
			}
			defer w.node.calls.leave()
			slow, refusal := a.lookUp(t.Context(), id)
			if refusal != nil {
				t.Fatal(refusal)
			}
			end(keys, id)
			_, err := w.node.Push(t.Context(), key, pushTo(false, "bob"))
			wantFault(t, err, AppUnauthenticated)
			if _, refusal := a.judge(slow, id, hash); refusal != nil {
				t.Errorf("the key was valid when it was looked up: %v", refusal)
			}
			keys.set(func() { keys.err = store.ErrUnavailable })
			_, err = w.node.Push(t.Context(), key, pushTo(false, "bob"))
			wantFault(t, err, AppUnavailable)
		})
	}
}
