package rpc

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/cloudwego/kitex/pkg/endpoint"
	"github.com/cloudwego/kitex/pkg/kerrors"
	"github.com/cloudwego/kitex/pkg/rpcinfo"

	"github.com/gatepost/gatepost/idl/status"
)

const retryAfter = "retry_after_ms"

// toStatus is the server's edge: a refusal becomes a business status.
func toStatus(next endpoint.Endpoint) endpoint.Endpoint {
	return func(ctx context.Context, req, resp any) error {
		err := next(ctx, req, resp)
		var said *status.Error
		if !errors.As(err, &said) {
			return err
		}
		extra := map[string]string{}
		if said.RetryAfterMS > 0 {
			extra[retryAfter] = strconv.FormatUint(uint64(said.RetryAfterMS), 10)
		}
		biz := kerrors.NewBizStatusErrorWithExtra(int32(said.Code), said.Reason, extra)
		if set, ok := rpcinfo.GetRPCInfo(ctx).Invocation().(rpcinfo.InvocationSetter); ok {
			set.SetBizStatusErr(biz) // travels in the header; as an error it would count as a broken call
			return nil
		}
		return biz
	}
}

// fromKitex is the client's edge: what a gate distinguishes, in words that are not Kitex's.
func fromKitex(err error) error {
	if err == nil {
		return nil
	}
	if biz, ok := kerrors.FromBizStatusError(err); ok {
		said := status.New(status.Code(biz.BizStatusCode()), "%s", biz.BizMessage())
		if ms, e := strconv.ParseUint(biz.BizExtra()[retryAfter], 10, 32); e == nil {
			said.RetryAfterMS = uint32(ms)
		}
		return said
	}
	if kerrors.IsTimeoutError(err) && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %v", context.DeadlineExceeded, err)
	}
	return err
}
