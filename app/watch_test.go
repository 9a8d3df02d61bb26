package app

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/gatepost/gatepost/store"
)

// flaky is a presence table whose Lookup fails with err.
type flaky struct {
	presence
	err error
}

func (f *flaky) Lookup(context.Context, []store.UserKey) (store.Lookup, error) {
	return store.Lookup{}, f.err
}

func TestRedisThatGoesAndComesIsToldOnce(t *testing.T) {
	var logs bytes.Buffer
	table := &flaky{}
	w := watch(table, []string{"10.0.0.6:6379"}, slog.New(slog.NewTextHandler(&logs, nil)))
	call := func(times int, err error) {
		table.err = err
		for range times {
			if _, got := w.Lookup(t.Context(), nil); got != err {
				t.Fatalf("got %v, want %v", got, err)
			}
		}
	}
	away := fmt.Errorf("look up: %w: connection refused", store.ErrUnavailable)
	call(awayAfter-1, away) // slow, and there again
	call(1, nil)
	call(awayAfter, fmt.Errorf("%w: %w", store.ErrUnavailable, context.Canceled)) // given up by the callers
	if logs.Len() > 0 {
		t.Errorf("logged too early:\n%s", &logs)
	}
	call(100, away)
	call(100, nil)
	lines := strings.Split(strings.TrimSpace(logs.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], "WARN") || !strings.Contains(lines[0], "10.0.0.6:6379") || !strings.Contains(lines[0], "refused") ||
		!strings.Contains(lines[1], "INFO") || !strings.Contains(lines[1], "10.0.0.6:6379") {
		t.Errorf("want one warning and one line that it is back:\n%s", &logs)
	}
}
