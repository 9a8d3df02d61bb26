package audit

import (
	"context"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func short(p *fakePlatform) Config {
	return Config{Dial: p.dial, Seed: 7, Users: 6, Traffic: Talks, Window: 8, Messages: 60, Settle: 600 * time.Millisecond, Prefix: "u"}
}

func run(t *testing.T, cfg Config) *Report {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	r, err := Run(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestHonestPlatformPasses(t *testing.T) {
	for _, traffic := range []Traffic{Pairs, Talks, Mixed} {
		cfg := short(newFakePlatform(plant{}))
		cfg.Traffic = traffic
		cfg.Settle = 10 * time.Second
		v := run(t, cfg).Verdict
		want := 6 * 60
		if traffic == Pairs {
			want = 3 * 60
		}
		if !v.Pass || v.Sent != want || v.Accepted != want || v.Shown != want {
			t.Errorf("traffic %d: %s", traffic, v)
		}
	}
}

// TestRowsThatStayAreFound: whoever hides a confirmed row instead of removing it is found where the database may be looked into.
func TestRowsThatStayAreFound(t *testing.T) {
	for _, stay := range []int{0, 3} {
		looks := 0
		cfg := short(newFakePlatform(plant{}))
		cfg.Settle = 10 * time.Second
		cfg.Rows = func(_ context.Context, prefix string) (int, error) {
			if looks++; prefix != "u-" {
				t.Errorf("looked for %q", prefix)
			}
			if looks == 1 {
				return 5, nil // confirmations are still on their way
			}
			return stay, nil
		}
		v := run(t, cfg).Verdict
		if v.RowsLeft == nil || *v.RowsLeft != stay || v.Pass != (stay == 0) || looks < 2 {
			t.Errorf("%d rows stay, %d looks: %s", stay, looks, v)
		}
	}
}

// Restless devices, with the platform honest: closing and killing clients is no violation, and repeats after a crash are counted apart.
func TestRestlessDevicesPass(t *testing.T) {
	cfg := short(newFakePlatform(plant{}))
	cfg.Messages, cfg.Duration = 0, 500*time.Millisecond
	cfg.Away, cfg.Restart, cfg.Crash = 0.3, 0.3, 0.4
	cfg.Steady = 20 * time.Millisecond
	cfg.Settle = 10 * time.Second
	v := run(t, cfg).Verdict
	if !v.Pass || v.Accepted == 0 || v.Crashes == 0 {
		t.Errorf("%s %+v", v, v.Violations)
	}
}

// Every promise that is broken once is found, under its name, with the message that it happened to.
func TestOracleFindsWhatIsPlanted(t *testing.T) {
	tests := []struct {
		what    string
		kind    Kind
		count   func(Verdict) int
		history string
	}{
		{"lost", Lost, func(v Verdict) int { return v.Lost }, "never shown by u-"},
		{"duplicate", Repeated, func(v Verdict) int { return v.Duplicates }, "shown by"},
		{"flag without crash", Repeated, func(v Verdict) int { return v.Duplicates }, "maybe repeated"},
		{"reordered", OutOfOrder, func(v Verdict) int { return v.OutOfOrder }, "after #"},
		{"foreign content", Phantom, func(v Verdict) int { return v.Phantoms }, "12 bytes"},
		{"cut content", Phantom, func(v Verdict) int { return v.Phantoms }, "bytes at"},
		{"phantom", Phantom, func(v Verdict) int { return v.Phantoms }, "never sent"},
		{"wrong receiver", WrongReceiver, func(v Verdict) int { return v.WrongReceivers }, "shown by"},
		{"no id", NoID, func(v Verdict) int { return v.BadIDs }, "as 0"},
		{"same id", SameID, func(v Verdict) int { return v.BadIDs }, "accepted at"},
		{"no outcome", NoOutcome, func(v Verdict) int { return v.NoOutcome }, "no outcome"},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			v := run(t, short(newFakePlatform(plant{what: tt.what, at: 100}))).Verdict
			if v.Pass || tt.count(v) != 1 {
				t.Fatalf("not found: %s", v)
			}
			for _, found := range v.Violations {
				if found.Kind == tt.kind && found.Message != "" && strings.Contains(found.History, tt.history) {
					return
				}
			}
			t.Errorf("no violation %q with %q in its history: %+v", tt.kind, tt.history, v.Violations)
		})
	}
}

// With uplinks and pushes beside the messages.
func full(p *fakePlatform) Config {
	cfg := short(p)
	cfg.Topic, cfg.App, cfg.PushTo = p, p, 3
	return cfg
}

func TestHonestTopicAndPushesPass(t *testing.T) {
	p := newFakePlatform(plant{})
	cfg := full(p)
	cfg.Settle = 10 * time.Second
	v := run(t, cfg).Verdict
	if !v.Pass || v.UplinksAccepted != 6*60 || v.UplinksInTopic != 6*60 || v.UplinkRepeats == 0 || v.PushesAccepted < 60 || v.Accepted != 2*6*60+v.PushesAccepted {
		t.Errorf("%s %+v", v, v.Violations)
	}
	if p.twins == 0 {
		t.Error("no push was made by two")
	}
}

// The topic is judged as strictly as the inboxes.
func TestOracleFindsWhatIsPlantedInTheTopic(t *testing.T) {
	tests := []struct {
		what    string
		kind    Kind
		count   func(Verdict) int
		history string
	}{
		{"uplink lost", UplinkLost, func(v Verdict) int { return v.UplinksLost }, "accepted at"},
		{"uplink reordered", UplinkOutOfOrder, func(v Verdict) int { return v.UplinksOutOfOrder }, "before it was #"},
		{"uplink of another user", UplinkWrong, func(v Verdict) int { return v.UplinksWrong }, "record"},
		{"uplink with another id", UplinkWrong, func(v Verdict) int { return v.UplinksWrong }, "record"},
		{"uplink phantom", UplinkPhantom, func(v Verdict) int { return v.UplinkPhantoms }, "never sent"},
		{"uplink no outcome", NoOutcome, func(v Verdict) int { return v.NoOutcome }, "no outcome"},
		{"push lost", Lost, func(v Verdict) int { return v.Lost }, "accepted at"},
		{"push twice", Repeated, func(v Verdict) int { return v.Duplicates }, "shown by"},
		{"push astray", WrongReceiver, func(v Verdict) int { return v.WrongReceivers }, "sent at"},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			v := run(t, full(newFakePlatform(plant{what: tt.what, at: 50}))).Verdict
			if v.Pass || tt.count(v) == 0 {
				t.Fatalf("not found: %s", v)
			}
			for _, found := range v.Violations {
				if found.Kind == tt.kind && found.Message != "" && strings.Contains(found.History, tt.history) {
					return
				}
			}
			t.Errorf("no violation %q with %q in its history: %+v", tt.kind, tt.history, v.Violations)
		})
	}
}

