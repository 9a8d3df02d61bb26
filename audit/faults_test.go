package audit

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

type countingFault struct {
	err   error
	draws []uint64
}

func (f *countingFault) Name() string { return "counting" }
func (f *countingFault) Strike(_ context.Context, rng *rand.Rand) (string, error) {
	f.draws = append(f.draws, rng.Uint64())
	return "it", f.err
}

func TestFaultsStrikeFromTheSeed(t *testing.T) {
	var runs [2]*countingFault
	for i := range runs {
		runs[i] = &countingFault{}
		cfg := short(newFakePlatform(plant{}))
		cfg.Messages, cfg.Duration = 0, 300*time.Millisecond
		cfg.Faults, cfg.FaultEvery = []Fault{runs[i]}, 5*time.Millisecond
		r := run(t, cfg)
		if len(r.Faults) != len(runs[i].draws) || len(r.Faults) == 0 {
			t.Fatalf("%d faults reported, %d struck", len(r.Faults), len(runs[i].draws))
		}
		if r.Faults[0].Name != "counting" || r.Faults[0].Victim != "it" || FaultCounts(r.Faults)["counting"] != len(r.Faults) {
			t.Errorf("%v", r.Faults)
		}
	}
	for i := range min(len(runs[0].draws), len(runs[1].draws)) {
		if runs[0].draws[i] != runs[1].draws[i] {
			t.Fatal("the same seed drew differently")
		}
	}
	cfg := short(newFakePlatform(plant{}))
	cfg.Messages, cfg.Duration = 0, 100*time.Millisecond
	cfg.Faults, cfg.FaultEvery = []Fault{&countingFault{err: errors.New("no such process")}}, time.Millisecond
	if _, err := Run(context.Background(), cfg); err == nil || !strings.Contains(err.Error(), "fault counting it: no such process") {
		t.Errorf("a fault that cannot strike: %v", err)
	}
}

type namedFault string

func (f namedFault) Name() string                                       { return string(f) }
func (f namedFault) Strike(context.Context, *rand.Rand) (string, error) { return "", nil }

// A short run meets every fault: none comes again before all others came.
func TestFaultsComeInTurn(t *testing.T) {
	cfg := short(newFakePlatform(plant{}))
	cfg.Messages, cfg.Duration = 0, 200*time.Millisecond
	cfg.Faults, cfg.FaultEvery = []Fault{namedFault("a"), namedFault("b"), namedFault("c")}, time.Millisecond
	r := run(t, cfg)
	if len(r.Faults) < 9 {
		t.Fatalf("only %d faults", len(r.Faults))
	}
	for i := 0; i+3 <= len(r.Faults); i += 3 {
		if counts := FaultCounts(r.Faults[i : i+3]); len(counts) != 3 {
			t.Fatalf("faults %d to %d are %v", i, i+2, counts)
		}
	}
}

// Calm comes when no fault strikes any more and while the clients are still there to use it.
func TestCalmComesOnceAfterTheFaults(t *testing.T) {
	f := &countingFault{}
	calls, struck := 0, 0
	cfg := short(newFakePlatform(plant{}))
	cfg.Messages, cfg.Duration = 0, 100*time.Millisecond
	cfg.Faults, cfg.FaultEvery = []Fault{f}, 2*time.Millisecond
	cfg.Calm = func() { calls++; struck = len(f.draws) }
	if r := run(t, cfg); calls != 1 || struck != len(r.Faults) || struck == 0 {
		t.Errorf("calm %d times, after %d of %d faults", calls, struck, len(r.Faults))
	}
}

// A run ends with the message that it was to end with; those under way are carried through.
func TestRunEndsAfterSoManyAccepted(t *testing.T) {
	cfg := full(newFakePlatform(plant{}))
	cfg.Messages, cfg.Accepted = 0, 500
	cfg.Settle = 10 * time.Second
	v := run(t, cfg).Verdict
	if most := 500 + 2*6*cfg.Window + 4*cfg.PushTo; !v.Pass || v.Accepted < 500 || v.Accepted > most {
		t.Errorf("it was to end at 500, at %d by what was under way: %s", most, v)
	}
}

// What a platform refuses for good is told by its status everywhere, and is a violation where nothing deserves it.
func TestRefusalIsAViolationWhereNothingDeservesIt(t *testing.T) {
	cfg := short(newFakePlatform(plant{what: "refused", at: 100}))
	cfg.NoRefusals = true
	v := run(t, cfg).Verdict
	if v.Pass || v.Refused != 1 || len(v.Violations) != 1 || v.Violations[0].Kind != RefusedAtAll || !strings.Contains(v.Violations[0].History, "inbox full") {
		t.Errorf("%s %+v", v, v.Violations)
	}
}

// The history of a violation names the faults that fell on the message, and no others.
func TestHistoryNamesTheFaultsAboutAMessage(t *testing.T) {
	j := newJournal(9, []string{"a", "b"}, []Class{1}, false)
	n := j.attempt(0, Messages, 1)
	j.kept(0, Messages, n, [16]byte{1}, 0)
	j.done(0, Sent{ID: [16]byte{1}, MsgID: 77})
	r := &j.devices[0].flows[Messages].sent[n]
	r.sentMS, r.doneMS = 20_000, 20_010
	j.faults = []Struck{{Name: "early", AtMS: 10_000, TookMS: 4000}, {Name: "before", Victim: "gate 2", AtMS: 15_000, TookMS: 1000}, {Name: "after", AtMS: 20_500}}
	history := Judge(j).Violations[0].History // lost: all that came later may have done it
	if !strings.Contains(history, "never shown by b/1") {
		t.Error(history)
	}
	if !strings.Contains(history, "15000 ms: before (gate 2), for 1000 ms") || !strings.Contains(history, "after") || strings.Contains(history, "early") {
		t.Error(history)
	}
	j.show(1, Shown{MsgID: 77, Content: appendContent(nil, label{run: 9, sender: 0, to: 1, number: n}, 50)})
	j.devices[1].shows[0].atMS = 20_100
	j.leftover(1, Shown{MsgID: 77, Content: appendContent(nil, label{run: 9, sender: 0, to: 1, number: n}, 50)})
	history = Judge(j).Violations[0].History
	if !strings.Contains(history, "before") || strings.Contains(history, "after (") || strings.Contains(history, "20500 ms") {
		t.Error(history)
	}
}
