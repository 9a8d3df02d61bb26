//go:build integration

package kafka_test

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

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
