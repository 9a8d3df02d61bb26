package bench

import (
	"fmt"
	"maps"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"

	"github.com/gatepost/gatepost/audit"
)

// Result of one run. The names of its fields in JSON are kept. What a bench does not measure is left out, not zero.
type Result struct {
	Bench   string   `json:"bench"`
	Commit  string   `json:"commit,omitempty"`
	Machine Machine  `json:"machine"`
	Command []string `json:"command,omitempty"`

	Platform   string  `json:"platform,omitempty"`   // what the servers stand on, in words
	Pairs      int     `json:"pairs,omitempty"`      // of users, one of each sends
	Users      int     `json:"users,omitempty"`      // connected
	List       int     `json:"list,omitempty"`       // users of one push
	Workers    int     `json:"workers,omitempty"`    // who log in
	Window     int     `json:"window,omitempty"`     // messages of a sender without an outcome, at most
	SizeBytes  int     `json:"size_bytes,omitempty"` // of content
	RatePerS   float64 `json:"rate_per_s,omitempty"` // that was meant; without it as fast as the windows let
	DepthRows  *int64  `json:"depth_rows,omitempty"` // waiting in the inbox of other users
	DelayMS    float64 `json:"commit_delay_ms,omitempty"`
	OnlineOnly bool    `json:"online_only,omitempty"`
	Seconds    float64 `json:"seconds"` // measured, without the warm-up

	AcceptedPerS  *float64 `json:"accepted_per_s,omitempty"`
	SentPerS      *float64 `json:"sent_per_s,omitempty"`      // online-only pushes that were answered sent
	DeliveredPerS *float64 `json:"delivered_per_s,omitempty"` // shown in the receiving app
	ConfirmedPerS *float64 `json:"confirmed_per_s,omitempty"` // in answered confirmations
	// RemovedPerS follows from ConfirmedPerS: each receiver has one device class, and its CONFIRM is answered after the
	// transaction that removes the rows.
	RemovedPerS *float64 `json:"removed_per_s,omitempty"`
	LoginsPerS  *float64 `json:"logins_per_s,omitempty"`

	// CPU is of one message: accepted, or of online-only pushes shown, or of one login. Absent: no process of this machine was named.
	ServerCPU   *CPU     `json:"server_cpu_us_per_msg,omitempty"`
	ClientCPUUS *float64 `json:"client_cpu_us_per_msg,omitempty"` // of this process, which is all clients

	Ack      *Latency `json:"ack_ms,omitempty"`      // from handing over, or the time meant for it, to accepted
	Delivery *Latency `json:"delivery_ms,omitempty"` // likewise to the receiver's callback
	Login    *Latency `json:"login_ms,omitempty"`    // from dialing to the answer to LOGIN, or to the first pull
	SendLag  *Latency `json:"send_lag_ms,omitempty"` // from the time meant for a message to its handing over; it is in the two above
	Pull     *Latency `json:"pull_ms,omitempty"`     // of 100 messages, beside the load

	Idle *Idle `json:"idle,omitempty"`

	Limit *Limit   `json:"limit,omitempty"`
	Ratio *float64 `json:"ratio,omitempty"` // of this run's rate to that of the limit

	Lost       *int          `json:"lost,omitempty"`
	Duplicates *int          `json:"duplicates,omitempty"`
	OutOfOrder *int          `json:"out_of_order,omitempty"`
	Verdict    audit.Verdict `json:"verdict"`
}

// Limit is what one part alone did on the same machine in the same run, before the load and after it.
type Limit struct {
	What string `json:"what"` // database, kafka or wire
	How  string `json:"how,omitempty"`

	BeforePerS float64 `json:"before_per_s,omitempty"`
	AfterPerS  float64 `json:"after_per_s,omitempty"`
	PerS       float64 `json:"per_s,omitempty"` // their mean; the rows, records or frames of one run of limit

	CommitBeforeMS *Latency `json:"commit_before_ms,omitempty"` // of rows that come at the same rate
	CommitAfterMS  *Latency `json:"commit_after_ms,omitempty"`

	ServerCPU   *CPU     `json:"server_cpu_us_each,omitempty"`
	ClientCPUUS *float64 `json:"client_cpu_us_each,omitempty"`
}

// String is for people.
func (l *Limit) String() string {
	var b strings.Builder
	how := ""
	if l.How != "" {
		how = ", " + l.How
	}
	switch {
	case l.PerS > 0 && l.BeforePerS > 0:
		fmt.Fprintf(&b, "%s alone %.0f/s (before %.0f, after %.0f)%s\n", l.What, l.PerS, l.BeforePerS, l.AfterPerS, how)
	case l.PerS > 0:
		fmt.Fprintf(&b, "%s alone %.0f/s%s\n", l.What, l.PerS, how)
	}
	if l.CommitBeforeMS != nil {
		fmt.Fprintf(&b, "%s alone, commits before: %s\n", l.What, l.CommitBeforeMS)
	}
	if l.CommitAfterMS != nil {
		fmt.Fprintf(&b, "%s alone, commits after:  %s\n", l.What, l.CommitAfterMS)
	}
	switch {
	case l.ClientCPUUS == nil:
	case l.ServerCPU == nil:
		fmt.Fprintf(&b, "%s alone, CPU %.1f µs each\n", l.What, *l.ClientCPUUS)
	default:
		fmt.Fprintf(&b, "%s alone, CPU %.1f µs each%s; client %.1f µs\n", l.What, l.ServerCPU.Total, l.ServerCPU.parts(), *l.ClientCPUUS)
	}
	return b.String()
}

