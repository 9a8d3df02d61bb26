package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/logic/callout"
	"github.com/gatepost/gatepost/store"
)

// HTTPConfig of an authenticator that asks the domain's business.
type HTTPConfig struct {
	URL     string
	Timeout time.Duration // of one question; 0: one second
}

// HTTP proves users by asking an endpoint:
//
//	POST {"domain":"shop","uid":"ann","device":1,"token":"…"}
//	200  {"ok":true}
//
// Status 401, or "ok" false, says that the token is not good. Everything else is no answer: the login may be tried again later.
// How many are asked at once is bounded by who asks. It is safe for concurrent use.
type HTTP struct{ endpoint *callout.Endpoint }

// NewHTTP checks cfg. Nobody is asked yet.
func NewHTTP(cfg HTTPConfig) (*HTTP, error) {
	e, err := callout.New(callout.Config{URL: cfg.URL, Timeout: cfg.Timeout})
	if err != nil {
		return nil, fmt.Errorf("http authenticator: %w", err)
	}
	return &HTTP{endpoint: e}, nil
}

// Close drops idle connections. Logins may still be checked.
func (h *HTTP) Close() { h.endpoint.Close() }

type loginQuestion struct {
	Domain string            `json:"domain"`
	UID    string            `json:"uid"`
	Device store.DeviceClass `json:"device"`
	Token  string            `json:"token"`
}

type loginAnswer struct {
	OK *bool `json:"ok"`
}

// Authenticate refuses with BadToken, or with Unavailable when there is no answer.
func (h *HTTP) Authenticate(ctx context.Context, user store.UserKey, class store.DeviceClass, token []byte) error {
	if !utf8.Valid(token) {
		return status.New(status.BadToken, "the token is not text")
	}
	good := false
	err := h.endpoint.Ask(ctx, loginQuestion{user.Domain, user.UID, class, string(token)}, func(code int, body []byte) error {
		switch code {
		case http.StatusUnauthorized:
			return nil
		case http.StatusOK:
		default:
			return fmt.Errorf("HTTP status %d", code)
		}
		var a loginAnswer
		if err := json.Unmarshal(body, &a); err != nil {
			return fmt.Errorf("decode the answer: %w", err)
		}
		if a.OK == nil {
			return errors.New(`the answer has no "ok"`)
		}
		good = *a.OK
		return nil
	})
	if err != nil {
		refusal := status.Wrap(status.Unavailable, err, "the token could not be checked now")
		var open *callout.OpenError
		if errors.As(err, &open) {
			refusal.RetryAfterMS = uint32(min(open.After.Milliseconds()+1, math.MaxUint32))
		}
		return refusal
	}
	if !good {
		return status.New(status.BadToken, "the token is not valid")
	}
	return nil
}
