package logic

import (
	"context"
	"sync"
)

// callGate counts the calls in flight and lets nobody in once it is shut. The zero value is open.
type callGate struct {
	mu    sync.Mutex
	count int
	shut  bool
	idle  chan struct{} // made by close; closed when the last call has left
}

// enter reports whether the call may run; then it ends with leave.
func (g *callGate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut {
		return false
	}
	g.count++
	return true
}

// more counts one more goroutine of a call that is inside.
func (g *callGate) more() {
	g.mu.Lock()
	g.count++
	g.mu.Unlock()
}

func (g *callGate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.count--; g.count == 0 && g.shut {
		close(g.idle)
	}
}

// close lets nobody in any more and waits until all have left, or ctx ends. It is called once.
func (g *callGate) close(ctx context.Context) error {
	g.mu.Lock()
	g.shut = true
	g.idle = make(chan struct{})
	if g.count == 0 {
		close(g.idle)
	}
	g.mu.Unlock()
	select {
	case <-g.idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
