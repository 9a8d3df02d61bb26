package app

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
)

// Go collects garbage each time the heap has doubled. A logic node keeps hardly anything, so its heap has always doubled soon: seven
// collections a second, a seventh of its CPU. So the heap may grow by about collectLeast before it is collected; from that size on
// it doubles as ever.

// collectLeast is in bytes.
const collectLeast = 64 << 20

// usual is what Go does by itself: collect when the heap has grown by so many percent.
const usual = 100

// growth is by how many percent a heap of which so much lives may grow until it is collected: 400 at most, because Go goes by it once
// more when the next collection finds that much more lives.
func growth(lives uint64) int {
	return int(max(usual, collectLeast*100/max(lives, 16<<20)))
}

// heapLives is what the last collection found alive and what Go counts with it: stacks and globals, in bytes.
func heapLives() uint64 {
	n := readRuntime("/gc/heap/live:bytes", "/gc/scan/stack:bytes", "/gc/scan/globals:bytes")
	return n[0] + n[1] + n[2]
}

// collectLess keeps to growth after each collection, until ctx ends. It does nothing where the environment says when to collect.
func collectLess(ctx context.Context) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	defer debug.SetGCPercent(usual)
	collected := make(chan struct{}, 1)
	set := usual
	for {
		if percent := growth(heapLives()); percent > set*5/4 || percent < set {
			debug.SetGCPercent(percent) // stops the world for a moment: not for a little
			set = percent
		}
		watchCollection(collected)
		select {
		case <-ctx.Done():
			return
		case <-collected:
		}
	}
}

// watchCollection says on collected when the next collection is over.
func watchCollection(collected chan<- struct{}) {
	canary := &struct{ _ *int }{}
	runtime.AddCleanup(canary, func(said chan<- struct{}) {
		select {
		case said <- struct{}{}:
		default:
		}
	}, collected)
}
