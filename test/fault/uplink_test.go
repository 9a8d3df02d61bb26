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

// everyKind makes the load of a scenario one of every kind: messages, uplinks and pushes, to two device classes.
func everyKind(t *testing.T, p *platform.Platform) func(*audit.Config) {
	t.Helper()
	key, err := p.AppKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	app, err := audit.NewAppServer(p.Apps(), key, platform.Domain)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := app.Close(); err != nil {
			t.Error(err)
		}
	})
	return func(c *audit.Config) {
		c.Users, c.Classes = 8, []audit.Class{1, 4}
		c.Topic, c.App = audit.KafkaTopic{Brokers: p.Brokers(), Name: p.Topic()}, app
	}
}

// Kafka is killed and started in the middle: an outage is a delay, never a loss, and messages flow on.
func TestKillKafka(t *testing.T) {
	p := start(t, harness.Cluster)
	r := judge(t, p, scenario{faults: []audit.Fault{faults.KillServer(servers, platform.Kafka)}, every: time.Second, change: everyKind(t, p)})
	if v := r.Verdict; v.UplinksAccepted == 0 || v.PushesAccepted == 0 {
		t.Errorf("the load was not of every kind: %s", v)
	}
}

// The platform dies with its own Kafka inside.
func TestKillStandaloneWithItsKafka(t *testing.T) {
	p := start(t, harness.Standalone)
	r := judge(t, p, scenario{faults: []audit.Fault{faults.Kill("platform", p.Gates)}, every: 2 * time.Second, change: everyKind(t, p)})
	if v := r.Verdict; v.UplinksAccepted == 0 || v.PushesAccepted == 0 {
		t.Errorf("the load was not of every kind: %s", v)
	}
}

// Kafka outside of a standalone platform.
func TestKillKafkaOfStandalone(t *testing.T) {
	p := startWith(t, harness.Standalone, true)
	judge(t, p, scenario{faults: []audit.Fault{faults.KillServer(servers, platform.Kafka)}, every: time.Second, change: everyKind(t, p)})
}

// Everything that can be killed, with every kind of traffic.
func TestKillEverythingUnderEveryKind(t *testing.T) {
	p := start(t, harness.Cluster)
	kinds := everyKind(t, p)
	judge(t, p, scenario{
		faults: []audit.Fault{faults.Kill("gate", p.Gates), faults.Kill("logic node", p.Logic), faults.KillServer(servers, platform.Redis), faults.KillServer(servers, platform.MariaDB), faults.KillServer(servers, platform.Kafka)},
		every:  800 * time.Millisecond,
		change: func(c *audit.Config) { kinds(c); c.Duration += 6 * time.Second },
	})
}
