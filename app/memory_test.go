package app

import (
	"context"
	"testing"
	"testing/synctest"
)

func TestSpareMemoryIsFreedByAQuietProcess(t *testing.T) {
	const mb = 1 << 20
	idle := spare{allocated: 900 * mb, used: 60 * mb, unused: 20 * mb}
	for name, tc := range map[string]struct {
		before, now spare
		want        bool
	}{
		"quiet, with garbage of a burst": {spare{allocated: 899 * mb}, idle, true},
		"busy":                           {spare{allocated: 800 * mb}, idle, false},
		"quiet and lean":                 {spare{allocated: 899 * mb}, spare{allocated: 900 * mb, used: 60 * mb, unused: 5 * mb}, false},
		"small":                          {spare{allocated: 9 * mb}, spare{allocated: 10 * mb, used: 5 * mb, unused: 3 * mb}, false},
		"small, with much garbage":       {spare{allocated: 19 * mb}, spare{allocated: 20 * mb, used: 5 * mb, unused: 10 * mb}, true},
	} {
		if got := tc.now.worthFreeing(tc.before); got != tc.want {
			t.Errorf("%s: %t, want %t", name, got, tc.want)
		}
	}
}

func TestSpareMemoryIsKnown(t *testing.T) {
	if s := readSpare(); s.allocated == 0 || s.used == 0 {
		t.Errorf("%+v: the runtime's metrics have other names", s)
	}
	synctest.Test(t, func(t *testing.T) { // some looks, and an end
		ctx, cancel := context.WithTimeout(t.Context(), 4*spareEvery)
		defer cancel()
		freeSpare(ctx)
	})
}
