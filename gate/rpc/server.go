package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/cloudwego/kitex/pkg/rpcinfo"
	"github.com/cloudwego/kitex/pkg/transmeta"
	"github.com/cloudwego/kitex/server"

	"github.com/gatepost/gatepost/idl/gen/gatepb"
	"github.com/gatepost/gatepost/idl/gen/gatepb/gateservice"
)

// Server serves Deliver and Kick of a gate to logic nodes.
type Server struct {
	listener net.Listener
	kitex    server.Server
	exit     chan error // nil is sent by Stop: Kitex must trap no signals itself
	served   chan struct{}

	mu      sync.Mutex
	serving bool
	stopped bool
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
	s := &Server{listener: ln, exit: make(chan error, 1), served: make(chan struct{})}
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
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Serve serves until Stop; nil then. A server serves once.
func (s *Server) Serve() error {
	s.mu.Lock()
	if s.stopped || s.serving {
		s.mu.Unlock()
		return errors.New("serve logic nodes: a server serves once")
	}
	s.serving = true
	s.mu.Unlock()
	defer close(s.served)
	if err := s.kitex.Run(); err != nil {
		return fmt.Errorf("serve logic nodes: %w", err)
	}
	return nil
}

// Stop refuses new calls, waits for those in flight and ends Serve; of a server that never served it closes the listener. When ctx
// ends before, it returns ctx's error and the rest goes on. It may be called more than once.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	first := !s.stopped
	s.stopped = true
	serving := s.serving
	s.mu.Unlock()
	switch {
	case serving && first:
		s.exit <- nil
	case first:
		return s.listener.Close()
	case !serving:
		return nil
	}
	select {
	case <-s.served:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop serving logic nodes: %w", ctx.Err())
	}
}
