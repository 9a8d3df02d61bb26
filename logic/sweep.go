package logic

import (
	"context"
	"log/slog"
	"time"

	"github.com/gatepost/gatepost/store"
)

// sweepLease names the lease under which one node at a time removes what has expired.
const sweepLease = "sweep"

// retireRows bounds one step of retiring idle device classes.
const retireRows = 500

// sweepLoop walks the inbox from time to time, in bounded steps with a rest after each, and retires device classes that were away
// for too long.
func (n *Node) sweepLoop(ctx context.Context) {
	for rest(ctx, n.cfg.SweepEvery) {
		if err := n.sweepOnce(ctx); err != nil && ctx.Err() == nil {
			n.logger.Warn("the sweep was given up for now", slog.Any("error", err))
		}
	}
}

// sweepOnce does one whole walk, if this node gets the lease, and keeps it. What has expired is told by this node's clock, so it ends
// where that is off or cannot be checked: whether ids may be made says so.
func (n *Node) sweepOnce(ctx context.Context) error {
	ttl := max(n.cfg.SweepEvery, 2*n.cfg.CommitTimeout+n.cfg.SweepPause)
	var leasedAt time.Time
	mine := func() (bool, error) {
		if !n.ids.ready() {
			return false, nil
		}
		if !leasedAt.IsZero() && time.Since(leasedAt) < ttl/3 {
			return true, nil
		}
		at := time.Now()
		ok, err := bounded(ctx, n.cfg.CommitTimeout, func(ctx context.Context) (bool, error) {
			return n.sweeper.TryLease(ctx, sweepLease, n.owner, ttl)
		})
		leasedAt = at
		return ok, err
	}
	var after store.MsgID
	for {
		if ok, err := mine(); err != nil || !ok {
			return err
		}
		type step struct {
			next    store.MsgID
			removed int
		}
		s, err := bounded(ctx, n.cfg.CommitTimeout, func(ctx context.Context) (s step, err error) {
			s.next, s.removed, err = n.sweeper.Sweep(ctx, after, n.cfg.SweepRows, n.now())
			return s, err
		})
		if err != nil {
			return err
		}
		n.metrics.swept.Add(float64(s.removed))
		if after = s.next; after == 0 {
			break
		}
		if !rest(ctx, n.cfg.SweepPause) {
			return ctx.Err()
		}
	}
	for {
		if ok, err := mine(); err != nil || !ok {
			return err
		}
		retired, err := bounded(ctx, n.cfg.CommitTimeout, func(ctx context.Context) (int, error) {
			return n.sweeper.RetireIdle(ctx, n.now().Add(-n.cfg.IdleRetire), retireRows)
		})
		n.metrics.retiredIdle.Add(float64(retired))
		if err != nil || retired < retireRows {
			return err
		}
		if !rest(ctx, n.cfg.SweepPause) {
			return ctx.Err()
		}
	}
}

// bounded runs do within a time limit.
func bounded[T any](ctx context.Context, limit time.Duration, do func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return do(ctx)
}

// rest waits for d; false: ctx ended.
func rest(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
