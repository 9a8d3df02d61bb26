package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatepost/gatepost/app"
	"github.com/gatepost/gatepost/cmd/gatepost/internal/target"
	gatepost "github.com/gatepost/gatepost/sdk/go"
	"github.com/gatepost/gatepost/sdk/go/memstore"
)

// online logs a user of the default account system in, until the test ends.
func online(t *testing.T, dir, uid string) *gatepost.Client {
	t.Helper()
	found, err := (&target.Flags{DataDir: dir}).Find()
	if err != nil {
		t.Fatal(err)
	}
	cfg := found.Client(gatepost.User{Domain: defaultDomain, UID: uid}, gatepost.Desktop)
	cfg.Store = memstore.New()
	cfg.OnMessage = func(context.Context, gatepost.Message) error { return nil }
	client, err := gatepost.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	if err := client.Login(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := client.Pull(t.Context()); err != nil {
		t.Fatal(err)
	}
	return client
}

func TestAppServerCommands(t *testing.T) {
	dir, stop := startStandalone(t, builtBinary(t))
	defer stop()
	here := func(args ...string) []string { return append(args, "--data-dir", dir) }
	ann := online(t, dir, "ann")

	// Keys and pushes.
	if out, err := command(t, here("push", "--to", "default/ann", "--content", "hello")...); err == nil || !strings.Contains(err.Error(), "app-key add") {
		t.Errorf("push without a key: %v\n%s", err, out)
	}
	out, err := command(t, here("app-key", "add", "--rights", "push", "--keep", "--json")...)
	var key struct{ ID, Key string }
	if err != nil || json.Unmarshal([]byte(out), &key) != nil || !strings.HasPrefix(key.Key, key.ID+".") {
		t.Fatalf("app-key add: %v, id %q", err, key.ID)
	}
	_, secret, _ := strings.Cut(key.Key, ".")
	list := func() string {
		t.Helper()
		out, err := command(t, here("app-key", "list")...)
		if err != nil || strings.Contains(out, secret) {
			t.Fatalf("app-key list: %v; it shows the secret: %t", err, strings.Contains(out, secret))
		}
		return out
	}
	if out := list(); !strings.Contains(out, key.ID) || !strings.Contains(out, "valid") {
		t.Errorf("app-key list: %s", out)
	}
	// To somebody away: what he has confirmed is forgotten, and a repeat of it would be stored anew.
	id := "0199f000-0000-7000-8000-000000000001"
	for _, want := range []string{"accepted  message", "accepted before"} {
		if out, err := command(t, here("push", "--to", "default/away", "--content", "hello", "--id", id)...); err != nil || !strings.Contains(out, want) || !strings.Contains(out, "push "+id) {
			t.Errorf("push: %v, want %q in\n%s", err, want, out)
		}
	}
	if out, err := command(t, here("push", "--to", "default/ann", "--to", "default/nobody", "--content", "hello", "--online-only")...); !errors.Is(err, errNotReached) ||
		!strings.Contains(out, "default/ann  sent") || !strings.Contains(out, "default/nobody  not online") {
		t.Errorf("push to those online: %v\n%s", err, out)
	}
	for want, args := range map[int][]string{
		0:          here("push", "--to", "default/ann", "--content", "hello"),
		exitFailed: here("push", "--to", "default/nobody", "--content", "hello", "--online-only"),
		exitUsage:  here("push", "--to", "ann"),
	} {
		if got := run(t.Context(), args, io.Discard); got != want {
			t.Errorf("gatepost %v: exit code %d, want %d", args, got, want)
		}
	}
	if out, err := command(t, here("app-key", "revoke", key.ID)...); err != nil || !strings.Contains(out, key.ID+" is revoked") {
		t.Errorf("app-key revoke: %v\n%s", err, out)
	}
	if out, err := command(t, here("push", "--to", "default/ann", "--content", "hello")...); err == nil || !strings.Contains(err.Error(), "Unauthenticated") {
		t.Errorf("push with the revoked key: %v\n%s", err, out)
	}
	if out := list(); !strings.Contains(out, "revoked") || strings.Contains(out, "valid") {
		t.Errorf("app-key list after revoke: %s", out)
	}

	// Reports and their topic.
	sent := map[string]string{}
	for _, content := range []string{"1,1", "2,2", "3,3"} {
		s, err := ann.C2S(t.Context(), gatepost.Report{Type: "position", Content: []byte(content)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		sent[s.ID().String()] = content
	}
	out, err = command(t, here("topics")...)
	if err != nil || !strings.Contains(out, "→ uplinks  partitions 4, replication 1, retention 168h0m0s, end offsets [") || !strings.Contains(out, "3") {
		t.Errorf("topics: %v\n%s", err, out)
	}
	rt, err := app.ReadRuntime(dir)
	if err != nil {
		t.Fatal(err)
	}
	// A cluster's topics are those of a configuration.
	settings := filepath.Join(t.TempDir(), "gatepost.yaml")
	content := fmt.Sprintf("kafka: {brokers: [%q]}\ndomains: {shop: {uplinks: {topics: {order: uplinks, 'fare.*': nowhere}}}}\n", rt.Kafka[0])
	if err := os.WriteFile(settings, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err = command(t, "topics", "--config", settings)
	if err != nil || !strings.Contains(out, "shop  order → uplinks  partitions 4") || !strings.Contains(out, "shop  fare.* → nowhere  is not there yet") {
		t.Errorf("topics of a configuration: %v\n%s", err, out)
	}
	var lines []map[string]any
	if out, err = command(t, "topics", "--config", settings, "--json"); err != nil || json.Unmarshal([]byte(out), &lines) != nil || len(lines) != 2 || lines[1]["topic"] != "uplinks" {
		t.Errorf("topics as JSON: %v\n%s", err, out)
	}
	if _, err := command(t, "topics", "--data-dir", t.TempDir()); err == nil || !strings.Contains(err.Error(), "--config") {
		t.Errorf("topics of nothing: %v", err)
	}
	consume := func(count string) (ids []string) {
		t.Helper()
		out, err := command(t, here("consume", "--group", "test", "--count", count, "--json")...)
		if err != nil {
			t.Fatalf("consume: %v\n%s", err, out)
		}
		for line := range strings.Lines(out) {
			var e struct {
				SpecVersion, ID, Source, Type string
				Content                       []byte
			}
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatalf("consume: %v in %s", err, line)
			}
			if e.SpecVersion != "1.0" || e.Source != "/default/ann" || e.Type != "position" || string(e.Content) != sent[e.ID] {
				t.Errorf("consume: %s, want %q", line, sent[e.ID])
			}
			ids = append(ids, e.ID)
		}
		return ids
	}
	first, rest := consume("2"), consume("1")
	if len(first) != 2 || len(rest) != 1 || rest[0] == first[0] || rest[0] == first[1] {
		t.Errorf("a group was given %v, then %v: want 2 and the third", first, rest)
	}
}

func TestConsumeFromTheEnd(t *testing.T) {
	dir, stop := startStandalone(t, builtBinary(t))
	defer stop()
	ann := online(t, dir, "ann")
	report := func(content string) {
		t.Helper()
		s, err := ann.C2S(t.Context(), gatepost.Report{Type: "position", Content: []byte(content)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	report("before")
	if got := run(t.Context(), []string{"consume", "--data-dir", dir, "--from", "middle"}, io.Discard); got != exitUsage {
		t.Errorf("--from middle: exit code %d", got)
	}
	if out, err := command(t, "consume", "--data-dir", dir, "--count", "1"); err != nil || !strings.Contains(out, "before") {
		t.Errorf("from the beginning: %v\n%s", err, out)
	}
	root, _ := newRoot()
	out := &screen{}
	root.SetOut(out)
	root.SetErr(out)
	root.SetArgs([]string{"consume", "--data-dir", dir, "--from", "end", "--count", "1"})
	done := make(chan error, 1)
	go func() { done <- root.ExecuteContext(t.Context()) }()
	for deadline := time.After(30 * time.Second); ; { // it begins at some time
		report("after")
		select {
		case err := <-done:
			if text := out.String(); err != nil || !strings.Contains(text, "after") || strings.Contains(text, "before") {
				t.Errorf("from the end: %v\n%s", err, text)
			}
			return
		case <-deadline:
			t.Fatalf("nothing comes:\n%s", out)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// screen is what a command prints while it runs.
type screen struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func (s *screen) await(t *testing.T, text string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(s.String(), text); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%q does not come:\n%s", text, s)
		}
	}
}

func TestChatShowsReceipts(t *testing.T) {
	dir, stop := startStandalone(t, builtBinary(t))
	defer stop()
	start := func(uid, to string) (in io.WriteCloser, out *screen, end func()) {
		root, _ := newRoot()
		r, w := io.Pipe()
		out = &screen{}
		root.SetIn(r)
		root.SetOut(out)
		root.SetErr(out)
		root.SetArgs([]string{"chat", "--data-dir", dir, "--uid", uid, "--to", to})
		done := make(chan error, 1)
		go func() { done <- root.ExecuteContext(t.Context()) }()
		return w, out, func() {
			w.Close()
			if err := <-done; err != nil {
				t.Errorf("chat of %s: %v\n%s", uid, err, out)
			}
		}
	}
	_, bobs, bobEnds := start("bob", "alice")
	bobs.await(t, "— online")
	alice, alices, aliceEnds := start("alice", "bob")
	io.WriteString(alice, "two parcels\n")
	bobs.await(t, "two parcels")
	alices.await(t, "✓✓ bob has it")
	aliceEnds()
	bobEnds()
}
