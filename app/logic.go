package app

import (
	"context"
	"io"

	"github.com/gatepost/gatepost/idl/gen/logicpb"
	"github.com/gatepost/gatepost/logic/rpc"
	"github.com/gatepost/gatepost/migrations"
	"github.com/gatepost/gatepost/store/redis"
	"github.com/gatepost/gatepost/store/sql"
	goredis "github.com/redis/go-redis/v9"
)

// NewLogic builds a logic node of a cluster, over MySQL or MariaDB and Redis.
// Nothing serves before Start, but the database is open and its ports listen: a process that was built must be stopped.
func NewLogic(cfg Config, logs io.Writer) (*Process, error) {
	b, err := newBase(Logic, cfg, logs)
	if err != nil {
		return nil, err
	}
	if err := b.logic(); err != nil {
		return nil, b.abandon(cfg.explainTaken(err))
	}
	return b.Process, nil
}

func (b *base) logic() error {
	db, err := b.openSQL()
	if err != nil {
		return err
	}
	table, err := b.openRedis()
	if err != nil {
		return err
	}
	producer, err := b.openKafka()
	if err != nil {
		return err
	}
	gates := rpc.NewGates(b.Logger)
	b.opened("clients of the gates", func(context.Context) error { return gates.Close() })
	late := &lateNode{}
	server, err := rpc.NewServer(b.cfg.RPCListen, late, b.Logger)
	if err != nil {
		return err
	}
	b.opened("calls of gates", server.Stop) // until the node has stopped: gates hear of that in their beats
	b.runtime.RPC = server.Addr().String()
	cfg := b.cfg.Logic
	if cfg.RPCAddress == "" {
		cfg.RPCAddress = b.runtime.RPC
	}
	node, err := b.newNode(cfg, db, table, gates, producer)
	if err != nil {
		return err
	}
	late.LogicService = node
	b.add("logic node", node.Start, node.Stop)
	if err := b.listenApps(node); err != nil {
		return err
	}
	b.add("serving gates", b.serve("calls of gates", server.Serve), nothing)
	b.ready = logicReady(node)
	return nil
}

// lateNode is the node that a server serves. The server comes first: the node is told the address that the server has bound.
type lateNode struct{ logicpb.LogicService }

// openRedis makes the presence table, and tells when it goes and comes; its connections are closed with the process.
func (b *base) openRedis() (presence, error) {
	goredis.SetLogger(redisLogger{b.Logger})
	client, err := redis.NewClient(b.cfg.Redis.ClientConfig)
	if err != nil {
		return nil, err
	}
	b.opened("Redis", func(context.Context) error { return client.Close() })
	table, err := redis.New(b.cfg.Redis.Config, client)
	if err != nil {
		return nil, err
	}
	return watch(table, b.cfg.Redis.Addresses, b.Logger), nil
}

// Migrate brings the schema of the configured database up to date.
func Migrate(ctx context.Context, cfg Config) error { return sql.Migrate(ctx, cfg.SQL) }

// MigrationStatus lists the migrations of the configured database.
func MigrationStatus(ctx context.Context, cfg Config) ([]migrations.State, error) {
	return sql.Status(ctx, cfg.SQL)
}
