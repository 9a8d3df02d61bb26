package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Process is one server process: a gate, a logic node or the whole platform.
type Process struct {
	Logger *slog.Logger

	role     Role
	grace    time.Duration
	parts    []part      // in the order of starting
	started  atomic.Bool // all parts are
	stopping atomic.Bool
	failures chan error // of a part that ended by itself
	ready    func() error
	reload   func(context.Context, Config) error // nil: nothing can be read again
	dir      *dataDir                            // nil: none

	mu        sync.Mutex // guards runtime and announced
	runtime   Runtime
	announced bool

	stopOnce sync.Once
	stopErr  error
}

// part is one thing that a process opens or starts.
type part struct {
	name  string
	start func(context.Context) error // nil: it was opened when the process was built
	stop  func(context.Context) error
	runs  bool // it has to be stopped
}

var (
	errStarting = errors.New("starting")
	errStopping = errors.New("stopping")
)

// opened adds a part that is open already.
func (p *Process) opened(name string, stop func(context.Context) error) {
	p.parts = append(p.parts, part{name: name, stop: stop, runs: true})
}

// add adds a part that Start starts. stop is called only after start has succeeded.
func (p *Process) add(name string, start, stop func(context.Context) error) {
	p.parts = append(p.parts, part{name: name, start: start, stop: stop})
}

// abandon closes what a constructor had opened before it met err, and returns err.
func (p *Process) abandon(err error) error {
	return errors.Join(err, p.stopParts(context.Background()))
}

// fail ends Run with err: a part has ended by itself.
func (p *Process) fail(name string, err error) {
	select {
	case p.failures <- fmt.Errorf("%s: %w", name, err):
	default: // the first one counts
	}
}

// Start starts the parts in their order. When one cannot start, those before it are stopped again and its error is returned.
func (p *Process) Start(ctx context.Context) error {
	for i := range p.parts {
		part := &p.parts[i]
		if part.start == nil {
			continue
		}
		if err := part.start(ctx); err != nil {
			return errors.Join(fmt.Errorf("start %s: %w", part.name, err), p.Stop(context.WithoutCancel(ctx)))
		}
		part.runs = true
	}
	p.started.Store(true)
	return nil
}

// Stop stops the parts in the reverse order, within the grace time of the configuration. Only the first call does it;
// all calls return its outcome.
func (p *Process) Stop(ctx context.Context) error {
	p.stopOnce.Do(func() {
		p.stopping.Store(true)
		ctx, cancel := context.WithTimeout(ctx, p.grace)
		defer cancel()
		p.stopErr = p.stopParts(ctx)
	})
	return p.stopErr
}

func (p *Process) stopParts(ctx context.Context) error {
	var faults []error
	for i := len(p.parts) - 1; i >= 0; i-- {
		part := &p.parts[i]
		if !part.runs {
			continue
		}
		part.runs = false
		if err := part.stop(ctx); err != nil {
			faults = append(faults, fmt.Errorf("stop %s: %w", part.name, err))
		}
	}
	return errors.Join(faults...)
}

// Run starts the process, hands ready where it can be reached as soon as it serves, and stops it when ctx ends or a part of it
// fails. It returns nil after a stop that was asked for and that went well.
func (p *Process) Run(ctx context.Context, ready func(Runtime)) error {
	if err := p.Start(ctx); err != nil {
		return err
	}
	running, ended := context.WithCancel(ctx)
	var memory sync.WaitGroup
	memory.Go(func() { freeSpare(running) })
	memory.Go(func() { collectLess(running) })
	failure := p.serve(ctx, ready)
	ended()
	memory.Wait()
	if failure != nil {
		p.Logger.Error("stopping, because a part failed", "error", failure)
	} else {
		p.Logger.Info("stopping", "grace", p.grace)
	}
	err := errors.Join(failure, p.Stop(context.WithoutCancel(ctx)))
	p.Logger.Info("stopped")
	return err
}

const (
	readyPoll    = 10 * time.Millisecond
	readyWarning = 5 * time.Second // without being ready, and from then on as often
)

// serve returns nil when ctx ends, or the failure of a part.
func (p *Process) serve(ctx context.Context, ready func(Runtime)) error {
	poll := time.NewTicker(readyPoll)
	defer poll.Stop()
	warned := time.Now()
	for told := false; ; {
		select {
		case <-ctx.Done():
			return nil
		case err := <-p.failures:
			return err
		case <-poll.C:
		}
		switch err := p.Ready(); {
		case told:
		case err == nil:
			told = true
			poll.Stop()
			if err := p.announce(ready); err != nil {
				return err
			}
		case time.Since(warned) > readyWarning:
			warned = time.Now()
			p.Logger.Warn("not ready yet", "reason", err)
		}
	}
}

// announce tells where the process can be reached: commands on this machine, and whoever started it.
func (p *Process) announce(ready func(Runtime)) error {
	p.mu.Lock()
	p.announced = true
	err := p.writeRuntimeLocked()
	p.mu.Unlock()
	if err != nil {
		return err
	}
	p.Logger.Info("serving", "role", p.role)
	ready(p.Runtime())
	return nil
}

func (p *Process) writeRuntimeLocked() error {
	if p.dir == nil || !p.announced {
		return nil
	}
	return p.dir.writeRuntime(p.runtime)
}

// Runtime is where the process can be reached. It is complete once Start has returned.
func (p *Process) Runtime() Runtime {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.runtime
}

// Reload takes the account systems from the settings that load returns; all others wait for a new start. When they are wrong
// nothing changes. What comes of it is logged. Only one call at a time.
func (p *Process) Reload(ctx context.Context, load func() (Config, error)) {
	if p.reload == nil {
		p.Logger.Info("asked to read the settings again: nothing of them can change in a running process of this role", "role", p.role)
		return
	}
	cfg, err := load()
	if err == nil {
		err = cfg.Validate(p.role)
	}
	if err == nil {
		err = p.reload(ctx, cfg)
	}
	if err != nil {
		p.Logger.Error("the new settings are refused: the domains stay as they were", "error", err)
		return
	}
	p.Logger.Info("the domains have been read again", "domains", slices.Sorted(maps.Keys(cfg.Domains)), "topics", topics(cfg.Domains))
}

// Ready is nil while the process serves; otherwise it says why not.
func (p *Process) Ready() error {
	switch {
	case p.stopping.Load():
		return errStopping
	case !p.started.Load():
		return errStarting
	}
	return p.ready()
}
