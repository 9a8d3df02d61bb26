package app

import (
	"context"
	"io"

	"github.com/gatepost/gatepost/gate"
	"github.com/gatepost/gatepost/gate/rpc"
)

// NewGate builds a gate of a cluster, which reaches logic nodes by Kitex and is reached by them.
// Nothing serves before Start, but its ports for nodes and people listen: a process that was built must be stopped.
func NewGate(cfg Config, logs io.Writer) (*Process, error) {
	b, err := newBase(Gate, cfg, logs)
	if err != nil {
		return nil, err
	}
	if err := b.gate(); err != nil {
		return nil, b.abandon(cfg.explainTaken(err))
	}
	return b.Process, nil
}

func (b *base) gate() error {
	g, err := b.newGate(b.cfg.Gate, func(address string) (gate.Logic, error) { return rpc.Dial(address) })
	if err != nil {
		return err
	}
	server, err := rpc.NewServer(b.cfg.RPCListen, g, b.Logger)
	if err != nil {
		return err
	}
	b.runtime.RPC = server.Addr().String()
	if b.cfg.Gate.RPCAddress == "" {
		g.SetRPCAddress(b.runtime.RPC)
	}
	b.opened("calls of logic nodes", server.Stop) // until the gate has drained
	b.addGate(g)
	b.add("serving logic nodes", b.serve("calls of logic nodes", server.Serve), nothing)
	b.ready = gateReady(g)
	return nil
}

// serve starts a server that blocks while it serves. It is ended by the part that holds its listener.
func (b *base) serve(name string, serve func() error) func(context.Context) error {
	return func(context.Context) error {
		go func() {
			if err := serve(); err != nil && !b.stopping.Load() { // who was stopped before it began has not failed
				b.fail(name, err)
			}
		}()
		return nil
	}
}

func nothing(context.Context) error { return nil }
