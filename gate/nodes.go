package gate

import (
	"cmp"
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatepost/gatepost/idl/gen/logicpb"
	"github.com/gatepost/gatepost/idl/status"
)

// Logic is a logic node as a gate uses it; it is the service of logic.proto. Implementations are safe for concurrent use, return
// soon after ctx has ended, and keep no byte of a request after they have returned without an error. A timeout is an error that
// wraps context.DeadlineExceeded, a refusal a *status.Error; any other error means that the node cannot be reached.
type Logic interface {
	Handle(ctx context.Context, req *logicpb.HandleRequest) (*logicpb.HandleResponse, error)
	Beat(ctx context.Context, req *logicpb.BeatRequest) (*logicpb.BeatResponse, error)
	Sessions(ctx context.Context, req *logicpb.SessionsRequest) (*logicpb.SessionsResponse, error)
}

// nodeState is what a gate thinks of a logic node, and a label.
type nodeState string

const (
	nodeUnknown  nodeState = "unknown" // not heard of yet
	nodeReady    nodeState = "ready"
	nodeNotReady nodeState = "not ready" // takes no messages, but logins and requests
	nodeStopping nodeState = "stopping"  // finishes what it has
	nodeDead     nodeState = "dead"
)

// node is a logic node.
type node struct {
	address string
	static  bool
	logic   Logic         // set before the node can be picked
	poke    chan struct{} // of size 1: beat now

	// owned by the beating goroutine
	misses int

	// guarded by nodes.mu
	state  nodeState
	epoch  uint64    // of the process that answered last; 0: none, or its death is known
	known  uint64    // of the process that answered last, dead or not
	heard  time.Time // when it did
	listed time.Time // when another node named it last
	told   bool      // it answered a beat that said that this gate drains
}

// probe has the node beaten at once.
func (n *node) probe() {
	select {
	case n.poke <- struct{}{}:
	default:
	}
}

// maxNodes bounds what is learnt.
const maxNodes = 256

// nodes is the set of logic nodes: the configured ones and those that they name. A goroutine for each beats it.
type nodes struct {
	g    *Gate
	view atomic.Pointer[nodeView]

	mu        sync.Mutex
	byAddress map[string]*node
}

// nodeView is what lanes pick from; it does not change. Each process stands in it once, whatever the number of its addresses.
type nodeView struct {
	ready []*node // take everything
	alive []*node // ready ones and those that are not: for what needs no message store
}

func newNodes(g *Gate) *nodes {
	ns := &nodes{g: g, byAddress: make(map[string]*node)}
	ns.view.Store(&nodeView{})
	return ns
}

// pick returns the node for the i-th lane; nil when there is none. Ordered lanes carry messages and need a ready node;
// others make do with one that is alive.
func (ns *nodes) pick(i int, ordered bool) *node {
	v := ns.view.Load()
	set := v.ready
	if len(set) == 0 && !ordered {
		set = v.alive
	}
	if len(set) == 0 {
		return nil
	}
	return set[i%len(set)]
}

// ready reports whether messages can be taken.
func (ns *nodes) ready() bool { return len(ns.view.Load().ready) > 0 }

// learn adds the nodes at addresses that are not known yet, and begins to beat them.
func (ns *nodes) learn(addresses []string, static bool) {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	for _, a := range addresses {
		if n := ns.byAddress[a]; n != nil {
			n.listed = time.Now()
			continue
		}
		if a == "" || len(ns.byAddress) >= maxNodes || ns.g.beats.Err() != nil {
			continue
		}
		n := &node{address: a, static: static, poke: make(chan struct{}, 1), state: nodeUnknown, listed: time.Now()}
		ns.byAddress[a] = n
		ns.g.beatsWG.Go(func() { ns.keep(n) })
	}
}

// keep beats one node for as long as it is known.
func (ns *nodes) keep(n *node) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	defer func() {
		if c, ok := n.logic.(io.Closer); ok {
			c.Close()
		}
	}()
	for {
		select {
		case <-ns.g.beats.Done():
			return
		case <-n.poke:
		case <-timer.C:
		}
		ns.beat(n)
		if ns.forget(n) {
			return
		}
		timer.Reset(ns.g.cfg.BeatInterval)
	}
}

// beat tells a node about this gate and takes in what it says.
func (ns *nodes) beat(n *node) {
	if n.logic == nil {
		l, err := ns.g.deps.Dial(n.address)
		if err != nil {
			ns.missed(n, err)
			return
		}
		n.logic = l
	}
	ctx, cancel := context.WithTimeout(ns.g.beats, ns.g.cfg.BeatInterval)
	defer cancel()
	req := ns.g.beatRequest()
	resp, err := n.logic.Beat(ctx, req)
	if err != nil {
		if ns.g.beats.Err() == nil {
			ns.missed(n, err)
		}
		return
	}
	n.misses = 0
	ns.heard(n, req, resp)
}

