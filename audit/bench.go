package audit

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// C2C is the benchmark of one-to-one messages: user 2i sends to user 2i+1 as fast as the window lets, everybody is online.
type C2C struct {
	Dial     Dial // required
	Pairs    int  // default 16
	Window   int  // messages of a sender without an outcome; default 64. The SDK's own window is to be at least that
	Size     int  // bytes of content; default 200
	Warmup   time.Duration
	Duration time.Duration // that is measured; default 10 s
	Seed     uint64
	Settle   time.Duration
	Servers  []Server // whose CPU is measured; may be empty
	Progress func(Progress)
}

// Server is a server process on this machine.
type Server struct {
	Name string
	PID  int
}

// Result of a benchmark. The names of its fields are kept.
type Result struct {
	Pairs     int     `json:"pairs"`
	Window    int     `json:"window"`
	SizeBytes int     `json:"size_bytes"`
	Seconds   float64 `json:"seconds"` // measured, without the warm-up

	AcceptedPerS  float64 `json:"accepted_per_s"`
	DeliveredPerS float64 `json:"delivered_per_s"` // shown in the receiving app
	ConfirmedPerS float64 `json:"confirmed_per_s"` // in answered confirmations
	// RemovedPerS follows from ConfirmedPerS: each receiver has one device class, and its CONFIRM is answered after the
	// transaction that removes the rows.
	RemovedPerS float64 `json:"removed_per_s"`

	// The CPU is measured together with that of servers on this machine; nil (null): it was not.
	ServerCPU   *CPU     `json:"server_cpu_us_per_msg"`
	ClientCPUUS *float64 `json:"client_cpu_us_per_msg"` // of this process, which is all clients

	Ack      Latency `json:"ack_ms"`      // from handing over to accepted
	Delivery Latency `json:"delivery_ms"` // from handing over to the receiver's callback

	Lost       int     `json:"lost"`
	Duplicates int     `json:"duplicates"`
	OutOfOrder int     `json:"out_of_order"`
	Verdict    Verdict `json:"verdict"`
}

// CPU in microseconds for each accepted message.
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
}

// String is the result for people.
func (r Result) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "accepted   %10.0f/s\ndelivered  %10.0f/s\nconfirmed  %10.0f/s\nremoved    %10.0f/s\n",
		r.AcceptedPerS, r.DeliveredPerS, r.ConfirmedPerS, r.RemovedPerS)
	for _, l := range []struct {
		name string
		v    Latency
	}{{"ack", r.Ack}, {"delivery", r.Delivery}} {
		fmt.Fprintf(&b, "%-10s p50 %.2f ms, p99 %.2f ms, p999 %.2f ms\n", l.name, l.v.P50, l.v.P99, l.v.P999)
	}
	if r.ServerCPU == nil || r.ClientCPUUS == nil {
		fmt.Fprintln(&b, "server CPU not measured: the servers were not started here")
	} else {
		fmt.Fprintf(&b, "server CPU %10.1f µs a message%s; clients %.1f µs\n", r.ServerCPU.Total, r.ServerCPU.parts(), *r.ClientCPUUS)
	}
	fmt.Fprint(&b, r.Verdict)
	return b.String()
}

// snapshot is where a run stands at one moment.
type snapshot struct {
	at                         time.Time
	accepted, shown, confirmed uint64
	own                        time.Duration
	servers                    []time.Duration
}

// latencies of the messages that were sent while it measures. Histograms hold microseconds, up to a minute.
type latencies struct {
	mu       sync.Mutex
	from, to int64 // times of the run; to is 0 while measuring goes on, from while it has not begun
	ack      *hdrhistogram.Histogram
	delivery *hdrhistogram.Histogram
}

func newLatencies() *latencies {
	const highest = int64(time.Minute / time.Microsecond)
	return &latencies{ack: hdrhistogram.New(1, highest, 3), delivery: hdrhistogram.New(1, highest, 3)}
}

func (l *latencies) record(h *hdrhistogram.Histogram, sentNS, nowNS int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.from == 0 || sentNS < l.from || l.to != 0 && sentNS >= l.to {
		return
	}
	us := max(1, min((nowNS-sentNS)/1000, h.HighestTrackableValue()))
	_ = h.RecordValue(us) // us is within its bounds
}

func latencyOf(h *hdrhistogram.Histogram) Latency {
	q := func(p float64) float64 { return float64(h.ValueAtQuantile(p)) / 1000 }
	return Latency{P50: q(50), P99: q(99), P999: q(99.9)}
}

