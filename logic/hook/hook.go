package hook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/gatepost/gatepost/logic/callout"
	"github.com/gatepost/gatepost/store"
)

// Config of a hook. All but URL may be zero.
type Config struct {
	URL         string
	Timeout     time.Duration // of one question, from its turn on; 0: one second
	Concurrency int           // questions at once; 0: DefaultConcurrency
	Remember    time.Duration // how long an answer counts, whatever it was; 0: each message is asked about
	Most        int           // answers that are remembered; 0: DefaultMost. Beyond it the oldest ones are forgotten
}

const (
	DefaultConcurrency = 64
	DefaultMost        = 65536
)

// Hook is logic's MayWrite. It is safe for concurrent use.
type Hook struct {
	endpoint *callout.Endpoint
	memory   *memory // nil: nothing is remembered
}

// New checks cfg. Nobody is asked yet.
func New(cfg Config) (*Hook, error) {
	if cfg.Remember < 0 || cfg.Most < 0 {
		return nil, fmt.Errorf("hook: remember (%v) and most (%d) must not be negative", cfg.Remember, cfg.Most)
	}
	if cfg.Concurrency == 0 {
		cfg.Concurrency = DefaultConcurrency
	}
	if cfg.Most == 0 {
		cfg.Most = DefaultMost
	}
	e, err := callout.New(callout.Config{URL: cfg.URL, Timeout: cfg.Timeout, Concurrency: cfg.Concurrency})
	if err != nil {
		return nil, fmt.Errorf("hook: %w", err)
	}
	h := &Hook{endpoint: e}
	if cfg.Remember > 0 {
		h.memory = newMemory(cfg.Remember, cfg.Most)
	}
	return h, nil
}

// Close drops idle connections. The hook may still be asked, as by messages that are on their way while it is replaced.
func (h *Hook) Close() { h.endpoint.Close() }

// question and answer are the JSON bodies.
type question struct {
	From user   `json:"from"`
	To   user   `json:"to"`
	Type string `json:"type"`
}

type user struct {
	Domain string `json:"domain"`
	UID    string `json:"uid"`
}

type answer struct {
	Allow  *bool  `json:"allow"`
	Reason string `json:"reason"`
}

// Ask reports whether from may write to to, and if not, why. An error: there was no answer.
func (h *Hook) Ask(ctx context.Context, from, to store.UserKey, messageType string) (allowed bool, reason string, err error) {
	q := question{From: user(from), To: user(to), Type: messageType}
	if a, ok := h.memory.recall(q); ok {
		return a.allowed, a.reason, nil
	}
	err = h.endpoint.Ask(ctx, q, func(code int, body []byte) error {
		if code != http.StatusOK {
			return fmt.Errorf("HTTP status %d", code)
		}
		var a answer
		if err := json.Unmarshal(body, &a); err != nil {
			return fmt.Errorf("decode the answer: %w", err)
		}
		if a.Allow == nil {
			return errors.New(`the answer has no "allow"`)
		}
		allowed, reason = *a.Allow, cut(a.Reason)
		return nil
	})
	if err != nil {
		return false, "", fmt.Errorf("ask the hook: %w", err)
	}
	h.memory.keep(q, verdict{allowed, reason})
	return allowed, reason, nil
}

// maxReasonBytes is what a refusal may say.
const maxReasonBytes = 256

func cut(reason string) string {
	if len(reason) > maxReasonBytes {
		reason = reason[:maxReasonBytes]
	}
	return strings.ToValidUTF8(reason, "")
}
