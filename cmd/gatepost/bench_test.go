package main

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/gatepost/gatepost/audit/bench"
)

func TestHelpOfEveryBench(t *testing.T) {
	for _, c := range benchCommand().Commands() {
		out, err := command(t, "bench", c.Name(), "--help")
		if err != nil || !strings.Contains(out, "Examples:") {
			t.Errorf("bench %s --help: %v\n%s", c.Name(), err, out)
		}
	}
}

func TestBenchRefusesBadFlags(t *testing.T) {
	for _, args := range []string{
		"bench s2c --users 1", "bench s2c --list 0", "bench s2c --app x:1", "bench c2s --clients 1",
		"bench login --workers 0", "bench idle --connections 0", "bench latency --rate 0", "bench latency --rates 100,-1", "bench c2c --duration 0s",
		"bench limit --duration 0s", "bench limit --depth 5", "bench limit --mysql x --depth-database y", "bench c2c --depth 10", "bench c2c --commit-delay 1ms", "bench c2c --backing x --depth -1",
		"bench c2c --backing x --depth 1 --depth-database a.b", "bench limit --backing nowhere", "bench limit --backing x --mysql y", "bench c2c extra", "bench c2c --limit --limit-duration 0s", "bench c2c --cpu mariadb",
	} {
		if code := run(t.Context(), strings.Fields(args), &strings.Builder{}); code != exitUsage {
			t.Errorf("%s: exit code %d", args, code)
		}
	}
}

// A figure that is shown beside its command must not show a password with it.
func TestCommandLineHidesPasswords(t *testing.T) {
	got := commandLine([]string{"/tmp/x/gatepost", "bench", "c2c", "--mysql", "root:se:cr@et@tcp(127.0.0.1:3306)/x", "--mysql=me:pw@unix(/s)/", "--mysql", "root@tcp(a:1)/"})
	want := []string{"gatepost", "bench", "c2c", "--mysql", "root:***@tcp(127.0.0.1:3306)/x", "--mysql=me:***@unix(/s)/", "--mysql", "root@tcp(a:1)/"}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

func TestResultNamesItsMachine(t *testing.T) {
	var r bench.Result
	completeAs(&r, "standalone")
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var names map[string]any
	if err := json.Unmarshal(text, &names); err != nil {
		t.Fatal(err)
	}
	machine, _ := names["machine"].(map[string]any)
	for _, name := range []string{"cpu", "cores", "memory_bytes", "os", "go"} {
		if _, ok := machine[name]; !ok {
			t.Errorf("machine has no %s: %v", name, machine)
		}
	}
	if _, err := os.Stat("/proc/meminfo"); err == nil && r.Machine.MemoryBytes < 1<<20 {
		t.Errorf("memory of %d bytes", r.Machine.MemoryBytes)
	}
}
