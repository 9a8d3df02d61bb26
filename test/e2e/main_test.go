//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/gatepost/gatepost/audit/platform"
	gatepost "github.com/gatepost/gatepost/sdk/go"
	"github.com/gatepost/gatepost/test/harness"
)

// p is the platform of all tests; each test has users of its own.
var p *platform.Platform

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	mode, err := harness.ModeFromEnvironment()
	if err != nil {
		return fail(err)
	}
	var servers harness.Servers
	if mode == harness.Cluster {
		if servers, err = harness.FromEnvironment(); err != nil {
			return fail(err)
		}
	}
	dir, err := os.MkdirTemp("", "gatepost-e2e-")
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(dir)
	defer harness.CleanBinary()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	var stop func() error
	p, stop, err = harness.Start(ctx, mode, servers, dir, "gate.hello_timeout=3s", "gate.lanes.entry_timeout=5s", "gate.login_timeout=6s")
	if err != nil {
		return fail(err)
	}
	code := m.Run()
	if code != 0 {
		for _, proc := range p.Processes() {
			fmt.Fprintln(os.Stderr, proc.LogTail())
		}
	}
	if err := stop(); err != nil {
		code = fail(err)
	}
	return code
}

// person is a client that is not connected.
func person(t *testing.T, name string, options ...harness.Option) *harness.Person {
	t.Helper()
	return harness.NewPerson(t, p, harness.UID(t, name), options...)
}

// again is another client of the same user.
func again(t *testing.T, x *harness.Person, options ...harness.Option) *harness.Person {
	t.Helper()
	return harness.NewPerson(t, p, x.UID, options...)
}

// address of the n-th gate; in one process there is one.
func address(n int) string { return p.Gates[n%len(p.Gates)].Ready("tcp") }

// raw is a raw client on the n-th gate, after hello.
func raw(t *testing.T, n int) *harness.Raw {
	t.Helper()
	r, err := harness.DialRaw(address(n), p.Keys()[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// rawAs is a raw client on the n-th gate that is logged in and registered.
func rawAs(t *testing.T, n int, uid string) *harness.Raw {
	t.Helper()
	r := raw(t, n)
	if err := r.LoginAs(t, p, uid, gatepost.Android); err != nil {
		t.Fatal(err)
	}
	return r
}

// texts are n texts that tell themselves apart.
func texts(prefix string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("%s-%d", prefix, i+1)
	}
	return out
}
