package logic

import (
	"testing"

	"github.com/gatepost/gatepost/idl/status"
)

// While the presence table is away and no gate has been heard of, nobody can be told to be away: the caller is to ask again.
func TestOnlinePushGuessesNothing(t *testing.T) {
	w, _, key, _ := newAppWorld(t, nil)
	w.presence.setAway(true)
	if res := outcomes(t, w, key, pushTo(true, "bob")); res[0] != status.Unavailable.String() {
		t.Errorf("an online-only push ended %q", res)
	}
}
