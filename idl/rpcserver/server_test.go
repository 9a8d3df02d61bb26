package rpcserver

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/cloudwego/kitex/server"
	"go.uber.org/goleak"

	"github.com/gatepost/gatepost/idl/gen/gatepb"
	"github.com/gatepost/gatepost/idl/gen/gatepb/gateservice"
)

// uncalled is a service that nobody calls.
type uncalled struct{ gatepb.GateService }

// Stop ends what serves whenever it comes: before Serve, while it begins, and after.
func TestStopAtAnyTimeEndsWhatServes(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent(), goleak.IgnoreAnyFunction("github.com/cloudwego/netpoll.(*defaultPoll).Wait"))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for _, wait := range []time.Duration{-1, 0, 0, 0, 0, 10 * time.Microsecond, 50 * time.Microsecond, 100 * time.Microsecond,
		200 * time.Microsecond, 500 * time.Microsecond, time.Millisecond, 20 * time.Millisecond} {
		s, err := Listen("nobody", "127.0.0.1:0", func(options ...server.Option) server.Server {
			return gateservice.NewServer(&uncalled{}, options...)
		})
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		if wait >= 0 {
			go func() { served <- s.Serve() }()
			for start := time.Now(); time.Since(start) < wait; { // a sleep would be too coarse
			}
		}
		for range 2 {
			if err := s.Stop(ctx); err != nil {
				t.Errorf("%v: stop: %v", wait, err)
			}
		}
		if wait < 0 {
			served <- s.Serve()
		}
		select {
		case err := <-served:
			if err != nil {
				t.Errorf("%v: serve: %v", wait, err)
			}
		case <-ctx.Done():
			t.Fatalf("%v: it serves on", wait)
		}
		if nc, err := net.Dial("tcp", s.Addr().String()); err == nil {
			nc.Close()
			t.Errorf("%v: the port is still open", wait)
		}
	}
}
