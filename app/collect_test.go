package app

import (
	"context"
	"runtime"
	"sync"
	"testing"
	"time"
)

func TestGrowthOfTheHeap(t *testing.T) {
	const mb = 1 << 20
	for _, tc := range []struct {
		lives uint64
		want  int
	}{
		{0, 400},       // nothing is known yet
		{8 * mb, 400},  // 8 MiB and 32 more
		{16 * mb, 400}, // 16 and 64 more
		{32 * mb, 200}, // 32 and 64 more
		{64 * mb, 100}, // from here on it doubles
		{2000 * mb, 100},
	} {
		if got := growth(tc.lives); got != tc.want {
			t.Errorf("%d bytes live: %d %%, want %d", tc.lives, got, tc.want)
		}
	}
}

func TestSmallHeapIsCollectedLess(t *testing.T) {
	t.Setenv("GOGC", "") // the run of the tests may have set them
	t.Setenv("GOMEMLIMIT", "")
	percent := func() uint64 { return readRuntime("/gc/gogc:percent")[0] }
	ctx, cancel := context.WithCancel(t.Context())
	var tuning sync.WaitGroup
	tuning.Go(func() { collectLess(ctx) })
	for deadline := time.Now().Add(10 * time.Second); percent() <= usual; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a small heap is still collected as usual")
		}
		runtime.GC() // after which it sees how small this heap is
	}
	cancel()
	tuning.Wait()
	if got := percent(); got != usual {
		t.Errorf("afterwards: %d %%, want %d", got, usual)
	}
}
