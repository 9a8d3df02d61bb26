package appserver

import (
	"errors"
	"fmt"
	"strconv"

	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/gatepost/gatepost/idl/status"
)

// Code says why a whole call failed: a gRPC status code, or, from 1000 on, one of package status, whose range is its behaviour.
type Code uint32

// The codes that the platform answers with.
const (
	InvalidArgument   = Code(codes.InvalidArgument)   // the request is wrong as it stands
	DeadlineExceeded  = Code(codes.DeadlineExceeded)  // no answer in time: whether it was done is unknown
	PermissionDenied  = Code(codes.PermissionDenied)  // the key lacks the right, or the domain is not its own
	ResourceExhausted = Code(codes.ResourceExhausted) // too much at once
	Unimplemented     = Code(codes.Unimplemented)     // the node is older than this package
	Internal          = Code(codes.Internal)          // a fault of the platform
	Unavailable       = Code(codes.Unavailable)       // nobody could be reached, or the platform cannot do it now: whether it was done is unknown
	Unauthenticated   = Code(codes.Unauthenticated)   // no such key, or it is revoked
)

// String is the name of the code.
func (c Code) String() string {
	switch {
	case c >= 1000:
		return status.Code(min(c, 65535)).String()
	case c <= Unauthenticated:
		return codes.Code(c).String()
	}
	return "code " + strconv.FormatUint(uint64(c), 10)
}

// Temporary reports whether the same call may succeed later.
func (c Code) Temporary() bool {
	switch c {
	case Unavailable, ResourceExhausted, DeadlineExceeded:
		return true
	}
	return c >= 1000 && status.Code(min(c, 65535)).Behaviour() == status.RetryLater
}

// Error is the failure of a whole call, after all attempts.
type Error struct {
	Op     string // "push", "presence", "kick", "token"
	Code   Code
	Reason string // one sentence for a human
	// transport: the platform did not say this; the connection did.
	transport bool
	cause     error
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %s: %s", e.Op, e.Code, e.Reason) }

// Unwrap returns the error of the context when it ended the attempts.
func (e *Error) Unwrap() error { return e.cause }

// CodeOf is the code of an error of this package; 0: err is nil or has none.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

// fromGRPC makes an *Error of what one attempt ended with. told: the platform itself said so, which it marks.
func fromGRPC(op string, err error, told bool) *Error {
	s := grpcstatus.Convert(err)
	if told {
		return &Error{Op: op, Code: Code(s.Code()), Reason: s.Message()}
	}
	switch s.Code() {
	case codes.DeadlineExceeded:
		return &Error{Op: op, Code: DeadlineExceeded, Reason: "no answer in time", transport: true}
	case codes.Canceled, codes.Unknown, codes.Internal, codes.Unavailable:
		// Of a connection that ended, or of something between here and there.
		return &Error{Op: op, Code: Unavailable, Reason: s.Message(), transport: true}
	}
	return &Error{Op: op, Code: Code(s.Code()), Reason: s.Message()}
}
