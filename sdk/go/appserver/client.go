package appserver

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/bytedance/gopkg/cloud/metainfo"
	"github.com/cloudwego/kitex/client"
	"github.com/cloudwego/kitex/client/callopt"
	"github.com/cloudwego/kitex/pkg/connpool"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"
	"github.com/cloudwego/kitex/pkg/rpcinfo"
	"github.com/cloudwego/kitex/pkg/transmeta"
	"github.com/cloudwego/kitex/transport"

	kitexpb "github.com/gatepost/gatepost/idl/gen/appserverpb/appserver"
)

// Client calls the platform. It is safe for concurrent use; one serves a whole process.
type Client struct {
	cfg       Config
	kitex     kitexpb.Client
	addresses *addresses
}

// New makes a Client. It does not connect yet, so no node needs to be up.
func New(cfg Config) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("app-server client: %w", err)
	}
	cfg = cfg.withDefaults()
	opts := []client.Option{
		client.WithClientBasicInfo(&rpcinfo.EndpointBasicInfo{ServiceName: "gatepost.appserver.client"}),
		client.WithConnectTimeout(cfg.ConnectTimeout),
	}
	if cfg.Transport == TTHeader {
		opts = append(opts,
			client.WithTransportProtocol(transport.TTHeader),
			client.WithMetaHandler(transmeta.ClientTTHeaderHandler), // business errors travel in the header
			client.WithLongConnection(connpool.IdleConfig{MaxIdlePerAddress: 16, MaxIdleGlobal: 64, MaxIdleTimeout: time.Minute}))
	} else {
		opts = append(opts, client.WithTransportProtocol(transport.GRPC))
	}
	k, err := kitexpb.NewClient("gatepost.appserver", opts...)
	if err != nil {
		return nil, fmt.Errorf("app-server client: %w", err)
	}
	return &Client{cfg: cfg, kitex: k, addresses: newAddresses(cfg.Addresses)}, nil
}

// Close closes the connections. Calls in flight may fail.
func (c *Client) Close() error {
	if k, ok := c.kitex.(io.Closer); ok {
		return k.Close()
	}
	return nil
}

// patient gives ctx the deadline that bounds all attempts.
func (c *Client) patient(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, c.cfg.Patience)
}

// withKey puts the app key where the transport has it, and leaves out what a caller's own calls carry.
func (c *Client) withKey(ctx context.Context) context.Context {
	bearer := "Bearer " + c.cfg.Key
	if c.cfg.Transport == TTHeader {
		return metainfo.WithValue(ctx, "AUTHORIZATION", bearer)
	}
	return metadata.NewOutgoingContext(ctx, metadata.Pairs("authorization", bearer))
}

// do makes one call until it succeeds, fails for good, or ctx, which has a deadline, is done. An attempt that could not be made or
// that the node could not serve goes to the next address at once, as long as there is one that has not been tried; then it waits.
func (c *Client) do(ctx context.Context, op string, call func(ctx context.Context, opts ...callopt.Option) error) error {
	wait := backoff{base: c.cfg.RetryBase, cap: c.cfg.RetryCap}
	for tried := 1; ; tried++ {
		at := c.addresses.pick(time.Now())
		err := c.attempt(ctx, at, call)
		if err == nil {
			c.addresses.told(at, true, time.Now())
			return nil
		}
		e := fromKitex(op, err)
		if ctx.Err() != nil {
			e.cause = ctx.Err()
			return e
		}
		elsewhere := e.transport || e.Code == Unavailable
		if elsewhere && c.addresses.told(at, false, time.Now()) {
			c.cfg.Logger.Warn("a node does not serve app-servers", slog.String("address", at), slog.String("reason", e.Reason))
		}
		if !e.Code.Temporary() {
			return e
		}
		if elsewhere && tried%c.addresses.count() != 0 {
			continue
		}
		if !sleep(ctx, wait.next()) {
			e.cause = ctx.Err()
			return e
		}
	}
}

func (c *Client) attempt(ctx context.Context, at string, call func(ctx context.Context, opts ...callopt.Option) error) error {
	limit := c.cfg.CallTimeout
	if by, ok := ctx.Deadline(); ok {
		limit = min(limit, max(time.Until(by), time.Millisecond))
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return call(c.withKey(ctx), callopt.WithHostPort(at), callopt.WithRPCTimeout(limit))
}
