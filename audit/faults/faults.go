package faults

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/gatepost/gatepost/audit"
	"github.com/gatepost/gatepost/audit/platform"
	gatepost "github.com/gatepost/gatepost/sdk/go"
)

// fault is an audit.Fault made of a function.
type fault struct {
	name   string
	strike func(ctx context.Context, rng *rand.Rand) (victim string, err error)
}

func (f fault) Name() string { return f.name }

func (f fault) Strike(ctx context.Context, rng *rand.Rand) (string, error) { return f.strike(ctx, rng) }

// one draws one of procs.
func one(procs []*platform.Process, rng *rand.Rand) *platform.Process {
	return procs[rng.IntN(len(procs))]
}

// between draws a time.
func between(rng *rand.Rand, from, to time.Duration) time.Duration {
	return from + time.Duration(rng.Int64N(int64(to-from)))
}

// wait lets the damage last.
func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// Kill kills one of procs without a word, and starts it again up to a second later. name is what they are: gate, logic node, platform.
func Kill(name string, procs []*platform.Process) audit.Fault {
	return fault{"kill -9 of a " + name, func(ctx context.Context, rng *rand.Rand) (string, error) {
		proc := one(procs, rng)
		if err := proc.Kill(); err != nil {
			return proc.Name(), err
		}
		wait(ctx, between(rng, 0, time.Second))
		return proc.Name(), proc.Start(ctx)
	}}
}

// Stop stops one of procs in order, and starts it again.
func Stop(name string, procs []*platform.Process) audit.Fault {
	return fault{"stop of a " + name, func(ctx context.Context, rng *rand.Rand) (string, error) {
		proc := one(procs, rng)
		if err := proc.Stop(); err != nil {
			return proc.Name(), err
		}
		return proc.Name(), proc.Start(ctx)
	}}
}

// Freeze freezes one of procs for a time between from and to: its connections stay open and nothing answers.
func Freeze(name string, procs []*platform.Process, from, to time.Duration) audit.Fault {
	return fault{"freezing a " + name, func(ctx context.Context, rng *rand.Rand) (string, error) {
		proc := one(procs, rng)
		if err := proc.Pause(); err != nil {
			return proc.Name(), err
		}
		wait(ctx, between(rng, from, to))
		return proc.Name(), proc.Resume()
	}}
}

// KillServer kills a server below the platform, one of the kinds of package platform, and brings it back up to two seconds later with what it
// had on disk: all of a database and of Kafka, nothing of Redis.
func KillServer(b *platform.Backing, kind string) audit.Fault {
	return fault{"kill -9 of " + kind, func(ctx context.Context, rng *rand.Rand) (string, error) {
		whole := context.WithoutCancel(ctx) // it is not ours: a run that is broken off leaves it as it was
		if err := b.Kill(whole, kind); err != nil {
			return "", err
		}
		wait(ctx, between(rng, 0, 2*time.Second))
		return "", b.Start(whole, kind)
	}}
}

// FreezeServer freezes a server below the platform for a time between from and to.
func FreezeServer(b *platform.Backing, kind string, from, to time.Duration) audit.Fault {
	return fault{"freezing " + kind, func(ctx context.Context, rng *rand.Rand) (string, error) {
		if err := b.Pause(kind); err != nil {
			return "", err
		}
		wait(ctx, between(rng, from, to))
		return "", b.Resume(kind)
	}}
}

// All is everything that can go wrong with a platform that was started here, and with what lies below and before it. Freezes last longer
// than a heartbeat may take. b and n may be nil.
func All(p *platform.Platform, b *platform.Backing, n *Network) []audit.Fault {
	const from, to = 3 * time.Second, 6 * time.Second
	var out []audit.Fault
	node := func(name string, procs []*platform.Process) {
		out = append(out, Kill(name, procs), Stop(name, procs), Freeze(name, procs, from, to))
	}
	if len(p.Logic) == 0 {
		node("platform", p.Gates)
	} else {
		node("gate", p.Gates)
		node("logic node", p.Logic)
	}
	if n != nil {
		out = append(out, n.Fault())
	}
	if b != nil {
		for _, kind := range []string{platform.MariaDB, platform.Redis, platform.Kafka} {
			if b.Owns(kind) {
				out = append(out, KillServer(b, kind), FreezeServer(b, kind, time.Second, 4*time.Second))
			}
		}
	}
	return out
}

// Timing are the waits of clients that meet a fault every few seconds: with those of an app, most of a short run would be waiting.
func Timing() gatepost.Timing {
	return gatepost.Timing{
		Dial: 3 * time.Second, Login: 6 * time.Second, Request: 6 * time.Second,
		BackoffBase: 50 * time.Millisecond, BackoffCap: time.Second, JumpPullEvery: 100 * time.Millisecond,
	}
}
