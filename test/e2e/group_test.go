//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/google/uuid"

	gatepost "github.com/gatepost/gatepost/sdk/go"
	"github.com/gatepost/gatepost/sdk/go/appserver"
	"github.com/gatepost/gatepost/test/harness"
)

// Of two consumers of the Go SDK in one group one leaves in the middle: each report is handed over once, and each user's in order.
func TestConsumersOfOneGroup(t *testing.T) {
	const each = 60
	var users []*harness.Person
	want := map[string][]string{} // by uid
	for range 6 {                 // they share the partitions
		u := person(t, "u").Login()
		users, want[u.UID] = append(users, u), texts("report", each)
	}
	report := func(from, to int) {
		for i := from; i < to; i++ {
			for _, u := range users {
				u.Report(gatepost.Report{Type: "position", Content: []byte(want[u.UID][i])})
			}
		}
	}
	var mu sync.Mutex
	got := map[string][]string{}
	handed := map[string]int{} // by consumer
	consume := func(group, name string) (leave func()) {
		c, err := appserver.NewConsumer(appserver.ConsumerConfig{
			Brokers: p.Brokers(), Group: group, Topics: []string{p.Topic()}, Adjust: func(s *sarama.Config) { s.Consumer.Group.Heartbeat.Interval = 200 * time.Millisecond },
			Handler: func(_ context.Context, e *appserver.Event) error {
				mu.Lock()
				defer mu.Unlock()
				if want[e.UID] != nil {
					got[e.UID] = append(got[e.UID], string(e.Content))
					handed[name]++
				}
				return nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- c.Run(ctx) }()
		leave = sync.OnceFunc(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
		t.Cleanup(leave)
		return leave
	}
	wait := func(what string, done func() bool) {
		t.Helper()
		harness.Eventually(t, harness.Patience, func() error {
			mu.Lock()
			defer mu.Unlock()
			if !done() {
				return fmt.Errorf("%s: %v", what, handed)
			}
			return nil
		})
	}

	group := "gatepost-test-" + uuid.NewString()
	leave := consume(group, "leaves")
	report(0, each/3)
	wait("the first alone", func() bool { return handed["leaves"] == each/3*len(users) })
	consume(group, "stays")
	report(each/3, 2*each/3)
	wait("both", func() bool { return handed["leaves"]+handed["stays"] >= 2*each/3*len(users) })
	leave()
	report(2*each/3, each)
	wait("the second alone", func() bool { return handed["leaves"]+handed["stays"] >= each*len(users) })
	mu.Lock()
	defer mu.Unlock()
	for uid, list := range want {
		if !slices.Equal(got[uid], list) {
			t.Errorf("of %s came %q", uid, got[uid])
		}
	}
	if handed["stays"] < each/3*len(users) {
		t.Errorf("handed over: %v", handed)
	}
}
