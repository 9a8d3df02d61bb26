//go:build integration

package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/gatepost/gatepost/mq"
	"github.com/gatepost/gatepost/mq/kafka"
)

// realKafka returns the Config of the brokers that the environment names.
func realKafka(t *testing.T) kafka.Config {
	t.Helper()
	brokers := os.Getenv("GATEPOST_TEST_KAFKA")
	if brokers == "" {
		t.Fatal("GATEPOST_TEST_KAFKA is empty: deploy/servers/up.sh kafka starts a broker and says its address")
	}
	cfg := kafka.Default()
	cfg.Brokers = strings.Split(brokers, ",")
	return cfg
}

func TestCheckRealKafka(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	promise, err := kafka.Check(ctx, realKafka(t))
	if err != nil {
		t.Fatal(err)
	}
	if promise.Brokers < 1 || promise.ReplicationFactor < 1 || promise.MinInsync < 1 {
		t.Errorf("Check() = %+v: something is not told", promise)
	}
	if promise.Brokers == 1 && promise.Warning() == "" {
		t.Errorf("one broker promises G1: %+v", promise)
	}
}

// A record that was acknowledged by all in-sync replicas is read back as it was, from a topic that was made explicitly.
func TestRecordRoundTrip(t *testing.T) {
	cfg := realKafka(t)
	topic := "gatepost-test-" + uuid.NewString()
	makeTopic(t, cfg, topic)

	producer, err := sarama.NewSyncProducer(cfg.Brokers, cfg.Sarama())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closes(t, producer.Close) })
	const count = 20
	type record struct{ Key, Value, ID string }
	var sent []record
	for range count {
		r := record{Key: "demo/alice", Value: uuid.NewString(), ID: uuid.NewString()}
		partition, offset, err := producer.SendMessage(&sarama.ProducerMessage{
			Topic: topic, Key: sarama.StringEncoder(r.Key), Value: sarama.StringEncoder(r.Value),
			Headers: []sarama.RecordHeader{{Key: []byte("ce_id"), Value: []byte(r.ID)}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if partition != 0 || offset != int64(len(sent)) {
			t.Fatalf("record %d went to partition %d, offset %d", len(sent), partition, offset)
		}
		sent = append(sent, r)
	}

	consumer, err := sarama.NewConsumer(cfg.Brokers, cfg.Sarama())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closes(t, consumer.Close) })
	partition, err := consumer.ConsumePartition(topic, 0, cfg.Sarama().Consumer.Offsets.Initial)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closes(t, partition.Close) })
	var got []record
	deadline := time.After(30 * time.Second)
	for len(got) < count {
		select {
		case m := <-partition.Messages():
			r := record{Key: string(m.Key), Value: string(m.Value)}
			for _, h := range m.Headers {
				if string(h.Key) == "ce_id" {
					r.ID = string(h.Value)
				}
			}
			got = append(got, r)
		case <-deadline:
			t.Fatalf("%d of %d records came", len(got), count)
		}
	}
	if diff := cmp.Diff(sent, got); diff != "" {
		t.Errorf("records (-sent +read):\n%s", diff)
	}
}

func TestTopicsAreNotMadeByAsking(t *testing.T) {
	cfg := realKafka(t)
	settings := cfg.Sarama()
	settings.Metadata.Retry.Max = 1
	producer, err := sarama.NewSyncProducer(cfg.Brokers, settings)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closes(t, producer.Close) })
	topic := "gatepost-test-" + uuid.NewString()
	if _, _, err := producer.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder("x")}); err == nil {
		t.Error("a record was taken for a topic that nobody made")
	}
}

// makeTopic makes topic with one partition and removes it at the end of the test.
func makeTopic(t *testing.T, cfg kafka.Config, topic string) {
	t.Helper()
	admin, err := sarama.NewClusterAdmin(cfg.Brokers, cfg.Sarama())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closes(t, admin.Close) })
	// -1: the cluster's own default
	if err := admin.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: -1}, false); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := admin.DeleteTopic(topic); err != nil {
			t.Error(err)
		}
	})
}

