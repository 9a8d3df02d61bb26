package bench

import (
	"fmt"
	"slices"
	"strings"
)

// goal is what a kind of work must reach.
type goal struct {
	work  string
	goal  string
	match func(*Result) bool
	parts []goalPart
}

// goalPart is one figure of a goal.
type goalPart struct {
	what  string
	unit  string
	of    func(*Result) (float64, bool)
	limit float64
	least bool // limit is the least; else the most
}

func (p goalPart) holds(v float64) bool {
	if p.least {
		return v >= p.limit
	}
	return v <= p.limit
}

// optional reads a figure that may not have been measured.
func optional(v *float64) (float64, bool) {
	if v == nil {
		return 0, false
	}
	return *v, true
}

func serverCPU(r *Result) (float64, bool) {
	if r.ServerCPU == nil {
		return 0, false
	}
	return r.ServerCPU.Total, true
}

// cluster reports whether r is of one gate and one logic node, as all goals of a cluster are.
func (r *Result) cluster() bool { return r.Platform == "cluster of 1+1" }

// usual is the size of content that all goals are for.
func (r *Result) usual() bool { return r.SizeBytes == 200 }

func (r *Result) plain() bool { return (r.DepthRows == nil || *r.DepthRows == 0) && r.DelayMS == 0 }

// goals are those of runs of one kind; what compares two kinds is in compared.
var goals = []goal{
	{
		work: "durable c2c, cluster: 200 pairs, 8 in flight each, 200 bytes", goal: "≥ 12,000/s removed, ≥ 40 % of the database alone, ≤ 120 µs of server CPU",
		match: func(r *Result) bool {
			return r.Bench == "c2c" && r.cluster() && r.plain() && r.RatePerS == 0 && r.Pairs == 200 && r.Window == 8 && r.usual()
		},
		parts: []goalPart{
			{what: "removed", unit: "/s", limit: 12000, least: true, of: func(r *Result) (float64, bool) { return optional(r.RemovedPerS) }},
			{what: "of the database", unit: " %", limit: 40, least: true, of: func(r *Result) (float64, bool) { v, ok := optional(r.Ratio); return v * 100, ok }},
			{what: "CPU", unit: " µs", limit: 120, of: serverCPU},
		},
	},
	{
		work: "online-only push to lists of 1,000", goal: "≤ 20 µs of server CPU for each message shown",
		match: func(r *Result) bool {
			return r.Bench == "s2c" && r.OnlineOnly && r.cluster() && r.List == 1000 && r.usual()
		},
		parts: []goalPart{{what: "CPU", unit: " µs", limit: 20, of: serverCPU}},
	},
	{
		work: "time to accepted at 1,000/s, durable, cluster", goal: "p50 ≤ 3 ms, p99 ≤ 10 ms",
		match: func(r *Result) bool {
			return r.Bench == "latency" && r.RatePerS == 1000 && r.cluster() && r.plain() && r.usual()
		},
		parts: []goalPart{
			{what: "p50", unit: " ms", limit: 3, of: func(r *Result) (float64, bool) {
				if r.Ack == nil {
					return 0, false
				}
				return r.Ack.P50, true
			}},
			{what: "p99", unit: " ms", limit: 10, of: func(r *Result) (float64, bool) {
				if r.Ack == nil {
					return 0, false
				}
				return r.Ack.P99, true
			}},
		},
	},
	{
		work: "9,000 idle, logged-in, sealed connections", goal: "≤ 6.5 KiB of RSS each in the gate",
		match: func(r *Result) bool { return r.Idle != nil && r.cluster() && r.Idle.Connections >= 9000 },
		parts: []goalPart{{what: "RSS", unit: " KiB", limit: 6.5, of: func(r *Result) (float64, bool) {
			m, ok := r.Idle.Processes["gate 1"]
			return m.RSSEachBytes / 1024, ok
		}}},
	},
	{
		work: "c2s into Kafka, 200 bytes, 200 clients", goal: "≥ 50 % of sarama alone",
		match: func(r *Result) bool { return r.Bench == "c2s" && r.cluster() && r.Users == 200 && r.usual() },
		parts: []goalPart{{what: "of sarama", unit: " %", limit: 50, least: true, of: func(r *Result) (float64, bool) { v, ok := optional(r.Ratio); return v * 100, ok }}},
	},
	{
		work: "logins of known devices, with the first pull", goal: "≥ 700/s, ≤ 1,400 µs of server CPU",
		match: func(r *Result) bool { return r.Bench == "login" && r.cluster() && r.Users > 0 },
		parts: []goalPart{
			{what: "logins", unit: "/s", limit: 700, least: true, of: func(r *Result) (float64, bool) { return optional(r.LoginsPerS) }},
			{what: "CPU", unit: " µs", limit: 1400, of: serverCPU},
		},
	},
	{
		work: "durable c2c, standalone", goal: "≥ 15,000/s removed",
		match: func(r *Result) bool {
			return r.Bench == "c2c" && r.Platform == "standalone" && r.plain() && r.RatePerS == 0 && r.usual()
		},
		parts: []goalPart{{what: "removed", unit: "/s", limit: 15000, least: true, of: func(r *Result) (float64, bool) { return optional(r.RemovedPerS) }}},
	},
	{
		work: "pull of 100 for one user among 10 million waiting rows", goal: "p50 ≤ 10 ms",
		match: func(r *Result) bool { return r.DepthRows != nil && *r.DepthRows >= 10_000_000 && r.Pull != nil },
		parts: []goalPart{{what: "p50", unit: " ms", limit: 10, of: func(r *Result) (float64, bool) { return r.Pull.P50, true }}},
	},
}

