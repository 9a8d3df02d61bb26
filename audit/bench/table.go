package bench

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Markdown is the page: goals, pictures, every run and its command. The files of the pictures begin with prefix.
func (r *Report) Markdown(prefix string) string {
	var b strings.Builder
	commit, machine := r.made()
	fmt.Fprintf(&b, "# Figures of %s\n\nCommit %s. %s.\n\n", r.Date, commit, machine)
	b.WriteString("Servers, database and load share these cores. Every run is shown, none is left out; the cases took turns. " +
		"What each load does, and how its figures are made: [README.md](README.md).\n")
	for _, note := range r.Notes {
		fmt.Fprintf(&b, "\n%s\n", note)
	}
	fmt.Fprintf(&b, "\n## Goals\n\n%s\nReached is said of the median of the runs, and only when every verdict is PASS.\n", r.goalTable())
	for _, p := range r.Pictures() {
		fmt.Fprintf(&b, "\n## %s\n\n![%s](%s%s.svg)\n", p.Title, strings.ToLower(p.Title), prefix, p.Name)
	}
	b.WriteString("\n## Every run\n")
	for _, c := range r.Cases {
		fmt.Fprintf(&b, "\n### %s\n\n", strings.ReplaceAll(c.Name, "-", " "))
		for _, failed := range c.Failed {
			fmt.Fprintf(&b, "No result: %s\n\n", failed)
		}
		b.WriteString(c.commands())
		b.WriteString(c.table())
	}
	return b.String()
}

// commands of the case, each once.
func (c *Case) commands() string {
	var all []string
	add := func(words []string) {
		if line := "    " + strings.Join(quoted(words), " ") + "\n"; len(words) > 0 && !slices.Contains(all, line) {
			all = append(all, line)
		}
	}
	for _, r := range c.Runs {
		add(r.Command)
	}
	for _, l := range c.Limits {
		add(l.Command)
	}
	return strings.Join(all, "") + "\n"
}

