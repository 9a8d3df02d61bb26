package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatepost/gatepost/audit"
)

// Logins is the load of logins: dial, handshake, LOGIN with a token, and close, again and again.
type Logins struct {
	Target   audit.Target // required
	Workers  int          // logins under way; default 32
	Users    int          // 0: every login is that of a new user; else these, who were registered before it is measured, in turn
	Pull     bool         // the first pull belongs to a login: it registers the device in the database
	Warmup   time.Duration
	Duration time.Duration // that is measured; default 10 s
	Servers  []audit.Server
	Progress func(audit.Progress)
}

// Run runs the load and measures it. The verdict is FAIL when a login did not succeed.
func (b Logins) Run(ctx context.Context) (*Result, error) {
	if b.Workers == 0 {
		b.Workers = 32
	}
	if b.Duration == 0 {
		b.Duration = 10 * time.Second
	}
	if b.Workers < 1 || b.Users < 0 || b.Duration < 0 || b.Warmup < 0 {
		return nil, errors.New("bench: workers, users, duration and warm-up must be positive")
	}
	if b.Users > 0 {
		b.Workers = min(b.Workers, b.Users)
	}
	d, err := newDialer(b.Target)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	l := &logins{Logins: b, dialer: d, prefix: fmt.Sprintf("login-%x", rand.Uint64()), times: newHistogram(), begin: time.Now()}
	if err := l.prepare(ctx); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	return l.run(ctx)
}

// logins is one run.
type logins struct {
	Logins
	dialer *dialer
	prefix string
	begin  time.Time
	known  chan *person // who may log in; nil: new users only
	next   atomic.Int64 // number of the next new user

	window window
	times  *histogram
	tried  atomic.Uint64
	done   atomic.Uint64

	mu     sync.Mutex
	faults []audit.Violation
	failed int
}

// prepare registers the known users.
func (l *logins) prepare(ctx context.Context) error {
	if l.Users == 0 {
		return nil
	}
	l.known = make(chan *person, l.Users)
	var all sync.WaitGroup
	errs := make(chan error, l.Workers)
	for w := range l.Workers {
		all.Go(func() {
			for i := w; i < l.Users; i += l.Workers {
				p, err := l.dialer.newPerson(ctx, fmt.Sprintf("%s-%d", l.prefix, i))
				if err == nil {
					err = l.once(ctx, p, true)
				}
				if err != nil {
					errs <- err
					return
				}
				l.known <- p
			}
		})
	}
	all.Wait()
	close(errs)
	return <-errs // nil when there is none
}

func (l *logins) run(ctx context.Context) (*Result, error) {
	load, stop := context.WithCancel(ctx)
	defer stop()
	var workers sync.WaitGroup
	for range l.Workers {
		workers.Go(func() {
			for load.Err() == nil {
				l.attempt(load)
			}
		})
	}
	stopProgress := ticking(l.Progress, func() audit.Progress {
		return audit.Progress{Phase: audit.Loading, Elapsed: time.Since(l.begin), Sent: l.tried.Load(), Accepted: l.done.Load()}
	})
	s, ok, err := measured(load, l.Warmup, l.Duration, l.Servers, &l.window, func() audit.Totals {
		return audit.Totals{NowNS: int64(time.Since(l.begin)), Accepted: l.done.Load()}
	})
	stop()
	workers.Wait()
	stopProgress()
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	if !ok {
		return nil, context.Cause(ctx)
	}
	n := s.end.totals.Accepted - s.begin.totals.Accepted
	r := &Result{Bench: "login", Workers: l.Workers, Users: l.Users, Seconds: s.seconds(), LoginsPerS: s.perS(n), Login: l.times.latency()}
	s.cpu(r, l.Servers, n)
	l.mu.Lock()
	defer l.mu.Unlock()
	r.Verdict = audit.Verdict{Pass: l.failed == 0 && n > 0, Sent: int(l.done.Load()) + l.failed, Accepted: int(l.done.Load()), Refused: l.failed, Violations: l.faults}
	return r, nil
}

// attempt is one login of a load; what goes wrong is written down, unless the load has ended.
func (l *logins) attempt(ctx context.Context) {
	var p *person
	var err error
	if l.known != nil {
		select {
		case p = <-l.known:
			defer func() { l.known <- p }()
		case <-ctx.Done():
			return
		}
	} else if p, err = l.dialer.newPerson(ctx, fmt.Sprintf("%s-n%d", l.prefix, l.next.Add(1))); err != nil {
		l.fault("a new user", err)
		return
	}
	l.tried.Add(1)
	begin := time.Since(l.begin)
	if err := l.once(ctx, p, l.Pull); err != nil {
		if ctx.Err() == nil {
			l.fault(p.uid, err)
		}
		return
	}
	if l.window.holds(int64(begin)) {
		l.times.record(time.Since(l.begin) - begin)
	}
	l.done.Add(1)
}

// once logs p in and leaves.
func (l *logins) once(ctx context.Context, p *person, pull bool) error {
	c, err := l.dialer.open(ctx, int(l.tried.Load()))
	if err != nil {
		return err
	}
	if err = c.login(l.Target.Domain, p); err == nil && pull {
		_, err = c.register()
	}
	return errors.Join(err, c.close())
}

func (l *logins) fault(who string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failed++
	if len(l.faults) < 20 {
		l.faults = append(l.faults, audit.Violation{Kind: audit.NoOutcome, Message: "login of " + who, History: err.Error()})
	}
}

// ticking calls report every second with what progress says, until stop. report may be nil.
func ticking(report func(audit.Progress), progress func() audit.Progress) (stop func()) {
	if report == nil {
		return func() {}
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				report(progress())
			}
		}
	}()
	return func() { close(done); <-ended }
}
