package memory

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/gatepost/gatepost/store"
)

// lease is a record that lives until a time.
type lease[T any] struct {
	record T
	until  time.Time
}

// BeatGate writes a gate's lease, begins a new presence epoch when the table has none, and returns the epoch.
func (p *Presence) BeatGate(ctx context.Context, g store.Gate, ttl time.Duration) (epoch uint64, err error) {
	if err := check(ctx, "beat"); err != nil {
		return 0, err
	}
	g.ClientAddresses = slices.Clone(g.ClientAddresses)
	p.mu.Lock()
	defer p.mu.Unlock()
	beat(p.gates, g.Epoch, g, p.cfg.Now(), ttl)
	if p.epoch == 0 {
		p.newEpochLocked()
	}
	return p.epoch, nil
}

// DropGate gives a gate's lease up.
func (p *Presence) DropGate(ctx context.Context, epoch uint64) error {
	if err := check(ctx, "drop a lease"); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.gates, epoch)
	return nil
}

// Gates returns the gates whose leases have not run out, by epoch.
func (p *Presence) Gates(ctx context.Context) ([]store.Gate, error) {
	if err := check(ctx, "list gates"); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	gates := live(p.gates, p.cfg.Now())
	for i := range gates {
		gates[i].ClientAddresses = slices.Clone(gates[i].ClientAddresses)
	}
	return gates, nil
}

// BeatLogic writes a logic node's lease.
func (p *Presence) BeatLogic(ctx context.Context, n store.LogicNode, ttl time.Duration) error {
	if err := check(ctx, "beat"); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	beat(p.nodes, n.Epoch, n, p.cfg.Now(), ttl)
	return nil
}

// DropLogic gives a logic node's lease up.
func (p *Presence) DropLogic(ctx context.Context, epoch uint64) error {
	if err := check(ctx, "drop a lease"); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.nodes, epoch)
	return nil
}

// LogicNodes returns the logic nodes whose leases have not run out, by epoch.
func (p *Presence) LogicNodes(ctx context.Context) ([]store.LogicNode, error) {
	if err := check(ctx, "list logic nodes"); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return live(p.nodes, p.cfg.Now()), nil
}

// beat writes a lease and removes those that ran out.
func beat[T any](leases map[uint64]lease[T], epoch uint64, record T, now time.Time, ttl time.Duration) {
	maps.DeleteFunc(leases, func(_ uint64, l lease[T]) bool { return !now.Before(l.until) })
	leases[epoch] = lease[T]{record, now.Add(ttl)}
}

func live[T any](leases map[uint64]lease[T], now time.Time) []T {
	var records []T
	for _, epoch := range slices.SortedFunc(maps.Keys(leases), cmp.Compare) {
		if l := leases[epoch]; now.Before(l.until) {
			records = append(records, l.record)
		}
	}
	return records
}
