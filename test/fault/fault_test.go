//go:build e2e

package fault

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/gatepost/gatepost/audit"
	"github.com/gatepost/gatepost/test/harness"
)

func TestKillStandalone(t *testing.T) {
	p := start(t, harness.Standalone)
	judge(t, p, scenario{faults: []audit.Fault{killed("platform", p.Gates)}, every: 2 * time.Second})
}

func TestKillGates(t *testing.T) {
	p := start(t, harness.Cluster)
	judge(t, p, scenario{faults: []audit.Fault{killed("gate", p.Gates)}, every: 2 * time.Second})
}

func TestKillLogicNodes(t *testing.T) {
	p := start(t, harness.Cluster)
	judge(t, p, scenario{faults: []audit.Fault{killed("logic node", p.Logic)}, every: 2 * time.Second})
}

// A stop in order costs nothing: two device classes, so that marks of one class are there when the other confirms.
func TestStopGatesAndLogicNodes(t *testing.T) {
	p := start(t, harness.Cluster)
	judge(t, p, scenario{
		faults: []audit.Fault{stopped("gate", p.Gates), stopped("logic node", p.Logic)}, every: 2 * time.Second,
		change: func(c *audit.Config) { c.Users, c.Classes = 6, []audit.Class{1, 4} },
	})
}

// A node that hangs is worse than one that died: its sockets stay open.
func TestFreezeGatesAndLogicNodes(t *testing.T) {
	p := start(t, harness.Cluster)
	judge(t, p, scenario{
		faults: []audit.Fault{frozen("gate", p.Gates, 3*time.Second, 6*time.Second), frozen("logic node", p.Logic, 3*time.Second, 7*time.Second)},
		every:  time.Second,
		change: func(c *audit.Config) { c.Duration += 4 * time.Second },
	})
}

func TestKillRedis(t *testing.T) {
	p := start(t, harness.Cluster)
	judge(t, p, scenario{faults: []audit.Fault{serverKilled("redis")}, every: 2 * time.Second})
}

func TestKillDatabase(t *testing.T) {
	p := start(t, harness.Cluster)
	judge(t, p, scenario{faults: []audit.Fault{serverKilled("mariadb")}, every: 2 * time.Second})
}

// Clients lose their connections again and again, in the middle of frames, and some of them pass nothing any more.
func TestCutClients(t *testing.T) {
	p := start(t, harness.Cluster)
	rng := rand.New(rand.NewPCG(5, 6))
	effects := make([]harness.Effect, 4096)
	for i := range effects {
		switch effects[i] = (harness.Effect{Halve: rng.IntN(2) == 0}); rng.IntN(6) {
		case 0:
			effects[i].CutUp = 100 + rng.Int64N(20000)
		case 1:
			effects[i].CutDown = 100 + rng.Int64N(20000)
		case 2:
			effects[i].StallDown = 500 + rng.Int64N(20000)
		}
	}
	var proxies []*harness.Proxy
	var addresses []string
	calm := make(chan struct{})
	for _, g := range p.Gates {
		proxies = append(proxies, harness.NewProxy(t, g.Ready("tcp"), func(n int) harness.Effect {
			select {
			case <-calm:
				return harness.Effect{}
			default:
				return effects[n%len(effects)]
			}
		}))
		addresses = append(addresses, proxies[len(proxies)-1].Address())
	}
	judge(t, p, scenario{
		faults: []audit.Fault{fault{"cut of all connections of a gate", func(_ context.Context, rng *rand.Rand) error {
			proxies[rng.IntN(len(proxies))].Cut()
			return nil
		}}},
		every: 500 * time.Millisecond,
		target: func(target *audit.Target) {
			target.Gates = addresses
			target.Timing.Request = 2 * time.Second
		},
		change: func(c *audit.Config) {
			c.Progress = func(p audit.Progress) {
				if p.Phase == audit.Settling {
					select {
					case <-calm:
					default:
						close(calm)
						for _, proxy := range proxies {
							proxy.Cut()
						}
					}
				}
			}
		},
	})
}

// Everything at once.
func TestEverything(t *testing.T) {
	p := start(t, harness.Cluster)
	judge(t, p, scenario{
		faults: []audit.Fault{killed("gate", p.Gates), killed("logic node", p.Logic), frozen("logic node", p.Logic, time.Second, 4*time.Second),
			serverKilled("redis"), serverKilled("mariadb")},
		every:  800 * time.Millisecond,
		change: func(c *audit.Config) { c.Duration += 4 * time.Second },
	})
}
