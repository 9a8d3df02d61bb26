package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gatepost/gatepost/idl/gen/clientpb"
)

// Traffic says who sends to whom.
type Traffic int

const (
	Pairs  Traffic = iota // user 2i sends to user 2i+1
	Talks                 // users 2i and 2i+1 send to each other
	Mixed                 // everybody sends to anybody else
	Silent                // nobody sends to anybody: uplinks and pushes alone
)

// Config of a run. The zero value of a field is its default.
type Config struct {
	Dial    Dial    // required
	Seed    uint64  // of everything that is drawn; 0 is a seed like any other
	Domain  string  // only for names in reports
	Prefix  string  // of the uids, so that runs on one platform do not meet; "" is drawn from the clock
	Users   int     // at least 2; default 2
	Classes []Class // of each user's devices, 1..8; default Android. Each one sends where its user sends
	Traffic Traffic
	Window  int           // messages of a device without an outcome; default 64
	Size    int           // bytes of content, at least 36; default 200
	SizeMax int           // when above Size, sizes are drawn from Size..SizeMax
	TTL     time.Duration // 0: as the platform has it
	Pause   time.Duration // of a device between two messages; 0: none
	// Rate is how many messages a second all senders together are to send in each flow; 0: as fast as their windows let them. Each sender
	// then has a schedule of times at which it means to send, and a message that leaves late, because the window was full, counts from the time
	// it was meant for (coordinated omission). What was meant for the time of the traffic is sent after its end too, for Settle at most.
	Rate     float64
	Duration time.Duration // of the traffic; 0: until ctx ends or Messages were sent
	Messages int           // of each sending device and flow; 0: no limit
	Accepted uint64        // the traffic ends when so many were accepted, messages, uplinks and pushes together; 0: no limit
	Topic    Topic         // nil: no uplinks. Else every device reports too, beside its messages, and the topic is read at the end
	App      App           // nil: no pushes. Else an app-server pushes to lists of users, some of them twice at once
	PushTo   int           // users of one push at most; default 8
	PushList bool          // each push is for exactly PushTo users and made once; else for 1..PushTo, and every fourth by two at once
	PushOpen int           // pushes under way; default 4

	// Shares of the devices, 0..1 together, that lead a restless life.
	Away    float64 // closed for a while, again and again
	Restart float64 // closed and opened again with their store kept
	Crash   float64 // killed and opened again with their store as it was at that moment
	// Steady is how long a restless device stays at most; default 2 s. It is away for at most as long.
	Steady time.Duration

	Faults     []Fault       // one of them strikes at a time
	FaultEvery time.Duration // mean time between two strikes; default 3 s
	Calm       func()        // called once when the last fault is over and before anything is waited for; nil: nothing to do

	// Rows tells how many rows of users whose uids begin with prefix the platform's database holds; nil: nobody may look into it. At the end
	// none may be left: what all have confirmed is removed, not only hidden.
	Rows func(ctx context.Context, prefix string) (int, error)

	// NoRefusals: nothing in this load deserves to be refused for good, so a message that is counts as a violation.
	NoRefusals bool

	Settle   time.Duration // how long the end may take until everything is shown and confirmed; default 60 s
	Progress func(Progress)
	Every    time.Duration // between two calls of Progress; default 1 s
	Logger   *slog.Logger  // nil: silent

	// Hooks for measuring; nil: not called. Times are those of the run. They are called from many goroutines and must not block.
	OnAccepted func(flow Flow, sentNS, nowNS int64)
	OnShown    func(sentNS, nowNS int64)
	OnSend     func(meantNS, nowNS int64)   // when a message of a schedule (Rate) is handed over
	OnLoading  func(counters func() Totals) // once, when the traffic begins; counters may be called until Run returns
}

// Totals of a run at one moment.
type Totals struct {
	NowNS     int64  // time of the run
	Accepted  uint64 // messages and uplinks
	Shown     uint64 // repeats left out
	Confirmed uint64 // ids in answered confirmations
}

// Phase of a run.
type Phase string

const (
	Connecting Phase = "connecting" // every device logs in and registers by a first pull
	Loading    Phase = "loading"
	Settling   Phase = "settling" // no faults, nothing new; what is under way arrives
	Checking   Phase = "checking" // fresh clients look into the inboxes
)

