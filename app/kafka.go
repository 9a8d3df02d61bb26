package app

import (
	"errors"
	"fmt"
	"net"

	"github.com/gatepost/gatepost/mq/kafka"
)

// Kafka is the cluster that the topics lie in or, in standalone, the one that the process has of its own.
type Kafka struct {
	kafka.Config `koanf:",squash"`
	// Listen is the host:port of standalone's own Kafka, which any client can use. Not used when brokers are named. Empty: none.
	Listen string `koanf:"listen"`
}

// producer is the configuration of the producer over brokers.
func (k Kafka) producer(brokers []string) kafka.Config {
	cfg := k.Config
	cfg.Brokers = brokers
	return cfg
}

// validateKafka checks what role uses of the kafka section.
func (c Config) validateKafka(role Role) error {
	if !c.hasKafka(role) {
		return nil
	}
	brokers := c.Kafka.Brokers
	if len(brokers) == 0 {
		if _, _, err := net.SplitHostPort(c.Kafka.Listen); err != nil {
			return fmt.Errorf("kafka.listen %q is not host:port", c.Kafka.Listen)
		}
		brokers = []string{c.Kafka.Listen}
	}
	if err := c.Kafka.producer(brokers).Validate(); err != nil {
		return fmt.Errorf("kafka: %w", err)
	}
	return nil
}

// validateAppListen checks the port for app-servers.
func (c Config) validateAppListen() error {
	if c.AppListen == "" {
		return nil
	}
	if _, _, err := net.SplitHostPort(c.AppListen); err != nil {
		return fmt.Errorf("app_listen %q is not host:port", c.AppListen)
	}
	return nil
}

var errNoKafka = errors.New("topics are named, and this process was started without a Kafka: set kafka.brokers and start it again")