// comparison is a goal on one kind of run beside another.
type comparison struct {
	work, goal string
	with       func(*Result) bool
	least      float64 // share of what is reached without
}

var comparisons = []comparison{
	{
		work: "durable c2c with 10 million rows waiting", goal: "≤ 15 % slower than with none", least: 0.85,
		with: func(r *Result) bool { return r.DepthRows != nil && *r.DepthRows >= 10_000_000 && r.DelayMS == 0 },
	},
	{
		work: "durable c2c with commits that take 5 ms longer", goal: "< 30 % below none", least: 0.70,
		with: func(r *Result) bool { return r.DelayMS == 5 },
	},
}

// goalTable is a Markdown table of the goals, with every run, and whether the median of the runs reaches them.
func (r *Report) goalTable() string {
	var b strings.Builder
	b.WriteString("| work | goal | every run | median | reached |\n|---|---|---|---|---|\n")
	for _, g := range goals {
		var runs []*Result
		for _, run := range r.all() {
			if g.match(run) {
				runs = append(runs, run)
			}
		}
		every, middle, reached := g.judge(runs)
		if r.lacks(g) {
			reached = yes(false)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", g.work, g.goal, every, middle, reached)
	}
	for _, c := range comparisons {
		runs, plain := r.compared(c)
		with, without := removedOf(runs), removedOf(plain)
		if len(with) == 0 || len(without) == 0 {
			fmt.Fprintf(&b, "| %s | %s | – | – | not measured |\n", c.work, c.goal)
			continue
		}
		share := median(with) / median(without)
		fmt.Fprintf(&b, "| %s | %s | %s/s, with none %s/s | %.0f %% of it | %s |\n", c.work, c.goal, list(with, 0), list(without, 0), share*100, yes(share >= c.least && r.passed()))
	}
	return b.String()
}

// compared are the runs of c2c on a cluster that c is about, and those that differ from them in nothing else.
func (r *Report) compared(c comparison) (with, without []*Result) {
	pairs, window := 0, 0
	for _, run := range r.all() {
		if run.free() && c.with(run) {
			with = append(with, run)
			pairs, window = run.Pairs, run.Window
		}
	}
	for _, run := range r.all() {
		if run.free() && run.plain() && run.Pairs == pairs && run.Window == window {
			without = append(without, run)
		}
	}
	return with, without
}

// free reports whether r is c2c on a cluster, as fast as the windows let it.
func (r *Result) free() bool {
	return r.Bench == "c2c" && r.cluster() && r.RatePerS == 0 && r.RemovedPerS != nil
}

// removedOf are the rates of runs.
func removedOf(runs []*Result) (out []float64) {
	for _, r := range runs {
		out = append(out, *r.RemovedPerS)
	}
	return out
}

func (g goal) judge(runs []*Result) (every, middle, reached string) {
	if len(runs) == 0 {
		return "–", "–", "not measured"
	}
	ok := true
	var all, middles []string
	for _, p := range g.parts {
		var values []float64
		for _, run := range runs {
			if v, measured := p.of(run); measured {
				values = append(values, v)
			}
			ok = ok && run.Verdict.Pass
		}
		if len(values) == 0 {
			ok = false
			all = append(all, p.what+" not measured")
			continue
		}
		digits := 0
		if p.limit < 100 {
			digits = 1
		}
		all = append(all, fmt.Sprintf("%s %s%s", p.what, list(values, digits), p.unit))
		middles = append(middles, fmt.Sprintf("%s%s", thousands(median(values), digits), p.unit))
		ok = ok && p.holds(median(values))
	}
	return strings.Join(all, "; "), strings.Join(middles, "; "), yes(ok)
}

// lacks reports whether a run gave no result that would have been one of g's.
func (r *Report) lacks(g goal) bool {
	for _, c := range r.Cases {
		if len(c.Failed) > 0 && slices.ContainsFunc(c.Runs, g.match) {
			return true
		}
	}
	return false
}

// passed reports whether no verdict is FAIL, and every run gave a result.
func (r *Report) passed() bool {
	for _, c := range r.Cases {
		if len(c.Failed) > 0 {
			return false
		}
	}
	for _, run := range r.all() {
		if !run.Verdict.Pass {
			return false
		}
	}
	return true
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "**no**"
}

// list is values with a comma between them.
func list(values []float64, digits int) string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = thousands(v, digits)
	}
	return strings.Join(out, ", ")
}

// thousands is v with commas, as people read it.
func thousands(v float64, digits int) string {
	s := fmt.Sprintf("%.*f", digits, v)
	whole, rest, _ := strings.Cut(s, ".")
	sign := ""
	if strings.HasPrefix(whole, "-") {
		sign, whole = "-", whole[1:]
	}
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if rest != "" {
		whole += "." + rest
	}
	return sign + whole
}