func TestFlaggedLateAndRefusedAreNoViolations(t *testing.T) {
	v := run(t, short(newFakePlatform(plant{what: "late", at: 100}))).Verdict
	if !v.Pass || v.Late != 1 {
		t.Errorf("late: %s", v)
	}
	v = run(t, short(newFakePlatform(plant{what: "refused", at: 100}))).Verdict
	if !v.Pass || v.Refused != 1 || v.Refusals["inbox full"] != 1 || v.Accepted != 359 {
		t.Errorf("refused: %s", v)
	}
}

// A repeat after a crash is allowed only with its flag; one row that a fresh client finds is a violation.
func TestJudgeRepeatsAndLeftovers(t *testing.T) {
	content := func(j *Journal, n uint32) []byte {
		return appendContent(nil, label{run: j.run, sender: 0, to: 1, number: n}, 50)
	}
	sent := func() *Journal {
		j := newJournal(9, []string{"a", "b"}, []Class{1}, false)
		n := j.attempt(0, Messages, 1)
		j.kept(0, Messages, n, [16]byte{1}, 0)
		j.done(0, Sent{ID: [16]byte{1}, MsgID: 77})
		if _, first, err := j.show(1, Shown{MsgID: 77, Content: content(j, n)}); err != nil || !first {
			t.Fatal(first, err)
		}
		return j
	}
	j := sent()
	j.mark(1, markCrash)
	j.show(1, Shown{MsgID: 77, Content: content(j, 0), MaybeRepeated: true})
	if v := Judge(j); !v.Pass || v.MaybeRepeats != 1 || v.Crashes != 1 {
		t.Errorf("flagged after a crash: %s", v)
	}
	j = sent()
	j.mark(1, markCrash)
	j.show(1, Shown{MsgID: 77, Content: content(j, 0)})
	if v := Judge(j); v.Pass || v.Duplicates != 1 {
		t.Errorf("not flagged after a crash: %s", v)
	}
	j = sent()
	j.mark(1, markRestart)
	j.show(1, Shown{MsgID: 77, Content: content(j, 0), MaybeRepeated: true})
	if v := Judge(j); v.Pass || v.Duplicates != 1 {
		t.Errorf("flagged after a restart in order: %s", v)
	}
	j = sent()
	j.leftover(1, Shown{MsgID: 77, Content: content(j, 0)})
	if v := Judge(j); v.Pass || v.LeftBehind != 1 || !strings.Contains(v.Violations[0].History, "found in the inbox of b/1") {
		t.Errorf("left behind: %s %+v", v, v.Violations)
	}
}

func TestConfigTellsAllFaults(t *testing.T) {
	_, err := Run(context.Background(), Config{Users: 1, Away: 0.9, Crash: 0.2})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"Dial", "1 users", "shares", "neither"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not tell of %q", err, want)
		}
	}
}

func TestContentRoundTrip(t *testing.T) {
	l := label{run: 1, sender: 2, to: 3, number: 4, sentNS: 5}
	for _, size := range []int{0, contentHeader, 37, 200, 5000} {
		b := appendContent(nil, l, size)
		if len(b) != max(size, contentHeader) {
			t.Errorf("%d bytes instead of %d", len(b), size)
		}
		if got, err := parseContent(b, 1); err != nil || got != l {
			t.Errorf("%d: %+v %v", size, got, err)
		}
		if _, err := parseContent(b, 2); err == nil {
			t.Error("another run's message was taken")
		}
	}
}
