//go:build e2e

package fault

import (
	"bytes"
	"context"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/gatepost/gatepost/audit"
	"github.com/gatepost/gatepost/test/harness"
)

// `gatepost audit --faults` is this suite for everybody: a verdict as exit code and report, with the faults in it.
func TestAuditCommand(t *testing.T) {
	bin, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, "audit", "--faults", "--backing", serversDir, "--users", "8", "--duration", load(t).String(), "--fault-every", "500ms", "--json")
	cmd.Dir = filepath.Join("..", "..") // where deploy/servers is
	var out, progress bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &progress
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s\n%s", err, &out, &progress)
	}
	var report struct {
		Seconds      float64        `json:"seconds"`
		AcceptedPerS float64        `json:"accepted_per_s"`
		FaultCounts  map[string]int `json:"fault_counts"`
		Faults       []audit.Struck `json:"faults"`
		Verdict      audit.Verdict  `json:"verdict"`
	}
	if err := json.Unmarshal(out.Bytes(), &report); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	v := report.Verdict
	t.Logf("%s; %v", v, report.Faults)
	if !v.Pass || v.Accepted == 0 || v.UplinksAccepted == 0 || v.PushesAccepted == 0 || len(report.Faults) == 0 || report.AcceptedPerS == 0 || report.Seconds == 0 {
		t.Errorf("%s", &out)
	}
	if !bytes.Contains(progress.Bytes(), []byte("loading")) || !bytes.Contains(progress.Bytes(), []byte("faults")) {
		t.Errorf("no progress: %s", &progress)
	}
}
