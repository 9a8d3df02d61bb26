package gatepost

import (
	"math/rand/v2"
	"time"
)

// maxRetryAfter bounds what a server may ask for, so that one wrong number does not silence a client for days.
const maxRetryAfter = time.Hour

// backoff is full jitter: the n-th wait is anywhere between 0 and base·2ⁿ, and never above cap. The zero attempt is the first.
type backoff struct {
	base, cap time.Duration
	attempt   int
}

// next returns the wait before the next attempt, and counts it. A wait that the server asked for comes on top.
func (b *backoff) next(retryAfter time.Duration) time.Duration {
	wait := jitter(b.ceiling())
	if b.attempt < 62 {
		b.attempt++
	}
	return wait + min(max(retryAfter, 0), maxRetryAfter)
}

// ceiling is base·2ᵃᵗᵗᵉᵐᵖᵗ up to cap. It doubles by steps and stops at cap, so no shift can wrap.
func (b *backoff) ceiling() time.Duration {
	d := b.base
	for range b.attempt {
		if d >= b.cap/2 {
			return b.cap
		}
		d *= 2
	}
	return min(d, b.cap)
}

func (b *backoff) reset() { b.attempt = 0 }

// jitter is anywhere in 0..d.
func jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return time.Duration(rand.Int64N(int64(d)))
}

// around is d, more or less by up to a quarter.
func around(d time.Duration) time.Duration { return d - d/4 + jitter(d/2) }
