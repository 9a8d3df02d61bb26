//go:build linux

package bench

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gatepost/gatepost/audit"
)

func TestStatIsReadBehindTheName(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"12 (gatepost) S 1 12 12 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 9 0 100":     3 * time.Second,
		"12 (a ) S (b) 7) R 1 12 12 0 -1 4194560 100 0 0 0 1 2 900 900 20 0 9 0 100": 30 * time.Millisecond,
	} {
		if got, err := parseStat([]byte(text)); err != nil || got != want {
			t.Errorf("%s: %s, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "12 (x) S 1 2 3", "12 (x) S 1 12 12 0 -1 4194560 100 0 0 0 a b 0 0 20"} {
		if _, err := parseStat([]byte(text)); err == nil {
			t.Errorf("%q was read", text)
		}
	}
}

// What a process burns between two snapshots is found, and divided by what was done.
func TestCostIsWhatWasBurnt(t *testing.T) {
	self := []audit.Server{{Name: "self", PID: os.Getpid()}}
	before, err := cpuTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	var burnt time.Duration
	own, of, err := Cost(self, func() (uint64, error) {
		for burnt < 200*time.Millisecond {
			for range 1_000_000 {
				_ = strings.Count("abc", "d")
			}
			now, err := cpuTime(os.Getpid())
			if err != nil {
				return 0, err
			}
			burnt = now - before
		}
		return 1000, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if *own < 170 || of.Parts["self"] < 170 || of.Total != of.Parts["self"] {
		t.Errorf("200 ms over 1,000 messages are 200 µs each, not %.0f and %+v", *own, of)
	}
	if own, of, err := Cost(nil, func() (uint64, error) { return 1, nil }); own != nil || of != nil || err != nil {
		t.Error("without processes there is no figure")
	}
	if _, _, err := Cost([]audit.Server{{Name: "gone", PID: 1 << 30}}, func() (uint64, error) { return 1, nil }); err == nil {
		t.Error("a process that is not there was measured")
	}
	m, err := memoryOf(os.Getpid())
	if err != nil || m.RSS < 1<<20 {
		t.Errorf("memory %+v, %v", m, err)
	}
}

func TestWindowAndHistogram(t *testing.T) {
	var w window
	if w.holds(5) {
		t.Error("nothing is measured before it begins")
	}
	w.open(10)
	if w.holds(9) || !w.holds(10) || !w.holds(1000) {
		t.Error("from its begin on, without an end yet")
	}
	w.close(20)
	if !w.holds(19) || w.holds(20) {
		t.Error("up to its end")
	}
	h := newHistogram()
	if h.latency() != nil {
		t.Error("nothing was recorded")
	}
	for range 99 {
		h.record(2 * time.Millisecond)
	}
	h.record(time.Hour) // longer than it holds: counts as the most
	h.record(-time.Second)
	l := h.latency()
	if l.P50 < 1.99 || l.P50 > 2.01 || l.Max < 119_000 || l.P999 < 119_000 {
		t.Errorf("%+v", l)
	}
}
