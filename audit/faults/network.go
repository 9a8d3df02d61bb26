package faults

import (
	"context"
	"math"
	"math/rand/v2"
	"strings"
	"sync/atomic"

	"github.com/gatepost/gatepost/audit"
)

// Network lies between clients and gates: a proxy in front of each gate. From Begin to Calm a share of the connections is cut at a drawn
// byte or passes nothing from there on, and half of them carry every chunk in two. What happens to the n-th connection of a gate follows from
// the seed. It is safe for concurrent use.
type Network struct {
	proxies []*Proxy
	rough   atomic.Bool
}

// Damage says how rough a Network is.
type Damage struct {
	Seed  uint64
	Share float64 // of the connections, 0..1, that are cut or stall by themselves
	Bytes int64   // behind how many bytes of one direction at most, above firstByte; small numbers are as likely as large ones
}

// firstByte is where connections begin to be cut.
const firstByte = 100

// NewNetwork starts proxies to gates, each tcp://host:port. The caller closes the network.
func NewNetwork(gates []string, d Damage) (*Network, error) {
	n := &Network{}
	for i, gate := range gates {
		p, err := NewProxy(strings.TrimPrefix(gate, "tcp://"), func(conn int) Effect {
			if !n.rough.Load() {
				return Effect{}
			}
			return d.effect(rand.New(rand.NewPCG(d.Seed, uint64(i)<<32|uint64(conn))))
		})
		if err != nil {
			n.Close()
			return nil, err
		}
		n.proxies = append(n.proxies, p)
	}
	return n, nil
}

// effect draws what happens to one connection.
func (d Damage) effect(rng *rand.Rand) Effect {
	e := Effect{Halve: rng.IntN(2) == 0}
	at := int64(firstByte * math.Pow(float64(d.Bytes)/firstByte, rng.Float64()))
	if rng.Float64() >= d.Share {
		return e
	}
	switch rng.IntN(3) {
	case 0:
		e.CutUp = at
	case 1:
		e.CutDown = at
	case 2:
		e.StallDown = at
	}
	return e
}

// Addresses are what clients are given as gates.
func (n *Network) Addresses() []string {
	out := make([]string, len(n.proxies))
	for i, p := range n.proxies {
		out[i] = p.Address()
	}
	return out
}

// Fault cuts all connections of one gate at once.
func (n *Network) Fault() audit.Fault {
	return fault{"cut of all connections of a gate", func(_ context.Context, rng *rand.Rand) (string, error) {
		p := n.proxies[rng.IntN(len(n.proxies))]
		p.Cut()
		return p.target, nil
	}}
}

// Begin makes connections rough from now on, and cuts those that pass, so that all of them are.
func (n *Network) Begin() { n.set(true) }

// Calm leaves connections in peace from now on, and cuts those that pass: some of them may have stalled.
func (n *Network) Calm() { n.set(false) }

func (n *Network) set(rough bool) {
	n.rough.Store(rough)
	for _, p := range n.proxies {
		p.Cut()
	}
}

// Close ends the proxies and all that passes through them.
func (n *Network) Close() {
	for _, p := range n.proxies {
		p.Close()
	}
}
