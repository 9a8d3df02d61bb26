package limit

import (
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func openTest(t *testing.T) *Database {
	t.Helper()
	d, err := OpenSQLite(t.Context(), t.TempDir(), 200)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func (d *Database) count(t *testing.T) (n int) {
	t.Helper()
	if err := d.db.QueryRow("SELECT COUNT(*) FROM inbox").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestCycleLeavesNothing(t *testing.T) {
	d := openTest(t)
	for _, p := range []Plan{{Batch: 1, Lanes: 1}, {Batch: 64, Lanes: 1}, {Batch: 64, Lanes: 1, Join: true}} {
		r, err := d.Cycle(t.Context(), p, 50*time.Millisecond)
		if err != nil {
			t.Fatal(p, err)
		}
		if r.Rows == 0 || r.Rows%uint64(p.Batch) != 0 || r.PerS <= 0 {
			t.Errorf("%s: %+v", p, r)
		}
		if n := d.count(t); n != 0 {
			t.Errorf("%s: %d rows stay", p, n)
		}
	}
}

func TestFindPlanKeepsTheFastest(t *testing.T) {
	d := openTest(t)
	d.try = 10 * time.Millisecond
	sum, tries := map[Plan]float64{}, map[Plan]float64{}
	p, err := d.FindPlan(t.Context(), func(r Rate) {
		sum[r.Plan] += r.PerS
		tries[r.Plan]++
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(tries) != 8 || tries[p] != 3 || p.Lanes != 1 {
		t.Errorf("found %s, tried %v", p, tries)
	}
	for other := range tries {
		if tries[other] == tries[p] && sum[other] > sum[p] {
			t.Errorf("found %s with %.0f a second, %s has %.0f", p, sum[p]/3, other, sum[other]/3)
		}
	}
	again, err := d.FindPlan(t.Context(), func(Rate) { t.Error("tried again") })
	if err != nil || again != p {
		t.Errorf("%s, %v", again, err)
	}
}

func TestCommitAtCountsFromWhenItWasDue(t *testing.T) {
	d := openTest(t)
	l, err := d.CommitAt(t.Context(), 200, 300*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if l.P50 <= 0 || l.P99 < l.P50 || l.Max < l.P99*0.99 {
		t.Errorf("%+v", l)
	}
	if n := d.count(t); n != 0 {
		t.Errorf("%d rows stay", n)
	}
	// More than can be done: each row waits for those before it, so that times rise with the backlog instead of the rate falling.
	slow, err := d.CommitAt(t.Context(), 1_000_000, 5*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if slow.P50 < 5 {
		t.Errorf("5,000 rows were meant for 5 ms, and half of them were committed within %.1f ms of it", slow.P50)
	}
}

func TestFrames(t *testing.T) {
	for _, batch := range []int{1, 8} {
		perS, n, err := Wire{Connections: 4, Size: 200, Batch: batch}.Frames(t.Context(), 100*time.Millisecond)
		if err != nil || n == 0 || perS <= 0 {
			t.Errorf("batch %d: %.0f/s, %d frames, %v", batch, perS, n, err)
		}
	}
}

func TestNamesAreTold(t *testing.T) {
	if _, err := OpenMySQL(t.Context(), "root:secret@", 200); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v", err)
	}
	if got := string(filler(5)); got != `{"typ` || len(filler(3000)) != 3000 {
		t.Errorf("filler %q", got)
	}
}
