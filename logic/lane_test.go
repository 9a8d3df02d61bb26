package logic

import (
	"context"
	"slices"
	"strings"
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

func TestCommitFillsStatements(t *testing.T) {
	c := &committer{node: &Node{cfg: Config{CommitRows: 1024}}}
	single := func(n int) string { return strings.Repeat("s", n) }
	double := func(n int) string { return strings.Repeat("d", n) } // with a copy: two rows
	for _, tc := range []struct {
		batch string
		want  int
	}{
		{single(1), 1}, {single(8), 8}, {single(9), 8}, {single(361), 320}, {single(512), 512}, {single(513), 513}, {single(900), 896},
		{single(1024), 1024}, {single(1100), 1024},
		{double(1), 1}, {double(5), 5}, {double(6), 6}, {double(9), 8}, {double(600), 512},
		{double(1) + single(8), 9},         // ten rows
		{single(1) + double(5), 6},         // an odd number throughout, of which 7 is the last that fits
		{single(1) + double(255), 256},     // the same
		{double(100) + single(1), 96},      // 192
		{double(600) + single(400), 512},   // as many rows as an insert may have
		{single(1) + double(1), 2},         //
		{double(32) + single(1) + "d", 32}, // 64
	} {
		var batch []*sending
		for _, kind := range tc.batch {
			s := &sending{}
			if kind == 'd' {
				s.copy = &store.Message{}
			}
			batch = append(batch, s)
		}
		if got := c.fit(batch); got != tc.want {
			t.Errorf("%.20s… of %d: %d at once, want %d", tc.batch, len(tc.batch), got, tc.want)
		}
	}
	c.node.cfg.CommitRows = 1
	if got := c.fit([]*sending{{copy: &store.Message{}}, {}}); got != 1 {
		t.Errorf("%d at once of rows that are more than an insert takes", got)
	}
}
