package app

import (
	"context"
	"errors"
	"strings"

	"github.com/gatepost/gatepost/gate"
	"github.com/gatepost/gatepost/idl/gen/gatepb"
	"github.com/gatepost/gatepost/idl/gen/logicpb"
	"github.com/gatepost/gatepost/logic"
	"github.com/gatepost/gatepost/logic/apprpc"
	"github.com/gatepost/gatepost/logic/rpc"
	"github.com/gatepost/gatepost/mq/kafka"
	"github.com/gatepost/gatepost/store/memory"
	"github.com/gatepost/gatepost/store/redis"
	"github.com/gatepost/gatepost/store/sql"
)

// The stores do not know logic: here is where they must fit its ports.
var (
	_ logic.Inbox    = (*sql.DB)(nil)
	_ logic.Devices  = (*sql.DB)(nil)
	_ logic.Nodes    = (*sql.DB)(nil)
	_ logic.Sweeper  = (*sql.DB)(nil)
	_ logic.Presence = (*redis.Presence)(nil)
	_ logic.Leases   = (*redis.Presence)(nil)
	_ logic.Presence = (*memory.Presence)(nil)
	_ logic.Leases   = (*memory.Presence)(nil)
	_ logic.AppKeys  = (*sql.AppKeys)(nil)
	_ logic.Uplinks  = (*kafka.Producer)(nil)
	_ logic.Gates    = (*rpc.Gates)(nil)
	_ logic.Gates    = (*gateHere)(nil)
	_ gate.Logic     = (*logic.Node)(nil)

	_ gatepb.GateService   = (*gate.Gate)(nil)
	_ logicpb.LogicService = (*logic.Node)(nil)
)

// presence is a table of sessions and leases.
type presence interface {
	logic.Presence
	logic.Leases
}

// inProcess is the address of a room in the same process.
const inProcess = "in-process"

// gateHere is the gate of this process as logic's port Gates. gate is set before anything starts.
type gateHere struct{ gate *gate.Gate }

func (g *gateHere) Deliver(ctx context.Context, _ string, req *gatepb.DeliverRequest) (*gatepb.DeliverResponse, error) {
	return g.gate.Deliver(ctx, req)
}

func (g *gateHere) Kick(ctx context.Context, _ string, req *gatepb.KickRequest) (*gatepb.KickResponse, error) {
	return g.gate.Kick(ctx, req)
}

// newNode builds a logic node over its stores and, when there is a Kafka, producer.
func (b *base) newNode(cfg logic.Config, db *sql.DB, table presence, gates logic.Gates, producer *kafka.Producer) (*logic.Node, error) {
	domains, closeDomains, err := domainTable(b.cfg.Domains, b.keys)
	if err != nil {
		return nil, err
	}
	b.closeDomains = closeDomains
	b.opened("services of domains", func(context.Context) error { b.mu.Lock(); defer b.mu.Unlock(); b.closeDomains(); return nil })
	deps := logic.Deps{
		Inbox: db, Devices: db, Nodes: db, Sweeper: db, Presence: table, Leases: table, Gates: gates,
		Domains: domains, AppKeys: db.AppKeys(), Logger: b.Logger, Metrics: b.metrics,
	}
	if producer != nil {
		deps.Uplinks = producer
	}
	node, err := logic.New(cfg, deps)
	if err != nil {
		return nil, err
	}
	b.reload = b.reloadDomains(node, producer)
	return node, nil
}

// reloadDomains lets node take the domains of other settings; topics that are new are made first.
func (b *base) reloadDomains(node *logic.Node, producer *kafka.Producer) func(context.Context, Config) error {
	return func(ctx context.Context, cfg Config) error {
		domains, closeDomains, err := domainTable(cfg.Domains, b.keys)
		if err != nil {
			return err
		}
		if err := domains.Validate(); err != nil {
			closeDomains()
			return err
		}
		if wanted := topics(cfg.Domains); producer != nil {
			b.setTopics(ctx, producer, wanted)
		} else if len(wanted) > 0 {
			closeDomains()
			return errNoKafka
		}
		if err := node.SetDomains(domains); err != nil {
			closeDomains()
			return err
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		b.closeDomains()
		b.closeDomains = closeDomains
		b.runtime.Topics = cfg.Routes()
		if others := b.cfg.differences(cfg, b.role); len(others) > 0 {
			b.Logger.Warn("settings beside the domains have changed, too: they wait for the next start", "settings", others)
		}
		return b.writeRuntimeLocked()
	}
}

// listenApps opens the port for app-servers, if there is to be one.
func (b *base) listenApps(node *logic.Node) error {
	if b.cfg.AppListen == "" {
		return nil
	}
	server, err := apprpc.NewServer(b.cfg.AppListen, node, b.Logger)
	if err != nil {
		return err
	}
	b.opened("calls of app-servers", server.Stop) // before the node, which finishes what they began
	b.add("serving app-servers", b.serve("calls of app-servers", server.Serve), nothing)
	b.runtime.App = server.Addr().String()
	return nil
}

// newGate builds a gate whose logic nodes are made by dial.
func (b *base) newGate(cfg gate.Config, dial func(string) (gate.Logic, error)) (*gate.Gate, error) {
	cert, err := b.tls()
	if err != nil {
		return nil, err
	}
	return gate.New(cfg, gate.Deps{Logger: b.Logger, Metrics: b.metrics, Keys: b.keys.Noise, TLS: cert, Dial: dial})
}

// addGate starts and drains g with the process.
func (b *base) addGate(g *gate.Gate) {
	b.add("gate", func(ctx context.Context) error {
		if err := g.Start(ctx); err != nil {
			return b.cfg.explainTaken(err)
		}
		for _, a := range g.Addrs() {
			if address, ok := strings.CutPrefix(a, "tcp://"); ok {
				b.runtime.TCP = address
			} else if address, ok := strings.CutPrefix(a, "tls://"); ok {
				b.runtime.TLS = address
			}
		}
		return nil
	}, g.Drain)
}

var (
	errNoLogic = errors.New("no logic node is ready")
	errNoIDs   = errors.New("the logic node has no node number, for want of the database or a right clock")
)

func gateReady(g *gate.Gate) func() error {
	return func() error {
		if !g.Ready() {
			return errNoLogic
		}
		return nil
	}
}

func logicReady(n *logic.Node) func() error {
	return func() error {
		if !n.Ready() {
			return errNoIDs
		}
		return nil
	}
}
