package app

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	gatepost "github.com/gatepost/gatepost/sdk/go"
	"github.com/gatepost/gatepost/sdk/go/memstore"
	"go.uber.org/goleak"
)

// lasting are goroutines of libraries that live as long as the process.
var lasting = []goleak.Option{
	goleak.IgnoreAnyFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"),
	goleak.IgnoreAnyFunction("github.com/cloudwego/netpoll.(*defaultPoll).Wait"),
	goleak.IgnoreAnyFunction("github.com/cloudwego/kitex/client.(*timeoutPool).createWorker.func1"),
	goleak.IgnoreAnyFunction("github.com/cloudwego/kitex/client.(*timeoutPool).createTicker.func1"),
	goleak.IgnoreAnyFunction("github.com/cloudwego/kitex/pkg/utils.(*SharedTicker).Tick"),
	goleak.IgnoreAnyFunction("github.com/cloudwego/kitex/pkg/loadbalance/lbcache.(*BalancerFactory).watcher"),
	goleak.IgnoreAnyFunction("github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc.preallocateForStream"), // fills a pool
}

// testConfig is standalone in a directory of its own, on free ports.
func testConfig(t *testing.T) Config {
	cfg := Default(Standalone)
	cfg.DataDir = filepath.Join(t.TempDir(), "data")
	cfg.Gate.ListenTCP, cfg.Gate.ListenTLS, cfg.Admin.Address = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	cfg.AppListen, cfg.Kafka.Listen = "127.0.0.1:0", "127.0.0.1:0"
	return cfg
}

// runs starts a process and returns where it can be reached, and what stops it.
func runs(t *testing.T, cfg Config) (Runtime, func() error) {
	t.Helper()
	p, err := NewStandalone(cfg, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready := make(chan Runtime, 1)
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx, func(rt Runtime) { ready <- rt }) }()
	select {
	case rt := <-ready:
		return rt, func() error { cancel(); return <-ended }
	case err := <-ended:
		cancel()
		t.Fatalf("ended before it was ready: %v", err)
	case <-time.After(20 * time.Second):
		cancel()
		t.Fatalf("not ready: %v", p.Ready())
	}
	panic("unreachable")
}

