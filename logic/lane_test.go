package logic

import (
	"context"
	"slices"
	"testing"

	"github.com/gatepost/gatepost/store"
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

func TestLaneLeavesWhatDoesNotFit(t *testing.T) {
	l := newLane[int](100, 10, 0, nil, func(int) {})
	l.fit = func(batch []int) int { return (len(batch) + 1) / 2 }
	for i := range 10 {
		l.put(i)
	}
	l.close()
	var got []int
	l.run(context.Background(), func(_ context.Context, batch []int) { got = append(got, len(batch)) })
	if want := []int{5, 3, 1, 1}; !slices.Equal(got, want) {
		t.Errorf("batches of %v, want %v", got, want)
	}
}

func TestFillsStatements(t *testing.T) {
	for _, tc := range []struct{ messages, copies, want int }{
		{1, 0, 1}, {8, 0, 8}, {9, 0, 8}, {361, 0, 320}, {512, 0, 512}, {513, 0, 513}, {900, 0, 896}, {1024, 0, 1024},
		{1, 1, 1}, {5, 5, 5}, {6, 6, 6}, {9, 9, 8}, // two rows each
		{9, 1, 9}, // ten rows
	} {
		var batch []*sending
		for i := range tc.messages {
			s := &sending{}
			if i < tc.copies {
				s.copy = &store.Message{}
			}
			batch = append(batch, s)
		}
		if got := fillsStatements(batch); got != tc.want {
			t.Errorf("%d messages, %d of them with a copy: %d at once, want %d", tc.messages, tc.copies, got, tc.want)
		}
	}
}
