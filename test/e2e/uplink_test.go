//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/IBM/sarama"

	"github.com/gatepost/gatepost/audit/platform"
	"github.com/gatepost/gatepost/idl/event"
	gatepost "github.com/gatepost/gatepost/sdk/go"
	"github.com/gatepost/gatepost/test/harness"
)

// Reports end in the topic, in the order of their device, as CloudEvents whose value nobody has touched.
func TestUplinksEndInTheTopic(t *testing.T) {
	a := person(t, "a").Login()
	want := texts("position", 40)
	var ids []string
	for _, text := range want {
		ids = append(ids, a.Report(gatepost.Report{Type: "position", Content: []byte(text)}).ID().String())
	}
	records := recordsOf(t, a.UID, len(want))
	for i, r := range records {
		h := headers(r)
		if string(r.Value) != want[i] || h[event.ID] != ids[i] || string(r.Key) != event.KeyOf(platform.Domain, a.UID) {
			t.Fatalf("record %d: key %q, value %q, headers %v; want %q with id %s", i, r.Key, r.Value, h, want[i], ids[i])
		}
		if h[event.SpecVersion] != event.Version || h[event.Type] != "position" || h[event.Source] != event.SourceOf(platform.Domain, a.UID) ||
			h[event.Device] != "android" || h[event.Domain] != platform.Domain || h[event.UID] != a.UID || h[event.Stream] == "" || h[event.Seq] == "" {
			t.Fatalf("headers %v", h)
		}
		if at, err := time.Parse(time.RFC3339Nano, h[event.Time]); err != nil || time.Since(at) > time.Minute || time.Until(at) > time.Minute {
			t.Errorf("%s is %q: %v", event.Time, h[event.Time], err)
		}
	}
	a.Leave()
}

// Who reports while he is offline is heard after the login; of what replaces each other only the latest waits.
func TestUplinksWaitForTheLogin(t *testing.T) {
	a := person(t, "a")
	for i := range 10 {
		a.Report(gatepost.Report{Type: "position", Content: fmt.Appendf(nil, "position-%d", i), ReplaceKey: "position"})
	}
	a.Report(gatepost.Report{Type: "order", Content: []byte("taken")})
	a.Login()
	records := recordsOf(t, a.UID, 2)
	if string(records[0].Value) != "position-9" || string(records[1].Value) != "taken" {
		t.Errorf("%q, %q", records[0].Value, records[1].Value)
	}
}

// What is too old is not reported any more, and its sender is told.
func TestUplinkExpires(t *testing.T) {
	a := person(t, "a")
	s := a.Report(gatepost.Report{Type: "position", Content: []byte("old"), TTL: time.Millisecond})
	time.Sleep(5 * time.Millisecond)
	a.Login()
	if r, err := a.Outcome(s); err == nil {
		t.Errorf("an expired report was accepted: %+v", r)
	}
	a.Report(gatepost.Report{Type: "position", Content: []byte("new")})
	if r := recordsOf(t, a.UID, 1); string(r[0].Value) != "new" {
		t.Errorf("%q", r[0].Value)
	}
}

// recordsOf waits until n records of uid stand in the topic, and returns them in their order; more are a fault.
func recordsOf(t *testing.T, uid string, n int) []*sarama.ConsumerMessage {
	t.Helper()
	cfg := sarama.NewConfig()
	cfg.Metadata.AllowAutoTopicCreation = false
	ctx, cancel := context.WithTimeout(context.Background(), harness.Patience)
	defer cancel()
	client, err := sarama.NewClient(p.Brokers(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	consumer, err := sarama.NewConsumerFromClient(client)
	if err != nil {
		t.Fatal(err)
	}
	defer consumer.Close()
	partitions, err := client.Partitions(p.Topic())
	if err != nil {
		t.Fatal(err)
	}
	merged := make(chan *sarama.ConsumerMessage)
	for _, id := range partitions {
		partition, err := consumer.ConsumePartition(p.Topic(), id, sarama.OffsetOldest)
		if err != nil {
			t.Fatal(err)
		}
		defer partition.AsyncClose()
		go func() {
			for m := range partition.Messages() {
				select {
				case merged <- m:
				case <-ctx.Done():
				}
			}
		}()
	}
	var got []*sarama.ConsumerMessage
	for len(got) < n {
		select {
		case m := <-merged:
			if headers(m)[event.UID] == uid {
				got = append(got, m)
			}
		case <-ctx.Done():
			t.Fatalf("%d of %d records of %s came", len(got), n, uid)
		}
	}
	return got
}

func headers(m *sarama.ConsumerMessage) map[string]string {
	h := map[string]string{}
	for _, x := range m.Headers {
		h[string(x.Key)] = string(x.Value)
	}
	return h
}