func client(t *testing.T, rt Runtime, uid string, show func(gatepost.Message)) *gatepost.Client {
	t.Helper()
	keys, err := ReadKeys(rt.KeysFile)
	if err != nil {
		t.Fatal(err)
	}
	c, err := gatepost.New(gatepost.Config{
		Gates: []string{"tcp://" + rt.TCP}, Keys: keys.Public(), Device: gatepost.Desktop, Store: memstore.New(),
		User:      gatepost.User{Domain: "any", UID: uid},
		Token:     func(context.Context) (string, error) { return MintToken(keys, "any", uid, time.Minute) },
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

func TestStandaloneCarriesAMessageAndLeavesNothing(t *testing.T) {
	defer goleak.VerifyNone(t, lasting...)
	cfg := testConfig(t)
	rt, stop := runs(t, cfg)

	shown := make(chan gatepost.Message, 1)
	bob := client(t, rt, "bob", func(m gatepost.Message) { shown <- m })
	alice := client(t, rt, "alice", func(gatepost.Message) {})
	sending, err := alice.C2C(t.Context(), gatepost.User{Domain: "any", UID: "bob"}, gatepost.Outgoing{Content: []byte("hello")})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := sending.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	select {
	case m := <-shown:
		if string(m.Content) != "hello" || m.From.UID != "alice" {
			t.Errorf("shown %q from %v", m.Content, m.From)
		}
	case <-ctx.Done():
		t.Error("not shown")
	}
	for path, want := range map[string]string{"/healthz": "ok", "/readyz": "ready", "/metrics": "gatepost_", "/loglevel": "INFO", "/debug/pprof/": "goroutine"} {
		res, err := http.Get("http://" + rt.Admin + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || !strings.Contains(string(body), want) {
			t.Errorf("%s: %v %.200s", path, err, body)
		}
	}
	if found, err := ReadRuntime(cfg.DataDir); err != nil || found.TCP != rt.TCP || !strings.Contains(rt.Ready(), "READY standalone tcp="+rt.TCP) {
		t.Errorf("runtime file: %+v, %v", found, err)
	}
	if err := errors.Join(alice.Close(), bob.Close(), stop()); err != nil {
		t.Error(err)
	}
	http.DefaultClient.CloseIdleConnections()
	if _, err := ReadRuntime(cfg.DataDir); err == nil {
		t.Error("the runtime file outlived the process")
	}
}

func TestDataDirectoryIsPrivateAndKept(t *testing.T) {
	defer goleak.VerifyNone(t, lasting...)
	cfg := testConfig(t)
	first, stop := runs(t, cfg)
	if _, err := NewStandalone(cfg, io.Discard); !errors.Is(err, ErrInUse) {
		t.Errorf("a second process in the same directory: %v", err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	for name, want := range map[string]os.FileMode{"": 0o700, KeysName: 0o600, tlsKeyName: 0o600, sqliteName: 0o600} {
		info, err := os.Stat(filepath.Join(cfg.DataDir, name))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%q: %v %v, want %v", name, info, err, want)
		}
	}
	second, stop := runs(t, cfg)
	if first.Keys[0] != second.Keys[0] {
		t.Error("the second start made other keys")
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestHalfBuiltIsClosed(t *testing.T) {
	defer goleak.VerifyNone(t, lasting...)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for name, breakIt := range map[string]func(*Config){
		"admin port taken": func(c *Config) { c.Admin.Address = taken.Addr().String() },
		"tcp port taken":   func(c *Config) { c.Gate.ListenTCP = taken.Addr().String() },
		"tls port taken":   func(c *Config) { c.Gate.ListenTLS = taken.Addr().String() },
		"no certificate":   func(c *Config) { c.TLS.CertFile, c.TLS.KeyFile = "/nowhere/c", "/nowhere/k" },
		"no database":      func(c *Config) { c.SQL.Path = "/nowhere/db" },
	} {
		cfg := testConfig(t)
		breakIt(&cfg)
		p, err := NewStandalone(cfg, io.Discard)
		if err == nil {
			err = p.Start(t.Context())
		}
		if err == nil {
			t.Fatalf("%s: it started", name)
		}
		if strings.HasSuffix(name, "taken") && (!errors.Is(err, ErrAddressTaken) || !strings.Contains(err.Error(), "--"+name[:3])) {
			t.Errorf("%s: %v", name, err)
		}
		dir, err := openDataDir(cfg.DataDir) // which nobody has any more
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		dir.Close()
	}
}

func TestGateWhosePortIsTakenDoesNotStart(t *testing.T) {
	defer goleak.VerifyNone(t, lasting...)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	keys, err := GenerateKeys()
	if err != nil {
		t.Fatal(err)
	}
	cfg := Default(Gate)
	cfg.KeysFile = filepath.Join(t.TempDir(), "keys.json")
	cfg.Gate.ListenTCP, cfg.RPCListen, cfg.Admin.Address = taken.Addr().String(), "127.0.0.1:0", "127.0.0.1:0"
	if err := WriteKeys(cfg.KeysFile, keys); err != nil {
		t.Fatal(err)
	}
	p, err := NewGate(cfg, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(t.Context()); !errors.Is(err, ErrAddressTaken) || !strings.Contains(err.Error(), "--tcp") {
		t.Errorf("start: %v", err)
	}
}

// Its Kafka tells consumers an address that they reach, and the process itself needs not reach.
func TestStandaloneAdvertisesItsKafka(t *testing.T) {
	cfg := testConfig(t)
	cfg.Kafka.Listen = "0.0.0.0:0"
	if err := cfg.Validate(Standalone); err == nil || !strings.Contains(err.Error(), "kafka.advertise") {
		t.Errorf("every address, and none of them to tell: %v", err)
	}
	cfg.Kafka.Advertise = "kafka.invalid"
	if err := cfg.Validate(Standalone); err != nil {
		t.Fatal(err)
	}
	rt, stop := runs(t, cfg)
	alice := client(t, rt, "alice", func(gatepost.Message) {})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	sending, err := alice.C2S(ctx, gatepost.Report{Type: "order", Content: []byte("one")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sending.Wait(ctx); err != nil {
		t.Errorf("a report: %v", err)
	}
	if len(rt.Kafka) != 1 || !strings.HasPrefix(rt.Kafka[0], "kafka.invalid:") {
		t.Errorf("told: %v", rt.Kafka)
	}
	if err := errors.Join(alice.Close(), stop()); err != nil {
		t.Error(err)
	}
}
