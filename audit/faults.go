package audit

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Fault is one thing that goes wrong. Strike makes it happen and returns when the platform was put together again, or ctx ended.
// It draws from rng only, so that a seed reproduces the run. victim names whom it struck among several of a kind; "" when Name says it.
type Fault interface {
	Name() string
	Strike(ctx context.Context, rng *rand.Rand) (victim string, err error)
}

// Struck is a fault that has happened.
type Struck struct {
	Name   string `json:"name"`
	Victim string `json:"victim,omitempty"`
	AtMS   uint32 `json:"at_ms"` // time of the run
	TookMS uint32 `json:"took_ms"`
}

// String is one line for people.
func (s Struck) String() string {
	victim := ""
	if s.Victim != "" {
		victim = " (" + s.Victim + ")"
	}
	return fmt.Sprintf("%d ms: %s%s, for %d ms", s.AtMS, s.Name, victim, s.TookMS)
}

// FaultCounts counts faults by their name.
func FaultCounts(faults []Struck) map[string]int {
	out := map[string]int{}
	for _, f := range faults {
		out[f.Name]++
	}
	return out
}

// CountedFaults are the counts in one line, in the order of their names.
func CountedFaults(faults []Struck) string {
	counts := FaultCounts(faults)
	var out []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		out = append(out, fmt.Sprintf("%d × %s", counts[name], name))
	}
	return strings.Join(out, ", ")
}

// strike lets faults happen until unrest ends; the last one is carried through. Each comes once in a drawn order, then each once more, so that
// a short run meets all of them.
func (e *engine) strike(ctx, unrest context.Context) error {
	rng := rand.New(rand.NewPCG(e.cfg.Seed, 2))
	var deck []int
	for {
		if len(deck) == 0 {
			deck = rng.Perm(len(e.cfg.Faults))
		}
		pause := time.Duration((0.5 + rng.Float64()) * float64(e.cfg.FaultEvery))
		fault := e.cfg.Faults[deck[0]]
		deck = deck[1:]
		if !sleep(unrest, pause) {
			return nil
		}
		e.cfg.Logger.Info("fault strikes", "fault", fault.Name())
		now := Struck{Name: fault.Name(), AtMS: e.j.sinceMS()}
		e.struck.Add(1)
		victim, err := fault.Strike(ctx, rng)
		now.Victim, now.TookMS = victim, e.j.sinceMS()-now.AtMS
		e.j.faults = append(e.j.faults, now)
		if err != nil {
			return fmt.Errorf("fault %s: %w", strings.TrimSpace(now.Name+" "+now.Victim), err)
		}
	}
}

// during names the faults about a message between two times of the run, from a few seconds before it on: the six nearest to its beginning,
// in the order of time. toMS 0: its end is not known.
func (j *Journal) during(fromMS, toMS uint32) string {
	const aftermathMS, most = 5000, 6
	var about []Struck
	for _, f := range j.faults {
		if f.AtMS+f.TookMS+aftermathMS >= fromMS && (toMS == 0 || f.AtMS <= toMS) {
			about = append(about, f)
		}
	}
	if len(about) == 0 {
		return ""
	}
	distance := func(f Struck) int64 {
		d := int64(f.AtMS) - int64(fromMS)
		return max(d, -d)
	}
	slices.SortStableFunc(about, func(a, b Struck) int { return cmp.Compare(distance(a), distance(b)) })
	about = about[:min(len(about), most)]
	slices.SortStableFunc(about, func(a, b Struck) int { return cmp.Compare(a.AtMS, b.AtMS) })
	out := make([]string, len(about))
	for i, f := range about {
		out[i] = f.String()
	}
	return "; faults about it: " + strings.Join(out, ", ")
}