// quoted are words as a shell reads them.
func quoted(words []string) []string {
	out := make([]string, len(words))
	for i, w := range words {
		if strings.ContainsAny(w, " ()'\"*?;&|<>$`\\") {
			w = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
		out[i] = w
	}
	return out
}

// column of a table of runs; a column that no run fills is left out.
type column struct {
	name string
	of   func(*Result) string
}

func rate(of func(*Result) *float64) func(*Result) string {
	return func(r *Result) string {
		if v := of(r); v != nil {
			return thousands(*v, 0)
		}
		return ""
	}
}

func times(of func(*Result) *Latency) func(*Result) string {
	return func(r *Result) string { return of(r).short() }
}

// short is p50 / p99 / p99.9 / highest.
func (l *Latency) short() string {
	if l == nil {
		return ""
	}
	return fmt.Sprintf("%.1f / %.1f / %.1f / %.0f", l.P50, l.P99, l.P999, l.Max)
}

var columns = []column{
	{"platform", func(r *Result) string { return r.Platform }},
	{"rows waiting", func(r *Result) string {
		if r.DepthRows == nil {
			return ""
		}
		return thousands(float64(*r.DepthRows), 0)
	}},
	{"commit delay, ms", func(r *Result) string {
		if r.DelayMS == 0 {
			return ""
		}
		return fmt.Sprintf("%g", r.DelayMS)
	}},
	{"offered/s", func(r *Result) string {
		if r.RatePerS == 0 {
			return ""
		}
		return thousands(r.RatePerS, 0)
	}},
	{"accepted/s", rate(func(r *Result) *float64 { return r.AcceptedPerS })},
	{"sent/s", rate(func(r *Result) *float64 { return r.SentPerS })},
	{"shown/s", rate(func(r *Result) *float64 { return r.DeliveredPerS })},
	{"confirmed and removed/s", rate(func(r *Result) *float64 { return r.RemovedPerS })},
	{"logins/s", rate(func(r *Result) *float64 { return r.LoginsPerS })},
	{"server CPU each, µs", func(r *Result) string {
		if r.ServerCPU == nil {
			return ""
		}
		return fmt.Sprintf("%.1f%s", r.ServerCPU.Total, r.ServerCPU.parts())
	}},
	{"load's CPU, µs", func(r *Result) string {
		if r.ClientCPUUS == nil {
			return ""
		}
		return fmt.Sprintf("%.1f", *r.ClientCPUUS)
	}},
	{"to accepted, ms p50 / p99 / p99.9 / most", times(func(r *Result) *Latency { return r.Ack })},
	{"to shown, ms", times(func(r *Result) *Latency { return r.Delivery })},
	{"login, ms p50 / p99 / p99.9 / most", times(func(r *Result) *Latency { return r.Login })},
	{"of it before it was handed over, ms", times(func(r *Result) *Latency { return r.SendLag })},
	{"pull of 100, ms", times(func(r *Result) *Latency { return r.Pull })},
	{"memory", func(r *Result) string {
		if r.Idle == nil {
			return ""
		}
		var parts []string
		for _, name := range slices.Sorted(maps.Keys(r.Idle.Processes)) {
			m := r.Idle.Processes[name]
			parts = append(parts, fmt.Sprintf("%s RSS %.1f → %.1f MiB, %.2f KiB each (PSS %.2f)", name, mib(m.Before.RSS), mib(m.After.RSS), m.RSSEachBytes/1024, m.PSSEachBytes/1024))
		}
		return strings.Join(parts, "<br>")
	}},
	{"alone, before / after", func(r *Result) string {
		switch {
		case r.Limit == nil:
			return ""
		case r.Limit.PerS > 0:
			return fmt.Sprintf("%s %s / %s a second", r.Limit.What, thousands(r.Limit.BeforePerS, 0), thousands(r.Limit.AfterPerS, 0))
		}
		return fmt.Sprintf("commit %s; %s ms", r.Limit.CommitBeforeMS.short(), r.Limit.CommitAfterMS.short())
	}},
	{"ratio", func(r *Result) string {
		if r.Ratio == nil {
			return ""
		}
		return fmt.Sprintf("%.0f %%", *r.Ratio*100)
	}},
	{"lost, repeated, out of order", func(r *Result) string {
		if r.Lost == nil || r.Duplicates == nil {
			return ""
		}
		order := "–"
		if r.OutOfOrder != nil {
			order = fmt.Sprint(*r.OutOfOrder)
		}
		return fmt.Sprintf("%d, %d, %s", *r.Lost, *r.Duplicates, order)
	}},
	{"verdict", func(r *Result) string {
		if r.Verdict.Pass {
			return "PASS"
		}
		return "**FAIL**"
	}},
}

// table of all runs.
func (c *Case) table() string {
	if len(c.Limits) > 0 {
		return c.limitTable()
	}
	if len(c.Runs) == 0 {
		return ""
	}
	var b, rule strings.Builder
	var used []column
	b.WriteString("| run |")
	rule.WriteString("|---|")
	for _, col := range columns {
		if slices.ContainsFunc(c.Runs, func(r *Result) bool { return col.of(r) != "" }) {
			used = append(used, col)
			fmt.Fprintf(&b, " %s |", col.name)
			rule.WriteString("---|")
		}
	}
	fmt.Fprintf(&b, "\n%s\n", rule.String())
	for i, r := range c.Runs {
		fmt.Fprintf(&b, "| %d |", i+1)
		for _, col := range used {
			fmt.Fprintf(&b, " %s |", col.of(r))
		}
		b.WriteString("\n")
	}
	return b.String()
}

func (c *Case) limitTable() string {
	var b strings.Builder
	b.WriteString("| run | what | a second | commit, ms p50 / p99 / p99.9 / most | server CPU each, µs | own CPU each, µs | how |\n|---|---|---|---|---|---|---|\n")
	for i, run := range c.Limits {
		for _, l := range run.Limits {
			cell := func(s string, show bool) string {
				if !show {
					return ""
				}
				return s
			}
			server, own := "", ""
			if l.ServerCPU != nil {
				server = fmt.Sprintf("%.1f", l.ServerCPU.Total)
			}
			if l.ClientCPUUS != nil {
				own = fmt.Sprintf("%.1f", *l.ClientCPUUS)
			}
			fmt.Fprintf(&b, "| %d | %s | %s | %s | %s | %s | %s |\n", i+1, l.What, cell(thousands(l.PerS, 0), l.PerS > 0), l.CommitBeforeMS.short(), server, own, l.How)
		}
	}
	return b.String()
}
