package main

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatepost/gatepost/audit"
)

func TestAuditRefusesWhatItCannotJudge(t *testing.T) {
	backing := t.TempDir() // with no Kafka in it
	for _, kind := range []string{"mariadb", "redis"} {
		if err := os.MkdirAll(filepath.Join(backing, kind), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(backing, kind, "address"), []byte("127.0.0.1:1"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range []string{
		"--users 1", "--devices 0", "--devices 6", "--traffic none", "--duration 0s", "--rough 2", "--faults --fault-every 0s", "--nodes 0",
		"--kinds mail", "--kinds uplinks", "--app 127.0.0.1:1", "--app-key-file x",
		"--kinds messages,uplinks --mysql x --redis y", "--kinds messages,uplinks --backing " + backing,
		"--faults --servers running", "--faults --servers tcp://127.0.0.1:1", // what others started is left alone
		"--backing nowhere", "--backing " + backing + " --mysql x --redis y", "--backing " + backing + " --kafka z",
		"--servers running --backing " + backing, "--mysql x", "--redis y", "--cpu gate", "--cpu gate=0", "--cpu =7",
	} {
		if got := run(t.Context(), strings.Fields("audit "+args), io.Discard); got != exitUsage {
			t.Errorf("gatepost audit %s: exit code %d, want %d", args, got, exitUsage)
		}
	}
}

func TestAuditKindsAreThoseThatCanBeJudged(t *testing.T) {
	for want, a := range map[string]auditing{
		"messages,uplinks,pushes": {servers: servers{where: serversLocal}},
		"messages,pushes":         {servers: servers{where: serversLocal, mysql: "x", redis: "y"}},
		"messages":                {servers: servers{where: serversRunning}},
		"messages,uplinks":        {servers: servers{where: serversRunning, kafka: []string{"k"}}},
	} {
		if err := a.checkKinds(); err != nil || strings.Join(a.kinds, ",") != want {
			t.Errorf("%v: %v, %v", a.servers, a.kinds, err)
		}
	}
}

// The names in the JSON are for scripts: they stay.
func TestAuditReport(t *testing.T) {
	faults := []audit.Struck{{Name: "kill -9 of a gate", Victim: "gate 2", AtMS: 1500, TookMS: 20}, {Name: "kill -9 of redis", AtMS: 2500}}
	r := auditReport{Command: []string{"gatepost", "audit"}, Seconds: 2, AcceptedPerS: 50, FaultCounts: audit.FaultCounts(faults),
		Report: &audit.Report{Seed: 7, Took: 3 * time.Second, Faults: faults, Verdict: audit.Verdict{Sent: 100, Accepted: 100, Lost: 1,
			Violations: []audit.Violation{{Kind: audit.Lost, Message: "a/1#3 → b", History: "sent at 1 ms"}}}}}
	text := r.String()
	for _, want := range []string{"seed 7", "2 faults: 1 × kill -9 of a gate, 1 × kill -9 of redis", "1500 ms: kill -9 of a gate (gate 2), for 20 ms",
		"lost: a/1#3 → b: sent at 1 ms", "FAIL: 100 sent, 100 accepted"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	encoded, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"command":["gatepost","audit"]`, `"machine":{`, `"seconds":2`, `"accepted_per_s":50`, `"seed":7`,
		`"fault_counts":{"kill -9 of a gate":1,"kill -9 of redis":1}`, `"faults":[{"name":"kill -9 of a gate","victim":"gate 2","at_ms":1500,"took_ms":20}`,
		`"verdict":{"pass":false,"sent":100`, `"violations":[{"kind":"lost","message":"a/1#3 → b"`} {
		if !strings.Contains(string(encoded), want) {
			t.Errorf("%s is not in %s", want, encoded)
		}
	}
}
