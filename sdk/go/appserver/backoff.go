package appserver

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff is full jitter: the n-th wait is anywhere between 0 and base·2ⁿ, and never above cap.
type backoff struct {
	base, cap time.Duration
	attempt   int
}

func (b *backoff) next() time.Duration {
	d := b.base
	for range b.attempt {
		if d >= b.cap/2 {
			d = b.cap
			break
		}
		d *= 2
	}
	b.attempt = min(b.attempt+1, 62)
	return rand.N(max(min(d, b.cap), 1))
}

// sleep waits; false: ctx was done first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
