package logic

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/gatepost/gatepost/store"
)

// leaseKeeper holds the node number that message ids are made under. While it has none, or the clock is off, the node is not ready
// and takes no messages; everything else goes on.
type leaseKeeper struct {
	node  *Node
	owner string

	// clockRight: the database agreed with this node's clock when it was asked last. False until it was.
	clockRight atomic.Bool

	// owned by run, and by Stop once run has returned
	lease store.NodeLease
	held  bool
	tries int
}

const maxLeaseWait = 5 * time.Second

// run keeps the lease until ctx ends. The first try was made by Start.
func (k *leaseKeeper) run(ctx context.Context) {
	for {
		wait := k.node.cfg.NodeRenew
		if !k.held || k.tries > 0 {
			wait = min(firstHintWait<<min(k.tries, 10), maxLeaseWait)
			wait = wait/2 + rand.N(wait/2+1)
			if k.held {
				wait = min(wait, k.node.cfg.NodeRenew)
			}
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		k.step(ctx)
	}
}

// step leases a number or prolongs the lease.
func (k *leaseKeeper) step(ctx context.Context) {
	n := k.node
	ctx, cancel := context.WithTimeout(ctx, n.cfg.CommitTimeout)
	defer cancel()
	fresh := !k.held
	var l store.NodeLease
	var err error
	if fresh {
		l, err = n.nodes.Lease(ctx, k.owner, n.now(), n.cfg.MaxSkew, n.cfg.NodeTTL, n.cfg.NodeAhead)
	} else {
		l, err = n.nodes.Renew(ctx, k.lease, n.now(), n.cfg.MaxSkew, n.cfg.NodeTTL, n.cfg.NodeAhead)
	}
	switch {
	case err == nil:
		k.clockRight.Store(true)
		k.lease, k.held, k.tries = l, true, 0
		n.ids.grant(l, fresh)
		if fresh {
			n.logger.Info("node number leased", slog.Int("number", int(l.Number)), slog.Time("high_water", l.HighWater))
		}
		return
	case errors.Is(err, store.ErrClockSkew):
		k.clockRight.Store(false)
		n.ids.suspend()
		n.logger.Error("this node's clock is off: it takes no messages", slog.Any("error", err))
	case errors.Is(err, store.ErrLeaseLost):
		n.ids.suspend()
		k.held = false
		n.logger.Warn("the node number was lost, another one is taken", slog.Int("number", int(k.lease.Number)), slog.Any("error", err))
	default:
		// ids go on up to the high-water mark: nobody else makes them
		n.logger.Warn("the node number could not be leased or renewed", slog.Bool("held", k.held), slog.Any("error", err))
	}
	k.tries++
}

// serverTimeMS is the time that clients are told: 0 while nobody has said that this node's clock is right. A client that took a wrong
// one for true would give up messages that are young.
func (n *Node) serverTimeMS() int64 {
	if !n.lease.clockRight.Load() {
		return 0
	}
	return n.now().UnixMilli()
}

// release gives the number back.
func (k *leaseKeeper) release(ctx context.Context) error {
	k.node.ids.suspend()
	if !k.held {
		return nil
	}
	k.held = false
	return k.node.nodes.Release(ctx, k.lease)
}
