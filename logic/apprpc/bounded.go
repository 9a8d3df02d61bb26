package apprpc

import (
	"context"
	"encoding/binary"
	"errors"
	"io"

	"github.com/cloudwego/kitex/pkg/endpoint"
	"github.com/cloudwego/kitex/pkg/remote"
	"github.com/cloudwego/kitex/pkg/remote/codec/protobuf/encoding"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/rpcinfo"
	"github.com/cloudwego/kitex/pkg/streaming"
)

// prefixLen is the length of what stands before a gRPC message: compressed:1 length:4, big endian.
const prefixLen = 5

// middleware puts a bounded stream before each gRPC call: Kitex itself would make room for whatever length a caller names.
func (b *budget) middleware(next endpoint.Endpoint) endpoint.Endpoint {
	return func(ctx context.Context, req, resp any) error {
		args, ok := req.(*streaming.Args)
		if !ok { // TTHeader: bounded by its codec
			return next(ctx, req, resp)
		}
		s := &bounded{Stream: args.Stream, budget: b}
		args.Stream = s
		// A client that could read a compressed answer says so; Kitex fails the call when it has no such compressor.
		remote.SetSendCompressor(rpcinfo.GetRPCInfo(ctx), encoding.Identity)
		defer s.release()
		return next(ctx, req, resp)
	}
}

// bounded is the stream of one unary gRPC call. It reads its request by itself. It is used by one goroutine.
type bounded struct {
	streaming.Stream
	budget *budget
	taken  int
}

func (s *bounded) release() {
	s.budget.release(s.taken)
	s.taken = 0
}

// RecvMsg reads the request into m, which keeps nothing of what was read.
func (s *bounded) RecvMsg(m any) error {
	into, ok := m.(interface{ Unmarshal([]byte) error })
	if !ok {
		return business(codes.Internal, "the request cannot be decoded")
	}
	//lint:ignore SA1019 nothing else reads a request before Kitex makes room for it
	conn, err := nphttp2.GetServerConn(s.Stream)
	if err != nil {
		return err
	}
	var prefix [prefixLen]byte
	if _, err := conn.Read(prefix[:]); err != nil {
		if errors.Is(err, io.EOF) {
			return business(codes.InvalidArgument, "the call has no request")
		}
		return err
	}
	if prefix[0] != 0 {
		return business(codes.Unimplemented, "requests are not compressed here")
	}
	size := binary.BigEndian.Uint32(prefix[1:])
	if size > maxBodyBytes {
		return business(codes.ResourceExhausted, "the request is too large")
	}
	if !s.budget.acquire(int(size)) {
		return business(codes.ResourceExhausted, "too many requests are on their way")
	}
	s.taken = int(size)
	body := make([]byte, size)
	if size > 0 {
		if _, err := conn.Read(body); err != nil {
			return err
		}
	}
	if err := into.Unmarshal(body); err != nil {
		return business(codes.InvalidArgument, "the request is not the protobuf message it should be")
	}
	return nil
}
