package bench

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/gatepost/gatepost/audit"
)

// snapshot is where a run stands at one moment.
type snapshot struct {
	at      time.Time
	own     time.Duration // CPU of this process
	servers []time.Duration
	totals  audit.Totals
}

// snap reads the CPU of this process and of servers. Without servers no CPU is read.
func snap(servers []audit.Server) (s snapshot, err error) {
	s.at = time.Now()
	var errs []error
	for _, p := range servers {
		t, err := cpuTime(p.PID)
		errs = append(errs, err)
		s.servers = append(s.servers, t)
	}
	if len(servers) > 0 {
		t, err := cpuTime(os.Getpid())
		errs = append(errs, err)
		s.own = t
	}
	return s, errors.Join(errs...)
}

// span is what lies between two snapshots.
type span struct {
	begin, end snapshot
}

func (s span) seconds() float64 { return s.end.at.Sub(s.begin.at).Seconds() }

// perS is n in a second.
func (s span) perS(n uint64) *float64 {
	v := float64(n) / s.seconds()
	return &v
}

// cpu writes the CPU of n messages into r.
func (s span) cpu(r *Result, servers []audit.Server, n uint64) {
	if len(servers) == 0 {
		return
	}
	each := func(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) / max(float64(n), 1) }
	own := each(s.end.own - s.begin.own)
	r.ClientCPUUS, r.ServerCPU = &own, &CPU{Parts: make(map[string]float64)}
	for i, p := range servers {
		us := each(s.end.servers[i] - s.begin.servers[i])
		r.ServerCPU.Parts[p.Name] += us
		r.ServerCPU.Total += us
	}
}

// Cost runs f, which does n things, and returns the CPU in microseconds that each of them took: of this process, and of each of servers by name.
// Without servers both are left out.
func Cost(servers []audit.Server, f func() (n uint64, err error)) (own *float64, of *CPU, err error) {
	var s span
	if s.begin, err = snap(servers); err != nil {
		return nil, nil, err
	}
	n, err := f()
	if err != nil {
		return nil, nil, err
	}
	if s.end, err = snap(servers); err != nil {
		return nil, nil, err
	}
	var r Result
	s.cpu(&r, servers, n)
	return r.ClientCPUUS, r.ServerCPU, nil
}

// highest is the longest time that a histogram holds; what takes longer counts as this.
const highest = 2 * time.Minute

// histogram of times, in microseconds. It is safe for concurrent use.
type histogram struct {
	mu sync.Mutex
	h  *hdrhistogram.Histogram
}

func newHistogram() *histogram {
	return &histogram{h: hdrhistogram.New(1, int64(highest/time.Microsecond), 3)}
}

func (h *histogram) record(d time.Duration) {
	us := max(1, min(int64(d/time.Microsecond), int64(highest/time.Microsecond)))
	h.mu.Lock()
	defer h.mu.Unlock()
	_ = h.h.RecordValue(us) // us is within its bounds
}

// latency is nil when nothing was recorded.
func (h *histogram) latency() *Latency {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.h.TotalCount() == 0 {
		return nil
	}
	q := func(p float64) float64 { return float64(h.h.ValueAtQuantile(p)) / 1000 }
	return &Latency{P50: q(50), P99: q(99), P999: q(99.9), Max: float64(h.h.Max()) / 1000}
}

// window is the part of a run that is measured, in times of the run.
type window struct {
	mu       sync.RWMutex
	from, to int64 // to is 0 while measuring goes on, from while it has not begun
}

// holds reports whether a message that was meant for atNS is measured.
func (w *window) holds(atNS int64) bool {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.from != 0 && atNS >= w.from && (w.to == 0 || atNS < w.to)
}

func (w *window) open(nowNS int64)  { w.mu.Lock(); defer w.mu.Unlock(); w.from = nowNS }
func (w *window) close(nowNS int64) { w.mu.Lock(); defer w.mu.Unlock(); w.to = nowNS }

// measured takes two snapshots, after the warm-up and after the duration, and opens and closes w between them. counters reads the
// totals of the load. ok is false when ctx ended first.
func measured(ctx context.Context, warmup, duration time.Duration, servers []audit.Server, w *window, counters func() audit.Totals) (s span, ok bool, err error) {
	if !sleep(ctx, warmup) {
		return s, false, nil
	}
	var err1, err2 error
	s.begin, err1 = snap(servers)
	s.begin.totals = counters()
	w.open(s.begin.totals.NowNS)
	if !sleep(ctx, duration) {
		return s, false, nil
	}
	s.end, err2 = snap(servers)
	s.end.totals = counters()
	w.close(s.end.totals.NowNS)
	return s, true, errors.Join(err1, err2)
}

// sleep waits for d; false: ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
