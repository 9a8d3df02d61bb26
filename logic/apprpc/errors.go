package apprpc

import (
	"errors"

	"github.com/cloudwego/kitex/pkg/kerrors"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"

	"github.com/gatepost/gatepost/logic"
)

var faults = map[logic.AppFault]codes.Code{
	logic.AppInvalid:         codes.InvalidArgument,
	logic.AppUnauthenticated: codes.Unauthenticated,
	logic.AppDenied:          codes.PermissionDenied,
	logic.AppExhausted:       codes.ResourceExhausted,
	logic.AppUnavailable:     codes.Unavailable,
	logic.AppInternal:        codes.Internal,
}

var errPanic = business(codes.Internal, "this request could not be handled")

// failure is what a caller sees of err: the code and the sentence, never the cause.
func failure(err error) error {
	var e *logic.AppError
	if errors.As(err, &e) {
		if code, ok := faults[e.Fault]; ok {
			return business(code, e.Reason)
		}
	}
	return errPanic
}

// business is an error with the same code for both transports.
func business(code codes.Code, reason string) error {
	e := &kerrors.GRPCBizStatusError{BizStatusError: *kerrors.NewBizStatusError(int32(code), reason).(*kerrors.BizStatusError)}
	e.SetGRPCStatus(status.New(code, reason))
	return e
}
