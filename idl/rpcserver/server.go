// Package rpcserver serves a generated Kitex service on a port, and stops it: for gates and for logic nodes, which share no other room.
//
// Kitex by itself loses a stop that comes while it begins. Here Stop ends what serves whenever it comes.
package rpcserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/cloudwego/kitex/pkg/transmeta"
	"github.com/cloudwego/kitex/server"
	"github.com/cloudwego/netpoll"
)

// stopWait is how long a stopping server waits for the calls inside it.
const stopWait = 5 * time.Second

// Server serves one Kitex service on one port. It traps no signals.
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

// Listen binds addr for callers of a kind, and builds the service that build makes of the options that all services have in common:
// TTHeader with business errors, no signals, a stop that lets calls end.
func Listen(callers, addr string, build func(...server.Option) server.Server) (*Server, error) {
	bound, err := netpoll.CreateListener("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen for %s: %w", callers, err)
	}
	ln := &listener{Listener: bound, taken: make(chan struct{})}
	s := &Server{listener: ln, exit: make(chan error, 1), stopping: make(chan struct{}), served: make(chan struct{})}
	s.kitex = build(
		server.WithListener(ln),
		server.WithMetaHandler(transmeta.ServerTTHeaderHandler),
		server.WithExitSignal(func() <-chan error { return s.exit }),
		server.WithExitWaitTime(stopWait),
	)
	return s, nil
}

// Addr is where the server listens.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Serve serves until Stop, and returns nil then, also when Stop came first. A server serves once.
func (s *Server) Serve() error {
	s.mu.Lock()
	if s.serving {
		s.mu.Unlock()
		return errors.New("a server serves once")
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
	return s.kitex.Run()
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

// Stop takes no new connections, lets the calls in flight end, and returns when Serve has, or when ctx ends. It may be called more
// than once.
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
		return ctx.Err()
	}
}
