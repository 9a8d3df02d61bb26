package kafka

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/IBM/sarama"
)

// Config says where Kafka is. What is not here is not open to choice: G1 and G3 hang on it.
type Config struct {
	// Brokers are host:port, some of the cluster; the others are learnt from them. Required.
	Brokers []string `koanf:"brokers"`
	// ClientID names us in the brokers' logs and quotas.
	ClientID string `koanf:"client_id"`
	// Timeout bounds each dial, read and write of an administrative call; at least 100ms.
	Timeout time.Duration `koanf:"timeout"`
	// ProduceTimeout is how long records are tried to be written, from their first attempt; 200ms to 4s. What has no outcome then fails
	// as unavailable, and the sender tries again. Behind a slow batch a record gets less: none waits longer than 4.3s in total.
	ProduceTimeout time.Duration `koanf:"produce_timeout"`
	// Partitions of a topic that we make; at least 1. A topic that is there keeps its own.
	Partitions int `koanf:"partitions"`
	// Replication is the number of replicas of a topic that we make; -1: the brokers' default.replication.factor.
	Replication int `koanf:"replication"`
	// Retention is how long a topic that we make keeps its records; at least 1s. 0: the brokers' own.
	Retention time.Duration `koanf:"retention"`
}

// Default returns a Config that lacks only Brokers.
func Default() Config {
	return Config{
		ClientID: "gatepost", Timeout: 10 * time.Second, ProduceTimeout: 3 * time.Second,
		Partitions: 4, Replication: -1, Retention: 7 * 24 * time.Hour,
	}
}

// Validate returns all faults, joined.
func (c Config) Validate() error {
	var faults []error
	if len(c.Brokers) == 0 {
		faults = append(faults, errors.New("brokers: at least one host:port is needed"))
	}
	for _, broker := range c.Brokers {
		if host, port, err := net.SplitHostPort(broker); err != nil || host == "" || port == "" {
			faults = append(faults, fmt.Errorf("brokers: %q is not host:port", broker))
		}
	}
	if c.Timeout < 100*time.Millisecond {
		faults = append(faults, fmt.Errorf("timeout: %v is less than 100ms", c.Timeout))
	}
	if c.ProduceTimeout < 200*time.Millisecond || c.ProduceTimeout > 4*time.Second {
		faults = append(faults, fmt.Errorf("produce_timeout: %v is not between 200ms and 4s", c.ProduceTimeout))
	}
	if c.Partitions < 1 || c.Partitions > maxPartitions {
		faults = append(faults, fmt.Errorf("partitions: %d is not between 1 and %d", c.Partitions, maxPartitions))
	}
	if c.Replication != -1 && (c.Replication < 1 || c.Replication > 99) {
		faults = append(faults, fmt.Errorf("replication: %d is neither -1 nor between 1 and 99", c.Replication))
	}
	if c.Retention != 0 && c.Retention < time.Second {
		faults = append(faults, fmt.Errorf("retention: %v is neither 0 nor at least 1s", c.Retention))
	}
	if len(faults) == 0 {
		if err := c.Sarama().Validate(); err != nil {
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

// maxPartitions bounds Config.Partitions; each has a connection of its own from every producer that writes to it.
const maxPartitions = 1024

// Sarama returns the settings for every client that we open. The caller owns it.
func (c Config) Sarama() *sarama.Config {
	s := sarama.NewConfig()
	s.ClientID = c.ClientID
	s.Net.DialTimeout, s.Net.ReadTimeout, s.Net.WriteTimeout = c.Timeout, c.Timeout, c.Timeout

	// Accepted is durable (G1): the leader alone is not enough.
	s.Producer.RequiredAcks = sarama.WaitForAll
	s.Producer.Timeout = c.Timeout
	// In order (G3): no second request overtakes one that is tried again, and a retry writes nothing twice.
	s.Producer.Idempotent = true
	s.Net.MaxOpenRequests = 1
	// One outcome for each record.
	s.Producer.Return.Successes, s.Producer.Return.Errors = true, true
	// The key is the user, and his records share a partition.
	s.Producer.Partitioner = sarama.NewHashPartitioner

	// A new group of consumers misses nothing that was written before it came.
	s.Consumer.Offsets.Initial = sarama.OffsetOldest
	// Topics are made explicitly: asking for one that is not there must not make it with the broker's defaults.
	s.Metadata.AllowAutoTopicCreation = false
	return s
}

// link returns the settings of one low-level connection: no request on it is tried again or has company by itself.
// Its dial, and all that is read and written, end with ctx. reach is Deps.Reach.
func (c Config) link(ctx context.Context, reach func(string) string) *sarama.Config {
	s := sarama.NewConfig()
	s.ClientID = c.ClientID
	s.Version = linkVersion
	s.Net.DialTimeout, s.Net.ReadTimeout, s.Net.WriteTimeout = c.Timeout, c.Timeout, c.Timeout
	s.Net.MaxOpenRequests = 1
	s.Net.Proxy.Enable = true
	s.Net.Proxy.Dialer = boundDialer(ctx, c.Timeout, reach)
	s.Metadata.AllowAutoTopicCreation = false
	return s
}

// linkVersion is the oldest Kafka whose answers name the bad records of a batch; a connection to an older one speaks as old as it must.
var linkVersion = sarama.V2_4_0_0
