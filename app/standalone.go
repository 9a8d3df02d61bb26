package app

import (
	"context"
	"io"

	"github.com/gatepost/gatepost/gate"
	"github.com/gatepost/gatepost/store/memory"
	"github.com/gatepost/gatepost/store/sql"
)

// NewStandalone builds the whole platform in one process: a gate and a logic node that call each other, over SQLite and presence in
// memory. Nothing serves before Start, but the database is open and the admin port listens: a process that was built must be stopped.
func NewStandalone(cfg Config, logs io.Writer) (*Process, error) {
	b, err := newBase(Standalone, cfg.standalone(), logs)
	if err != nil {
		return nil, err
	}
	if err := b.standalone(); err != nil {
		return nil, b.abandon(cfg.explainTaken(err))
	}
	return b.Process, nil
}

func (b *base) standalone() error {
	db, err := b.openSQL()
	if err != nil {
		return err
	}
	producer, err := b.openKafka()
	if err != nil {
		return err
	}
	here := &gateHere{}
	node, err := b.newNode(b.cfg.Logic, db, memory.New(memory.Default()), here, producer)
	if err != nil {
		return err
	}
	g, err := b.newGate(b.cfg.Gate, func(string) (gate.Logic, error) { return node, nil })
	if err != nil {
		return err
	}
	here.gate = g
	b.add("logic node", node.Start, node.Stop)
	if err := b.listenApps(node); err != nil {
		return err
	}
	b.addGate(g)
	b.ready = gateReady(g)
	return nil
}

// openSQL opens the database; it is closed with the process.
func (b *base) openSQL() (*sql.DB, error) {
	cfg := b.cfg.SQL
	cfg.Logger, cfg.Metrics = b.Logger, b.metrics
	db, err := sql.Open(cfg)
	if err != nil {
		return nil, err
	}
	b.opened("database", func(context.Context) error { return db.Close() })
	return db, nil
}