// Machine is where a run was made.
type Machine struct {
	CPU         string `json:"cpu"`
	Cores       int    `json:"cores"`
	MemoryBytes int64  `json:"memory_bytes"`
	OS          string `json:"os"`
	Go          string `json:"go"`
}

// String is one line for people.
func (m Machine) String() string {
	return fmt.Sprintf("%s, %d cores, %.0f GiB, %s, %s", m.CPU, m.Cores, float64(m.MemoryBytes)/(1<<30), m.OS, m.Go)
}

// ThisMachine reads what the system tells of itself; what it does not tell is empty.
func ThisMachine() Machine {
	m := Machine{Cores: runtime.NumCPU(), OS: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version()}
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		m.CPU = field(string(text), "model name")
	}
	if text, err := os.ReadFile("/proc/meminfo"); err == nil {
		kb, _, _ := strings.Cut(field(string(text), "MemTotal"), " ")
		n, _ := strconv.ParseInt(kb, 10, 64) // 0 when it is not told
		m.MemoryBytes = n << 10
	}
	if text, err := os.ReadFile("/etc/os-release"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, ok := strings.CutPrefix(line, "PRETTY_NAME="); ok {
				m.OS += ", " + strings.Trim(strings.TrimSpace(name), `"`)
			}
		}
	}
	return m
}

// field is the first value of "name : value" in text.
func field(text, name string) string {
	for line := range strings.Lines(text) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// ThisCommit is the commit that this binary was built from, with "+changes" when files were not committed; "" when the build does not tell.
func ThisCommit() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	commit, changed := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			commit = s.Value[:min(len(s.Value), 12)]
		case s.Key == "vcs.modified" && s.Value == "true":
			changed = "+changes"
		}
	}
	return commit + changed
}

// CPU in microseconds for each message.
type CPU struct {
	Total float64            `json:"total"`
	Parts map[string]float64 `json:"parts,omitempty"` // by process
}

// parts are the processes by name, in brackets; empty when there is one or none.
func (c CPU) parts() string {
	if len(c.Parts) < 2 {
		return ""
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(c.Parts)) {
		parts = append(parts, fmt.Sprintf("%s %.1f", name, c.Parts[name]))
	}
	return " (" + strings.Join(parts, ", ") + ")"
}

// Latency in milliseconds.
type Latency struct {
	P50  float64 `json:"p50"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p999"`
	Max  float64 `json:"max"`
}

// String is for people.
func (l Latency) String() string {
	return fmt.Sprintf("p50 %.2f ms, p99 %.2f ms, p999 %.2f ms, max %.2f ms", l.P50, l.P99, l.P999, l.Max)
}

// String is the result for people.
func (r *Result) String() string {
	var b strings.Builder
	for _, l := range []struct {
		name string
		v    *float64
	}{
		{"accepted", r.AcceptedPerS}, {"sent", r.SentPerS}, {"delivered", r.DeliveredPerS}, {"confirmed", r.ConfirmedPerS}, {"removed", r.RemovedPerS},
		{"logins", r.LoginsPerS},
	} {
		if l.v != nil {
			fmt.Fprintf(&b, "%-10s %10.0f/s\n", l.name, *l.v)
		}
	}
	for _, l := range []struct {
		name string
		v    *Latency
	}{{"ack", r.Ack}, {"delivery", r.Delivery}, {"login", r.Login}, {"send lag", r.SendLag}, {"pull", r.Pull}} {
		if l.v != nil {
			fmt.Fprintf(&b, "%-10s %s\n", l.name, l.v)
		}
	}
	if r.Idle != nil {
		fmt.Fprint(&b, r.Idle)
	}
	switch {
	case r.ServerCPU != nil && r.ClientCPUUS != nil:
		fmt.Fprintf(&b, "server CPU %10.1f µs each%s; clients %.1f µs\n", r.ServerCPU.Total, r.ServerCPU.parts(), *r.ClientCPUUS)
	case r.Idle == nil:
		fmt.Fprintln(&b, "server CPU not measured: the servers were not started here, and --cpu names none")
	}
	if r.Limit != nil {
		fmt.Fprint(&b, r.Limit)
	}
	if r.Ratio != nil {
		fmt.Fprintf(&b, "this run is %.0f %% of it\n", *r.Ratio*100)
	}
	fmt.Fprint(&b, r.Verdict)
	return b.String()
}

// judged writes the verdict and what of it has fields of its own.
func (r *Result) judged(v audit.Verdict) {
	r.Verdict = v
	lost, duplicates, outOfOrder := v.Lost+v.UplinksLost, v.Duplicates, v.OutOfOrder+v.UplinksOutOfOrder
	r.Lost, r.Duplicates, r.OutOfOrder = &lost, &duplicates, &outOfOrder
}

// SetLimit writes what a part alone did before and after the load, and the ratio of rate to the mean.
func (r *Result) SetLimit(before, after *Limit, rate float64) {
	l := *before
	l.BeforePerS, l.AfterPerS, l.PerS = before.PerS, after.PerS, (before.PerS+after.PerS)/2
	l.CommitAfterMS = after.CommitBeforeMS
	r.Limit = &l
	if l.PerS > 0 {
		ratio := rate / l.PerS
		r.Ratio = &ratio
	}
}
