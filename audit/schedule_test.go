package audit

import (
	"context"
	"sync"
	"testing"
	"time"
)

// At a fixed rate as many messages are sent as were meant for the time, each counted from its time, and none of them before it.
func TestRateSendsWhatWasMeant(t *testing.T) {
	p := newFakePlatform(plant{})
	cfg := short(p)
	cfg.Users, cfg.Traffic, cfg.Topic = 4, Pairs, p
	cfg.Messages, cfg.Duration, cfg.Rate = 0, 300*time.Millisecond, 100
	cfg.Settle = 10 * time.Second
	var mu sync.Mutex
	meant := map[Flow]map[int64]bool{Messages: {}, Uplinks: {}}
	early := 0
	cfg.OnAccepted = func(f Flow, sentNS, _ int64) {
		mu.Lock()
		defer mu.Unlock()
		meant[f][sentNS] = true
	}
	cfg.OnSend = func(meantNS, nowNS int64) {
		mu.Lock()
		defer mu.Unlock()
		if nowNS < meantNS {
			early++
		}
	}
	var begin int64
	var totals func() Totals
	cfg.OnLoading = func(counters func() Totals) { begin, totals = counters().NowNS, counters }
	r := run(t, cfg)
	last := totals()
	// Two senders of messages and four of uplinks, 100 a second each kind, in 300 ms.
	if v := r.Verdict; !v.Pass || v.UplinksAccepted != 30 || v.Accepted != 60 || last.Accepted != 60 || last.Shown != 30 || last.Confirmed != 30 {
		t.Errorf("%s; totals %+v", v, last)
	}
	for f, times := range meant {
		if len(times) != 30 { // spread evenly: no two at the same time
			t.Errorf("%s: %d times", f, len(times))
		}
		for at := range times {
			if at > begin+int64(cfg.Duration) {
				t.Errorf("%s was meant for %s after the begin", f, time.Duration(at-begin))
			}
		}
	}
	if early > 0 {
		t.Errorf("%d were sent before their time", early)
	}
}

// What the window held back is sent all the same, and counts from when it was meant.
func TestRateBehindAStallIsSentLate(t *testing.T) {
	p := newFakePlatform(plant{})
	cfg := short(p)
	cfg.Users, cfg.Traffic, cfg.Window = 2, Pairs, 1
	cfg.Messages, cfg.Duration, cfg.Rate = 0, 100*time.Millisecond, 200
	cfg.Settle = 10 * time.Second
	const each = 20 * time.Millisecond // of an answer: four times as long as there is time for
	dial := cfg.Dial
	cfg.Dial = func(s Spec, h Hooks) (Client, error) {
		sent := h.Sent
		h.Sent = func(out Sent) { time.Sleep(each); sent(out) }
		return dial(s, h)
	}
	var mu sync.Mutex
	var longest time.Duration
	cfg.OnAccepted = func(_ Flow, sentNS, nowNS int64) {
		mu.Lock()
		defer mu.Unlock()
		longest = max(longest, time.Duration(nowNS-sentNS))
	}
	if v := run(t, cfg).Verdict; !v.Pass || v.Accepted != 20 {
		t.Errorf("%s", v)
	}
	if longest < 20*each-100*time.Millisecond {
		t.Errorf("the last one waited for %s only", longest)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	cfg.OnAccepted = nil
	if _, err := Run(ctx, cfg); err == nil {
		t.Error("a run that was called off ended well")
	}
}