// missed counts a beat without an answer.
func (ns *nodes) missed(n *node, err error) {
	var said *status.Error
	n.misses++
	if errors.Is(err, context.DeadlineExceeded) && n.misses < ns.g.cfg.MissedBeats {
		return
	}
	state := nodeDead
	if errors.As(err, &said) { // it lives, and refuses
		state = nodeNotReady
	}
	ns.mu.Lock()
	before := n.state
	n.state = state
	// A node that said that it stops leaves nothing behind. Any other may have died between a commit and its delivery.
	lost := state == nodeDead && n.epoch != 0 && before != nodeStopping
	if state == nodeDead {
		n.epoch = 0
	}
	ns.refreshLocked()
	ns.mu.Unlock()
	if before != state {
		ns.g.log.Warn("logic node lost", "address", n.address, "state", string(state), "error", err)
	}
	if lost {
		ns.g.spreader.begin()
	}
}

// heard takes in the answer to a beat.
func (ns *nodes) heard(n *node, req *logicpb.BeatRequest, resp *logicpb.BeatResponse) {
	state := nodeNotReady
	switch {
	case resp.Stopping:
		state = nodeStopping
	case resp.Ready:
		state = nodeReady
	}
	ns.mu.Lock()
	before := n.state
	n.state = state
	lost := n.epoch != 0 && n.epoch != resp.LogicEpoch && before != nodeStopping
	away := n.known == resp.LogicEpoch && time.Since(n.heard) > ns.forgetsAfter() && before != nodeStopping
	n.epoch, n.known, n.heard = resp.LogicEpoch, resp.LogicEpoch, time.Now()
	n.told = req.Draining
	ns.refreshLocked()
	ns.mu.Unlock()
	if before != state || lost {
		ns.g.log.Info("logic node", "address", n.address, "state", string(state), "restarted", lost)
	}
	if away {
		ns.g.log.Warn("this gate was away: what it was not brought meanwhile is pulled", "node", n.address)
	}
	if lost || away {
		ns.g.spreader.begin()
	}
	if resp.PresenceEpoch != 0 {
		ns.g.registrar.saw(resp.PresenceEpoch)
	}
	ns.learn(resp.LogicAddresses, false)
}

// leastLease is shorter than any lease that logic nodes give gates, but for those of tests.
const leastLease = 3 * time.Second

// forgetsAfter is the silence after which a logic node may have taken this gate for dead and passed it by with what it delivered,
// although it goes on: it was frozen, or there was no way between the two.
func (ns *nodes) forgetsAfter() time.Duration {
	return max(time.Duration(ns.g.cfg.MissedBeats)*ns.g.cfg.BeatInterval, leastLease)
}

// forget removes a learnt node that is dead and that nobody names any more.
func (ns *nodes) forget(n *node) bool {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	if n.static || n.state != nodeDead && n.state != nodeUnknown || time.Since(n.listed) < ns.g.cfg.ForgetNode {
		return false
	}
	delete(ns.byAddress, n.address)
	ns.refreshLocked()
	return true
}

// refreshLocked makes the view anew.
func (ns *nodes) refreshLocked() {
	sorted := make([]*node, 0, len(ns.byAddress))
	for _, n := range ns.byAddress {
		sorted = append(sorted, n)
	}
	slices.SortFunc(sorted, func(a, b *node) int { return cmp.Compare(a.address, b.address) })
	v, seen, count := &nodeView{}, make(map[uint64]bool), make(map[nodeState]int)
	for _, n := range sorted {
		count[n.state]++
		if n.state != nodeReady && n.state != nodeNotReady || seen[n.epoch] && n.epoch != 0 {
			continue
		}
		seen[n.epoch] = true
		v.alive = append(v.alive, n)
		if n.state == nodeReady {
			v.ready = append(v.ready, n)
		}
	}
	ns.view.Store(v)
	for _, s := range []nodeState{nodeUnknown, nodeReady, nodeNotReady, nodeStopping, nodeDead} {
		ns.g.metrics.logicNodes.WithLabelValues(string(s)).Set(float64(count[s]))
	}
}

// toldDraining reports whether every node that is alive knows that this gate drains.
func (ns *nodes) toldDraining() bool {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	for _, n := range ns.byAddress {
		if (n.state == nodeReady || n.state == nodeNotReady) && !n.told {
			return false
		}
	}
	return true
}

// probeAll has all nodes beaten at once.
func (ns *nodes) probeAll() {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	for _, n := range ns.byAddress {
		n.probe()
	}
}
