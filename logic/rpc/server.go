package rpc

import (
	"context"
	"errors"
	"log/slog"

	"github.com/cloudwego/kitex/pkg/kerrors"
	"github.com/cloudwego/kitex/server"

	"github.com/gatepost/gatepost/idl/gen/logicpb"
	"github.com/gatepost/gatepost/idl/gen/logicpb/logicservice"
	"github.com/gatepost/gatepost/idl/rpcserver"
	"github.com/gatepost/gatepost/idl/status"
)

// Server serves one service of a logic node.
type Server = rpcserver.Server

// NewServer binds addr for gates; port 0 takes a free one. It serves once Serve runs.
func NewServer(addr string, svc logicpb.LogicService, logger *slog.Logger) (*Server, error) {
	return Listen("gates", addr, logger, func(options ...server.Option) server.Server {
		return logicservice.NewServer(&edge{svc}, options...) // Kitex wants a pointer
	})
}

// Listen binds addr for callers of a kind, as rpcserver.Listen does. logger takes what Kitex has to say.
func Listen(callers, addr string, logger *slog.Logger, build func(...server.Option) server.Server) (*Server, error) {
	bridge(logger)
	return rpcserver.Listen(callers, addr, build)
}

// edge turns refusals into business errors, which cross the wire with code and sentence but without the cause.
type edge struct{ svc logicpb.LogicService }

func (e edge) Handle(ctx context.Context, req *logicpb.HandleRequest) (*logicpb.HandleResponse, error) {
	res, err := e.svc.Handle(ctx, req)
	return res, business(err)
}

func (e edge) Beat(ctx context.Context, req *logicpb.BeatRequest) (*logicpb.BeatResponse, error) {
	res, err := e.svc.Beat(ctx, req)
	return res, business(err)
}

func (e edge) Sessions(ctx context.Context, req *logicpb.SessionsRequest) (*logicpb.SessionsResponse, error) {
	res, err := e.svc.Sessions(ctx, req)
	return res, business(err)
}

func business(err error) error {
	var refusal *status.Error
	if errors.As(err, &refusal) {
		return kerrors.NewBizStatusError(int32(refusal.Code), refusal.Reason)
	}
	return err
}
