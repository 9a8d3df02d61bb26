package rpc

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/cloudwego/kitex/pkg/rpcinfo"
	"github.com/cloudwego/kitex/server"

	"github.com/gatepost/gatepost/idl/gen/gatepb"
	"github.com/gatepost/gatepost/idl/gen/gatepb/gateservice"
	"github.com/gatepost/gatepost/idl/rpcserver"
)

// Server serves Deliver and Kick of a gate to logic nodes. It traps no signals.
type Server struct{ *rpcserver.Server }

// NewServer binds addr, a host:port; port 0 lets the system choose. It serves from Serve on. A nil logger leaves Kitex's log as it is.
func NewServer(addr string, svc gatepb.GateService, logger *slog.Logger) (*Server, error) {
	if logger != nil {
		UseLogger(logger)
	}
	s, err := rpcserver.Listen("logic nodes", addr, func(options ...server.Option) server.Server {
		return gateservice.NewServer(svc, append(options,
			server.WithServerBasicInfo(&rpcinfo.EndpointBasicInfo{ServiceName: "gatepost.gate"}),
			server.WithMiddleware(toStatus),
		)...)
	})
	if err != nil {
		return nil, err
	}
	return &Server{s}, nil
}

// Serve serves until Stop, and returns nil then, also when Stop came first. A server serves once.
func (s *Server) Serve() error {
	if err := s.Server.Serve(); err != nil {
		return fmt.Errorf("serve logic nodes: %w", err)
	}
	return nil
}

// Stop refuses new calls, waits for those in flight and ends Serve; of a server that never served it closes the listener. When ctx
// ends before, it returns ctx's error and the rest goes on. It may be called more than once.
func (s *Server) Stop(ctx context.Context) error {
	if err := s.Server.Stop(ctx); err != nil {
		return fmt.Errorf("stop serving logic nodes: %w", err)
	}
	return nil
}
