package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/cloudwego/kitex/pkg/rpcinfo"
	"github.com/cloudwego/kitex/pkg/transmeta"
	"github.com/cloudwego/kitex/server"

	"github.com/gatepost/gatepost/idl/gen/gatepb"
	"github.com/gatepost/gatepost/idl/gen/gatepb/gateservice"
)

// Server serves Deliver and Kick of a gate to logic nodes.
type Server struct {
	kitex server.Server
	addr  net.Addr
	exit  chan error // nil is sent by Stop: Kitex must trap no signals itself
}

// exitWait is how long calls in flight may take when the server stops.
const exitWait = 5 * time.Second

// NewServer binds addr, a host:port; port 0 lets the system choose. It serves from Serve on. A nil logger leaves Kitex's log as it is.
func NewServer(addr string, svc gatepb.GateService, logger *slog.Logger) (*Server, error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen for logic nodes: %w", err)
	}
	if logger != nil {
		UseLogger(logger)
	}
	s := &Server{addr: ln.Addr(), exit: make(chan error, 1)}
	s.kitex = gateservice.NewServer(svc,
		server.WithListener(ln),
		server.WithServerBasicInfo(&rpcinfo.EndpointBasicInfo{ServiceName: "gatepost.gate"}),
		server.WithMetaHandler(transmeta.ServerTTHeaderHandler),
		server.WithMiddleware(toStatus),
		server.WithExitWaitTime(exitWait),
		server.WithExitSignal(func() <-chan error { return s.exit }),
	)
	return s, nil
}

// Addr is the bound address.
func (s *Server) Addr() net.Addr { return s.addr }

// Serve serves until Stop; nil then.
func (s *Server) Serve() error {
	if err := s.kitex.Run(); err != nil {
		return fmt.Errorf("serve logic nodes: %w", err)
	}
	return nil
}

// Stop refuses new calls, waits for those in flight and ends Serve. When ctx ends before, it returns its error and the rest goes on.
func (s *Server) Stop(ctx context.Context) error {
	stopped := make(chan error, 1)
	go func() { stopped <- s.kitex.Stop() }()
	select {
	case err := <-stopped:
		select {
		case s.exit <- nil:
		default:
		}
		return err
	case <-ctx.Done():
		return errors.Join(errors.New("stop serving logic nodes"), ctx.Err())
	}
}
