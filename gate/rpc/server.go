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
	"github.com/cloudwego/netpoll"

	"github.com/gatepost/gatepost/idl/gen/gatepb"
	"github.com/gatepost/gatepost/idl/gen/gatepb/gateservice"
)

// Server serves Deliver and Kick of a gate to logic nodes. It traps no signals.
type Server struct {
	listener *listener
	kitex    server.Server
	exit     chan error
	stopping chan struct{} // closed by the first Stop
	served   chan struct{} // closed when Serve is done

	mu      sync.Mutex
	serving bool
	stopped bool
}

// listener tells when the event loop has taken it, which Kitex does in a goroutine of its own. A stop that came before that would
// find nothing to stop, and the loop would stay for ever. It is closed once, since its file descriptor may be another's then.
type listener struct {
	netpoll.Listener
	take, close sync.Once
	taken       chan struct{}
	closeErr    error
}

// Fd is asked for by the event loop when it starts, under the lock that its shutdown waits for.
func (l *listener) Fd() int {
	l.take.Do(func() { close(l.taken) })
	return l.Listener.Fd()
}

func (l *listener) Close() error {
	l.close.Do(func() { l.closeErr = l.Listener.Close() })
	return l.closeErr
}

// exitWait is how long calls in flight may take when the server stops.
const exitWait = 5 * time.Second

// NewServer binds addr, a host:port; port 0 lets the system choose. It serves from Serve on. A nil logger leaves Kitex's log as it is.
func NewServer(addr string, svc gatepb.GateService, logger *slog.Logger) (*Server, error) {
	bound, err := netpoll.CreateListener("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen for logic nodes: %w", err)
	}
	if logger != nil {
		UseLogger(logger)
	}
	ln := &listener{Listener: bound, taken: make(chan struct{})}
	s := &Server{listener: ln, exit: make(chan error, 1), stopping: make(chan struct{}), served: make(chan struct{})}
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

// Serve serves until Stop, and returns nil then, also when Stop came first. A server serves once.
func (s *Server) Serve() error {
	s.mu.Lock()
	if s.serving {
		s.mu.Unlock()
		return errors.New("serve logic nodes: a server serves once")
	}
	s.serving = true
	stopped := s.stopped
	s.mu.Unlock()
	defer close(s.served)
	if stopped {
		return nil
	}
	defer s.listener.Close()
	go s.exitWhenStopped()
	if err := s.kitex.Run(); err != nil {
		return fmt.Errorf("serve logic nodes: %w", err)
	}
	return nil
}

// exitWhenStopped tells Kitex of the stop, as soon as there is something to stop.
func (s *Server) exitWhenStopped() {
	for _, c := range []chan struct{}{s.stopping, s.listener.taken} {
		select {
		case <-c:
		case <-s.served:
			return
		}
	}
	s.exit <- nil
}

// Stop refuses new calls, waits for those in flight and ends Serve; of a server that never served it closes the listener. When ctx
// ends before, it returns ctx's error and the rest goes on. It may be called more than once.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	first := !s.stopped
	s.stopped = true
	serving := s.serving
	s.mu.Unlock()
	if first {
		close(s.stopping)
		if !serving {
			return s.listener.Close()
		}
	}
	if !serving {
		return nil
	}
	select {
	case <-s.served:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop serving logic nodes: %w", ctx.Err())
	}
}
