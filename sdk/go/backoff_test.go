package gatepost

import (
	"math"
	"testing"
	"time"
)

// Full jitter stays within 0..cap whatever the attempt, and a wait that the server asks for is bounded too.
func TestBackoffNeverWraps(t *testing.T) {
	for _, b := range []backoff{
		{base: 500 * time.Millisecond, cap: time.Minute},
		{base: 1, cap: math.MaxInt64},
		{base: math.MaxInt64, cap: math.MaxInt64},
		{base: time.Hour, cap: time.Second},
	} {
		last := time.Duration(0)
		for i := range 10_000 {
			ceiling := b.ceiling()
			if ceiling < last || ceiling > b.cap || ceiling <= 0 {
				t.Fatalf("attempt %d: ceiling %v after %v", i, ceiling, last)
			}
			last = ceiling
			if wait := b.next(0); wait < 0 || wait > b.cap {
				t.Fatalf("attempt %d: wait %v", i, wait)
			}
		}
	}
	b := backoff{base: time.Second, cap: time.Minute}
	if wait := b.next(math.MaxInt64); wait > maxRetryAfter+time.Minute {
		t.Fatalf("wait %v", wait)
	}
}