// BenchC2C runs the benchmark and judges it. An error means that it could not be carried through.
func BenchC2C(ctx context.Context, b C2C) (*Result, error) {
	if b.Pairs == 0 {
		b.Pairs = 16
	}
	if b.Window == 0 {
		b.Window = 64
	}
	if b.Duration == 0 {
		b.Duration = 10 * time.Second
	}
	b.Size = max(b.Size, contentHeader)
	if b.Pairs < 1 || b.Window < 1 || b.Duration < 0 || b.Warmup < 0 {
		return nil, errors.New("bench: pairs, window, duration and warm-up must be positive")
	}
	lat := newLatencies()
	var begin, end snapshot
	var snapErr error
	measured := make(chan struct{})
	cfg := Config{
		Dial: b.Dial, Seed: b.Seed, Users: 2 * b.Pairs, Traffic: Pairs, Window: b.Window, Size: b.Size,
		// The traffic goes on a little longer than it is measured, so that its end falls outside.
		Duration: b.Warmup + b.Duration + 200*time.Millisecond,
		Settle:   b.Settle, Progress: b.Progress,
		onAccepted: func(sentNS, nowNS int64) { lat.record(lat.ack, sentNS, nowNS) },
		onShown:    func(sentNS, nowNS int64) { lat.record(lat.delivery, sentNS, nowNS) },
		onStarted: func(e *engine) {
			go func() {
				defer close(measured)
				if !sleep(ctx, b.Warmup) {
					return
				}
				var err1, err2 error
				begin, err1 = b.snap(e)
				lat.mark(&lat.from, e)
				if !sleep(ctx, b.Duration) {
					return
				}
				end, err2 = b.snap(e)
				lat.mark(&lat.to, e)
				snapErr = errors.Join(err1, err2)
			}()
		},
	}
	report, err := Run(ctx, cfg)
	if err != nil {
		return nil, err
	}
	<-measured
	if snapErr != nil {
		return nil, fmt.Errorf("bench: %w", snapErr)
	}
	return b.result(report, lat, begin, end), nil
}

func (l *latencies) mark(field *int64, e *engine) {
	l.mu.Lock()
	defer l.mu.Unlock()
	*field = e.j.sinceNS()
}

func (b *C2C) snap(e *engine) (snapshot, error) {
	s := snapshot{at: time.Now(), accepted: e.accepted.Load(), shown: e.shown.Load()}
	for _, d := range e.devices {
		s.confirmed += d.counters().Confirmed
	}
	var errs []error
	for _, p := range b.Servers {
		t, err := cpuTime(p.PID)
		errs = append(errs, err)
		s.servers = append(s.servers, t)
	}
	if len(b.Servers) > 0 {
		t, err := cpuTime(os.Getpid())
		errs = append(errs, err)
		s.own = t
	}
	return s, errors.Join(errs...)
}

func (b *C2C) result(report *Report, lat *latencies, begin, end snapshot) *Result {
	lat.mu.Lock()
	defer lat.mu.Unlock()
	seconds := end.at.Sub(begin.at).Seconds()
	accepted := float64(end.accepted - begin.accepted)
	perMessage := func(d time.Duration) float64 { return float64(d/time.Microsecond) / max(accepted, 1) }
	r := &Result{
		Pairs: b.Pairs, Window: b.Window, SizeBytes: b.Size, Seconds: seconds,
		AcceptedPerS:  accepted / seconds,
		DeliveredPerS: float64(end.shown-begin.shown) / seconds,
		ConfirmedPerS: float64(end.confirmed-begin.confirmed) / seconds,
		Ack:           latencyOf(lat.ack), Delivery: latencyOf(lat.delivery),
		Lost: report.Verdict.Lost, Duplicates: report.Verdict.Duplicates, OutOfOrder: report.Verdict.OutOfOrder, Verdict: report.Verdict,
	}
	r.RemovedPerS = r.ConfirmedPerS
	if len(b.Servers) > 0 {
		own := perMessage(end.own - begin.own)
		r.ClientCPUUS, r.ServerCPU = &own, &CPU{Parts: make(map[string]float64)}
	}
	for i, p := range b.Servers {
		us := perMessage(end.servers[i] - begin.servers[i])
		r.ServerCPU.Parts[p.Name] = us
		r.ServerCPU.Total += us
	}
	return r
}
