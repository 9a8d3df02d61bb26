package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/gatepost/gatepost/idl/event"
	"github.com/gatepost/gatepost/mq"
	"github.com/gatepost/gatepost/mq/kafka"
)

// startKafka starts brokers in this process.
func startKafka(t testing.TB, opts ...kfake.Opt) (*kfake.Cluster, kafka.Config) {
	t.Helper()
	cluster, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	cfg := kafka.Default()
	cfg.Brokers = cluster.ListenAddrs()
	cfg.Partitions = 1
	cfg.Replication = 1
	return cluster, cfg
}

// startProducer starts a producer and ensures topics.
func startProducer(t testing.TB, cfg kafka.Config, topics ...string) *kafka.Producer {
	t.Helper()
	p, err := kafka.NewProducer(cfg, kafka.Deps{Logger: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := p.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := p.Ensure(ctx, topics); err != nil {
		t.Fatal(err)
	}
	return p
}

// report is the n-th event of a user.
func report(topic, uid string, n int) *mq.Record {
	return &mq.Record{Topic: topic, Event: mq.Event{
		ID: uid + "-" + strconv.Itoa(n), Source: event.SourceOf("demo", uid), Type: "position", Time: time.Unix(1700000000, 0), Domain: "demo", UID: uid,
		Stream: 7, Seq: uint64(n), Content: []byte("content " + strconv.Itoa(n)),
	}}
}

// outcomes collects what became of records, by event id.
type outcomes struct {
	mu    sync.Mutex
	errs  map[string]error
	order []string
	twice []string
	left  sync.WaitGroup
}

// produce sends r and collects its outcome.
func (o *outcomes) produce(p *kafka.Producer, r *mq.Record) {
	o.left.Add(1)
	before := r.Done
	r.Done = func(err error) {
		if before != nil {
			before(err)
		}
		o.mu.Lock()
		if o.errs == nil {
			o.errs = map[string]error{}
		}
		_, again := o.errs[r.Event.ID]
		if again {
			o.twice = append(o.twice, r.Event.ID)
		}
		o.errs[r.Event.ID] = err
		o.order = append(o.order, r.Event.ID)
		o.mu.Unlock()
		if !again {
			o.left.Done()
		}
	}
	p.Produce(r)
}

// wait returns the outcomes when all are there.
func (o *outcomes) wait(t testing.TB) map[string]error {
	t.Helper()
	all := make(chan struct{})
	go func() { o.left.Wait(); close(all) }()
	select {
	case <-all:
	case <-time.After(30 * time.Second):
		t.Fatal("some records have no outcome")
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.twice) > 0 {
		t.Errorf("told twice: %q", o.twice)
	}
	return o.errs
}

// consume returns the records of a topic, by partition in order.
func consume(t testing.TB, cfg kafka.Config, topic string) []*sarama.ConsumerMessage {
	t.Helper()
	client, err := sarama.NewClient(cfg.Brokers, cfg.Sarama())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	consumer, err := sarama.NewConsumerFromClient(client)
	if err != nil {
		t.Fatal(err)
	}
	partitions, err := client.Partitions(topic)
	if err != nil {
		t.Fatal(err)
	}
	var all []*sarama.ConsumerMessage
	for _, partition := range partitions {
		end, err := client.GetOffset(topic, partition, sarama.OffsetNewest)
		if err != nil {
			t.Fatal(err)
		}
		first, err := client.GetOffset(topic, partition, sarama.OffsetOldest)
		if err != nil {
			t.Fatal(err)
		}
		if end == first {
			continue
		}
		pc, err := consumer.ConsumePartition(topic, partition, sarama.OffsetOldest)
		if err != nil {
			t.Fatal(err)
		}
		deadline := time.After(20 * time.Second)
		for last := int64(-1); last < end-1; {
			select {
			case m := <-pc.Messages():
				all = append(all, m)
				last = m.Offset
			case <-deadline:
				t.Fatalf("partition %d ends at %d, and only %d came", partition, end, last)
			}
		}
		if err := pc.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := consumer.Close(); err != nil {
		t.Error(err)
	}
	return all
}

func header(m *sarama.ConsumerMessage, key string) string {
	for _, h := range m.Headers {
		if string(h.Key) == key {
			return string(h.Value)
		}
	}
	return ""
}

func idsOf(messages []*sarama.ConsumerMessage) []string {
	var ids []string
	for _, m := range messages {
		ids = append(ids, header(m, event.ID))
	}
	return ids
}

func TestRecordIsACloudEvent(t *testing.T) {
	_, cfg := startKafka(t)
	p := startProducer(t, cfg, "orders")
	var o outcomes
	r := report("orders", "anna", 1)
	r.Event.Device, r.Event.Traceparent = "android", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	o.produce(p, r)
	if err := o.wait(t)["anna-1"]; err != nil {
		t.Fatal(err)
	}
	messages := consume(t, cfg, "orders")
	if len(messages) != 1 {
		t.Fatalf("%d records", len(messages))
	}
	m := messages[0]
	got := map[string]string{}
	for _, h := range m.Headers {
		got[string(h.Key)] = string(h.Value)
	}
	want := map[string]string{
		"ce_specversion": "1.0", "ce_id": "anna-1", "ce_source": "/demo/anna", "ce_type": "position", "ce_time": "2023-11-14T22:13:20Z", "ce_domain": "demo",
		"ce_uid": "anna", "ce_device": "android", "ce_stream": "7", "ce_seq": "1", "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
	if string(m.Key) != "demo/anna" || string(m.Value) != "content 1" {
		t.Errorf("key %q, value %q", m.Key, m.Value)
	}
}

func TestOrderOfEachKey(t *testing.T) {
	_, cfg := startKafka(t)
	cfg.Partitions = 4
	p := startProducer(t, cfg, "orders")
	var o outcomes
	const users, each = 20, 500
	for n := range each {
		for u := range users {
			o.produce(p, report("orders", "u"+strconv.Itoa(u), n))
		}
	}
	for id, err := range o.wait(t) {
		if err != nil {
			t.Fatalf("%s: %v", id, err)
		}
	}
	next := map[string]int{}
	partition := map[string]int32{}
	messages := consume(t, cfg, "orders")
	for _, m := range messages {
		key := string(m.Key)
		if got, want := header(m, event.Seq), strconv.Itoa(next[key]); got != want && !(next[key] == 0 && got == "") {
			t.Fatalf("%s: %s came where %s was due", key, got, want)
		}
		if at, ok := partition[key]; ok && at != m.Partition {
			t.Fatalf("%s is in partitions %d and %d", key, at, m.Partition)
		}
		partition[key] = m.Partition
		next[key]++
	}
	if len(messages) != users*each {
		t.Errorf("%d records, want %d", len(messages), users*each)
	}
}

func TestUnknownTopicIsMadeInTheBackground(t *testing.T) {
	_, cfg := startKafka(t)
	p := startProducer(t, cfg)
	var o outcomes
	o.produce(p, report("late", "anna", 0))
	err := o.wait(t)["anna-0"]
	if !errors.Is(err, mq.ErrUnavailable) || mq.RetryAfter(err) == 0 {
		t.Fatalf("outcome %v, retry after %v", err, mq.RetryAfter(err))
	}
	eventually(t, func() error {
		var o outcomes
		o.produce(p, report("late", "anna", 1))
		return o.wait(t)["anna-1"]
	})
}

func TestClosedIsAskedBeforeSending(t *testing.T) {
	_, cfg := startKafka(t)
	p := startProducer(t, cfg, "orders")
	var o outcomes
	var closed atomic.Bool
	closed.Store(true)
	for n := range 10 {
		r := report("orders", "anna", n)
		if n%2 == 1 {
			r.Closed = closed.Load
		}
		o.produce(p, r)
	}
	for id, err := range o.wait(t) {
		n, _ := strconv.Atoi(id[len("anna-"):])
		if n%2 == 1 && !errors.Is(err, mq.ErrClosed) || n%2 == 0 && err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	if got, want := idsOf(consume(t, cfg, "orders")), []string{"anna-0", "anna-2", "anna-4", "anna-6", "anna-8"}; !slices.Equal(got, want) {
		t.Errorf("stored %q, want %q", got, want)
	}
}

func TestTooLargeRecordAloneIsRefused(t *testing.T) {
	_, cfg := startKafka(t)
	p := startProducer(t, cfg, "orders")
	small := "2000"
	setTopic(t, cfg, "orders", map[string]*string{"max.message.bytes": &small})
	var o outcomes
	var want []string
	for n := range 100 {
		r := report("orders", "anna", n)
		if n == 17 || n == 60 {
			r.Event.Content = make([]byte, 3000)
		} else {
			want = append(want, r.Event.ID)
		}
		o.produce(p, r)
	}
	for id, err := range o.wait(t) {
		if large := id == "anna-17" || id == "anna-60"; large != errors.Is(err, mq.ErrTooLarge) || large != errors.Is(err, mq.ErrRefused) || !large && err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	if diff := cmp.Diff(want, idsOf(consume(t, cfg, "orders"))); diff != "" {
		t.Errorf("(-want +stored):\n%s", diff)
	}
}

func setTopic(t *testing.T, cfg kafka.Config, topic string, settings map[string]*string) {
	t.Helper()
	admin, err := sarama.NewClusterAdmin(cfg.Brokers, cfg.Sarama())
	if err != nil {
		t.Fatal(err)
	}
	defer closes(t, admin.Close)
	if err := admin.AlterConfig(sarama.TopicResource, topic, settings, false); err != nil {
		t.Fatal(err)
	}
}

// eventually polls until check is content.
func eventually(t testing.TB, check func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if err = check(); err == nil {
			return
		}
	}
	t.Fatal(fmt.Errorf("it did not happen: %w", err))
}

func closes(t *testing.T, closer func() error) {
	t.Helper()
	if err := closer(); err != nil {
		t.Error(err)
	}
}
