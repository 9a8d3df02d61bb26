package logic

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gatepost/gatepost/idl/gen/logicpb"
	"github.com/gatepost/gatepost/idl/status"
)

// Deps is what a node needs of the rooms around it. The ports are required.
type Deps struct {
	Inbox    Inbox
	Devices  Devices
	Nodes    Nodes
	Sweeper  Sweeper
	Presence Presence
	Leases   Leases
	Gates    Gates

	// Uplinks carries reports and events to Kafka. nil: reports are refused, events are not made.
	Uplinks Uplinks

	Domains Domains // until SetDomains replaces them
	AppKeys AppKeys // nil: the service for app-servers is unavailable

	Logger  *slog.Logger          // nil: discards
	Metrics prometheus.Registerer // nil: none
	Now     func() time.Time      // nil: time.Now
}

// Node is one logic node. Handle, Beat and Sessions are safe for concurrent use between Start and the end of Stop.
type Node struct {
	// fixed after New
	cfg      Config
	inbox    Inbox
	devices  Devices
	nodes    Nodes
	sweeper  Sweeper
	presence Presence
	leases   Leases
	reach    Gates
	uplinks  Uplinks // nil: none
	logger   *slog.Logger
	registry prometheus.Registerer
	now      func() time.Time
	epoch    uint64 // names this run of this process
	owner    string // names it in leases

	settingDomains sync.Mutex // only one change of accounts at a time
	accounts       atomic.Pointer[accounts]

	metrics  *metrics
	ids      *idMaker
	sessions sessionClock
	reads    slots
	bound    *inboxBound
	vet      *vetter
	commit   *committer
	confirms *confirmer
	delivery *deliverer
	keys     *appKeys
	pushes   pushBudget
	hints    *hints
	senders  *senders
	gates    *gateTable
	events   *events
	unroute  *lane[wrongRoute]
	lease    *leaseKeeper

	calls    callGate
	stopping atomic.Bool

	mu       sync.Mutex
	started  bool
	stopped  bool
	spawn    func(run func(ctx context.Context)) // in a goroutine that Stop waits for
	loops    sync.WaitGroup                      // leases, hints, sweeps: end when endLoops is called
	workers  sync.WaitGroup                      // lanes and senders: end when they are drained
	endLoops context.CancelFunc
	abort    context.CancelFunc // cuts the calls of lanes off
}

var _ logicpb.LogicService = (*Node)(nil)

// New builds a node, which does nothing before Start.
func New(cfg Config, deps Deps) (*Node, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if err := deps.check(); err != nil {
		return nil, err
	}
	var epoch [8]byte
	var owner [16]byte
	rand.Read(epoch[:]) // never fails: crypto/rand
	rand.Read(owner[:])
	n := &Node{
		cfg: cfg, inbox: deps.Inbox, devices: deps.Devices, nodes: deps.Nodes, sweeper: deps.Sweeper, presence: deps.Presence,
		leases: deps.Leases, uplinks: deps.Uplinks,
		logger: deps.Logger, registry: deps.Metrics, now: deps.Now,
		epoch: binary.BigEndian.Uint64(epoch[:]) | 1, owner: hex.EncodeToString(owner[:]),
		reads: make(slots, cfg.ReadConcurrency),
	}
	if err := n.SetDomains(deps.Domains); err != nil {
		return nil, err
	}
	if n.logger == nil {
		n.logger = slog.New(slog.DiscardHandler)
	}
	if n.now == nil {
		n.now = time.Now
	}
	n.ids = &idMaker{now: n.now}
	n.metrics = newMetrics(n.Ready)
	n.reach = &reachedGates{node: n, gates: deps.Gates}
	n.bound = newInboxBound(n)
	n.vet = newVetter(n)
	n.commit = newCommitter(n)
	n.confirms = newConfirmer(n)
	n.delivery = newDeliverer(n)
	n.keys = newAppKeys(n, deps.AppKeys)
	n.hints = newHints(n)
	n.senders = newSenders(n)
	n.gates = newGateTable(n)
	n.events = &events{node: n}
	n.unroute = newLane[wrongRoute](cfg.DeliveryQueue, 256, 0, nil, n.metrics.depth(laneUnroute))
	n.lease = &leaseKeeper{node: n, owner: n.owner}
	return n, nil
}

func (d Deps) check() error {
	var faults []error
	for _, p := range []struct {
		name    string
		missing bool
	}{
		{"Inbox", d.Inbox == nil}, {"Devices", d.Devices == nil}, {"Nodes", d.Nodes == nil}, {"Sweeper", d.Sweeper == nil},
		{"Presence", d.Presence == nil}, {"Leases", d.Leases == nil}, {"Gates", d.Gates == nil},
	} {
		if p.missing {
			faults = append(faults, fmt.Errorf("logic: no %s was given", p.name))
		}
	}
	return errors.Join(faults...)
}

