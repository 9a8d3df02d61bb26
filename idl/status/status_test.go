package status

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/gatepost/gatepost/idl/gen/statuspb"
)

// Each code of status.proto has a name here that is made of its own, and there is no name beyond them.
func TestNamesAreThoseOfTheProto(t *testing.T) {
	seen := map[string]Code{}
	for number, name := range statuspb.Status_name {
		code := Code(number)
		if int32(code) != number {
			t.Errorf("%s = %d does not fit 16 bits", name, number)
		}
		want := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(name, "STATUS_"), "_", " "))
		if got := code.String(); got != want {
			t.Errorf("%d: %q, want %q", number, got, want)
		}
		if other, ok := seen[want]; ok {
			t.Errorf("%d and %d share a name", other, code)
		}
		seen[want] = code
	}
	if len(names) != len(statuspb.Status_name) {
		t.Errorf("%d names, %d codes", len(names), len(statuspb.Status_name))
	}
	if got := Code(1999).String(); got != "status 1999" {
		t.Error(got)
	}
}

func TestRangesAreBehaviour(t *testing.T) {
	for _, c := range []struct {
		code  Code
		want  Behaviour
		final bool
	}{
		{OK, Done, true}, {999, Done, true},
		{BadRequest, NeverRetry, true}, {NoTopic, NeverRetry, true}, {HookAway, NeverRetry, true}, {1999, NeverRetry, true},
		{Unavailable, RetryLater, false}, {2999, RetryLater, false},
		{BadFrame, Reconnect, false}, {3999, Reconnect, false},
		{Replaced, StayAway, false}, {4999, StayAway, false}, {65535, StayAway, false},
	} {
		if got := c.code.Behaviour(); got != c.want || c.code.Final() != c.final {
			t.Errorf("%v: behaviour %d, final %v", c.code, got, c.code.Final())
		}
	}
}

func TestErrors(t *testing.T) {
	refusal := Wrap(Unavailable, io.ErrUnexpectedEOF, "the %s is away", "database")
	wrapped := fmt.Errorf("append 3 messages: %w", refusal)
	if got := Of(wrapped, GateError); got != refusal {
		t.Error(got)
	}
	if !errors.Is(wrapped, io.ErrUnexpectedEOF) {
		t.Error("the cause is lost")
	}
	if got := refusal.Error(); got != "unavailable: the database is away: unexpected EOF" {
		t.Error(got)
	}
	hidden := Of(io.ErrClosedPipe, GateError)
	if hidden.Code != GateError || strings.Contains(hidden.Reason, "pipe") || !errors.Is(hidden, io.ErrClosedPipe) {
		t.Errorf("%+v", hidden)
	}
	if got := New(Expired, "too old").Error(); got != "expired: too old" {
		t.Error(got)
	}
	if Of(nil, GateError) != nil {
		t.Error("an error out of nothing")
	}
}
