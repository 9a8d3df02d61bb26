package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gatepost/gatepost/audit"
)

// Load is what the loads have in common. The zero value of a field is its default.
type Load struct {
	Dial     audit.Dial // required
	Window   int        // messages of a sender without an outcome; default 64. The SDK's own window is to be at least that
	Size     int        // bytes of content; default 200
	Rate     float64    // messages a second of all senders together; 0: as fast as the windows let them
	Warmup   time.Duration
	Duration time.Duration // that is measured; default 10 s
	Seed     uint64
	Settle   time.Duration  // how long the end may take, until all is confirmed; default a minute
	Servers  []audit.Server // whose CPU is measured; may be empty
	Progress func(audit.Progress)
	// Rows and NoRefusals are those of audit.Config.
	Rows       func(ctx context.Context, prefix string) (int, error)
	NoRefusals bool
}

func (l *Load) defaults() error {
	if l.Window == 0 {
		l.Window = 64
	}
	if l.Size == 0 {
		l.Size = 200
	}
	if l.Duration == 0 {
		l.Duration = 10 * time.Second
	}
	if l.Window < 1 || l.Duration < 0 || l.Warmup < 0 || l.Rate < 0 {
		return errors.New("bench: window, duration, warm-up and rate must be positive")
	}
	return nil
}

// tail is how much longer than it is measured a load goes on, so that its end falls outside.
const tail = 200 * time.Millisecond

// C2C is the load of one-to-one messages: user 2i sends to user 2i+1, everybody is online.
type C2C struct {
	Load
	Pairs int // default 16
}

// Run runs the load, measures it and judges it. An error means that it could not be carried through.
func (b C2C) Run(ctx context.Context) (*Result, error) {
	if b.Pairs == 0 {
		b.Pairs = 16
	}
	if b.Pairs < 1 {
		return nil, errors.New("bench: pairs must be positive")
	}
	r := &Result{Bench: "c2c", Pairs: b.Pairs}
	cfg := audit.Config{Users: 2 * b.Pairs, Traffic: audit.Pairs}
	return r, b.run(ctx, cfg, r)
}

// C2S is the load of uplinks: each client reports, and the topic is read and judged at the end.
type C2S struct {
	Load
	Clients int         // default 16
	Topic   audit.Topic // required
}

// Run is as C2C.Run.
func (b C2S) Run(ctx context.Context) (*Result, error) {
	if b.Clients == 0 {
		b.Clients = 16
	}
	if b.Clients < 2 || b.Topic == nil {
		return nil, errors.New("bench: at least two clients and the topic are needed")
	}
	r := &Result{Bench: "c2s", Users: b.Clients}
	err := b.run(ctx, audit.Config{Users: b.Clients, Traffic: audit.Silent, Topic: b.Topic}, r)
	r.DeliveredPerS, r.ConfirmedPerS, r.RemovedPerS = nil, nil, nil // an uplink ends in its topic
	return r, err
}

// S2C is the load of durable pushes: an app-server pushes to lists of users, everybody is online.
type S2C struct {
	Load
	App   audit.App // required
	Users int       // default 1,000
	List  int       // users of one push; default 1,000
	Open  int       // pushes under way; default 4
}

// Run is as C2C.Run.
func (b S2C) Run(ctx context.Context) (*Result, error) {
	if b.Users == 0 {
		b.Users = 1000
	}
	if b.List == 0 {
		b.List = 1000
	}
	if b.Open == 0 {
		b.Open = 4
	}
	if b.Users < 2 || b.List < 1 || b.Open < 1 || b.App == nil {
		return nil, errors.New("bench: at least two users, lists, open pushes and an app-server are needed")
	}
	b.List = min(b.List, b.Users)
	r := &Result{Bench: "s2c", Users: b.Users, List: b.List}
	err := b.run(ctx, audit.Config{Users: b.Users, Traffic: audit.Silent, App: b.App, PushTo: b.List, PushList: true, PushOpen: b.Open}, r)
	r.Window = b.Open
	return r, err
}

// run runs cfg with what the load says, and fills r.
func (b *Load) run(ctx context.Context, cfg audit.Config, r *Result) error {
	if err := b.defaults(); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var w window
	ack, delivery, lag := newHistogram(), newHistogram(), newHistogram()
	record := func(h *histogram, atNS, nowNS int64) {
		if w.holds(atNS) {
			h.record(time.Duration(nowNS - atNS))
		}
	}
	var s span
	var ok bool
	var measureErr error
	done := make(chan struct{})
	cfg.Dial, cfg.Seed, cfg.Window, cfg.Size, cfg.Rate = b.Dial, b.Seed, b.Window, b.Size, b.Rate
	cfg.Duration = b.Warmup + b.Duration + tail
	cfg.Settle, cfg.Progress, cfg.Rows, cfg.NoRefusals = b.Settle, b.Progress, b.Rows, b.NoRefusals
	cfg.OnAccepted = func(_ audit.Flow, sentNS, nowNS int64) { record(ack, sentNS, nowNS) }
	cfg.OnShown = func(sentNS, nowNS int64) { record(delivery, sentNS, nowNS) }
	cfg.OnSend = func(meantNS, nowNS int64) { record(lag, meantNS, nowNS) }
	cfg.OnLoading = func(counters func() audit.Totals) {
		go func() {
			defer close(done)
			s, ok, measureErr = measured(ctx, b.Warmup, b.Duration, b.Servers, &w, counters)
		}()
	}
	report, err := audit.Run(ctx, cfg)
	if err != nil {
		return err
	}
	<-done
	if measureErr != nil {
		return fmt.Errorf("bench: %w", measureErr)
	}
	if !ok {
		return context.Cause(ctx)
	}
	accepted := s.end.totals.Accepted - s.begin.totals.Accepted
	confirmed := s.perS(s.end.totals.Confirmed - s.begin.totals.Confirmed)
	r.Window, r.SizeBytes, r.RatePerS, r.Seconds = b.Window, max(b.Size, audit.MinSize), b.Rate, s.seconds()
	r.AcceptedPerS, r.DeliveredPerS = s.perS(accepted), s.perS(s.end.totals.Shown-s.begin.totals.Shown)
	r.ConfirmedPerS, r.RemovedPerS = confirmed, confirmed
	s.cpu(r, b.Servers, accepted)
	r.Ack, r.Delivery, r.SendLag = ack.latency(), delivery.latency(), lag.latency()
	r.judged(report.Verdict)
	return nil
}
