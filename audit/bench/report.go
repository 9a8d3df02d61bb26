package bench

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Report is a set of runs, from which a page with every run, the goals and a picture is made.
type Report struct {
	Cases  []Case
	Notes  []string // what else is to be known of the servers
	Date   string
	Commit string // where the runs do not tell theirs
}

// Case is what was run several times in the same way.
type Case struct {
	Name   string
	Runs   []*Result
	Limits []*limitRun // of bench limit
	Failed []string    // runs that gave no result
}

// limitRun is one result of bench limit.
type limitRun struct {
	Bench   string   `json:"bench"`
	Commit  string   `json:"commit"`
	Machine Machine  `json:"machine"`
	Command []string `json:"command"`
	Limits  []*Limit `json:"limits"`
}

// ReadRuns reads a directory of NAME.RUN.json, each with what one command printed: one result, or one after the other. Cases come in the order
// of their names, of which a number before the first dash is not shown.
func ReadRuns(dir string) ([]Case, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, err
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("no run lies in %s", dir)
	}
	slices.SortFunc(paths, func(a, b string) int { return strings.Compare(filepath.Base(a), filepath.Base(b)) })
	var cases []Case
	for _, path := range paths {
		name, _, _ := strings.Cut(filepath.Base(path), ".")
		if number, rest, ok := strings.Cut(name, "-"); ok && strings.Trim(number, "0123456789") == "" {
			name = rest
		}
		if len(cases) == 0 || cases[len(cases)-1].Name != name {
			cases = append(cases, Case{Name: name})
		}
		if err := cases[len(cases)-1].read(path); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	return cases, nil
}

func (c *Case) read(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	results := 0
	for dec := json.NewDecoder(f); ; results++ {
		var raw json.RawMessage
		err := dec.Decode(&raw)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		var kind struct {
			Bench string `json:"bench"`
		}
		if err := json.Unmarshal(raw, &kind); err != nil {
			return err
		}
		if kind.Bench == "limit" {
			l := &limitRun{}
			if err := json.Unmarshal(raw, l); err != nil {
				return err
			}
			c.Limits = append(c.Limits, l)
			continue
		}
		r := &Result{}
		if err := json.Unmarshal(raw, r); err != nil {
			return err
		}
		c.Runs = append(c.Runs, r)
	}
	if results == 0 {
		c.Failed = append(c.Failed, filepath.Base(path))
	}
	return nil
}

// made is the commit and the machine of the runs.
func (r *Report) made() (commit string, machine Machine) {
	commit = r.Commit
	for _, c := range r.Cases {
		for _, l := range c.Limits {
			return cmp.Or(l.Commit, commit), l.Machine
		}
		for _, run := range c.Runs {
			return cmp.Or(run.Commit, commit), run.Machine
		}
	}
	return commit, machine
}

// Picture is a chart of the page.
type Picture struct {
	Name  string // of its file, without the page's
	Title string
	SVG   string
}

// Pictures are those for which there are runs.
func (r *Report) Pictures() (out []Picture) {
	for _, p := range []Picture{
		{Name: "load", Title: "Rate and times against load", SVG: r.loadPicture()},
		{Name: "delay", Title: "Rate against the time of a commit", SVG: r.delayPicture()},
	} {
		if p.SVG != "" {
			out = append(out, p)
		}
	}
	return out
}

// loadPicture is rate and times against load, of one case at several fixed rates; "" when there is none.
func (r *Report) loadPicture() string {
	rate := panel{title: "messages removed a second (dashed: what was offered)", same: true}
	times := panel{title: "milliseconds from when a message was meant to be sent", log: true}
	removed := newSeries("removed", "#1b6ac9")
	ack50, ack99, shown99 := newSeries("accepted p50", "#1b6ac9"), newSeries("accepted p99", "#c9431b"), newSeries("shown p99", "#7a4fb5")
	shown99.dashed = true
	curve := r.curve()
	for _, run := range curve {
		x := run.RatePerS
		removed.add(x, *run.RemovedPerS)
		ack50.add(x, run.Ack.P50)
		ack99.add(x, run.Ack.P99)
		shown99.add(x, run.Delivery.P99)
	}
	if len(removed.points) < 2 {
		return ""
	}
	rate.series = []series{removed}
	times.series = []series{ack50, ack99, shown99}
	return chart(r.chartTitle("Durable c2c", curve[0]), "messages offered a second", []panel{rate, times})
}

// delayPicture is the rate of c2c against how much longer commits take; "" without such runs.
func (r *Report) delayPicture() string {
	removed := newSeries("removed", "#1b6ac9")
	delayed, _ := r.compared(comparison{with: func(run *Result) bool { return run.DelayMS > 0 }})
	var one *Result
	for _, run := range delayed {
		one = run
		removed.add(run.DelayMS, *run.RemovedPerS)
	}
	if one == nil {
		return ""
	}
	_, plain := r.compared(comparison{with: func(run *Result) bool { return run == one }})
	for _, run := range plain {
		removed.add(0, *run.RemovedPerS)
	}
	if len(removed.points) < 2 {
		return ""
	}
	return chart(r.chartTitle(fmt.Sprintf("Durable c2c, %d pairs, %d in flight each", one.Pairs, one.Window), one), "milliseconds that a commit takes longer",
		[]panel{{title: "messages removed a second", series: []series{removed}}})
}

func (r *Report) chartTitle(what string, run *Result) string {
	commit, machine := r.made()
	return fmt.Sprintf("%s, %s, %d cores, commit %s", what, run.Platform, machine.Cores, commit)
}

// curve are the runs at fixed rates of the case that has most rates.
func (r *Report) curve() (best []*Result) {
	most := 0
	for _, c := range r.Cases {
		rates := map[float64]bool{}
		var runs []*Result
		for _, run := range c.Runs {
			if run.Bench == "latency" && run.RatePerS > 0 && run.RemovedPerS != nil && run.Ack != nil && run.Delivery != nil {
				rates[run.RatePerS] = true
				runs = append(runs, run)
			}
		}
		if len(rates) > most {
			most, best = len(rates), runs
		}
	}
	return best
}

// all runs of all cases.
func (r *Report) all() (out []*Result) {
	for _, c := range r.Cases {
		out = append(out, c.Runs...)
	}
	return out
}
