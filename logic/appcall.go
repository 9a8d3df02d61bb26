package logic

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/gatepost/gatepost/idl/gen/appserverpb"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/store"
)

// AppFault says how a call of an app-server failed as a whole.
type AppFault uint8

const (
	AppInvalid         AppFault = iota // the request is wrong as it stands
	AppUnauthenticated                 // no app key, an unknown or a revoked one
	AppDenied                          // the key lacks the right, or the domain is not its own
	AppExhausted                       // too much at once: later, with the same client_msg_id
	AppUnavailable                     // something is away: likewise
	AppInternal                        // a fault of ours
)

// AppError is the failure of a whole call. The caller sees Fault and Reason; the cause stays in our log.
type AppError struct {
	Fault  AppFault
	Reason string
	cause  error
}

func appErrorf(fault AppFault, format string, args ...any) *AppError {
	return &AppError{Fault: fault, Reason: fmt.Sprintf(format, args...)}
}

func (e *AppError) Error() string {
	if e.cause != nil {
		return fmt.Sprintf("%s: %v", e.Reason, e.cause)
	}
	return e.Reason
}

func (e *AppError) Unwrap() error { return e.cause }

// String labels metrics.
func (f AppFault) String() string {
	return [...]string{"invalid", "unauthenticated", "denied", "exhausted", "unavailable", "internal"}[min(f, AppInternal)]
}

// maxAppTargets bounds the users of one call.
const maxAppTargets = maxSpend

// appMethod labels metrics and logs.
type appMethod string

const (
	appPush     appMethod = "push"
	appPresence appMethod = "presence"
	appKick     appMethod = "kick"
	appToken    appMethod = "token"
)

// caller is an app-server whose key was found good.
type caller struct {
	keyID  string
	domain string
}

// enterApp lets a call of an app-server in: key is valid, has the right, and is of domain (its own when empty). ok calls end with leave.
func (n *Node) enterApp(ctx context.Context, key, right, domain string) (c caller, leave func(), refusal *AppError) {
	if !n.calls.enter() {
		return caller{}, nil, appErrorf(AppUnavailable, "this node is stopping")
	}
	defer func() {
		if refusal != nil {
			n.calls.leave()
		}
	}()
	k, refusal := n.keys.check(ctx, key)
	switch {
	case refusal != nil:
		return caller{}, nil, refusal
	case !slices.Contains(k.Rights, right):
		return caller{}, nil, appErrorf(AppDenied, "the app key lacks the right %q", right)
	case domain != "" && domain != k.Domain:
		return caller{}, nil, appErrorf(AppDenied, "the app key is of another domain")
	}
	return caller{keyID: k.ID, domain: k.Domain}, n.calls.leave, nil
}

// appResult ends a call: it counts it, keeps a nil *AppError from becoming an error, and tells the log of what is not the caller's fault.
func appResult[T any](n *Node, method appMethod, c caller, res *T, refusal *AppError) (*T, error) {
	if refusal == nil {
		n.metrics.appCalls.WithLabelValues(string(method), "ok").Inc()
		return res, nil
	}
	n.metrics.appCalls.WithLabelValues(string(method), refusal.Fault.String()).Inc()
	if refusal.cause != nil || refusal.Fault == AppInternal {
		n.logger.Warn("a call of an app-server failed", slog.String("method", string(method)), slog.String("domain", c.domain),
			slog.String("key_id", c.keyID), slog.Any("error", refusal))
	}
	return nil, refusal
}

// appUsers are the users of a request, in its order. bad: what is wrong with one; its key is zero.
func appUsers(domain string, uids []string) (users []store.UserKey, bad []*status.Error, refusal *AppError) {
	if len(uids) == 0 || len(uids) > maxAppTargets {
		return nil, nil, appErrorf(AppInvalid, "there are %d uids: a call has 1 to %d", len(uids), maxAppTargets)
	}
	users = make([]store.UserKey, len(uids))
	bad = make([]*status.Error, len(uids))
	seen := make(map[string]struct{}, len(uids))
	for i, uid := range uids {
		if _, twice := seen[uid]; twice {
			return nil, nil, appErrorf(AppInvalid, "a uid is in the list twice, the second time at %d", i)
		}
		seen[uid] = struct{}{}
		user := store.UserKey{Domain: domain, UID: uid}
		if err := checkUser(user); err != nil {
			bad[i] = status.New(status.BadRequest, "%v", err)
			continue
		}
		users[i] = user
	}
	return users, bad, nil
}

// appClass checks a device class; 0: all of them.
func appClass(c appserverpb.DeviceClass) (store.DeviceClass, *AppError) {
	if c < 0 || c > maxClass {
		return 0, appErrorf(AppInvalid, "a device class is 0 to %d", maxClass)
	}
	return store.DeviceClass(c), nil
}

// millis turns ms into a duration; ms is at most most.
func millis(ms uint64, most time.Duration) (d time.Duration, ok bool) {
	if ms > uint64(most/time.Millisecond) {
		return 0, false
	}
	return time.Duration(ms) * time.Millisecond, true
}
