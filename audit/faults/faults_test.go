package faults

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatepost/gatepost/audit"
	"github.com/gatepost/gatepost/audit/platform"
)

// backing is a directory of servers whose scripts write down how they were called, and fail when there is a file "broken".
func backing(t *testing.T) (b *platform.Backing, dir string) {
	t.Helper()
	dir = t.TempDir()
	write := func(path, text string, mode os.FileMode) {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, kind := range []string{platform.MariaDB, platform.Redis, platform.Kafka} {
		write(filepath.Join(dir, kind, "address"), "127.0.0.1:1\n", 0o600)
	}
	write(filepath.Join(dir, platform.MariaDB, "pid"), "1 1\n", 0o600) // the other two were given, and run elsewhere
	for _, name := range []string{"up.sh", "down.sh"} {
		write(filepath.Join(dir, "scripts", name), "#!/bin/sh\necho \"${0##*/} $3 $4 $5\" >>'"+dir+"/calls'\n[ ! -e '"+dir+"/broken' ]\n", 0o700)
	}
	b, err := platform.OpenBacking(dir, filepath.Join(dir, "scripts"))
	if err != nil {
		t.Fatal(err)
	}
	return b, dir
}

func names(faults []audit.Fault) (out []string) {
	for _, f := range faults {
		out = append(out, f.Name())
	}
	return out
}

func TestAllIsEverythingThatWasStarted(t *testing.T) {
	procs := []*platform.Process{{}}
	standalone := names(All(&platform.Platform{Gates: procs}, nil, nil))
	if want := []string{"kill -9 of a platform", "stop of a platform", "freezing a platform"}; !slices.Equal(standalone, want) {
		t.Errorf("standalone: %q", standalone)
	}
	b, _ := backing(t)
	cluster := names(All(&platform.Platform{Gates: procs, Logic: procs}, b, &Network{}))
	want := []string{"kill -9 of a gate", "stop of a gate", "freezing a gate", "kill -9 of a logic node", "stop of a logic node",
		"freezing a logic node", "cut of all connections of a gate", "kill -9 of mariadb", "freezing mariadb"}
	if !slices.Equal(cluster, want) {
		t.Errorf("cluster: %q", cluster)
	}
}

// A frozen server stands still, and goes on.
func TestFreezeServer(t *testing.T) {
	b, dir := backing(t)
	sleeper := exec.Command("sleep", "60")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = sleeper.Process.Kill()
		_ = sleeper.Wait() // it was killed
	})
	if err := os.WriteFile(filepath.Join(dir, platform.MariaDB, "pid"), fmt.Appendf(nil, "%d 1\n", sleeper.Process.Pid), 0o600); err != nil {
		t.Fatal(err)
	}
	struck := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, err := FreezeServer(b, platform.MariaDB, time.Hour, 2*time.Hour).Strike(ctx, rand.New(rand.NewPCG(1, 2)))
		struck <- err
	}()
	await := func(frozen bool) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", sleeper.Process.Pid))
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(stat), ") T ") == frozen {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("frozen is to be %t: %s", frozen, stat)
			}
		}
	}
	await(true)
	cancel() // the run is over: it is not left frozen
	if err := <-struck; err != nil {
		t.Fatal(err)
	}
	await(false)
	if _, err := FreezeServer(b, platform.Redis, 1, 2).Strike(t.Context(), rand.New(rand.NewPCG(1, 2))); err == nil {
		t.Error("a server that is nobody's process here was frozen")
	}
}

func TestKillServerBringsItBack(t *testing.T) {
	b, dir := backing(t)
	f := KillServer(b, platform.MariaDB)
	ended, cancel := context.WithCancel(t.Context())
	cancel() // a run that is broken off brings it back, too
	if _, err := f.Strike(ended, rand.New(rand.NewPCG(1, 2))); err != nil {
		t.Fatal(err)
	}
	calls, err := os.ReadFile(filepath.Join(dir, "calls"))
	if err != nil {
		t.Fatal(err)
	}
	if want := "down.sh --kill --keep mariadb\nup.sh mariadb  \n"; string(calls) != want {
		t.Errorf("%q, want %q", calls, want)
	}
	if err := os.WriteFile(filepath.Join(dir, "broken"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Strike(t.Context(), rand.New(rand.NewPCG(1, 2))); err == nil || !strings.Contains(err.Error(), "down.sh") {
		t.Errorf("a server that cannot be killed: %v", err)
	}
}
