package redis

import (
	"cmp"
	"context"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/gatepost/gatepost/store"
)

// leaseKeep is how long the keys of the leases outlive the last beat.
const leaseKeep = 24 * time.Hour

// replidInterval is how often one process looks whether another server has taken over.
const replidInterval = time.Second

// BeatGate writes a gate's lease, begins a new presence epoch when the table was emptied or another server took over, and returns the epoch.
// In a cluster the server that holds the leases is looked at; what another shard loses is put back by the gates' walk.
func (p *Presence) BeatGate(ctx context.Context, g store.Gate, ttl time.Duration) (epoch uint64, err error) {
	record, err := json.Marshal(g)
	if err != nil {
		return 0, err
	}
	look := 0
	p.mu.Lock()
	if now := time.Now(); now.Sub(p.lookedAt) >= replidInterval {
		look, p.lookedAt = 1, now
	}
	p.mu.Unlock()
	answer, err := beatScript.Run(ctx, p.client, append(p.keys.gates(), p.keys.epoch()),
		strconv.FormatUint(g.Epoch, 10), record, ttl.Milliseconds(), leaseKeep.Milliseconds(), 1+rand.Uint64N(maxExact), look).Text()
	if err != nil {
		return 0, unavailable("beat", err)
	}
	epoch, err = strconv.ParseUint(answer, 10, 64)
	return epoch, unavailable("beat", err)
}

// DropGate gives a gate's lease up.
func (p *Presence) DropGate(ctx context.Context, epoch uint64) error {
	return p.drop(ctx, p.keys.gates(), epoch)
}

// Gates returns the gates whose leases have not run out, by epoch.
func (p *Presence) Gates(ctx context.Context) ([]store.Gate, error) {
	gates, err := list[store.Gate](ctx, p.client, p.keys.gates())
	slices.SortFunc(gates, func(a, b store.Gate) int { return cmp.Compare(a.Epoch, b.Epoch) })
	return gates, unavailable("list gates", err)
}

// BeatLogic writes a logic node's lease.
func (p *Presence) BeatLogic(ctx context.Context, n store.LogicNode, ttl time.Duration) error {
	record, err := json.Marshal(n)
	if err != nil {
		return err
	}
	err = beatScript.Run(ctx, p.client, p.keys.nodes(), strconv.FormatUint(n.Epoch, 10), record, ttl.Milliseconds(), leaseKeep.Milliseconds()).Err()
	return unavailable("beat", err)
}

// DropLogic gives a logic node's lease up.
func (p *Presence) DropLogic(ctx context.Context, epoch uint64) error {
	return p.drop(ctx, p.keys.nodes(), epoch)
}

// LogicNodes returns the logic nodes whose leases have not run out, by epoch.
func (p *Presence) LogicNodes(ctx context.Context) ([]store.LogicNode, error) {
	nodes, err := list[store.LogicNode](ctx, p.client, p.keys.nodes())
	slices.SortFunc(nodes, func(a, b store.LogicNode) int { return cmp.Compare(a.Epoch, b.Epoch) })
	return nodes, unavailable("list logic nodes", err)
}

func (p *Presence) drop(ctx context.Context, keys []string, epoch uint64) error {
	return unavailable("drop a lease", dropScript.Run(ctx, p.client, keys, strconv.FormatUint(epoch, 10)).Err())
}

func list[T any](ctx context.Context, client goredis.UniversalClient, keys []string) ([]T, error) {
	records, err := listScript.Run(ctx, client, keys).StringSlice()
	if err != nil {
		return nil, err
	}
	items := make([]T, len(records))
	for i, r := range records {
		if err := json.Unmarshal([]byte(r), &items[i]); err != nil {
			return nil, err
		}
	}
	return items, nil
}
