package rpc

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/cloudwego/kitex/client"
	"github.com/cloudwego/kitex/pkg/kerrors"
	"github.com/cloudwego/kitex/pkg/transmeta"
	"github.com/cloudwego/kitex/server"
	"github.com/cloudwego/kitex/transport"

	"github.com/gatepost/gatepost/idl/gen/gatepb"
	"github.com/gatepost/gatepost/idl/gen/gatepb/gateservice"
	"github.com/gatepost/gatepost/idl/gen/logicpb"
	"github.com/gatepost/gatepost/idl/gen/logicpb/logicservice"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/logic"
)

var _ logic.Gates = (*Gates)(nil)

// echo is a logic service that answers each frame with its own body.
type echo struct{ entered, leave chan struct{} }

func (e echo) Handle(_ context.Context, req *logicpb.HandleRequest) (*logicpb.HandleResponse, error) {
	if e.entered != nil {
		close(e.entered)
		<-e.leave
	}
	res := &logicpb.HandleResponse{}
	for _, f := range req.Frames {
		res.Answers = append(res.Answers, &logicpb.Answer{Body: f.Body})
	}
	return res, nil
}

func (echo) Beat(context.Context, *logicpb.BeatRequest) (*logicpb.BeatResponse, error) {
	return &logicpb.BeatResponse{Ready: true}, nil
}

func (echo) Sessions(context.Context, *logicpb.SessionsRequest) (*logicpb.SessionsResponse, error) {
	return nil, status.Wrap(status.Unavailable, errors.New("secret cause"), "away")
}

func start(t *testing.T, svc logicpb.LogicService) (*Server, logicservice.Client) {
	t.Helper()
	s, err := NewServer("127.0.0.1:0", svc, nil)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Stop(ctx); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	c, err := logicservice.NewClient("logic", client.WithHostPorts(s.Addr().String()), client.WithTransportProtocol(transport.TTHeader),
		client.WithMetaHandler(transmeta.ClientTTHeaderHandler), client.WithRPCTimeout(10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool {
		_, err := c.Beat(context.Background(), &logicpb.BeatRequest{})
		return err == nil
	})
	return s, c
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatal("it never came true")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestServerCarriesFramesAndRefusals(t *testing.T) {
	_, c := start(t, echo{})
	res, err := c.Handle(context.Background(), &logicpb.HandleRequest{Frames: []*logicpb.Frame{{Body: []byte("a")}, {Body: []byte("b")}}})
	if err != nil || len(res.Answers) != 2 || string(res.Answers[1].Body) != "b" {
		t.Fatalf("%v %v", res, err)
	}
	_, err = c.Sessions(context.Background(), &logicpb.SessionsRequest{})
	biz, ok := kerrors.FromBizStatusError(err)
	if !ok || biz.BizStatusCode() != int32(status.Unavailable) || biz.BizMessage() != "away" {
		t.Fatalf("the refusal arrived as %v", err)
	}
}

func TestStopLetsCallsEnd(t *testing.T) {
	e := echo{entered: make(chan struct{}), leave: make(chan struct{})}
	s, c := start(t, e)
	answered := make(chan error, 1)
	go func() {
		_, err := c.Handle(context.Background(), &logicpb.HandleRequest{Frames: []*logicpb.Frame{{Body: []byte("a")}}})
		answered <- err
	}()
	<-e.entered
	stopped := make(chan error, 1)
	go func() { stopped <- s.Stop(context.Background()) }()
	waitFor(t, func() bool { // no new connection is taken
		nc, err := net.Dial("tcp", s.Addr().String())
		if err == nil {
			nc.Close()
		}
		return err != nil
	})
	close(e.leave)
	if err := <-answered; err != nil {
		t.Errorf("the call in flight failed: %v", err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestStopBeforeServe(t *testing.T) {
	s, err := NewServer("127.0.0.1:0", echo{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(context.Background()); err != nil {
		t.Error(err)
	}
	if err := s.Stop(context.Background()); err != nil {
		t.Error(err)
	}
	if err := s.Serve(); err != nil {
		t.Errorf("serve after a stop: %v", err)
	}
}

// gateStub answers each item as queued.
type gateStub struct{}

func (gateStub) Deliver(_ context.Context, req *gatepb.DeliverRequest) (*gatepb.DeliverResponse, error) {
	return &gatepb.DeliverResponse{GateEpoch: req.GateEpoch, Outcomes: make([]gatepb.DeliverOutcome, len(req.Items))}, nil
}

func (gateStub) Kick(_ context.Context, req *gatepb.KickRequest) (*gatepb.KickResponse, error) {
	return &gatepb.KickResponse{Kicked: uint32(len(req.Items))}, nil
}

func TestGates(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	exit, done := make(chan error, 1), make(chan error, 1)
	srv := gateservice.NewServer(&gateStub{}, server.WithListener(ln), server.WithMetaHandler(transmeta.ServerTTHeaderHandler),
		server.WithExitSignal(func() <-chan error { return exit }))
	go func() { done <- srv.Run() }()
	t.Cleanup(func() { exit <- nil; <-done })

	g := NewGates(nil)
	address := ln.Addr().String()
	waitFor(t, func() bool {
		res, err := g.Deliver(context.Background(), address, &gatepb.DeliverRequest{GateEpoch: 7, Items: []*gatepb.Item{{}, {}}})
		return err == nil && res.GateEpoch == 7 && len(res.Outcomes) == 2
	})
	if res, err := g.Kick(context.Background(), address, &gatepb.KickRequest{Items: []*gatepb.KickItem{{}}}); err != nil || res.Kicked != 1 {
		t.Fatalf("%v %v", res, err)
	}
	g.mu.Lock()
	g.sweepLocked(time.Now().Add(2 * idleAfter))
	left := len(g.clients)
	g.mu.Unlock()
	if left != 0 {
		t.Errorf("%d clients stayed although nobody used them", left)
	}
	if _, err := g.Kick(context.Background(), address, &gatepb.KickRequest{}); err != nil {
		t.Errorf("no new client was made: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	if _, err := g.Deliver(ctx, "127.0.0.1:1", &gatepb.DeliverRequest{}); err == nil {
		t.Error("a gate that is not there answered")
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	if _, err := g.Kick(context.Background(), address, &gatepb.KickRequest{}); err == nil {
		t.Error("a closed port was used")
	}
}
