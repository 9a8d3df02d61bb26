package rpc

import (
	"context"

	"github.com/cloudwego/kitex/pkg/endpoint"
	"github.com/cloudwego/prutal"

	"github.com/gatepost/gatepost/idl/gen/gatepb/gateservice"
)

// deliverArgs are encoded into one buffer that is large enough. The generated code begins with none, and copies what it has each time it
// needs a larger one: with hundreds of messages in a call that was a fifth of all that a node allocated.
type deliverArgs struct{ *gateservice.DeliverArgs }

const (
	payloadOverhead = 16 // of a payload beside its body
	itemOverhead    = 48 // of an item beside the names in it
)

// Marshal is called by Kitex.
func (a deliverArgs) Marshal([]byte) ([]byte, error) {
	size := payloadOverhead
	for _, p := range a.Req.Payloads {
		size += len(p.Body) + payloadOverhead
	}
	for _, i := range a.Req.Items {
		size += len(i.Domain) + len(i.Uid) + itemOverhead
	}
	return prutal.MarshalAppend(make([]byte, 0, size), a.Req)
}

// sized is a middleware of clients of gates.
func sized(next endpoint.Endpoint) endpoint.Endpoint {
	return func(ctx context.Context, req, resp any) error {
		if args, ok := req.(*gateservice.DeliverArgs); ok {
			req = deliverArgs{args}
		}
		return next(ctx, req, resp)
	}
}
