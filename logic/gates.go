package logic

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/gatepost/gatepost/store"
)

// gateTable knows the live gates: those that beat this node within the lease's time to live, and those with a lease in the presence
// table. Every gate beats every logic node, so the first half suffices when the table is away.
type gateTable struct {
	node *Node

	mu         sync.Mutex
	heard      map[uint64]heardGate
	leased     map[uint64]store.Gate
	logicNodes []string
	read       time.Time // when the leases were last asked for
	epoch      uint64    // of the presence table, as the last heartbeat learnt it; 0: unknown
}

type heardGate struct {
	gate store.Gate
	at   time.Time
	told bool // that this node is stopping
}

// findAnew is how old the leases may be when a route names a gate that is not known: it may have just come.
const findAnew = 100 * time.Millisecond

func newGateTable(n *Node) *gateTable {
	return &gateTable{node: n, heard: make(map[uint64]heardGate), leased: make(map[uint64]store.Gate)}
}

// hear notes a heartbeat. told: its answer says that this node is stopping.
func (t *gateTable) hear(g store.Gate, told bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.heard[g.Epoch] = heardGate{gate: g, at: time.Now(), told: told}
}

// live returns the gates that are alive, each once, what was heard before what was read.
func (t *gateTable) live() []store.Gate {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forgetLocked()
	gates := make([]store.Gate, 0, len(t.heard)+len(t.leased))
	for _, h := range t.heard {
		gates = append(gates, h.gate)
	}
	for epoch, g := range t.leased {
		if _, ok := t.heard[epoch]; !ok {
			gates = append(gates, g)
		}
	}
	return gates
}

// find returns the live gate of an epoch. For one that is not known the leases are read again, unless that was just done.
func (t *gateTable) find(ctx context.Context, epoch uint64) (store.Gate, bool) {
	g, ok, fresh := t.lookUp(epoch)
	if ok || fresh {
		return g, ok
	}
	t.refresh(ctx)
	g, ok, _ = t.lookUp(epoch)
	return g, ok
}

func (t *gateTable) lookUp(epoch uint64) (g store.Gate, ok, fresh bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if h, ok := t.heard[epoch]; ok && time.Since(h.at) <= t.node.cfg.LeaseTTL {
		return h.gate, true, true
	}
	age := time.Since(t.read)
	if g, ok = t.leased[epoch]; ok && age <= t.node.cfg.LeaseTTL {
		return g, true, true
	}
	return store.Gate{}, false, age < findAnew
}

// forgetLocked drops what has not been heard of within the lease's time to live.
func (t *gateTable) forgetLocked() {
	now := time.Now()
	maps.DeleteFunc(t.heard, func(_ uint64, h heardGate) bool { return now.Sub(h.at) > t.node.cfg.LeaseTTL })
	if now.Sub(t.read) > t.node.cfg.LeaseTTL {
		clear(t.leased)
	}
}

// refresh reads the leases of gates and logic nodes. What cannot be read stays as it was until it is too old.
func (t *gateTable) refresh(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, t.node.cfg.PresenceTimeout)
	defer cancel()
	gates, err := t.node.leases.Gates(ctx)
	if err != nil {
		t.node.logger.Debug("the leases of the gates could not be read", slog.Any("error", err))
		return
	}
	nodes, err := t.node.leases.LogicNodes(ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.read = time.Now()
	clear(t.leased)
	for _, g := range gates {
		t.leased[g.Epoch] = g
	}
	if err == nil {
		t.logicNodes = t.logicNodes[:0]
		for _, n := range nodes {
			t.logicNodes = append(t.logicNodes, n.RPCAddress)
		}
	}
}

// run keeps the leases fresh, this node's own among them, until ctx ends.
func (t *gateTable) run(ctx context.Context) {
	tick := time.NewTicker(t.node.cfg.LeaseRefresh)
	defer tick.Stop()
	for {
		t.beatOwn(ctx)
		t.refresh(ctx)
		t.node.senders.retain(t.alive)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// alive reports whether the gate of an epoch is known, without asking anybody.
func (t *gateTable) alive(epoch uint64) bool {
	_, ok, _ := t.lookUp(epoch)
	return ok
}

func (t *gateTable) beatOwn(ctx context.Context) {
	if t.node.cfg.RPCAddress == "" || t.node.stopping.Load() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, t.node.cfg.PresenceTimeout)
	defer cancel()
	err := t.node.leases.BeatLogic(ctx, store.LogicNode{Epoch: t.node.epoch, RPCAddress: t.node.cfg.RPCAddress}, t.node.cfg.LeaseTTL)
	if err != nil {
		t.node.logger.Debug("this node's lease could not be written", slog.Any("error", err))
	}
}

// addresses are the logic nodes with a lease.
func (t *gateTable) addresses() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.logicNodes)
}

// learnEpoch notes the presence epoch, 0 when the table is away.
func (t *gateTable) learnEpoch(epoch uint64) {
	t.mu.Lock()
	t.epoch = epoch
	t.mu.Unlock()
}

func (t *gateTable) presenceEpoch() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.epoch
}

// allTold reports whether each gate that beats this node has been told that it is stopping.
func (t *gateTable) allTold() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forgetLocked()
	for _, h := range t.heard {
		if !h.told {
			return false
		}
	}
	return true
}
