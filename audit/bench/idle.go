package bench

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatepost/gatepost/audit"
	"github.com/gatepost/gatepost/idl/gen/clientpb"
)

// Connections is the measurement of idle connections: how much memory of each server process one takes that has shaken hands, logged in,
// registered by its first pull, and then says no more than its keepalives.
type Connections struct {
	Target   audit.Target   // required
	Number   int            // default 9,000: a process has some 20,000 open files at most on many systems
	AtOnce   int            // logins under way; default 16
	NoPull   bool           // only the handshake and the login, without the first pull
	Wait     time.Duration  // after the last login; default 150 s: a Go process collects its garbage every two minutes at least
	Servers  []audit.Server // required
	Progress func(audit.Progress)
}

// Idle is what idle connections cost.
type Idle struct {
	Connections int                   `json:"connections"`
	WaitSeconds float64               `json:"wait_seconds"`
	Processes   map[string]IdleMemory `json:"processes"`
}

// IdleMemory of one process, in bytes.
type IdleMemory struct {
	Before        Memory  `json:"before"`         // without connections
	LoggedIn      Memory  `json:"logged_in"`      // right after the last login
	After         Memory  `json:"after"`          // after the wait
	RSSEachBytes  float64 `json:"rss_each_bytes"` // (after - before) / connections
	PSSEachBytes  float64 `json:"pss_each_bytes"`
	PeakEachBytes float64 `json:"logged_in_rss_each_bytes"`
}

// Memory of a process, in bytes, as the kernel tells it.
type Memory struct {
	RSS int64 `json:"rss"`
	PSS int64 `json:"pss"`
}

// String is for people.
func (i *Idle) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d idle connections, after %.0f s\n", i.Connections, i.WaitSeconds)
	for _, name := range slices.Sorted(maps.Keys(i.Processes)) {
		m := i.Processes[name]
		fmt.Fprintf(&b, "%-12s RSS %6.1f MiB before, %6.1f logged in, %6.1f after: %5.2f KiB each (PSS %.2f)\n",
			name, mib(m.Before.RSS), mib(m.LoggedIn.RSS), mib(m.After.RSS), m.RSSEachBytes/1024, m.PSSEachBytes/1024)
	}
	return b.String()
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }

// Run opens the connections, waits, and measures. The verdict is FAIL when one of them did not live to the end.
func (b Connections) Run(ctx context.Context) (*Result, error) {
	if b.Number == 0 {
		b.Number = 9000
	}
	if b.AtOnce == 0 {
		b.AtOnce = 16
	}
	if b.Wait == 0 {
		b.Wait = 150 * time.Second
	}
	if b.Number < 1 || b.AtOnce < 1 || len(b.Servers) == 0 {
		return nil, errors.New("bench: connections, and processes whose memory is to be read, are needed")
	}
	d, err := newDialer(b.Target)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	i := &idle{Connections: b, dialer: d, begin: time.Now(), conns: make([]*conn, b.Number)}
	defer i.close()
	stop := ticking(b.Progress, i.progress)
	defer stop()
	r, err := i.run(ctx)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	return r, nil
}

// idle is one run.
type idle struct {
	Connections
	dialer *dialer
	begin  time.Time
	conns  []*conn
	open   atomic.Uint64
	beats  atomic.Uint64
}

func (i *idle) run(ctx context.Context) (*Result, error) {
	before, err := i.memory()
	if err != nil {
		return nil, err
	}
	if err := i.connect(ctx); err != nil {
		return nil, err
	}
	loggedIn, err := i.memory()
	if err != nil {
		return nil, err
	}
	v := audit.Verdict{Sent: i.Number, Accepted: i.Number}
	if err := i.hold(ctx); err != nil {
		return nil, err
	}
	after, err := i.memory()
	if err != nil {
		return nil, err
	}
	for n := range i.conns { // all of them are alive at the end, or the figure is none
		if err := i.beat(n); err != nil {
			v.Accepted--
			v.NoOutcome++
			if len(v.Violations) < 20 {
				v.Violations = append(v.Violations, audit.Violation{Kind: audit.NoOutcome, Message: fmt.Sprintf("connection %d", n), History: err.Error()})
			}
		}
	}
	v.Pass = v.NoOutcome == 0
	r := &Result{Bench: "idle", Users: i.Number, Seconds: time.Since(i.begin).Seconds(), Verdict: v,
		Idle: &Idle{Connections: i.Number, WaitSeconds: i.Wait.Seconds(), Processes: map[string]IdleMemory{}}}
	for n, p := range i.Servers {
		each := func(from, to int64) float64 { return float64(to-from) / float64(i.Number) }
		r.Idle.Processes[p.Name] = IdleMemory{
			Before: before[n], LoggedIn: loggedIn[n], After: after[n], RSSEachBytes: each(before[n].RSS, after[n].RSS),
			PSSEachBytes: each(before[n].PSS, after[n].PSS), PeakEachBytes: each(before[n].RSS, loggedIn[n].RSS),
		}
	}
	return r, nil
}

