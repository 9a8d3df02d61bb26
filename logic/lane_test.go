package logic

import (
	"context"
	"slices"
	"testing"
)

func TestLaneBatchesWhatArrivesMeanwhile(t *testing.T) {
	depth := 0
	weigh := func(i int) int { return i }
	l := newLane(8, 4, 10, weigh, func(d int) { depth += d })
	for _, i := range []int{1, 2, 3, 4, 50, 6, 1, 1} { // more than the first batch holds
		if !l.put(i) {
			t.Fatal("refused before it was full")
		}
	}
	if l.put(9) {
		t.Fatal("took more than it holds")
	}
	l.close()
	if l.put(9) {
		t.Fatal("took an item after it was closed")
	}
	var got [][]int
	l.run(context.Background(), func(_ context.Context, batch []int) { got = append(got, slices.Clone(batch)) })
	want := [][]int{{1, 2, 3, 4}, {50}, {6, 1, 1}} // four at most, ten in weight, one of any weight
	if !slices.EqualFunc(got, want, slices.Equal) {
		t.Errorf("got %v, want %v", got, want)
	}
	if depth != 0 {
		t.Errorf("depth %d", depth)
	}
	<-l.finished
}
