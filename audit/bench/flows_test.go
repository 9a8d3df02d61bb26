package bench

import (
	"encoding/json"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/gatepost/gatepost/audit"
)

func shortLoad(p *fake) Load {
	return Load{Dial: p.dial, Window: 4, Warmup: 50 * time.Millisecond, Duration: 300 * time.Millisecond, Settle: 10 * time.Second}
}

// lossy settles fast: what was lost does not come.
func lossy(p *fake) Load {
	l := shortLoad(p)
	l.Duration, l.Settle = 100*time.Millisecond, 500*time.Millisecond
	return l
}

func namesIn(t *testing.T, v any) map[string]any {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var names map[string]any
	if err := json.Unmarshal(text, &names); err != nil {
		t.Fatal(err)
	}
	return names
}

func TestC2CMeasuresAndJudges(t *testing.T) {
	b := C2C{Load: shortLoad(newFake()), Pairs: 2}
	if runtime.GOOS == "linux" {
		b.Servers = []audit.Server{{Name: "this", PID: os.Getpid()}, {Name: "again", PID: os.Getpid()}}
	}
	r, err := b.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !r.Verdict.Pass || *r.AcceptedPerS <= 0 || *r.DeliveredPerS <= 0 || *r.ConfirmedPerS <= 0 || r.Ack.P50 <= 0 || r.Delivery.P999 < r.Delivery.P50 {
		t.Errorf("%+v", r)
	}
	names := namesIn(t, r)
	want := []string{"bench", "machine", "seconds", "accepted_per_s", "delivered_per_s", "confirmed_per_s", "removed_per_s", "ack_ms", "delivery_ms",
		"lost", "duplicates", "out_of_order", "verdict"}
	if runtime.GOOS == "linux" {
		want = append(want, "server_cpu_us_per_msg", "client_cpu_us_per_msg")
		if c := r.ServerCPU; len(c.Parts) != 2 || c.Total <= 0 || c.Total != c.Parts["this"]+c.Parts["again"] {
			t.Errorf("CPU %+v", c)
		}
	}
	for _, name := range want {
		if _, ok := names[name]; !ok {
			t.Errorf("%s is not in the result", name)
		}
	}
	for _, name := range []string{"idle", "limit", "ratio", "logins_per_s", "sent_per_s", "login_ms", "rate_per_s"} {
		if _, ok := names[name]; ok {
			t.Errorf("%s is in the result, and was not measured", name)
		}
	}
}

func TestC2CTellsOfALoss(t *testing.T) {
	p := newFake()
	p.lose = 20
	r, err := C2C{Load: lossy(p), Pairs: 1}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if r.Verdict.Pass || *r.Lost != 1 {
		t.Errorf("%s", r.Verdict)
	}
}

func TestC2SReadsTheTopic(t *testing.T) {
	p := newFake()
	r, err := C2S{Load: shortLoad(p), Clients: 3, Topic: p}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !r.Verdict.Pass || r.Verdict.UplinksInTopic == 0 || *r.AcceptedPerS <= 0 || r.DeliveredPerS != nil || r.Ack == nil || r.Delivery != nil {
		t.Errorf("%+v", r)
	}
	p = newFake()
	p.lose = 20
	if r, err = (C2S{Load: lossy(p), Clients: 3, Topic: p}).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r.Verdict.Pass || *r.Lost != 1 {
		t.Errorf("%s", r.Verdict)
	}
}

func TestS2CPushesToListsInTurn(t *testing.T) {
	p := newFake()
	r, err := S2C{Load: shortLoad(p), App: p, Users: 10, List: 4}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if v := r.Verdict; !v.Pass || v.PushesAccepted == 0 || v.PushesAccepted%4 != 0 || *r.AcceptedPerS <= 0 || *r.DeliveredPerS <= 0 || r.Ack == nil || r.Delivery == nil {
		t.Errorf("%+v", r)
	}
	p = newFake()
	p.twice = 20
	if r, err = (S2C{Load: lossy(p), App: p, Users: 10, List: 4}).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r.Verdict.Pass || *r.Duplicates != 1 {
		t.Errorf("%s", r.Verdict)
	}
}

// A platform that stalls for half a second answers a few messages late when each sender waits for it, and all that were meant for that time when
// the rate is fixed: the stall has to show in p99, though only the messages in the window were under way.
func TestStallShowsAtAFixedRate(t *testing.T) {
	const stall = 400 * time.Millisecond
	run := func(rate float64) *Result {
		p := newFake()
		p.stallAt, p.stall = 300, stall
		l := shortLoad(p)
		l.Warmup, l.Duration, l.Rate, l.Window = 0, 2*time.Second, rate, 1
		r, err := C2C{Load: l, Pairs: 2}.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !r.Verdict.Pass {
			t.Fatalf("%s", r.Verdict)
		}
		return r
	}
	fixed := run(1000)
	// 2,000 messages were meant for the two seconds, 400 of them for the stall.
	if low := 0.9 * float64(stall/time.Millisecond); fixed.Ack.P99 < low || fixed.SendLag.P99 < low*0.9 || fixed.Ack.Max < low {
		t.Errorf("at a fixed rate p99 is %.1f ms, send lag %+v", fixed.Ack.P99, fixed.SendLag)
	}
	if free := run(0); free.Ack.P99 > fixed.Ack.P99/2 || free.SendLag != nil {
		t.Errorf("without a rate p99 is %.1f ms: the test shows nothing", free.Ack.P99)
	}
}
