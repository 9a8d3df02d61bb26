// Package status holds the codes that cross the house's edges, and the one error type that carries them inside.
//
// The range of a code is its behaviour [P-7.1], so that whoever meets a code that is newer than himself still acts rightly.
package status

import (
	"errors"
	"fmt"

	"github.com/gatepost/gatepost/idl/gen/statuspb"
)

// Code is the status of a frame header: 16 bits, 0 is OK.
type Code uint16

// The codes, with the meanings that status.proto gives them.
const (
	OK Code = Code(statuspb.Status_STATUS_OK)

	BadRequest      Code = Code(statuspb.Status_STATUS_BAD_REQUEST)
	UnknownCommand  Code = Code(statuspb.Status_STATUS_UNKNOWN_COMMAND)
	NotLoggedIn     Code = Code(statuspb.Status_STATUS_NOT_LOGGED_IN)
	TooLarge        Code = Code(statuspb.Status_STATUS_TOO_LARGE)
	NotAllowed      Code = Code(statuspb.Status_STATUS_NOT_ALLOWED)
	UnknownReceiver Code = Code(statuspb.Status_STATUS_UNKNOWN_RECEIVER)
	Expired         Code = Code(statuspb.Status_STATUS_EXPIRED)
	InboxFull       Code = Code(statuspb.Status_STATUS_INBOX_FULL)
	Unstorable      Code = Code(statuspb.Status_STATUS_UNSTORABLE)
	AlreadyLoggedIn Code = Code(statuspb.Status_STATUS_ALREADY_LOGGED_IN)
	NoTopic         Code = Code(statuspb.Status_STATUS_NO_TOPIC)
	HookAway        Code = Code(statuspb.Status_STATUS_HOOK_AWAY)

	Unavailable  Code = Code(statuspb.Status_STATUS_UNAVAILABLE)
	Overloaded   Code = Code(statuspb.Status_STATUS_OVERLOADED)
	StreamClosed Code = Code(statuspb.Status_STATUS_STREAM_CLOSED)
	Timeout      Code = Code(statuspb.Status_STATUS_TIMEOUT)
	Stopping     Code = Code(statuspb.Status_STATUS_STOPPING)

	BadFrame           Code = Code(statuspb.Status_STATUS_BAD_FRAME)
	BadHandshake       Code = Code(statuspb.Status_STATUS_BAD_HANDSHAKE)
	HelloTimeout       Code = Code(statuspb.Status_STATUS_HELLO_TIMEOUT)
	LoginTimeout       Code = Code(statuspb.Status_STATUS_LOGIN_TIMEOUT)
	Idle               Code = Code(statuspb.Status_STATUS_IDLE)
	Slow               Code = Code(statuspb.Status_STATUS_SLOW)
	Draining           Code = Code(statuspb.Status_STATUS_DRAINING)
	TooManyConnections Code = Code(statuspb.Status_STATUS_TOO_MANY_CONNECTIONS)
	SessionLost        Code = Code(statuspb.Status_STATUS_SESSION_LOST)
	GateError          Code = Code(statuspb.Status_STATUS_GATE_ERROR)

	Replaced           Code = Code(statuspb.Status_STATUS_REPLACED)
	BadToken           Code = Code(statuspb.Status_STATUS_BAD_TOKEN)
	TokenExpired       Code = Code(statuspb.Status_STATUS_TOKEN_EXPIRED)
	StaleLogin         Code = Code(statuspb.Status_STATUS_STALE_LOGIN)
	UnsupportedVersion Code = Code(statuspb.Status_STATUS_UNSUPPORTED_VERSION)
	UnknownKey         Code = Code(statuspb.Status_STATUS_UNKNOWN_KEY)
	UnknownDomain      Code = Code(statuspb.Status_STATUS_UNKNOWN_DOMAIN)
	Kicked             Code = Code(statuspb.Status_STATUS_KICKED)
	ClearRefused       Code = Code(statuspb.Status_STATUS_CLEAR_REFUSED)
)

// Behaviour is what the peer of a code does.
type Behaviour uint8

const (
	Done Behaviour = iota
	NeverRetry
	RetryLater
	Reconnect
	StayAway
)

// String is the behaviour as people say it.
func (b Behaviour) String() string {
	return [...]string{"done", "never retry", "retry later", "reconnect", "stay away"}[min(b, StayAway)]
}

// Behaviour tells what a client does on c [P-7.1]. A code beyond the known ranges counts as StayAway.
func (c Code) Behaviour() Behaviour {
	switch {
	case c < 1000:
		return Done
	case c < 2000:
		return NeverRetry
	case c < 3000:
		return RetryLater
	case c < 4000:
		return Reconnect
	default:
		return StayAway
	}
}

// Final reports whether c ends the story of the request it answers: it is neither to be sent again nor in doubt.
func (c Code) Final() bool { b := c.Behaviour(); return b == Done || b == NeverRetry }

// String is the name from status.proto without its prefix, in lower case words; an unknown code is its number.
func (c Code) String() string {
	if s, ok := names[c]; ok {
		return s
	}
	return fmt.Sprintf("status %d", uint16(c))
}

var names = map[Code]string{
	OK: "ok",

	BadRequest: "bad request", UnknownCommand: "unknown command", NotLoggedIn: "not logged in", TooLarge: "too large",
	NotAllowed: "not allowed", UnknownReceiver: "unknown receiver", Expired: "expired", InboxFull: "inbox full",
	Unstorable: "unstorable", AlreadyLoggedIn: "already logged in", NoTopic: "no topic", HookAway: "hook away",

	Unavailable: "unavailable", Overloaded: "overloaded", StreamClosed: "stream closed", Timeout: "timeout", Stopping: "stopping",

	BadFrame: "bad frame", BadHandshake: "bad handshake", HelloTimeout: "hello timeout", LoginTimeout: "login timeout",
	Idle: "idle", Slow: "slow", Draining: "draining", TooManyConnections: "too many connections",
	SessionLost: "session lost", GateError: "gate error",

	Replaced: "replaced", BadToken: "bad token", TokenExpired: "token expired", StaleLogin: "stale login",
	UnsupportedVersion: "unsupported version", UnknownKey: "unknown key", UnknownDomain: "unknown domain",
	Kicked: "kicked", ClearRefused: "clear refused",
}

// Error is a refusal. The peer sees Code, Reason and RetryAfterMS; the cause stays in our log.
type Error struct {
	Code         Code
	Reason       string // one sentence for a human
	RetryAfterMS uint32 // 0: as the client's backoff says
	cause        error
}

// New makes an Error with a reason.
func New(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Reason: fmt.Sprintf(format, args...)}
}

// Wrap makes an Error that keeps cause for the log.
func Wrap(code Code, cause error, format string, args ...any) *Error {
	return &Error{Code: code, Reason: fmt.Sprintf(format, args...), cause: cause}
}

func (e *Error) Error() string {
	if e.cause != nil {
		return fmt.Sprintf("%s: %s: %v", e.Code, e.Reason, e.cause)
	}
	return fmt.Sprintf("%s: %s", e.Code, e.Reason)
}

func (e *Error) Unwrap() error { return e.cause }

// Of returns the Error in err's chain, or one with code fallback that hides err from the peer. Of(nil, …) is nil.
func Of(err error, fallback Code) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Code: fallback, Reason: fallback.String(), cause: err}
}
