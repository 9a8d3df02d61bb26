package appserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/cloudwego/prutal"
	"google.golang.org/grpc"
	grpcbackoff "google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

// service is the name before the methods, as idl/appserver.proto has it.
const service = "/gatepost.appserver.v1.AppServer/"

// Client calls the platform. It is safe for concurrent use; one serves a whole process.
type Client struct {
	cfg       Config
	conns     map[string]*grpc.ClientConn // by address; they connect by themselves when they are used
	addresses *addresses
}

// New makes a Client. It does not connect yet, so no node needs to be up.
func New(cfg Config) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("app-server client: %w", err)
	}
	cfg = cfg.withDefaults()
	creds := insecure.NewCredentials()
	if cfg.TLS != nil {
		creds = credentials.NewTLS(cfg.TLS)
	}
	c := &Client{cfg: cfg, conns: make(map[string]*grpc.ClientConn, len(cfg.Addresses)), addresses: newAddresses(cfg.Addresses)}
	for _, at := range cfg.Addresses {
		if c.conns[at] != nil {
			continue
		}
		conn, err := grpc.NewClient("passthrough:///"+at,
			grpc.WithTransportCredentials(creds), grpc.WithNoProxy(), grpc.WithDisableServiceConfig(),
			grpc.WithDefaultCallOptions(grpc.ForceCodec(codec{})),
			grpc.WithConnectParams(grpc.ConnectParams{
				// Whether an address is worth another attempt is decided by addresses.
				Backoff:           grpcbackoff.Config{BaseDelay: min(cfg.RetryBase, restBase), Multiplier: 1.6, Jitter: 0.2, MaxDelay: restBase},
				MinConnectTimeout: cfg.ConnectTimeout,
			}))
		if err != nil {
			return nil, errors.Join(fmt.Errorf("app-server client: %w", err), c.Close())
		}
		c.conns[at] = conn
	}
	return c, nil
}

// Close closes the connections. Calls in flight may fail.
func (c *Client) Close() error {
	var errs []error
	for _, conn := range c.conns {
		errs = append(errs, conn.Close())
	}
	return errors.Join(errs...)
}

// codec writes and reads the generated messages.
type codec struct{}

func (codec) Marshal(v any) ([]byte, error)      { return prutal.Marshal(v) }
func (codec) Unmarshal(data []byte, v any) error { return prutal.Unmarshal(data, v) }
func (codec) Name() string                       { return "proto" }

// patient gives ctx the deadline that bounds all attempts.
func (c *Client) patient(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, c.cfg.Patience)
}

// invoke makes one call until it succeeds, fails for good, or ctx, which has a deadline, is done. An attempt that could not be made or
// that the node could not serve goes to the next address at once, as long as there is one that has not been tried; then it waits.
func invoke[R any](ctx context.Context, c *Client, method string, request any) (*R, error) {
	wait := backoff{base: c.cfg.RetryBase, cap: c.cfg.RetryCap}
	for tried := 1; ; tried++ {
		at := c.addresses.pick(time.Now())
		answer := new(R)
		e := c.attempt(ctx, at, method, request, answer)
		if e == nil {
			c.addresses.told(at, true, time.Now())
			return answer, nil
		}
		if ctx.Err() != nil {
			e.cause = ctx.Err()
			return nil, e
		}
		elsewhere := e.transport || e.Code == Unavailable
		if elsewhere && c.addresses.told(at, false, time.Now()) {
			c.cfg.Logger.Warn("a node does not serve app-servers", slog.String("address", at), slog.String("reason", e.Reason))
		}
		if !e.Code.Temporary() {
			return nil, e
		}
		if elsewhere && tried%c.addresses.count() != 0 {
			continue
		}
		if !sleep(ctx, wait.next()) {
			e.cause = ctx.Err()
			return nil, e
		}
	}
}

// attempt makes one call at one address. Its metadata is the app key alone, whatever the caller's own calls carry.
func (c *Client) attempt(ctx context.Context, at, method string, request, answer any) *Error {
	limit := c.cfg.CallTimeout
	if by, ok := ctx.Deadline(); ok {
		limit = min(limit, max(time.Until(by), time.Millisecond))
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	ctx = metadata.NewOutgoingContext(ctx, metadata.Pairs("authorization", "Bearer "+c.cfg.Key))
	var trailer metadata.MD
	if err := c.conns[at].Invoke(ctx, service+method, request, answer, grpc.Trailer(&trailer)); err != nil {
		return fromGRPC(strings.ToLower(method), err, len(trailer.Get("biz-status")) > 0)
	}
	return nil
}
