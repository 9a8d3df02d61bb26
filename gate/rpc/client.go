package rpc

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/cloudwego/kitex/client"
	"github.com/cloudwego/kitex/client/callopt"
	"github.com/cloudwego/kitex/pkg/connpool"
	"github.com/cloudwego/kitex/pkg/rpcinfo"
	"github.com/cloudwego/kitex/pkg/transmeta"
	"github.com/cloudwego/kitex/transport"

	"github.com/gatepost/gatepost/gate"
	"github.com/gatepost/gatepost/idl/gen/logicpb"
	"github.com/gatepost/gatepost/idl/gen/logicpb/logicservice"
)

const (
	// connectTimeout is for a network of one site; a host that refuses fails at once.
	connectTimeout = time.Second
	// longestCall is what a call without a deadline may take.
	longestCall = 30 * time.Second
)

var _ gate.Logic = (*LogicClient)(nil)

// LogicClient reaches one logic node by its address. It is safe for concurrent use; each call in flight has a connection of its own,
// and up to 64 are kept.
type LogicClient struct {
	kitex logicservice.Client
}

// Dial makes the client of the logic node at address, a host:port. It does not connect yet.
func Dial(address string) (*LogicClient, error) {
	c, err := logicservice.NewClient("gatepost.logic",
		client.WithHostPorts(address),
		client.WithClientBasicInfo(&rpcinfo.EndpointBasicInfo{ServiceName: "gatepost.gate"}),
		client.WithTransportProtocol(transport.TTHeader),
		client.WithMetaHandler(transmeta.ClientTTHeaderHandler),
		client.WithLongConnection(connpool.IdleConfig{MaxIdlePerAddress: 64, MaxIdleGlobal: 64, MaxIdleTimeout: time.Minute}),
		client.WithConnectTimeout(connectTimeout),
	)
	if err != nil {
		return nil, fmt.Errorf("client of logic node %s: %w", address, err)
	}
	return &LogicClient{kitex: c}, nil
}

// Close closes the idle connections. Calls in flight go on.
func (c *LogicClient) Close() error {
	if k, ok := c.kitex.(io.Closer); ok {
		return k.Close()
	}
	return nil
}

// Handle calls Handle of the logic node.
func (c *LogicClient) Handle(ctx context.Context, req *logicpb.HandleRequest) (*logicpb.HandleResponse, error) {
	resp, err := c.kitex.Handle(ctx, req, timeout(ctx))
	return resp, fromKitex(err)
}

// Beat calls Beat of the logic node.
func (c *LogicClient) Beat(ctx context.Context, req *logicpb.BeatRequest) (*logicpb.BeatResponse, error) {
	resp, err := c.kitex.Beat(ctx, req, timeout(ctx))
	return resp, fromKitex(err)
}

// Sessions calls Sessions of the logic node.
func (c *LogicClient) Sessions(ctx context.Context, req *logicpb.SessionsRequest) (*logicpb.SessionsResponse, error) {
	resp, err := c.kitex.Sessions(ctx, req, timeout(ctx))
	return resp, fromKitex(err)
}

// timeout gives the call what is left of ctx, so that the node knows it too.
func timeout(ctx context.Context) callopt.Option {
	left := longestCall
	if by, ok := ctx.Deadline(); ok {
		left = max(time.Until(by), time.Millisecond)
	}
	return callopt.WithRPCTimeout(left)
}
