//go:build e2e

package fault

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/gatepost/gatepost/audit"
	"github.com/gatepost/gatepost/audit/faults"
	"github.com/gatepost/gatepost/audit/platform"
	"github.com/gatepost/gatepost/test/harness"
)

// servers are started for this suite, and belong to it: it kills them.
var servers *platform.Backing

// serversDir is where they are.
var serversDir string

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
	serversDir = filepath.Join(dir, "servers")
	if servers, err = platform.NewBacking(serversDir, filepath.Join("..", "..", "deploy", "servers")); err != nil {
		return fail(err)
	}
	ctx := context.Background()
	if err := servers.Start(ctx, platform.MariaDB, platform.Redis, platform.Kafka); err != nil {
		return fail(err)
	}
	code := m.Run()
	if err := servers.Remove(ctx); err != nil {
		code = fail(err)
	}
	return code
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
		addresses = harness.Servers{MySQL: servers.Address(platform.MariaDB), Redis: servers.Address(platform.Redis),
			Kafka: []string{servers.Address(platform.Kafka)}}
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
	target := audit.Target{Gates: p.Addresses(), Keys: p.Keys(), Domain: platform.Domain, Token: p.Token, Timing: faults.Timing()}
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
		Faults: s.faults, FaultEvery: s.every, Settle: time.Minute, NoRefusals: true, // nothing in this load deserves one
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
	t.Logf("%s; %d shown only after a pull at the end; settled and checked after %s; faults: %s", report.Verdict, report.Nudged, report.Took, report.Faults)
	for _, v := range report.Verdict.Violations {
		t.Errorf("%s: %s: %s", v.Kind, v.Message, v.History)
	}
	if !report.Verdict.Pass || report.Verdict.Accepted == 0 {
		t.Errorf("verdict: %s", report.Verdict)
	}
	return report
}
