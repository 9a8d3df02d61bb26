package gatepost

import (
	"errors"
	"time"

	"github.com/gatepost/gatepost/idl/status"
)

// Errors of the SDK itself. What a server said is an *Error.
var (
	// ErrClosed: Close or Logout was called.
	ErrClosed = errors.New("gatepost: client is closed")
	// ErrOutboxFull: the outbox holds as many messages or uplinks, or bytes of them, as Config.Limits allows. Nothing was kept.
	ErrOutboxFull = errors.New("gatepost: outbox is full")
	// ErrOffline: the call needs a session and there is none.
	ErrOffline = errors.New("gatepost: not online")
	// ErrRestored: the store is a restored backup or a clone, and the message may have been sent by its original; sending it
	// again could show it twice. The app decides.
	ErrRestored = errors.New("gatepost: store was restored or cloned; whether the message was sent is not known")
	// ErrReplaced: a later report with the same ReplaceKey took this one's place before it was sent.
	ErrReplaced = errors.New("gatepost: replaced by a later report")
	// ErrStoreUser: the store belongs to another user or device class.
	ErrStoreUser = errors.New("gatepost: store belongs to another user or device")
	// ErrStoreInUse: another process or Client has the store open.
	ErrStoreInUse = errors.New("gatepost: store is in use")
)

// Error is a refusal by the server, or, with the same codes, by the SDK in its place.
type Error struct {
	Code       status.Code
	Reason     string        // one sentence for a human
	RetryAfter time.Duration // 0: the server named none
}

func (e *Error) Error() string { return "gatepost: " + e.Code.String() + ": " + e.Reason }

// Behaviour is what Code asks of a client: never retry, retry later, reconnect, or stay away. The SDK has acted on it;
// an app need not, except on a stay-away.
func (e *Error) Behaviour() status.Behaviour { return e.Code.Behaviour() }

// asError is the *Error in err's chain, or nil.
func asError(err error) *Error {
	var e *Error
	errors.As(err, &e)
	return e
}

// codeOf is the code of the *Error in err's chain, or status.OK.
func codeOf(err error) status.Code {
	if e := asError(err); e != nil {
		return e.Code
	}
	return status.OK
}
