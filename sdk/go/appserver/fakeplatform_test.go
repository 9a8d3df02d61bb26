package appserver_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cloudwego/kitex/pkg/kerrors"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"
	grpcstatus "github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"
	"github.com/cloudwego/kitex/server"

	"github.com/gatepost/gatepost/idl/gen/appserverpb"
	kitexpb "github.com/gatepost/gatepost/idl/gen/appserverpb/appserver"
	"github.com/gatepost/gatepost/sdk/go/appserver"
)

const testKey = "key1.c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXM"

// platform is a fake of the service for app-servers. Each hook may be nil.
type platform struct {
	addr string
	stop func()
	push func(n int, req *appserverpb.PushRequest) (*appserverpb.PushResponse, error)

	mu     sync.Mutex
	keys   []string
	pushes []*appserverpb.PushRequest
}

func startPlatform(t *testing.T, p *platform) *platform {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	exit := make(chan error)
	s := kitexpb.NewServer(p, server.WithListener(ln),
		server.WithExitSignal(func() <-chan error { return exit }), server.WithExitWaitTime(50*time.Millisecond))
	p.addr = ln.Addr().String()
	served := make(chan error, 1)
	go func() { served <- s.Run() }()
	p.stop = sync.OnceFunc(func() {
		close(exit)
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(p.stop)
	return p
}

// refuse is a failure of a whole call as the platform makes it.
func refuse(code codes.Code, reason string) error {
	e := &kerrors.GRPCBizStatusError{BizStatusError: *kerrors.NewBizStatusError(int32(code), reason).(*kerrors.BizStatusError)}
	e.SetGRPCStatus(grpcstatus.New(code, reason))
	return e
}

func (p *platform) enter(ctx context.Context) {
	key := ""
	if md, ok := metadata.FromIncomingContext(ctx); ok {
		key = fmt.Sprint(md.Get("authorization"))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys = append(p.keys, key)
}

// asked is what Push was asked, shown the keys of all calls.
func (p *platform) asked() []*appserverpb.PushRequest {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.pushes)
}

func (p *platform) shown() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.keys)
}

// Push accepts for everybody unless the hook says otherwise.
func (p *platform) Push(ctx context.Context, req *appserverpb.PushRequest) (*appserverpb.PushResponse, error) {
	p.enter(ctx)
	p.mu.Lock()
	p.pushes = append(p.pushes, req)
	n := len(p.pushes)
	p.mu.Unlock()
	if p.push != nil {
		return p.push(n, req)
	}
	return accept(req), nil
}

func accept(req *appserverpb.PushRequest) *appserverpb.PushResponse {
	resp := &appserverpb.PushResponse{}
	for i, uid := range req.Uids {
		resp.Results = append(resp.Results, &appserverpb.PushResult{Uid: uid, Outcome: appserverpb.PushOutcome_PUSH_ACCEPTED, MsgId: uint64(i + 1)})
	}
	return resp
}

func (p *platform) Presence(ctx context.Context, req *appserverpb.PresenceRequest) (*appserverpb.PresenceResponse, error) {
	p.enter(ctx)
	resp := &appserverpb.PresenceResponse{}
	for i, uid := range req.Uids {
		u := &appserverpb.UserPresence{Uid: uid}
		if i%2 == 0 {
			u.Online = []appserverpb.DeviceClass{appserverpb.DeviceClass_DEVICE_CLASS_ANDROID, 17}
		}
		resp.Users = append(resp.Users, u)
	}
	return resp, nil
}

func (p *platform) Kick(ctx context.Context, req *appserverpb.KickRequest) (*appserverpb.KickResponse, error) {
	p.enter(ctx)
	if req.Uid != "u" || req.DeviceClass != 2 || req.Reason != "why" {
		return nil, refuse(codes.InvalidArgument, "not as asked")
	}
	return &appserverpb.KickResponse{Sessions: 3}, nil
}

func (p *platform) Token(ctx context.Context, req *appserverpb.TokenRequest) (*appserverpb.TokenResponse, error) {
	p.enter(ctx)
	if req.TtlMs != 60_001 {
		return nil, refuse(codes.InvalidArgument, "not as asked")
	}
	return &appserverpb.TokenResponse{Token: "token of " + req.Uid, ExpiresAtMs: 1_700_000_000_000}, nil
}

func newClient(t *testing.T, addresses ...string) *appserver.Client {
	t.Helper()
	c, err := appserver.New(appserver.Config{
		Addresses: addresses, Key: testKey, RetryBase: time.Millisecond, RetryCap: 5 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}
