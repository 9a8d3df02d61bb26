package rpc

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/cloudwego/kitex/client"
	"github.com/cloudwego/kitex/pkg/transmeta"
	"github.com/cloudwego/kitex/server"
	"github.com/cloudwego/kitex/transport"

	"github.com/gatepost/gatepost/idl/gen/gatepb"
	"github.com/gatepost/gatepost/idl/gen/gatepb/gateservice"
	"github.com/gatepost/gatepost/idl/gen/logicpb"
	"github.com/gatepost/gatepost/idl/gen/logicpb/logicservice"
	"github.com/gatepost/gatepost/idl/status"
)

type fakeGate struct{}

func (*fakeGate) Deliver(_ context.Context, req *gatepb.DeliverRequest) (*gatepb.DeliverResponse, error) {
	if len(req.Items) == 0 {
		return nil, status.New(status.BadRequest, "no items")
	}
	return &gatepb.DeliverResponse{GateEpoch: 5, Outcomes: make([]gatepb.DeliverOutcome, len(req.Items))}, nil
}

func (*fakeGate) Kick(_ context.Context, req *gatepb.KickRequest) (*gatepb.KickResponse, error) {
	return &gatepb.KickResponse{Kicked: uint32(len(req.Items))}, nil
}

func TestServer(t *testing.T) {
	s, err := NewServer("127.0.0.1:0", &fakeGate{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	c, err := gateservice.NewClient("gatepost.gate", client.WithHostPorts(s.Addr().String()),
		client.WithTransportProtocol(transport.TTHeader), client.WithMetaHandler(transmeta.ClientTTHeaderHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var resp *gatepb.DeliverResponse
	for { // the listener is bound, the server may not accept yet
		if resp, err = c.Deliver(ctx, &gatepb.DeliverRequest{Items: []*gatepb.Item{{}, {}}}); err == nil || ctx.Err() != nil {
			break
		}
	}
	if err != nil || len(resp.Outcomes) != 2 || resp.GateEpoch != 5 {
		t.Fatal(resp, err)
	}
	_, err = c.Deliver(ctx, &gatepb.DeliverRequest{})
	var said *status.Error
	if !errors.As(fromKitex(err), &said) || said.Code != status.BadRequest || said.Reason != "no items" {
		t.Fatalf("a refusal arrives as %v", err)
	}
	if err := s.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-served; err != nil {
		t.Fatal(err)
	}
}

func TestStopBeforeServe(t *testing.T) {
	s, err := NewServer("127.0.0.1:0", &fakeGate{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	ln, err := net.Listen("tcp", s.Addr().String())
	if err != nil {
		t.Fatalf("the address is still taken: %v", err)
	}
	ln.Close()
	if err := s.Serve(); err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(); err == nil {
		t.Fatal("a server serves twice")
	}
}

type fakeLogic struct{ hang chan struct{} }

func (f *fakeLogic) Handle(_ context.Context, req *logicpb.HandleRequest) (*logicpb.HandleResponse, error) {
	switch len(req.Frames) {
	case 0:
		return nil, &status.Error{Code: status.Overloaded, Reason: "too much", RetryAfterMS: 250}
	case 1:
		<-f.hang
	}
	resp := &logicpb.HandleResponse{}
	for _, fr := range req.Frames {
		resp.Answers = append(resp.Answers, &logicpb.Answer{Body: fr.Body})
	}
	return resp, nil
}

func (f *fakeLogic) Beat(context.Context, *logicpb.BeatRequest) (*logicpb.BeatResponse, error) {
	return &logicpb.BeatResponse{LogicEpoch: 3, Ready: true}, nil
}

func (f *fakeLogic) Sessions(context.Context, *logicpb.SessionsRequest) (*logicpb.SessionsResponse, error) {
	return &logicpb.SessionsResponse{PresenceEpoch: 9}, nil
}

func TestLogicClient(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeLogic{hang: make(chan struct{})}
	exit := make(chan error)
	srv := logicservice.NewServer(f, server.WithListener(ln), server.WithMetaHandler(transmeta.ServerTTHeaderHandler),
		server.WithMiddleware(toStatus), server.WithExitSignal(func() <-chan error { return exit }))
	served := make(chan error, 1)
	go func() { served <- srv.Run() }()
	c, err := Dial(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for {
		if _, err = c.Beat(ctx, &logicpb.BeatRequest{}); err == nil || ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Handle(ctx, &logicpb.HandleRequest{Frames: []*logicpb.Frame{{Body: []byte("a")}, {Body: []byte("b")}}})
	if err != nil || len(resp.Answers) != 2 || string(resp.Answers[1].Body) != "b" {
		t.Fatal(resp, err)
	}
	if s, err := c.Sessions(ctx, &logicpb.SessionsRequest{}); err != nil || s.PresenceEpoch != 9 {
		t.Fatal(s, err)
	}
	_, err = c.Handle(ctx, &logicpb.HandleRequest{})
	var said *status.Error
	if !errors.As(err, &said) || said.Code != status.Overloaded || said.RetryAfterMS != 250 {
		t.Fatal(err)
	}
	short, cancelShort := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancelShort()
	if _, err = c.Handle(short, &logicpb.HandleRequest{Frames: []*logicpb.Frame{{}}}); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a call that hangs ends with %v", err)
	}
	close(f.hang)
	exit <- nil
	if err := <-served; err != nil {
		t.Fatal(err)
	}
	if _, err = c.Beat(ctx, &logicpb.BeatRequest{}); err == nil || errors.Is(err, context.DeadlineExceeded) || errors.As(err, &said) {
		t.Fatalf("a node that is gone: %v", err)
	}
}