func (i *idle) progress() audit.Progress {
	return audit.Progress{Phase: audit.Loading, Elapsed: time.Since(i.begin), Sent: uint64(i.Number), Accepted: i.open.Load(), Shown: i.beats.Load()}
}

// connect opens all connections, some at a time.
func (i *idle) connect(ctx context.Context) error {
	prefix := fmt.Sprintf("idle-%x", rand.Uint64())
	var all sync.WaitGroup
	errs := make([]error, i.AtOnce)
	for w := range i.AtOnce {
		all.Go(func() {
			for n := w; n < i.Number; n += i.AtOnce {
				if errs[w] = i.connectOne(ctx, n, fmt.Sprintf("%s-%d", prefix, n)); errs[w] != nil {
					return
				}
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

func (i *idle) connectOne(ctx context.Context, n int, uid string) error {
	p, err := i.dialer.newPerson(ctx, uid)
	if err != nil {
		return err
	}
	c, err := i.dialer.open(ctx, n)
	if err != nil {
		return fmt.Errorf("connection %d: %w", n, err)
	}
	i.conns[n] = c
	if err := c.login(i.Target.Domain, p); err != nil {
		return err
	}
	i.open.Add(1)
	if i.NoPull {
		return nil
	}
	_, err = c.register()
	return err
}

// hold waits, with a keepalive of each connection in the interval that the gate asks for.
func (i *idle) hold(ctx context.Context) error {
	end := time.Now().Add(i.Wait)
	every := i.conns[0].keepalive * 3 / 4
	if every <= 0 {
		every = 45 * time.Second
	}
	for time.Now().Add(every).Before(end) {
		round := time.Now().Add(every)
		for n := range i.conns {
			if err := i.beat(n); err != nil {
				return fmt.Errorf("keepalive of connection %d: %w", n, err)
			}
			// Spread over the interval: a burst would be a load of its own.
			if rest := time.Until(round) / time.Duration(len(i.conns)-n); rest > time.Millisecond && !sleep(ctx, rest) {
				return ctx.Err()
			}
		}
	}
	if !sleep(ctx, time.Until(end)) {
		return ctx.Err()
	}
	return nil
}

func (i *idle) beat(n int) error {
	if err := i.conns[n].ask(clientpb.Cmd_CMD_KEEPALIVE, nil, nil); err != nil {
		return err
	}
	i.beats.Add(1)
	return nil
}

func (i *idle) close() {
	for _, c := range i.conns {
		if c != nil {
			_ = c.close() // the gate may have closed it before
		}
	}
}

// memory of each server process.
func (i *idle) memory() ([]Memory, error) {
	out := make([]Memory, len(i.Servers))
	var errs []error
	for n, p := range i.Servers {
		var err error
		out[n], err = memoryOf(p.PID)
		errs = append(errs, err)
	}
	return out, errors.Join(errs...)
}

// memoryOf reads /proc. PSS is 0 where the kernel does not tell it.
func memoryOf(pid int) (m Memory, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return m, fmt.Errorf("memory of process %d: %w", pid, err)
	}
	if m.RSS, err = kilobytes(string(text), "VmRSS"); err != nil {
		return m, fmt.Errorf("memory of process %d: %w", pid, err)
	}
	if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid)); err == nil {
		m.PSS, _ = kilobytes(string(text), "Pss") // 0: not told
	}
	return m, nil
}

func kilobytes(text, name string) (int64, error) {
	value, _, _ := strings.Cut(field(text, name), " ")
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s is not told: %w", name, err)
	}
	return n << 10, nil
}
