package harness

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatepost/gatepost/audit/platform"
)

// Mode of a platform.
type Mode string

const (
	Standalone Mode = "standalone"
	Cluster    Mode = "cluster" // two gates and two logic nodes
)

// Domains of every platform besides platform.Domain, which stores messages to users who have never logged in, and accepts those of Guests.
const (
	Guests = "guests" // accepts messages from platform.Domain, refuses unknown receivers, and reports nothing but trip.*
	Closed = "closed" // accepts messages from no other domain, and reports nothing
)

// Servers are the addresses of the servers that a cluster stands on.
type Servers struct {
	MySQL string // with the right to create databases
	Redis string
	Kafka []string // brokers; a standalone without any has its own
}

// FromEnvironment are the servers that the tests were given.
func FromEnvironment() (Servers, error) {
	s := Servers{MySQL: os.Getenv("GATEPOST_TEST_MYSQL"), Redis: os.Getenv("GATEPOST_TEST_REDIS")}
	if kafka := os.Getenv("GATEPOST_TEST_KAFKA"); kafka != "" {
		s.Kafka = strings.Split(kafka, ",")
	}
	if s.MySQL == "" || s.Redis == "" || len(s.Kafka) == 0 {
		return s, errors.New("GATEPOST_TEST_MYSQL, GATEPOST_TEST_REDIS and GATEPOST_TEST_KAFKA must name servers: run deploy/servers/up.sh mariadb redis kafka, then source the file that it names")
	}
	return s, nil
}

// ModeFromEnvironment is GATEPOST_TEST_E2E.
func ModeFromEnvironment() (Mode, error) {
	switch m := Mode(os.Getenv("GATEPOST_TEST_E2E")); m {
	case Standalone, Cluster:
		return m, nil
	default:
		return "", fmt.Errorf("GATEPOST_TEST_E2E is %q: it must be standalone or cluster", m)
	}
}

var binary = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("GATEPOST_TEST_BIN"); path != "" {
		return filepath.Abs(path)
	}
	dir, err := os.MkdirTemp("", "gatepost-bin-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "gatepost")
	out, err := exec.Command("go", "build", "-o", path, "github.com/gatepost/gatepost/cmd/gatepost").CombinedOutput()
	if err != nil {
		return "", errors.Join(fmt.Errorf("build gatepost: %w\n%s", err, out), os.RemoveAll(dir))
	}
	return path, nil
})

// Binary is GATEPOST_TEST_BIN, or the binary built once for this test program; CleanBinary removes that one.
func Binary() (string, error) { return binary() }

// CleanBinary removes what Binary has built.
func CleanBinary() {
	if path, err := binary(); err == nil && os.Getenv("GATEPOST_TEST_BIN") == "" {
		_ = os.RemoveAll(filepath.Dir(path)) // it lies in the system's temporary directory
	}
}

// Start starts a platform of real processes in dir; in a cluster over a database of its own, which stop drops.
func Start(ctx context.Context, mode Mode, servers Servers, dir string, set ...string) (p *platform.Platform, stop func() error, err error) {
	bin, err := Binary()
	if err != nil {
		return nil, nil, err
	}
	opt := platform.Options{
		Binary: bin, Dir: dir, TLS: true, Kafka: servers.Kafka, Topic: fmt.Sprintf("gatepost-test-%x", rand.Uint64()), Set: append([]string{
			"gate.handshake_rate=0", // every client of a test has the same address
			"log.level=debug",
		}, set...),
		Accept: []string{Guests},
	}
	opt.More = map[string]string{
		Guests: fmt.Sprintf(`{auth: {kind: token}, accept_from: [%s], unknown_receivers: refuse, uplinks: {topics: {"trip.*": %q}}}`, platform.Domain, opt.Topic),
		Closed: "{auth: {kind: token}}",
	}
	drop := func() error { return nil }
	if mode == Cluster {
		opt.Gates, opt.Logic, opt.Redis = 2, 2, servers.Redis
		if opt.MySQL, drop, err = platform.CreateDatabase(ctx, servers.MySQL, "gatepost_test"); err != nil {
			return nil, nil, err
		}
	}
	p, err = platform.Start(ctx, opt)
	if err != nil {
		return nil, nil, errors.Join(err, drop())
	}
	return p, func() error { return errors.Join(p.Close(), drop()) }, nil
}

// Eventually polls until f returns nil, and fails the test with its last error when that takes longer than limit.
func Eventually(t testing.TB, limit time.Duration, f func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %s: %v", limit, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

var names struct {
	sync.Mutex
	n int
}

// UID is a uid that no other test has.
func UID(t testing.TB, name string) string {
	names.Lock()
	defer names.Unlock()
	names.n++
	test := t.Name()
	test = test[strings.LastIndexByte(test, '/')+1:]
	return fmt.Sprintf("%.60s-%s-%d-%d", test, name, os.Getpid(), names.n)
}
