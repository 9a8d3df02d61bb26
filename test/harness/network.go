package harness

import (
	"testing"

	"github.com/gatepost/gatepost/audit/faults"
)

// NewProxy starts a proxy to target that ends with the test.
func NewProxy(t testing.TB, target string, effect func(n int) faults.Effect) *faults.Proxy {
	t.Helper()
	p, err := faults.NewProxy(target, effect)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}
