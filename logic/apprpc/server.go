package apprpc

import (
	"context"
	"log/slog"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/bytedance/gopkg/cloud/metainfo"
	"github.com/cloudwego/kitex/pkg/limiter"
	"github.com/cloudwego/kitex/pkg/remote/codec"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"
	"github.com/cloudwego/kitex/server"

	"github.com/gatepost/gatepost/idl/gen/appserverpb"
	"github.com/gatepost/gatepost/idl/gen/appserverpb/appserver"
	"github.com/gatepost/gatepost/logic/rpc"
)

const (
	// maxBodyBytes bounds a request, and an answer over TTHeader: twice of what the largest push needs.
	maxBodyBytes = 512 << 10
	// maxBodiesBytes bounds the gRPC requests that are being read or carried.
	maxBodiesBytes = 128 << 20
	maxConnections = 1024
	maxStreams     = 256 // gRPC calls in flight on one connection
	maxHeaderBytes = 16 << 10
)

// UseCases are what a logic node does for app-servers. key is the text of the caller's app key, empty when there is none.
// Errors are *logic.AppError.
type UseCases interface {
	Push(ctx context.Context, key string, req *appserverpb.PushRequest) (*appserverpb.PushResponse, error)
	Presence(ctx context.Context, key string, req *appserverpb.PresenceRequest) (*appserverpb.PresenceResponse, error)
	Kick(ctx context.Context, key string, req *appserverpb.KickRequest) (*appserverpb.KickResponse, error)
	Token(ctx context.Context, key string, req *appserverpb.TokenRequest) (*appserverpb.TokenResponse, error)
}

// Server serves app-servers. It traps no signals.
type Server struct{ *rpc.Server }

// NewServer binds addr; port 0 takes a free one. It serves once Serve runs. logger may be nil.
func NewServer(addr string, node UseCases, logger *slog.Logger) (*Server, error) {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	bodies := &budget{most: maxBodiesBytes}
	s, err := rpc.Listen("app-servers", addr, logger, func(options ...server.Option) server.Server {
		return appserver.NewServer(&edge{node: node, logger: logger}, append(options,
			server.WithCodec(codec.NewDefaultCodecWithSizeLimit(maxBodyBytes)), // of TTHeader; gRPC's is in bounded
			server.WithMiddleware(bodies.middleware),
			server.WithConnectionLimiter(limiter.NewConnectionLimiter(maxConnections)), // WithLimit would leave a goroutine behind
			server.WithGRPCMaxConcurrentStreams(maxStreams),
			server.WithGRPCMaxHeaderListSize(maxHeaderBytes),
			server.WithGRPCKeepaliveParams(grpc.ServerKeepalive{Time: time.Minute, Timeout: 20 * time.Second}),
			server.WithGRPCKeepaliveEnforcementPolicy(grpc.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
		)...)
	})
	if err != nil {
		return nil, err
	}
	return &Server{s}, nil
}

// edge finds the caller's key and turns failures into errors that cross the wire.
type edge struct {
	node   UseCases
	logger *slog.Logger
}

var _ appserverpb.AppServer = (*edge)(nil)

func (e *edge) Push(ctx context.Context, req *appserverpb.PushRequest) (*appserverpb.PushResponse, error) {
	return call(ctx, e, req, e.node.Push)
}

func (e *edge) Presence(ctx context.Context, req *appserverpb.PresenceRequest) (*appserverpb.PresenceResponse, error) {
	return call(ctx, e, req, e.node.Presence)
}

func (e *edge) Kick(ctx context.Context, req *appserverpb.KickRequest) (*appserverpb.KickResponse, error) {
	return call(ctx, e, req, e.node.Kick)
}

func (e *edge) Token(ctx context.Context, req *appserverpb.TokenRequest) (*appserverpb.TokenResponse, error) {
	return call(ctx, e, req, e.node.Token)
}

// call runs one use case. A panic costs its call alone.
func call[Req, Res any](ctx context.Context, e *edge, req *Req, run func(context.Context, string, *Req) (*Res, error)) (res *Res, err error) {
	defer func() {
		if p := recover(); p != nil {
			e.logger.Error("panic in a call of an app-server", slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
			res, err = nil, errPanic
		}
	}()
	if req == nil { // a body without fields
		req = new(Req)
	}
	if res, err = run(ctx, keyOf(ctx), req); err != nil {
		return nil, failure(err)
	}
	return res, nil
}

// keyOf is the app key that a call shows: metadata of gRPC, or meta information of TTHeader. Empty: none.
func keyOf(ctx context.Context) string {
	if md, ok := metadata.FromIncomingContext(ctx); ok {
		for _, v := range md.Get("authorization") {
			if key, ok := bearer(v); ok {
				return key
			}
		}
		return ""
	}
	v, ok := metainfo.GetValue(ctx, "AUTHORIZATION")
	if !ok {
		v, _ = metainfo.GetPersistentValue(ctx, "AUTHORIZATION")
	}
	key, _ := bearer(v)
	return key
}

func bearer(v string) (key string, ok bool) {
	const scheme = "Bearer "
	if len(v) < len(scheme) || !strings.EqualFold(v[:len(scheme)], scheme) {
		return "", false
	}
	return strings.TrimSpace(v[len(scheme):]), true
}

// budget bounds the bytes of requests in flight.
type budget struct {
	most  int64
	inUse atomic.Int64
}

func (b *budget) acquire(n int) bool {
	if b.inUse.Add(int64(n)) > b.most {
		b.release(n)
		return false
	}
	return true
}

func (b *budget) release(n int) { b.inUse.Add(int64(-n)) }
