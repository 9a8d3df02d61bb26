package bench

import (
	"strings"
	"testing"
	"time"

	"github.com/gatepost/gatepost/audit"
)

func shortOnline(p *fake) Online {
	return Online{Load: Load{Dial: p.dial, Duration: 150 * time.Millisecond, Settle: 300 * time.Millisecond}, App: p, Users: 10, List: 4, Open: 2}
}

func TestOnlineCountsWhatIsShown(t *testing.T) {
	r, err := shortOnline(newFake()).Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	v := r.Verdict
	if !v.Pass || v.Shown == 0 || v.Shown != v.Sent || v.Accepted != v.Sent || *r.DeliveredPerS <= 0 || *r.SentPerS <= 0 || r.Delivery == nil || r.AcceptedPerS != nil {
		t.Errorf("%+v", r)
	}
	names := namesIn(t, r)
	for _, name := range []string{"accepted_per_s", "confirmed_per_s", "removed_per_s", "out_of_order"} {
		if _, ok := names[name]; ok {
			t.Errorf("%s is in the result", name)
		}
	}
}

func TestOnlineFindsWhatIsPlanted(t *testing.T) {
	tests := []struct {
		name  string
		plant func(*fake)
		kind  audit.Kind
		count func(audit.Verdict) int
	}{
		{"lost", func(p *fake) { p.lose = 30 }, audit.Lost, func(v audit.Verdict) int { return v.Lost }},
		{"twice", func(p *fake) { p.twice = 30 }, audit.Repeated, func(v audit.Verdict) int { return v.Duplicates }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newFake()
			tt.plant(p)
			b := shortOnline(p)
			b.Open = 1 // so that message 30 is in push 7 of four
			r, err := b.Run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			v := r.Verdict
			if v.Pass || tt.count(v) != 1 || len(v.Violations) != 1 || v.Violations[0].Kind != tt.kind || !strings.HasPrefix(v.Violations[0].Message, "push 7 → online-") {
				t.Errorf("%s %+v", v, v.Violations)
			}
		})
	}
}

// Who is told to be away may miss it: that is no loss.
func TestOnlineTakesNotOnlineForAnAnswer(t *testing.T) {
	p := newFake()
	b := shortOnline(p)
	o := &online{Online: b}
	o.Users, o.List = 10, 4
	if got := []int{o.place(0, 0), o.place(1, 4), o.place(2, 8), o.place(2, 1), o.place(3, 2), o.place(0, 4)}; got[0] != 0 || got[1] != 0 || got[2] != 0 || got[3] != 3 || got[4] != 0 || got[5] != 4 {
		t.Errorf("places %v", got)
	}
	b.Dial = func(s audit.Spec, h audit.Hooks) (audit.Client, error) {
		p.mu.Lock()
		if p.away == nil {
			p.away = map[string]bool{s.UID: true}
		}
		p.mu.Unlock()
		return p.dial(s, h)
	}
	r, err := b.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if v := r.Verdict; !v.Pass || v.Refusals["not online"] == 0 || v.Shown != v.Accepted || v.Shown+v.Refused != v.Sent {
		t.Errorf("%s", v)
	}
}
