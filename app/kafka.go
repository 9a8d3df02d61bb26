package app

import (
	"errors"
	"fmt"
	"net"

	"github.com/gatepost/gatepost/app/kafkahere"
	"github.com/gatepost/gatepost/mq/kafka"
)

// Kafka is the cluster that the topics lie in or, in standalone, the one that the process has of its own.
type Kafka struct {
	kafka.Config `koanf:",squash"`
	// Listen is the host:port of standalone's own Kafka, which any client can use. Not used when brokers are named. Empty: none.
	Listen string `koanf:"listen"`
	// Advertise is the host, or host:port, that clients of standalone's own Kafka are told to connect to; without a port it is that of
	// listen. Empty: listen, which must then name one host. Set it for consumers on other machines.
	Advertise string `koanf:"advertise"`
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
		if err := kafkahere.ValidAddresses(c.Kafka.Listen, c.Kafka.Advertise); err != nil {
			return err
		}
		brokers = []string{net.JoinHostPort("127.0.0.1", PortKafka)} // the real one is known when it listens
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