// Kafka is killed and started again under load: what was acknowledged is there, and the order of each key holds after repeats are dropped.
func TestKillKafkaUnderLoad(t *testing.T) {
	servers := os.Getenv("GATEPOST_TEST_SERVERS")
	if servers == "" {
		t.Fatal("GATEPOST_TEST_SERVERS is empty: deploy/servers/up.sh kafka starts a broker that a test may kill")
	}
	cfg := realKafka(t)
	cfg.Partitions = 4
	topic := "gatepost-test-" + uuid.NewString()
	p := startProducer(t, cfg, topic)

	const users = 16
	stored := make([][]int, users)
	stop := make(chan struct{})
	var failures, successes atomic.Int64
	var load sync.WaitGroup
	for u := range users {
		load.Go(func() {
			uid := "u" + strconv.Itoa(u)
			for n := 1; ; {
				select {
				case <-stop:
					return
				default:
				}
				// a window of ten; when one fails, it and what is behind it come again, as the outbox of a client does
				const window = 10
				var failed atomic.Bool
				outcomes := make([]error, window)
				var left sync.WaitGroup
				for i := range window {
					r := report(topic, uid, n+i)
					r.Closed = failed.Load
					left.Add(1)
					r.Done = func(err error) {
						if outcomes[i] = err; err != nil {
							failed.Store(true)
						}
						left.Done()
					}
					p.Produce(r)
				}
				left.Wait()
				for _, err := range outcomes {
					if err != nil {
						failures.Add(1)
						time.Sleep(min(mq.RetryAfter(err), time.Second)) // as the producer of the record is told
						break
					}
					stored[u] = append(stored[u], n)
					successes.Add(1)
					n++
				}
			}
		})
	}
	grows := func(by int64) {
		t.Helper()
		want := successes.Load() + by
		eventually(t, func() error {
			if got := successes.Load(); got < want {
				return fmt.Errorf("%d are stored, not yet %d", got, want)
			}
			return nil
		})
	}
	grows(2000)
	command(t, "../../deploy/servers/down.sh", "--dir", servers, "--kill", "--keep", "kafka")
	before := failures.Load()
	eventually(t, func() error {
		if failures.Load() == before {
			return errors.New("nothing fails without Kafka")
		}
		return nil
	})
	command(t, "env", "-u", "GATEPOST_TEST_KAFKA", "../../deploy/servers/up.sh", "--dir", servers, "kafka")
	grows(2000)
	close(stop)
	load.Wait()

	next := map[string]int{}
	for _, m := range consume(t, cfg, topic) {
		uid := header(m, "ce_uid")
		seq, err := strconv.Atoi(header(m, "ce_seq"))
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case seq == next[uid]+1:
			next[uid] = seq
		case seq > next[uid]:
			t.Fatalf("%s: %d came behind %d", uid, seq, next[uid])
		}
	}
	for u := range users {
		if last := len(stored[u]); next["u"+strconv.Itoa(u)] < last {
			t.Errorf("u%d: %d are acknowledged, %d are there", u, last, next["u"+strconv.Itoa(u)])
		}
	}
	t.Logf("%d acknowledged, %d windows failed", successes.Load(), failures.Load())
}

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

func TestRealTopicWithSmallBound(t *testing.T) {
	cfg := realKafka(t)
	cfg.Partitions = 1
	topic := "gatepost-test-" + uuid.NewString()
	p := startProducer(t, cfg, topic)
	small := "2000"
	setTopic(t, cfg, topic, map[string]*string{"max.message.bytes": &small})
	var o outcomes
	var want []string
	for n := range 200 {
		r := report(topic, "anna", n)
		if n%50 == 7 {
			r.Event.Content = []byte(strings.Repeat("x", 3000))
		} else {
			want = append(want, r.Event.ID)
		}
		o.produce(p, r)
	}
	for id, err := range o.wait(t) {
		if err != nil && !errors.Is(err, mq.ErrTooLarge) || slices.Contains(want, id) != (err == nil) {
			t.Errorf("%s: %v", id, err)
		}
	}
	if diff := cmp.Diff(want, idsOf(consume(t, cfg, topic))); diff != "" {
		t.Errorf("(-want +stored):\n%s", diff)
	}
	states, err := kafka.ListTopics(t.Context(), cfg, []string{topic})
	if err != nil {
		t.Fatal(err)
	}
	if s := states[0]; !s.Exists || s.Partitions != 1 || s.Replication < 1 || s.MinInsync < 1 || s.Retention != cfg.Retention || s.EndOffsets[0] < int64(len(want)) {
		t.Errorf("ListTopics() = %+v", s)
	}
}
