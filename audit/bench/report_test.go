package bench

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatepost/gatepost/audit"
)

func ptr[T any](v T) *T { return &v }

// c2cRun is a run of the cluster that removes so many a second.
func c2cRun(removed, ratio, cpu float64) *Result {
	r := &Result{Bench: "c2c", Platform: "cluster of 1+1", Pairs: 200, Window: 8, SizeBytes: 200, Commit: "abc", Command: []string{"gatepost", "bench", "c2c", "--mysql", "a b"}, RemovedPerS: &removed, Ratio: &ratio,
		ServerCPU: &CPU{Total: cpu, Parts: map[string]float64{"gate 1": cpu / 2, "mariadb": cpu / 2}}, ClientCPUUS: ptr(60.0),
		Limit: &Limit{What: "database", BeforePerS: 30000, AfterPerS: 31000, PerS: 30500}}
	r.judged(audit.Verdict{Pass: true})
	return r
}

func latencyRun(rate, p99 float64) *Result {
	r := &Result{Bench: "latency", Platform: "cluster of 1+1", SizeBytes: 200, RatePerS: rate, RemovedPerS: ptr(rate * 0.99), Ack: &Latency{P50: 1, P99: p99}, Delivery: &Latency{P50: 2, P99: p99 * 2}}
	r.judged(audit.Verdict{Pass: true})
	return r
}

