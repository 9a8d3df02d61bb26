package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

// cluster asks brokers where partitions are. Safe for concurrent use.
type cluster struct {
	cfg   Config
	reach func(address string) string // Deps.Reach

	mu    sync.Mutex
	known []string // brokers that the last answer named
}

// Bounds of one question to the cluster.
const (
	maxAsked   = 6                      // brokers
	askStagger = 150 * time.Millisecond // before the next broker is asked as well
)

// dial opens a connection that closes when ctx ends. The caller closes it.
func (c *cluster) dial(ctx context.Context, address string) (*sarama.Broker, error) {
	broker := sarama.NewBroker(address)
	if err := broker.Open(c.cfg.link(ctx, c.reach)); err != nil {
		return nil, err
	}
	if connected, err := broker.Connected(); err != nil || !connected {
		_ = broker.Close()
		if err == nil {
			err = errors.New("connection was closed")
		}
		return nil, fmt.Errorf("dial broker %s: %w", address, err)
	}
	return broker, nil
}

// leaders returns the address of each partition's leader, "" where there is none now.
// The error wraps sarama.ErrUnknownTopicOrPartition when the cluster does not have topic.
func (c *cluster) leaders(ctx context.Context, topic string) ([]string, error) {
	addresses := c.addresses()
	ctx, cancel := context.WithCancel(ctx)
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel()

	type answer struct {
		leaders []string
		err     error
	}
	answers := make(chan answer, len(addresses))
	for i, address := range addresses {
		asking.Go(func() {
			if !pause(ctx, time.Duration(i)*askStagger) {
				answers <- answer{err: ctx.Err()}
				return
			}
			leaders, err := c.ask(ctx, address, topic)
			answers <- answer{leaders: leaders, err: err}
		})
	}
	var faults []error
	for range addresses {
		select {
		case a := <-answers:
			if a.err == nil || errors.Is(a.err, sarama.ErrUnknownTopicOrPartition) {
				return a.leaders, a.err
			}
			faults = append(faults, a.err)
		case <-ctx.Done():
			return nil, errors.Join(append(faults, context.Cause(ctx))...)
		}
	}
	return nil, errors.Join(faults...)
}

// addresses returns the brokers to ask: those of the last answer, and the configured ones.
func (c *cluster) addresses() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := slices.Clone(c.known[:min(len(c.known), maxAsked/2)])
	for _, address := range c.cfg.Brokers {
		if !slices.Contains(all, address) && len(all) < maxAsked {
			all = append(all, address)
		}
	}
	return all
}

func (c *cluster) ask(ctx context.Context, address, topic string) ([]string, error) {
	broker, err := c.dial(ctx, address)
	if err != nil {
		return nil, err
	}
	defer func() { _ = broker.Close() }()
	request := sarama.NewMetadataRequest(linkVersion, []string{topic})
	response, err := broker.GetMetadata(request)
	if err != nil {
		return nil, fmt.Errorf("ask broker %s about topic %s: %w", address, topic, err)
	}
	byID := make(map[int32]string, len(response.Brokers))
	var known []string
	for _, b := range response.Brokers {
		byID[b.ID()] = b.Addr()
		known = append(known, b.Addr())
	}
	c.mu.Lock()
	c.known = known
	c.mu.Unlock()
	for _, t := range response.Topics {
		if t.Name != topic {
			continue
		}
		if len(t.Partitions) == 0 {
			if t.Err == sarama.ErrNoError {
				t.Err = sarama.ErrUnknownTopicOrPartition
			}
			return nil, fmt.Errorf("topic %s: %w", topic, t.Err)
		}
		leaders := make([]string, len(t.Partitions))
		for _, p := range t.Partitions {
			if int(p.ID) < len(leaders) && p.ID >= 0 {
				leaders[p.ID] = byID[p.Leader]
			}
		}
		return leaders, nil
	}
	return nil, fmt.Errorf("topic %s: %w", topic, sarama.ErrUnknownTopicOrPartition)
}

// pause waits; false: ctx ended before.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
