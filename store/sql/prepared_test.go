package sql

import "testing"

func TestPaddedRows(t *testing.T) {
	for n, want := range map[int][2]int{
		1: {1, 1}, 3: {3, 3}, 5: {6, 5}, 9: {12, 10}, 17: {24, 20}, 33: {48, 40}, 63: {64, 64}, 65: {96, 80},
		193: {256, 224}, 256: {256, 256}, 257: {256, 320}, 500: {256, 512}, 512: {256, 512}, 3000: {256, 512},
	} {
		if got := [2]int{paddedRows(n), lastRows(n)}; got != want {
			t.Errorf("%d rows: %v, want %v", n, got, want)
		}
	}
}
