package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gatepost "github.com/gatepost/gatepost/sdk/go"
	"github.com/gatepost/gatepost/sdk/go/appserver"
	"github.com/gatepost/gatepost/sdk/go/memstore"
	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/goleak"
)

// safeBuffer is a log that is read while it is written.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// login connects uid of domain with the tokens that token makes.
func login(t *testing.T, rt Runtime, domain, uid string, token func() (string, error), show func(gatepost.Message)) *gatepost.Client {
	t.Helper()
	keys, err := ReadKeys(rt.KeysFile)
	if err != nil {
		t.Fatal(err)
	}
	c, err := gatepost.New(gatepost.Config{
		Gates: []string{"tcp://" + rt.TCP}, Keys: keys.Public(), Device: gatepost.Desktop, Store: memstore.New(),
		User:      gatepost.User{Domain: domain, UID: uid},
		Token:     func(context.Context) (string, error) { return token() },
		OnMessage: func(_ context.Context, m gatepost.Message) error { show(m); return nil },
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

const jwtDomains = `domains:
  shop:
    auth: {kind: jwt, jwt: {alg: HS256, secret_files: [%q]}}
    uplinks: {topics: {%s}}
  "*": {auth: {kind: token}, uplinks: {default: uplinks}}
`

// The whole platform in one process: uplinks come out of its Kafka, a push through its port for app-servers arrives, domains have
// authenticators of their own, and their settings change while it runs.
func TestStandaloneWithAppServersAndChangingDomains(t *testing.T) {
	defer goleak.VerifyNone(t, lasting...)
	secret := strings.Repeat("s", 32)
	secretFile, settings := write(t, "secret", secret+"\n"), write(t, "c.yaml", "")
	rewrite := func(content string) {
		if err := os.WriteFile(settings, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	base := testConfig(t)
	load := func() (Config, error) {
		return Load(Standalone, Sources{File: settings, Set: []string{"data_dir=" + base.DataDir, "gate.listen_tcp=127.0.0.1:0", "gate.listen_tls=127.0.0.1:0",
			"admin.address=127.0.0.1:0", "app_listen=127.0.0.1:0", "kafka.listen=127.0.0.1:0"}})
	}
	rewrite(fmt.Sprintf(jwtDomains, secretFile, `order: orders`))
	cfg, err := load()
	if err != nil {
		t.Fatal(err)
	}
	logs := &safeBuffer{}
	p, err := NewStandalone(cfg, logs)
	if err != nil {
		t.Fatal(err)
	}
	run, cancelRun := context.WithCancel(context.Background())
	defer cancelRun()
	ready, ended := make(chan Runtime, 1), make(chan error, 1)
	go func() { ended <- p.Run(run, func(rt Runtime) { ready <- rt }) }()
	var rt Runtime
	select {
	case rt = <-ready:
	case err := <-ended:
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()

	keys, err := ReadKeys(rt.KeysFile)
	if err != nil {
		t.Fatal(err)
	}
	shown := make(chan gatepost.Message, 1)
	alice := login(t, rt, "shop", "alice", func() (string, error) {
		return jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": "alice", "exp": time.Now().Add(time.Minute).Unix()}).SignedString([]byte(secret))
	}, func(m gatepost.Message) { shown <- m })
	bob := login(t, rt, "other", "bob", func() (string, error) { return MintToken(keys, "other", "bob", time.Minute) }, func(gatepost.Message) {})
	report := func(c *gatepost.Client, typ, content string) error {
		sending, err := c.C2S(ctx, gatepost.Report{Type: typ, Content: []byte(content)})
		if err != nil {
			return err
		}
		_, err = sending.Wait(ctx)
		return err
	}
	expect := func(topic, content string) {
		t.Helper()
		consume, stop := context.WithTimeout(ctx, 20*time.Second)
		defer stop()
		var seen []string
		consumer, err := appserver.NewConsumer(appserver.ConsumerConfig{Brokers: rt.Kafka, Group: "test-" + topic, Topics: []string{topic},
			Handler: func(_ context.Context, e *appserver.Event) error {
				seen = append(seen, e.Domain+"/"+e.UID+" "+string(e.Content))
				stop()
				return nil
			}})
		if err != nil {
			t.Fatal(err)
		}
		_ = consumer.Run(consume) // ends by stop
		if !slices.Contains(seen, content) {
			t.Errorf("in %s: %q, want %q", topic, seen, content)
		}
	}

	if err := errors.Join(report(alice, "order", "one"), report(bob, "anything", "two")); err != nil {
		t.Fatal(err)
	}
	expect("orders", "shop/alice one")
	expect("uplinks", "other/bob two")

	appKeys, err := OpenAppKeys(Standalone, cfg)
	if err != nil {
		t.Fatal(err)
	}
	text, _, err := appKeys.Add(ctx, "shop", AppRights())
	if err := errors.Join(err, appKeys.Close()); err != nil {
		t.Fatal(err)
	}
	apps, err := appserver.New(appserver.Config{Addresses: []string{rt.App}, Key: text})
	if err != nil {
		t.Fatal(err)
	}
	results, err := apps.Push(ctx, appserver.Push{UIDs: []string{"alice"}, Type: "news", Content: []byte("pushed")})
	if err != nil || results.Users[0].Outcome != appserver.Accepted {
		t.Fatalf("push: %+v, %v", results, err)
	}
	select {
	case m := <-shown:
		if string(m.Content) != "pushed" {
			t.Errorf("shown: %q", m.Content)
		}
	case <-ctx.Done():
		t.Error("the push did not arrive")
	}

	// Settings that are wrong change nothing.
	if err := report(alice, "position", "early"); err == nil {
		t.Error("a type without a topic was accepted")
	}
	rewrite("domains: {shop: {auth: {kind: magic}}}\n")
	p.Reload(ctx, load)
	if all := logs.String(); !strings.Contains(all, "refused") || !strings.Contains(all, "magic") {
		t.Errorf("the wrong settings are not told of:\n%s", all)
	}
	if err := report(alice, "order", "still"); err != nil {
		t.Errorf("after wrong settings: %v", err)
	}
	if all := logs.String(); strings.Contains(all, "settings beside the domains") {
		t.Errorf("nothing beside the domains has changed:\n%s", all)
	}
	// Those that are right hold from now on; others wait.
	rewrite(fmt.Sprintf(jwtDomains, secretFile, `order: orders, position: positions`) + "kafka: {partitions: 7}\nlogic: {inbox_bound: 100}\n")
	p.Reload(ctx, load)
	if all := logs.String(); !strings.Contains(all, `settings="[logic.inbox_bound kafka.partitions]"`) {
		t.Errorf("the other settings are not told of:\n%s", all)
	}
	if err := report(alice, "position", "three"); err != nil {
		t.Fatalf("the new type: %v\n%s", err, logs)
	}
	expect("positions", "shop/alice three")
	if found, err := ReadRuntime(cfg.DataDir); err != nil || !slices.Contains(found.Topics, Route{"shop", "position", "positions"}) {
		t.Errorf("the runtime file does not tell the new way: %+v, %v", found.Topics, err)
	}

	cancelRun()
	if err := errors.Join(apps.Close(), alice.Close(), bob.Close(), <-ended); err != nil {
		t.Error(err)
	}
}