// Progress of a run, so far.
type Progress struct {
	Phase    Phase
	Elapsed  time.Duration // since the traffic began
	Sent     uint64
	Accepted uint64
	Refused  uint64
	Shown    uint64 // repeats left out
	Faults   int
	Devices  int // in all
	Ready    int // of them through with Connecting or Checking
}

// Report of a run.
type Report struct {
	Seed    uint64        `json:"seed"`
	Prefix  string        `json:"prefix"`
	Took    time.Duration `json:"took_ns"`
	Loaded  time.Duration `json:"loaded_ns"`        // of it the traffic, without what the last fault and the clients took to come back
	Faults  []Struck      `json:"faults,omitempty"` // in their order
	Nudged  int           `json:"nudged"`           // messages that were shown only after a pull asked for at the end
	Verdict Verdict       `json:"verdict"`
}

func (c Config) withDefaults() (Config, error) {
	var errs []error
	if c.Dial == nil {
		errs = append(errs, errors.New("audit: Dial is missing"))
	}
	if c.Users == 0 {
		c.Users = 2
	}
	if c.Users < 2 || c.Users > 1<<20 {
		errs = append(errs, fmt.Errorf("audit: %d users, 2..1048576 are possible", c.Users))
	}
	if len(c.Classes) == 0 {
		c.Classes = []Class{clientpb.DeviceClass_DEVICE_CLASS_ANDROID}
	}
	if len(c.Classes) > 8 {
		errs = append(errs, fmt.Errorf("audit: %d device classes, at most 8 are possible", len(c.Classes)))
	}
	if c.Away < 0 || c.Restart < 0 || c.Crash < 0 || c.Away+c.Restart+c.Crash > 1 {
		errs = append(errs, errors.New("audit: Away, Restart and Crash are shares and together at most 1"))
	}
	if c.Duration == 0 && c.Messages == 0 && c.Accepted == 0 {
		errs = append(errs, errors.New("audit: neither Duration nor Messages nor Accepted ends the run"))
	}
	or := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	or(&c.Steady, 2*time.Second)
	or(&c.FaultEvery, 3*time.Second)
	or(&c.Settle, time.Minute)
	or(&c.Every, time.Second)
	if c.PushTo == 0 {
		c.PushTo = 8
	}
	if c.PushOpen == 0 {
		c.PushOpen = 4
	}
	if c.Rate < 0 {
		errs = append(errs, errors.New("audit: Rate is negative"))
	}
	if c.Window == 0 {
		c.Window = 64
	}
	c.Size = max(c.Size, contentHeader)
	c.SizeMax = max(c.SizeMax, c.Size)
	if c.Prefix == "" {
		c.Prefix = fmt.Sprintf("audit-%x", time.Now().UnixNano())
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, errors.Join(errs...)
}

// engine is one run.
type engine struct {
	cfg     Config
	j       *Journal
	devices []*device
	phase   atomic.Value // Phase
	loadAt  atomic.Int64 // when the traffic began, time of the run

	sent, accepted, refused, shown atomic.Uint64

	struck atomic.Int64 // faults
	enough func()       // ends the traffic
	loaded time.Duration
	ready  atomic.Int64 // devices that are through with the phase
}

// Run drives a platform as cfg says and judges the run. An error means that the run could not be carried through;
// what the platform did wrong is in the verdict.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	users := make([]string, cfg.Users)
	for i := range users {
		users[i] = fmt.Sprintf("%s-%d", cfg.Prefix, i)
	}
	e := &engine{cfg: cfg, j: newJournal(rand.Uint64(), users, cfg.Classes, cfg.App != nil)}
	e.j.strict = cfg.NoRefusals
	e.phase.Store(Connecting)
	life := rand.New(rand.NewPCG(cfg.Seed, 1))
	for d := range e.j.app {
		e.devices = append(e.devices, newDevice(e, d, life.Float64()))
	}
	report := &Report{Seed: cfg.Seed, Prefix: cfg.Prefix}
	stopProgress := e.reportProgress()
	defer stopProgress()
	defer e.closeAll()

	if err := e.each(ctx, func(ctx context.Context, d *device) error { return d.start(ctx) }); err != nil {
		return nil, fmt.Errorf("audit: connect: %w", err)
	}
	if err := e.load(ctx); err != nil {
		return nil, err
	}
	report.Loaded = e.loaded
	e.phase.Store(Settling)
	report.Nudged, err = e.settle(ctx)
	if err != nil {
		return nil, err
	}
	e.phase.Store(Checking)
	if err := e.check(ctx); err != nil {
		return nil, err
	}
	left, err := e.rowsLeft(ctx)
	if err != nil {
		return nil, err
	}
	report.Took = time.Since(e.j.begin)
	report.Faults = e.j.faults
	report.Verdict = Judge(e.j)
	report.Verdict.looked(left)
	return report, nil
}

