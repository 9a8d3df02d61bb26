//go:build e2e

package fault

import (
	"testing"
	"time"

	"github.com/gatepost/gatepost/audit"
	"github.com/gatepost/gatepost/audit/faults"
	"github.com/gatepost/gatepost/audit/platform"
	"github.com/gatepost/gatepost/test/harness"
)

func TestKillStandalone(t *testing.T) {
	p := start(t, harness.Standalone)
	judge(t, p, scenario{faults: []audit.Fault{faults.Kill("platform", p.Gates)}, every: 2 * time.Second})
}

func TestKillGates(t *testing.T) {
	p := start(t, harness.Cluster)
	judge(t, p, scenario{faults: []audit.Fault{faults.Kill("gate", p.Gates)}, every: 2 * time.Second})
}

func TestKillLogicNodes(t *testing.T) {
	p := start(t, harness.Cluster)
	judge(t, p, scenario{faults: []audit.Fault{faults.Kill("logic node", p.Logic)}, every: 2 * time.Second})
}

// A stop in order costs nothing: two device classes, so that marks of one class are there when the other confirms.
func TestStopGatesAndLogicNodes(t *testing.T) {
	p := start(t, harness.Cluster)
	judge(t, p, scenario{
		faults: []audit.Fault{faults.Stop("gate", p.Gates), faults.Stop("logic node", p.Logic)}, every: 2 * time.Second,
		change: func(c *audit.Config) { c.Users, c.Classes = 6, []audit.Class{1, 4} },
	})
}

// A node that hangs is worse than one that died: its sockets stay open.
func TestFreezeGatesAndLogicNodes(t *testing.T) {
	p := start(t, harness.Cluster)
	judge(t, p, scenario{
		faults: []audit.Fault{faults.Freeze("gate", p.Gates, 3*time.Second, 6*time.Second), faults.Freeze("logic node", p.Logic, 3*time.Second, 7*time.Second)},
		every:  time.Second,
		change: func(c *audit.Config) { c.Duration += 4 * time.Second },
	})
}

func TestKillRedis(t *testing.T) {
	p := start(t, harness.Cluster)
	judge(t, p, scenario{faults: []audit.Fault{faults.KillServer(servers, platform.Redis)}, every: 2 * time.Second})
}

func TestKillDatabase(t *testing.T) {
	p := start(t, harness.Cluster)
	judge(t, p, scenario{faults: []audit.Fault{faults.KillServer(servers, platform.MariaDB)}, every: 2 * time.Second})
}

// Clients lose their connections again and again, in the middle of frames, and some of them pass nothing any more.
func TestCutClients(t *testing.T) {
	p := start(t, harness.Cluster)
	network, err := faults.NewNetwork(p.Addresses(), faults.Damage{Seed: 5, Share: 0.5, Bytes: 20_000})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(network.Close)
	judge(t, p, scenario{
		faults: []audit.Fault{network.Fault()},
		every:  500 * time.Millisecond,
		target: func(target *audit.Target) {
			target.Gates = network.Addresses()
			target.Timing.Request = 2 * time.Second
		},
		change: func(c *audit.Config) {
			c.OnLoading, c.Calm = func(func() audit.Totals) { network.Begin() }, network.Calm
		},
	})
}

// Everything at once.
func TestEverything(t *testing.T) {
	p := start(t, harness.Cluster)
	judge(t, p, scenario{
		faults: []audit.Fault{faults.Kill("gate", p.Gates), faults.Kill("logic node", p.Logic), faults.Freeze("logic node", p.Logic, time.Second, 4*time.Second),
			faults.KillServer(servers, platform.Redis), faults.KillServer(servers, platform.MariaDB)},
		every:  800 * time.Millisecond,
		change: func(c *audit.Config) { c.Duration += 4 * time.Second },
	})
}