// Start begins to serve. It tries once to lease a node number; while there is none (the database is away, the clock is off) the
// node runs, is not ready, and goes on trying. ctx bounds Start alone.
func (n *Node) Start(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.started || n.stopped {
		return errors.New("logic: a node starts once")
	}
	if err := n.metrics.register(n.registry); err != nil {
		return err
	}
	n.started = true
	life := context.WithoutCancel(ctx)
	workCtx, abort := context.WithCancel(life)
	loopCtx, endLoops := context.WithCancel(life)
	n.abort, n.endLoops = abort, endLoops
	n.spawn = func(run func(context.Context)) { n.workers.Go(func() { run(workCtx) }) }

	n.lease.step(ctx)
	for _, l := range n.delivery.lanes {
		work(n, l, n.delivery.carry, n.delivery.lost)
	}
	for _, l := range n.commit.lanes {
		work(n, l, n.commit.carry, n.commit.lost)
	}
	for _, l := range n.confirms.lanes {
		work(n, l, n.confirms.carry, n.confirms.lost)
	}
	work(n, n.bound.due, n.bound.carry, n.bound.lost)
	work(n, n.vet.known.asks, n.vet.known.carry, n.vet.known.lost)
	work(n, n.vet.repeats.asks, n.vet.repeats.carry, nil) // it recovers itself
	work(n, n.unroute, n.unrouteCarry, nil)
	n.loops.Go(func() { n.lease.run(loopCtx) })
	n.loops.Go(func() { n.hints.run(loopCtx) })
	n.loops.Go(func() { n.gates.run(loopCtx) })
	if n.cfg.SweepEvery > 0 {
		n.loops.Go(func() { n.sweepLoop(loopCtx) })
	}
	return nil
}

// work runs a lane. lost is as for guarded.
func work[T any](n *Node, l *lane[T], carry func(context.Context, []T), lost func([]T)) {
	n.spawn(func(ctx context.Context) { l.run(ctx, guarded(n, carry, lost)) })
}

var errOutcomeUnknown = status.New(status.Timeout, "the outcome is not known")

// guarded lets a panic cost its batch alone. lost then gives each item of it that has no outcome one, so that nothing waits for it
// or counts it for ever; nil: nobody does.
func guarded[T any](n *Node, carry func(context.Context, []T), lost func([]T)) func(context.Context, []T) {
	return func(ctx context.Context, batch []T) {
		defer func() {
			if p := recover(); p != nil {
				n.metrics.panics.Inc()
				n.logger.Error("panic in a lane", slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
				if lost != nil {
					lost(batch)
				}
			}
		}()
		carry(ctx, batch)
	}
}

// Ready reports whether the node takes messages: it has a node number with ids left, its clock is right, and it is not stopping.
func (n *Node) Ready() bool { return !n.stopping.Load() && n.ids.ready() }

// Stop ends the node in the order that loses nothing: it tells the gates in their heartbeats and lets them go elsewhere, finishes the
// calls in flight, commits and delivers what waits, and gives its node number back. When ctx ends first, what is in flight is cut
// off and its error is returned. It may be called more than once; only the first call does anything.
func (n *Node) Stop(ctx context.Context) error {
	n.mu.Lock()
	first := n.started && !n.stopped
	n.stopped = true
	n.mu.Unlock()
	if !first {
		return nil
	}
	release := context.AfterFunc(ctx, n.abort)
	defer release()
	n.stopping.Store(true)
	n.dropLease(ctx)
	n.awaitTold(ctx)
	err := n.calls.close(ctx)
	n.drain(ctx)
	n.endLoops()
	n.loops.Wait()
	n.abort()

	releaseCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), n.cfg.PresenceTimeout)
	defer cancel()
	if releaseErr := n.lease.release(releaseCtx); releaseErr != nil {
		n.logger.Warn("the node number could not be given back", slog.Any("error", releaseErr))
	}
	n.metrics.unregister(n.registry)
	return err
}

// dropLease takes this node out of the presence table.
func (n *Node) dropLease(ctx context.Context) {
	if n.cfg.RPCAddress == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, n.cfg.PresenceTimeout)
	defer cancel()
	if err := n.leases.DropLogic(ctx, n.epoch); err != nil {
		n.logger.Debug("this node's lease could not be dropped", slog.Any("error", err))
	}
}

// awaitTold serves on until each gate has heard that this node is stopping, for StopGrace at most.
func (n *Node) awaitTold(ctx context.Context) {
	end := time.Now().Add(n.cfg.StopGrace)
	for time.Now().Before(end) && !n.gates.allTold() {
		if !rest(ctx, 10*time.Millisecond) {
			return
		}
	}
}

// drain empties the lanes in the order of the way of a message.
func (n *Node) drain(ctx context.Context) {
	n.vet.drain()
	for _, l := range n.commit.lanes {
		l.close()
	}
	n.bound.due.close()
	await(n.commit.lanes...)
	for _, l := range n.confirms.lanes { // after the commits: they confirm copies
		l.close()
	}
	await(n.confirms.lanes...)
	await(n.bound.due)
	for _, l := range n.delivery.lanes {
		l.close()
	}
	await(n.delivery.lanes...)
	n.senders.drain()
	n.hints.farewell(ctx)
	n.unroute.close()
	n.workers.Wait()
}

func await[T any](lanes ...*lane[T]) {
	for _, l := range lanes {
		<-l.finished
	}
}
