package app

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// Go keeps what a burst has freed for the next one: after thousands of handshakes that is a fifth of a gate's memory, for connections
// that then lie idle for hours. So a process that has become quiet gives it back to the system.

const (
	spareEvery = 15 * time.Second // between two looks
	spareLeast = 4 << 20          // bytes that are worth a garbage collection
)

// spare is what a process could give back, and how busy it is, in bytes.
type spare struct {
	allocated uint64 // since the process began
	used      uint64 // by what lives, and by stacks
	unused    uint64 // garbage, and free memory that the system has not got back
}

func readSpare() spare {
	n := readRuntime("/gc/heap/allocs:bytes", "/gc/heap/live:bytes", "/memory/classes/heap/stacks:bytes",
		"/memory/classes/heap/objects:bytes", "/memory/classes/heap/free:bytes")
	live := n[1]
	return spare{allocated: n[0], used: live + n[2], unused: n[4] + max(n[3], live) - live}
}

// readRuntime reads metrics of the Go runtime; 0: this Go is without it.
func readRuntime(names ...string) []uint64 {
	samples := make([]metrics.Sample, len(names))
	for i, name := range names {
		samples[i].Name = name
	}
	metrics.Read(samples)
	values := make([]uint64, len(names))
	for i, s := range samples {
		if s.Value.Kind() == metrics.KindUint64 {
			values[i] = s.Value.Uint64()
		}
	}
	return values
}

// worthFreeing reports whether a process that was at before, and is at s now, is quiet and holds much that it does not use. Freeing
// costs a garbage collection; one that was worth it leaves nothing for the next look.
func (s spare) worthFreeing(before spare) bool {
	quiet := s.allocated-before.allocated < max(s.used/8, spareLeast)
	return quiet && s.unused > max(s.used/8, spareLeast)
}

// freeSpare gives memory back until ctx ends.
func freeSpare(ctx context.Context) {
	tick := time.NewTicker(spareEvery)
	defer tick.Stop()
	before := readSpare()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := readSpare()
		if now.worthFreeing(before) {
			debug.FreeOSMemory()
		}
		before = now
	}
}
