package memory_test

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gatepost/gatepost/store/memory"
	"github.com/gatepost/gatepost/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func table(_ testing.TB, tombstoneTTL time.Duration) storetest.Table {
	p := memory.New(memory.Config{TombstoneTTL: tombstoneTTL})
	return storetest.Table{Presence: p, Leases: p, Empty: func(testing.TB) { p.Clear() }}
}

func TestPresence(t *testing.T) { storetest.RunPresence(t, table) }

func TestLeases(t *testing.T) { storetest.RunLeases(t, table) }
