package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/cloudwego/kitex/client"
	"github.com/cloudwego/kitex/pkg/connpool"
	"github.com/cloudwego/kitex/pkg/transmeta"
	"github.com/cloudwego/kitex/transport"

	"github.com/gatepost/gatepost/idl/gen/gatepb"
	"github.com/gatepost/gatepost/idl/gen/gatepb/gateservice"
)

const (
	// connectTimeout bounds a new connection to a gate.
	connectTimeout = time.Second
	// callTimeout bounds a call whose context has no deadline.
	callTimeout = 10 * time.Second
	// idleAfter is when the client of a gate that is not called any more is closed.
	idleAfter = time.Minute
)

// Gates reaches gates by address. It keeps a client for each, and closes those of gates that are gone.
type Gates struct {
	mu      sync.Mutex
	clients map[string]*gateClient
	swept   time.Time
	closed  bool
}

type gateClient struct {
	gateservice.Client
	calls int // in flight
	used  time.Time
}

// NewGates makes the port. logger takes what Kitex has to say.
func NewGates(logger *slog.Logger) *Gates {
	bridge(logger)
	return &Gates{clients: make(map[string]*gateClient), swept: time.Now()}
}

// Deliver calls the gate at address. It is not retried.
func (g *Gates) Deliver(ctx context.Context, address string, req *gatepb.DeliverRequest) (*gatepb.DeliverResponse, error) {
	c, err := g.acquire(address)
	if err != nil {
		return nil, err
	}
	defer g.release(c)
	return c.Deliver(ctx, req)
}

// Kick calls the gate at address. It is not retried.
func (g *Gates) Kick(ctx context.Context, address string, req *gatepb.KickRequest) (*gatepb.KickResponse, error) {
	c, err := g.acquire(address)
	if err != nil {
		return nil, err
	}
	defer g.release(c)
	return c.Kick(ctx, req)
}

func (g *Gates) acquire(address string) (*gateClient, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil, errors.New("the clients of the gates are closed")
	}
	g.sweepLocked(time.Now())
	c := g.clients[address]
	if c == nil {
		k, err := gateservice.NewClient("gatepost.gate",
			client.WithHostPorts(address),
			client.WithTransportProtocol(transport.TTHeader),
			client.WithMetaHandler(transmeta.ClientTTHeaderHandler),
			client.WithLongConnection(connpool.IdleConfig{MaxIdlePerAddress: 4, MaxIdleGlobal: 1024, MaxIdleTimeout: idleAfter}),
			client.WithConnectTimeout(connectTimeout),
			client.WithRPCTimeout(callTimeout),
		)
		if err != nil {
			return nil, fmt.Errorf("client for gate %q: %w", address, err)
		}
		c = &gateClient{Client: k}
		g.clients[address] = c
	}
	c.calls++
	c.used = time.Now()
	return c, nil
}

func (g *Gates) release(c *gateClient) {
	g.mu.Lock()
	c.calls--
	c.used = time.Now()
	g.mu.Unlock()
}

// sweepLocked closes the clients that have not been used for a while.
func (g *Gates) sweepLocked(now time.Time) {
	if now.Sub(g.swept) < idleAfter/4 {
		return
	}
	g.swept = now
	for address, c := range g.clients {
		if c.calls == 0 && now.Sub(c.used) > idleAfter {
			delete(g.clients, address)
			c.close()
		}
	}
}

// Close closes all clients; calls in flight fail.
func (g *Gates) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	for address, c := range g.clients {
		delete(g.clients, address)
		c.close()
	}
	return nil
}

func (c *gateClient) close() {
	if closer, ok := c.Client.(io.Closer); ok {
		_ = closer.Close() // idle connections: nothing is lost
	}
}
