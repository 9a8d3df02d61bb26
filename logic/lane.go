package logic

import (
	"context"
	"sync"
)

// lane carries one batch at a time: while one is on its way, whatever is put becomes the next batch. An idle lane adds no wait.
// It is bounded in items; a full one refuses. The zero value is not usable: newLane.
type lane[T any] struct {
	most     int                 // items that may wait
	batch    int                 // items in one batch
	bytes    int                 // weight of one batch; a single item may be heavier
	weight   func(T) int         // nil: items weigh nothing
	fit      func(batch []T) int // how many of a batch are carried, at least one; the others wait for the next. nil: all
	depth    func(delta int)
	wake     chan struct{} // holds one token while there is something to look at
	finished chan struct{} // closed when run has returned

	mu     sync.Mutex
	items  []T
	closed bool
}

func newLane[T any](most, batch, bytes int, weight func(T) int, depth func(delta int)) *lane[T] {
	return &lane[T]{
		most: most, batch: batch, bytes: bytes, weight: weight, depth: depth,
		wake: make(chan struct{}, 1), finished: make(chan struct{}),
	}
}

// put queues item; false: the lane is full or closed, and item is still the caller's.
func (l *lane[T]) put(item T) bool {
	l.mu.Lock()
	if l.closed || len(l.items) >= l.most {
		l.mu.Unlock()
		return false
	}
	l.items = append(l.items, item)
	l.mu.Unlock()
	l.depth(1)
	l.nudge()
	return true
}

// close lets run return once everything that was put has been carried.
func (l *lane[T]) close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.nudge()
}

func (l *lane[T]) nudge() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// take removes the next batch. It is empty when nothing waits; over: nothing ever will.
func (l *lane[T]) take(into []T) (batch []T, over bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, sum := 0, 0
	for n < len(l.items) && n < l.batch {
		if l.weight != nil {
			w := l.weight(l.items[n])
			if n > 0 && sum+w > l.bytes {
				break
			}
			sum += w
		}
		n++
	}
	if l.fit != nil && n > 0 {
		n = l.fit(l.items[:n])
	}
	batch = append(into[:0], l.items[:n]...)
	rest := copy(l.items, l.items[n:])
	clear(l.items[rest:])
	l.items = l.items[:rest]
	if rest == 0 && cap(l.items) > 4*l.batch {
		l.items = nil // a burst is over
	}
	return batch, l.closed && n == 0
}

// run carries batches until the lane is closed and empty. carry keeps no part of the slice it is given. ctx is passed on:
// a lane whose ctx has ended still carries what waits, so that each item finds its outcome.
func (l *lane[T]) run(ctx context.Context, carry func(ctx context.Context, batch []T)) {
	defer close(l.finished)
	var batch []T
	for {
		var over bool
		if batch, over = l.take(batch); over {
			return
		}
		if len(batch) == 0 {
			<-l.wake
			continue
		}
		l.depth(-len(batch))
		carry(ctx, batch)
		clear(batch)
	}
}
