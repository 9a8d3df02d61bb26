package kafka

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/IBM/sarama"
)

// Promise is what a Kafka cluster does for a topic that is made with the brokers' defaults. A topic may have settings
// of its own.
type Promise struct {
	Brokers           int // that are registered now
	ReplicationFactor int // default.replication.factor, the least that a broker says
	MinInsync         int // min.insync.replicas, the least that a broker says
}

// Warning says in one sentence why an acknowledged record could be lost with one broker, or why one broker less stops
// producers; "" when neither holds.
func (p Promise) Warning() string {
	switch {
	case p.Brokers < p.ReplicationFactor:
		return fmt.Sprintf("Kafka has %d brokers and default.replication.factor %d: topics with the default cannot be made", p.Brokers, p.ReplicationFactor)
	case p.MinInsync < 2:
		return fmt.Sprintf("min.insync.replicas is %d: an acknowledged record is lost with the one broker that holds it (2 with a replication factor of 3 keeps it)", p.MinInsync)
	case p.ReplicationFactor <= p.MinInsync:
		return fmt.Sprintf("default.replication.factor %d is not more than min.insync.replicas %d: producers stop when one broker does", p.ReplicationFactor, p.MinInsync)
	}
	return ""
}

// Check reaches the cluster behind cfg.Brokers and returns what it can promise. It ends with ctx, and no connection stays.
func Check(ctx context.Context, cfg Config) (Promise, error) {
	if err := cfg.Validate(); err != nil {
		return Promise{}, err
	}
	promise, err := check(ctx, cfg)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return Promise{}, fmt.Errorf("check Kafka at %v: %w", cfg.Brokers, err)
	}
	return promise, nil
}

func check(ctx context.Context, cfg Config) (p Promise, err error) {
	settings := cfg.Sarama()
	settings.Metadata.Retry.Max = 1
	settings.Admin.Retry.Max = 1
	settings.Net.Proxy.Enable = true
	settings.Net.Proxy.Dialer = boundDialer(ctx, cfg.Timeout, nil)

	admin, err := sarama.NewClusterAdmin(cfg.Brokers, settings)
	if err != nil {
		return Promise{}, err
	}
	defer func() {
		if closeErr := admin.Close(); err == nil {
			err = closeErr
		}
	}()
	brokers, _, err := admin.DescribeCluster()
	if err != nil {
		return Promise{}, fmt.Errorf("list brokers: %w", err)
	}
	p.Brokers = len(brokers)
	var resources []*sarama.ConfigResource
	for _, broker := range brokers {
		resources = append(resources, &sarama.ConfigResource{
			Type: sarama.BrokerResource, Name: strconv.Itoa(int(broker.ID())), ConfigNames: []string{factorName, insyncName},
		})
	}
	settingsOf, err := admin.DescribeConfigs(resources, sarama.DescribeConfigsOptions{})
	if err != nil {
		return Promise{}, fmt.Errorf("read the settings of the brokers: %w", err)
	}
	if p.ReplicationFactor, err = least(settingsOf, factorName); err != nil {
		return Promise{}, err
	}
	p.MinInsync, err = least(settingsOf, insyncName)
	return p, err
}

// What a topic gets that does not say otherwise.
const (
	factorName = "default.replication.factor"
	insyncName = "min.insync.replicas"
)

// least returns the least value that any broker has for name.
func least(brokers []*sarama.ConfigResourceResult, name string) (int, error) {
	var values []int
	for _, broker := range brokers {
		if broker.ErrorCode != sarama.ErrNoError {
			return 0, fmt.Errorf("read the settings of broker %s: %w", broker.Name, broker.ErrorCode)
		}
		i := slices.IndexFunc(broker.Configs, func(e sarama.ConfigEntry) bool { return e.Name == name })
		if i < 0 {
			return 0, fmt.Errorf("broker %s does not tell %s", broker.Name, name)
		}
		n, err := strconv.Atoi(broker.Configs[i].Value)
		if err != nil {
			return 0, fmt.Errorf("broker %s: %s: %w", broker.Name, name, err)
		}
		values = append(values, n)
	}
	if len(values) == 0 {
		return 0, fmt.Errorf("no broker tells %s", name)
	}
	return slices.Min(values), nil
}

// dialFunc dials for sarama, which knows no context.
type dialFunc func(network, address string) (net.Conn, error)

func (f dialFunc) Dial(network, address string) (net.Conn, error) { return f(network, address) }

// boundDialer returns a dialer whose connections close when ctx ends: whoever waits on one returns. It dials what reach, unless nil,
// makes of an address.
func boundDialer(ctx context.Context, timeout time.Duration, reach func(string) string) dialFunc {
	return func(network, address string) (net.Conn, error) {
		if reach != nil {
			address = reach(address)
		}
		dialer := net.Dialer{Timeout: timeout}
		nc, err := dialer.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return boundConn{Conn: nc, unbind: context.AfterFunc(ctx, func() { _ = nc.Close() })}, nil
	}
}

type boundConn struct {
	net.Conn
	unbind func() bool
}

func (c boundConn) Close() error {
	c.unbind()
	return c.Conn.Close()
}
