package callout

import (
	"fmt"
	"sync"
	"time"
)

// OpenError says that nobody was asked, because the endpoint failed before.
type OpenError struct{ After time.Duration }

func (e *OpenError) Error() string {
	return fmt.Sprintf("the endpoint failed before and is asked again in %v", e.After)
}

// RetryAfter is how long it will not be asked.
func (e *OpenError) RetryAfter() time.Duration { return e.After }

const (
	breakAfter = 5 // failures in a row
	minOpen    = time.Second
	maxOpen    = 30 * time.Second
)

// Breaker opens after five failures in a row. While it is open nobody may pass; then one at a time may try, and the first who
// succeeds closes it. It stays open for a second at first, and each failed try doubles that, up to half a minute. The zero value is closed. It is
// safe for concurrent use.
type Breaker struct {
	mu       sync.Mutex
	failures int // in a row, counted up to breakAfter
	open     time.Duration
	until    time.Time // when somebody may try again
	trying   bool
}

// Enter lets the caller pass, who then calls leave with what became of it; or says why not.
func (b *Breaker) Enter() (leave func(Result), err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.checkLocked(); err != nil {
		return nil, err
	}
	try := b.failures >= breakAfter
	b.trying = b.trying || try
	return func(r Result) { b.leave(r, try) }, nil
}

// Check says why nobody may pass now, or nil.
func (b *Breaker) Check() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.checkLocked()
}

func (b *Breaker) checkLocked() error {
	if b.failures < breakAfter {
		return nil
	}
	if wait := time.Until(b.until); wait > 0 {
		return &OpenError{After: wait}
	}
	if b.trying {
		return &OpenError{After: minOpen}
	}
	return nil
}

// Result of who passed a breaker.
type Result uint8

const (
	Succeeded Result = iota
	Failed
	Unknown // the caller gave up: nothing was learnt
)

func (b *Breaker) leave(r Result, try bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if try {
		b.trying = false
	}
	switch r {
	case Succeeded:
		b.failures, b.open = 0, 0
	case Failed:
		if b.failures < breakAfter {
			b.failures++
		} else if !try {
			return // it began before the breaker opened, and tells nothing new
		}
		if b.failures == breakAfter {
			b.open = min(max(2*b.open, minOpen), maxOpen)
			b.until = time.Now().Add(b.open)
		}
	}
}
