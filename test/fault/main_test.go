//go:build e2e

package fault

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gatepost/gatepost/audit"
	"github.com/gatepost/gatepost/audit/platform"
	"github.com/gatepost/gatepost/test/harness"
)

// servers are started for this suite, and belong to it: it kills them.
var servers ownServers

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, "fault:", err)
		return 1
	}
	dir, err := os.MkdirTemp("", "gatepost-fault-")
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(dir)
	defer harness.CleanBinary()
	if err := os.Chmod(dir, 0o755); err != nil { // the database gives up root for a user of its own
		return fail(err)
	}
	servers = ownServers{dir: filepath.Join(dir, "servers")}
	if err := servers.up("mariadb", "redis", "kafka"); err != nil {
		return fail(err)
	}
	code := m.Run()
	if err := servers.down(false); err != nil {
		code = fail(err)
	}
	return code
}

// ownServers are a MariaDB and a Redis in a directory of their own, by the scripts of deploy.
type ownServers struct{ dir string }

func (s ownServers) script(name string, args ...string) error {
	cmd := exec.Command(filepath.Join("..", "..", "deploy", "servers", name), append([]string{"--dir", s.dir}, args...)...)
	for _, kv := range os.Environ() { // the addresses of other servers are not ours
		if !strings.HasPrefix(kv, "GATEPOST_TEST_") {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %v: %w\n%s", name, args, err, out)
	}
	return nil
}

func (s ownServers) up(kinds ...string) error { return s.script("up.sh", kinds...) }

// down stops servers for good, or kills them so that up brings them back on their old ports with the data that they had on disk.
func (s ownServers) down(kill bool, kinds ...string) error {
	if kill {
		kinds = append([]string{"--kill", "--keep"}, kinds...)
	}
	return s.script("down.sh", kinds...)
}

func (s ownServers) addresses() (harness.Servers, error) {
	sql, err1 := os.ReadFile(filepath.Join(s.dir, "mariadb", "address"))
	redis, err2 := os.ReadFile(filepath.Join(s.dir, "redis", "address"))
	kafka, err3 := os.ReadFile(filepath.Join(s.dir, "kafka", "address"))
	return harness.Servers{MySQL: strings.TrimSpace(string(sql)), Redis: strings.TrimSpace(string(redis)),
		Kafka: []string{strings.TrimSpace(string(kafka))}}, errors.Join(err1, err2, err3)
}

// start starts a platform for one scenario; a standalone one has its own Kafka.
func start(t *testing.T, mode harness.Mode) *platform.Platform {
	t.Helper()
	return startWith(t, mode, mode == harness.Cluster)
}

// startWith starts a platform for one scenario, with the suite's servers or without them.
func startWith(t *testing.T, mode harness.Mode, withServers bool) *platform.Platform {
	t.Helper()
	var addresses harness.Servers
	if withServers {
		var err error
		if addresses, err = servers.addresses(); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	p, stop, err := harness.Start(ctx, mode, addresses, t.TempDir(), "log.level=info", "logic.stop_grace=500ms")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, proc := range p.Processes() {
				t.Log(proc.LogTail())
			}
		}
		if err := stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return p
}

// load is how long the traffic of a scenario lasts.
func load(t *testing.T) time.Duration {
	text := os.Getenv("GATEPOST_TEST_FAULT_SECONDS")
	if text == "" {
		return 6 * time.Second
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("GATEPOST_TEST_FAULT_SECONDS is %q: it must be a number of seconds", text)
	}
	return time.Duration(n) * time.Second
}

// scenario is an audit under faults.
type scenario struct {
	faults []audit.Fault
	every  time.Duration // between two of them
	change func(*audit.Config)
	target func(*audit.Target)
}

// judge runs the scenario and fails the test with every violation that the oracle names.
func judge(t *testing.T, p *platform.Platform, s scenario) *audit.Report {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("GATEPOST_TEST_FAULT_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("GATEPOST_TEST_FAULT_SEED: %v", err)
		}
	}
	t.Logf("GATEPOST_TEST_FAULT_SEED=%d", seed)
	target := audit.Target{Gates: p.Addresses(), Keys: p.Keys(), Domain: platform.Domain, Token: p.Token, Timing: harness.Impatient()}
	if s.target != nil {
		s.target(&target)
	}
	dial, err := target.Dial()
	if err != nil {
		t.Fatal(err)
	}
	cfg := audit.Config{
		Dial: dial, Seed: seed, Domain: platform.Domain, Users: 12, Traffic: audit.Mixed, Window: 16, Size: 60, SizeMax: 2000,
		Pause: 2 * time.Millisecond, Duration: load(t), Away: 0.2, Restart: 0.15, Crash: 0.15, Steady: time.Second,
		Faults: s.faults, FaultEvery: s.every, Settle: time.Minute,
	}
	if s.change != nil {
		s.change(&cfg)
	}
	ctx, cancel := context.WithTimeout(context.Background(), load(t)+3*time.Minute)
	defer cancel()
	report, err := audit.Run(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s; %d shown only after a pull at the end; settled and checked after %s; faults %q", report.Verdict, report.Nudged, report.Took, report.Faults)
	for _, v := range report.Verdict.Violations {
		t.Errorf("%s: %s: %s", v.Kind, v.Message, v.History)
	}
	if report.Verdict.Refused > 0 { // nothing in this load deserves it
		t.Errorf("refused for good: %v", report.Verdict.Refusals)
	}
	if !report.Verdict.Pass || report.Verdict.Accepted == 0 {
		t.Errorf("verdict: %s", report.Verdict)
	}
	return report
}

// fault is an audit.Fault made of a function.
type fault struct {
	name   string
	strike func(ctx context.Context, rng *rand.Rand) error
}

func (f fault) Name() string                                     { return f.name }
func (f fault) Strike(ctx context.Context, rng *rand.Rand) error { return f.strike(ctx, rng) }

// between draws a time.
func between(rng *rand.Rand, from, to time.Duration) time.Duration {
	return from + time.Duration(rng.Int64N(int64(to-from)))
}

// wait lets the damage last.
func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// killed kills one of procs without a word, and starts it again a little later.
func killed(name string, procs []*platform.Process) fault {
	return fault{"kill -9 of a " + name, func(ctx context.Context, rng *rand.Rand) error {
		proc := procs[rng.IntN(len(procs))]
		if err := proc.Kill(); err != nil {
			return err
		}
		wait(ctx, between(rng, 0, time.Second))
		return proc.Start(ctx)
	}}
}

// stopped stops one of procs in order, and starts it again.
func stopped(name string, procs []*platform.Process) fault {
	return fault{"stop of a " + name, func(ctx context.Context, rng *rand.Rand) error {
		proc := procs[rng.IntN(len(procs))]
		if err := proc.Stop(); err != nil {
			return err
		}
		return proc.Start(ctx)
	}}
}

// frozen freezes one of procs for longer than a heartbeat may take: its connections stay open and nothing answers.
func frozen(name string, procs []*platform.Process, from, to time.Duration) fault {
	return fault{"freezing a " + name, func(ctx context.Context, rng *rand.Rand) error {
		proc := procs[rng.IntN(len(procs))]
		if err := proc.Pause(); err != nil {
			return err
		}
		wait(ctx, between(rng, from, to))
		return proc.Resume()
	}}
}

// serverKilled kills a server and brings it back with what it had on disk: all of a database, nothing of Redis.
func serverKilled(kind string) fault {
	return fault{"kill -9 of " + kind, func(ctx context.Context, rng *rand.Rand) error {
		if err := servers.down(true, kind); err != nil {
			return err
		}
		wait(ctx, between(rng, 0, 2*time.Second))
		return servers.up(kind)
	}}
}