func write(t *testing.T, dir, name string, results ...any) {
	t.Helper()
	var b strings.Builder
	for _, r := range results {
		text, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		b.Write(text)
	}
	if err := os.WriteFile(filepath.Join(dir, name), []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestReportShowsEveryRun(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "10-c2c-cluster.1.json", c2cRun(15000, 0.5, 100))
	write(t, dir, "10-c2c-cluster.2.json", c2cRun(13000, 0.45, 110))
	write(t, dir, "10-c2c-cluster.3.json", c2cRun(9000, 0.3, 140))
	write(t, dir, "20-latency.1.json", latencyRun(1000, 9), latencyRun(4000, 30))
	write(t, dir, "20-latency.2.json", latencyRun(1000, 12), latencyRun(4000, 90))
	write(t, dir, "30-limit.1.json", &limitRun{Bench: "limit", Limits: []*Limit{{What: "wire", PerS: 170000, How: "frames"}}})
	write(t, dir, "40-idle.1.json") // it failed
	cases, err := ReadRuns(dir)
	if err != nil {
		t.Fatal(err)
	}
	r := &Report{Cases: cases, Notes: []string{"MariaDB flushes at commit."}, Date: "2026-01-31"}
	page := r.Markdown("x-")
	for _, want := range []string{
		"# Figures of 2026-01-31", "MariaDB flushes at commit.", "![rate and times against load](x-load.svg)", "### c2c cluster", "    gatepost bench c2c --mysql 'a b'",
		"| 1 | cluster of 1+1 | 15,000 |", "| 3 | cluster of 1+1 | 9,000 |", "100.0 (gate 1 50.0, mariadb 50.0)", "| wire | 170,000 |", "No result: 40-idle.1.json",
		"removed 15,000, 13,000, 9,000/s; of the database 50.0, 45.0, 30.0 %; CPU 100, 110, 140 µs | 13,000/s; 45.0 %; 110 µs | yes |",
		"p50 1.0, 1.0 ms; p99 9.0, 12.0 ms | 1.0 ms; 10.5 ms | **no** |", "not measured",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if t.Failed() {
		t.Log(page)
	}
}

// A goal that a run reached by breaking a promise is not reached.
func TestGoalNeedsEveryVerdict(t *testing.T) {
	bad := c2cRun(20000, 0.9, 10)
	bad.Verdict.Pass = false
	r := &Report{Cases: []Case{{Name: "c2c", Runs: []*Result{c2cRun(20000, 0.9, 10), bad, c2cRun(20000, 0.9, 10)}}}}
	line, _, _ := strings.Cut(r.goalTable()[strings.Index(r.goalTable(), "| durable c2c, cluster"):], "\n")
	if !strings.HasSuffix(line, "| **no** |") {
		t.Error(line)
	}
}

// A run that gave no result is none that reached its goal, and runs of another size or topology count for none.
func TestGoalNeedsEveryRunOfItsKind(t *testing.T) {
	lineOf := func(c Case) string {
		table := (&Report{Cases: []Case{c}}).goalTable()
		line, _, _ := strings.Cut(table[strings.Index(table, "| durable c2c, cluster"):], "\n")
		return line
	}
	good := func() *Result { return c2cRun(20000, 0.9, 10) }
	if line := lineOf(Case{Runs: []*Result{good()}}); !strings.HasSuffix(line, "| yes |") {
		t.Error(line)
	}
	if line := lineOf(Case{Runs: []*Result{good()}, Failed: []string{"c2c.2.json"}}); !strings.HasSuffix(line, "| **no** |") {
		t.Error(line)
	}
	for what, change := range map[string]func(*Result){
		"size": func(r *Result) { r.SizeBytes = 36 }, "topology": func(r *Result) { r.Platform = "cluster of 2+2" }, "window": func(r *Result) { r.Window = 64 },
	} {
		other := good()
		change(other)
		if line := lineOf(Case{Runs: []*Result{other}}); !strings.HasSuffix(line, "| not measured |") {
			t.Errorf("%s: %s", what, line)
		}
	}
}

func TestGoalsCompareWithAndWithout(t *testing.T) {
	deep := c2cRun(11000, 0.4, 100)
	deep.DepthRows = ptr(int64(10_000_000))
	slow := c2cRun(12000, 0.4, 100)
	slow.DelayMS, slow.Window = 5, 64
	beside := c2cRun(20000, 0.5, 100)
	beside.Window = 64
	r := &Report{Cases: []Case{{Runs: []*Result{c2cRun(13000, 0.5, 100), deep, slow, beside}}}}
	table := r.goalTable()
	for _, want := range []string{"11,000/s, with none 13,000/s | 85 % of it | **no** |", "12,000/s, with none 20,000/s | 60 % of it | **no** |"} {
		if !strings.Contains(table, want) {
			t.Errorf("%q is not in\n%s", want, table)
		}
	}
}

func TestPicturesAreXML(t *testing.T) {
	slow, slower := c2cRun(9000, 0.5, 100), c2cRun(6000, 0.5, 100)
	slow.DelayMS, slower.DelayMS = 5, 20
	r := &Report{Cases: []Case{{Runs: []*Result{latencyRun(500, 4), latencyRun(1000, 9), latencyRun(16000, 900), latencyRun(16000, 0.02)}}}}
	if p := r.Pictures(); len(p) != 1 || p[0].Name != "load" {
		t.Fatalf("%d pictures", len(p))
	}
	r.Cases = append(r.Cases, Case{Runs: []*Result{c2cRun(10000, 0.5, 100), c2cRun(11000, 0.5, 100), slow, slower}})
	pictures := r.Pictures()
	if len(pictures) != 2 || pictures[1].Name != "delay" {
		t.Fatalf("%d pictures", len(pictures))
	}
	checkPicture(t, pictures[0].SVG, 4*4) // a dot for each run in each line
	checkPicture(t, pictures[1].SVG, 4)
	if got := (&Report{Cases: []Case{{Runs: []*Result{latencyRun(500, 4), c2cRun(1, 1, 1)}}}}).Pictures(); got != nil {
		t.Error("a picture of one rate")
	}
}

func checkPicture(t *testing.T, svg string, want int) {
	t.Helper()
	dec := xml.NewDecoder(strings.NewReader(svg))
	circles := 0
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "circle" {
			circles++
		}
	}
	if circles != want {
		t.Errorf("%d dots, not %d", circles, want)
	}
	if strings.Contains(svg, "NaN") || strings.Contains(svg, "Inf") {
		t.Error("a place is no number")
	}
}

func TestTicksAreRound(t *testing.T) {
	for _, tt := range []struct {
		got  []float64
		want string
	}{
		{ticksTo(12000), "[0 2000 4000 6000 8000 10000 12000]"},
		{ticksTo(95), "[0 20 40 60 80 100]"},
		{ticksTo(1), "[0 0.2 0.4 0.6000000000000001 0.8 1]"},
		{decades(0.7, 40), "[0.5 1 2 5 10 20 50]"},
		{decades(3, 3), "[2 5]"},
	} {
		if got := fmt.Sprint(tt.got); got != tt.want {
			t.Errorf("%s, not %s", got, tt.want)
		}
	}
	for v, want := range map[float64]string{1234567: "1,234,567", -1234: "-1,234", 12: "12", 999.6: "1,000"} {
		if got := thousands(v, 0); got != want {
			t.Errorf("%s, not %s", got, want)
		}
	}
	if median([]float64{3, 1, 2}) != 2 || median([]float64{1, 2}) != 1.5 {
		t.Error("median")
	}
}
