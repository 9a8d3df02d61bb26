package audit

import (
	"context"
	"encoding/json"
	"os"
	"runtime"
	"testing"
	"time"
)

func TestBenchC2CMeasuresAndJudges(t *testing.T) {
	b := C2C{Dial: newFakePlatform(plant{}).dial, Pairs: 2, Window: 4, Warmup: 50 * time.Millisecond, Duration: 300 * time.Millisecond}
	if runtime.GOOS == "linux" {
		b.Servers = []Server{{Name: "this", PID: os.Getpid()}}
	}
	r, err := BenchC2C(context.Background(), b)
	if err != nil {
		t.Fatal(err)
	}
	if !r.Verdict.Pass || r.AcceptedPerS <= 0 || r.DeliveredPerS <= 0 || r.ConfirmedPerS <= 0 || r.Ack.P50 <= 0 || r.Delivery.P999 < r.Delivery.P50 {
		t.Errorf("%+v", r)
	}
	var names map[string]any
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &names); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"accepted_per_s", "delivered_per_s", "confirmed_per_s", "removed_per_s", "server_cpu_us_per_msg", "ack_ms", "delivery_ms",
		"lost", "duplicates", "out_of_order", "verdict"} {
		if _, ok := names[name]; !ok {
			t.Errorf("%s is not in the result", name)
		}
	}
}

func TestBenchC2CTellsOfALoss(t *testing.T) {
	b := C2C{Dial: newFakePlatform(plant{what: "lost", at: 20}).dial, Pairs: 1, Window: 4, Duration: 100 * time.Millisecond, Settle: 500 * time.Millisecond}
	r, err := BenchC2C(context.Background(), b)
	if err != nil {
		t.Fatal(err)
	}
	if r.Verdict.Pass || r.Lost != 1 {
		t.Errorf("%s", r.Verdict)
	}
}
