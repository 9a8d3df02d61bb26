package kafka

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/IBM/sarama"
)

// Config says where Kafka is. The rest is not open to choice: G1 and G3 hang on it.
type Config struct {
	// Brokers are host:port, some of the cluster; the others are learnt from them. Required.
	Brokers []string
	// ClientID names us in the brokers' logs and quotas.
	ClientID string
	// Timeout bounds each dial, read and write. A producer waits as long for the in-sync replicas.
	Timeout time.Duration
}

// Default returns a Config that lacks only Brokers.
func Default() Config {
	return Config{ClientID: "gatepost", Timeout: 10 * time.Second}
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
	if len(faults) == 0 {
		if err := c.Sarama().Validate(); err != nil {
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

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
