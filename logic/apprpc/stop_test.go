package apprpc_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/gatepost/gatepost/idl/gen/appserverpb"
	"github.com/gatepost/gatepost/logic/apprpc"
)

// held is a service whose pushes wait, and whose tokens panic.
type held struct {
	apprpc.UseCases
	entered, leave chan struct{}
}

func (h *held) Push(_ context.Context, key string, _ *appserverpb.PushRequest) (*appserverpb.PushResponse, error) {
	close(h.entered)
	<-h.leave
	return &appserverpb.PushResponse{Results: []*appserverpb.PushResult{{Uid: key, Outcome: appserverpb.PushOutcome_PUSH_ACCEPTED}}}, nil
}

func (h *held) Token(context.Context, string, *appserverpb.TokenRequest) (*appserverpb.TokenResponse, error) {
	panic("token")
}

// A stop lets the calls inside end, and a panic costs its call alone.
func TestStopLetsCallsEnd(t *testing.T) {
	h := &held{entered: make(chan struct{}), leave: make(chan struct{})}
	s, err := apprpc.NewServer("127.0.0.1:0", h, nil)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	x := newStranger(t, s.Addr().String(), "k")
	if _, err := x.call("Token", `{}`); err == nil {
		t.Error("a panic was answered well")
	}
	answered := make(chan map[string]any, 1)
	go func() {
		res, err := x.call("Push", `{}`)
		if err != nil {
			t.Errorf("the call in flight failed: %v", err)
		}
		answered <- res
	}()
	<-h.entered
	stopped := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		stopped <- s.Stop(ctx)
	}()
	eventually(t, func() bool { // no new connection is taken
		nc, err := net.Dial("tcp", s.Addr().String())
		if err == nil {
			nc.Close()
		}
		return err != nil
	})
	close(h.leave)
	wantResults(t, <-answered, "PUSH_ACCEPTED")
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}