// rowsLeft counts the rows that the database still holds of this run, once those have gone whose confirmation is on its way; nil: nobody may look.
func (e *engine) rowsLeft(ctx context.Context) (*int, error) {
	if e.cfg.Rows == nil {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, e.cfg.Settle)
	defer cancel()
	const tries, pause = 20, 100 * time.Millisecond
	for try := 1; ; try++ {
		n, err := e.cfg.Rows(ctx, e.cfg.Prefix+"-")
		if err != nil {
			return nil, fmt.Errorf("audit: count the rows that are left: %w", err)
		}
		if n == 0 || try == tries {
			return &n, nil
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// each calls f for every device, some at a time.
func (e *engine) each(ctx context.Context, f func(context.Context, *device) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(32)
	e.ready.Store(0)
	for _, d := range e.devices {
		group.Go(func() error {
			if err := f(ctx, d); err != nil {
				return fmt.Errorf("%s: %w", d.name(), err)
			}
			e.ready.Add(1)
			return nil
		})
	}
	return group.Wait()
}

// load runs the traffic, the restless lives and the faults, and ends with every device open again.
func (e *engine) load(ctx context.Context) error {
	e.loadAt.Store(e.j.sinceNS())
	e.phase.Store(Loading)
	if e.cfg.OnLoading != nil {
		e.cfg.OnLoading(e.totals)
	}
	traffic, stop := context.WithCancel(ctx)
	defer stop()
	beyond := ctx
	if e.cfg.Duration > 0 {
		traffic, stop = context.WithTimeout(ctx, e.cfg.Duration)
		defer stop()
		beyond, stop = context.WithTimeout(ctx, e.cfg.Duration+e.cfg.Settle)
		defer stop()
	}
	e.enough = stop // before anything is sent
	unrest, calm := context.WithCancel(traffic)
	defer calm()

	var senders sync.WaitGroup
	others, _ := errgroup.WithContext(ctx)
	schedules := e.schedules(beyond)
	for _, d := range e.devices {
		if e.sends(d) {
			meant := schedules(Messages)
			senders.Go(func() { d.send(traffic, Messages, meant) })
		}
		if e.cfg.Topic != nil {
			meant := schedules(Uplinks)
			senders.Go(func() { d.send(traffic, Uplinks, meant) })
		}
		if d.unrest != steady {
			others.Go(func() error { return d.live(ctx, unrest) })
		}
	}
	if len(e.cfg.Faults) > 0 {
		others.Go(func() error { return e.strike(ctx, unrest) })
	}
	if e.cfg.App != nil {
		senders.Go(func() { e.push(ctx, traffic) })
	}
	senders.Wait()
	e.loaded = time.Duration(e.j.sinceNS() - e.loadAt.Load())
	calm()
	if err := others.Wait(); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	if e.cfg.Calm != nil {
		e.cfg.Calm()
	}
	return ctx.Err()
}

// accept counts what was accepted.
func (e *engine) accept() {
	if e.accepted.Add(1) == e.cfg.Accepted {
		e.enough()
	}
}

// settle waits until every outcome is known, everything accepted is shown and every confirmation answered, or the time for it is over.
// For the first half of the time the platform has to manage by itself; then every device pulls, and nudged tells what was missing.
func (e *engine) settle(ctx context.Context) (nudged int, err error) {
	deadline := time.Now().Add(e.cfg.Settle)
	half := time.Now().Add(e.cfg.Settle / 2)
	for pulled := false; ; {
		outcomes, shows := e.j.open()
		if outcomes == 0 && shows == 0 {
			break
		}
		if !pulled && time.Now().After(half) {
			pulled, nudged = true, shows
			if err := e.pullAll(ctx, deadline); err != nil {
				return nudged, err
			}
		}
		if time.Now().After(deadline) {
			e.cfg.Logger.Warn("audit did not settle", "without_outcome", outcomes, "not_shown", shows)
			return nudged, nil
		}
		if !sleep(ctx, 50*time.Millisecond) {
			return nudged, ctx.Err()
		}
	}
	// Confirmations that were lost with a connection or a node are asked for again by the pull that finds their rows. A row that came
	// again after it was confirmed (a resend whose answer was lost) is confirmed without a trace in the store: a second pull behind
	// the first is behind that confirmation too.
	for range 2 {
		if err := e.pullAll(ctx, deadline); err != nil {
			return nudged, err
		}
		for {
			open := 0
			for _, d := range e.devices {
				open += d.counters().Unconfirmed
			}
			if open == 0 || time.Now().After(deadline) {
				break
			}
			if !sleep(ctx, 20*time.Millisecond) {
				return nudged, ctx.Err()
			}
		}
		if !sleep(ctx, 200*time.Millisecond) {
			return nudged, ctx.Err()
		}
	}
	return nudged, nil
}

// pullAll lets every device pull. A pull that does not end in time is no error of the run: what it did not fetch is found missing.
func (e *engine) pullAll(ctx context.Context, deadline time.Time) error {
	return e.each(ctx, func(ctx context.Context, d *device) error {
		limited, cancel := context.WithDeadline(ctx, deadline.Add(time.Second))
		defer cancel()
		if err := d.pull(limited); err != nil {
			e.cfg.Logger.Warn("pull at the end failed", "device", d.name(), "error", err)
		}
		return ctx.Err()
	})
}

// check closes every device and looks into each inbox with a client of the same class that was never there before.
func (e *engine) check(ctx context.Context) error {
	e.closeAll()
	if e.cfg.Topic != nil {
		ctx, cancel := context.WithTimeout(ctx, e.cfg.Settle)
		defer cancel()
		if err := e.cfg.Topic.Read(ctx, e.j.record); err != nil {
			return fmt.Errorf("audit: read the topic: %w", err)
		}
	}
	return e.each(ctx, func(ctx context.Context, d *device) error {
		ctx, cancel := context.WithTimeout(ctx, e.cfg.Settle)
		defer cancel()
		if err := d.checkInbox(ctx); err != nil {
			return fmt.Errorf("look into the inbox at the end: %w", err)
		}
		return nil
	})
}

func (e *engine) closeAll() {
	group := errgroup.Group{}
	group.SetLimit(32)
	for _, d := range e.devices {
		group.Go(func() error { d.close(); return nil })
	}
	_ = group.Wait() // the functions return nil
}

// sends reports whether d sends messages.
func (e *engine) sends(d *device) bool {
	switch e.cfg.Traffic {
	case Pairs:
		return e.j.devices[d.index].user%2 == 0
	case Silent:
		return false
	}
	return true
}

func (e *engine) totals() Totals {
	t := Totals{NowNS: e.j.sinceNS(), Accepted: e.accepted.Load(), Shown: e.shown.Load()}
	for _, d := range e.devices {
		t.Confirmed += d.counters().Confirmed
	}
	return t
}

func (e *engine) progress() Progress {
	p := Progress{Phase: e.phase.Load().(Phase), Sent: e.sent.Load(), Accepted: e.accepted.Load(), Refused: e.refused.Load(),
		Shown: e.shown.Load(), Faults: int(e.struck.Load()),
		Devices: len(e.devices), Ready: int(e.ready.Load())}
	if at := e.loadAt.Load(); at != 0 {
		p.Elapsed = time.Duration(e.j.sinceNS() - at)
	}
	return p
}

func (e *engine) reportProgress() (stop func()) {
	if e.cfg.Progress == nil {
		return func() {}
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(e.cfg.Every)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				e.cfg.Progress(e.progress())
			}
		}
	}()
	return sync.OnceFunc(func() { close(done); <-ended })
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
