//go:build integration

package appserver_test

import (
	"os"
	"strings"
	"testing"

	"github.com/IBM/sarama"
	"github.com/google/uuid"
)

// realLog makes a topic in the Kafka that the environment names.
func realLog(t *testing.T, partitions int) *log {
	t.Helper()
	names := os.Getenv("GATEPOST_TEST_KAFKA")
	if names == "" {
		t.Fatal("GATEPOST_TEST_KAFKA is empty: deploy/servers/up.sh kafka starts a broker and says its address")
	}
	brokers := strings.Split(names, ",")
	cfg := sarama.NewConfig()
	cfg.Version = sarama.V2_4_0_0
	admin, err := sarama.NewClusterAdmin(brokers, cfg)
	if err != nil {
		t.Fatal(err)
	}
	topic := "gatepost-test-" + uuid.NewString()
	if err := admin.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: int32(partitions), ReplicationFactor: 1}, false); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := admin.DeleteTopic(topic); err != nil {
			t.Error(err)
		}
		if err := admin.Close(); err != nil {
			t.Error(err)
		}
	})
	return newLog(t, brokers, topic, partitions)
}

func TestRealKafkaFields(t *testing.T)       { testFields(t, realLog(t, 1)) }
func TestRealKafkaOnce(t *testing.T)         { testOnce(t, realLog(t, 1)) }
func TestRealKafkaRebalance(t *testing.T)    { testRebalance(t, realLog(t, 4)) }
func TestRealKafkaDeath(t *testing.T)        { testDeath(t, realLog(t, 6)) }
func TestRealKafkaTrimmed(t *testing.T)      { testTrimmed(t, realLog(t, 1)) }
func TestRealKafkaTransactions(t *testing.T) { testTransactions(t, realLog(t, 1)) }
