package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/IBM/sarama"

	"github.com/gatepost/gatepost/mq"
)

// Ensure makes those of topics that the cluster lacks, and returns when records can be produced to all of them. Topics that are
// there stay as they are. The error joins what each missing topic lacks; these are tried again in the background.
func (p *Producer) Ensure(ctx context.Context, topics []string) error {
	var faults []error
	var valid []string
	for _, name := range topics {
		if err := mq.ValidTopic(name); err != nil {
			faults = append(faults, err)
		} else {
			valid = append(valid, name)
		}
	}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return errors.New("producer is closed")
	}
	for _, name := range valid {
		if p.topics[name] == nil {
			p.wanted[name] = true
		}
	}
	p.mu.Unlock()
	faults = append(faults, p.makeReady(ctx, valid))
	p.kick()
	return errors.Join(faults...)
}

// makeReady makes missing topics and publishes those that are there.
func (p *Producer) makeReady(ctx context.Context, names []string) error {
	p.ensuring.Lock()
	defer p.ensuring.Unlock()
	var faults []error
	for _, name := range names {
		p.mu.RLock()
		ready := p.topics[name] != nil
		p.mu.RUnlock()
		if ready {
			continue
		}
		leaders, err := p.cluster.leaders(ctx, name)
		if errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
			if err = p.create(ctx, name); err == nil {
				leaders, err = p.appeared(ctx, name)
			}
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("topic %s: %w", name, err))
			continue
		}
		p.publish(name, len(leaders))
	}
	return errors.Join(faults...)
}

// create makes a topic; one that is there already is no error.
func (p *Producer) create(ctx context.Context, name string) error {
	settings := p.cfg.Sarama()
	settings.Metadata.Retry.Max, settings.Admin.Retry.Max = 1, 1
	settings.Net.Proxy.Enable, settings.Net.Proxy.Dialer = true, boundDialer(ctx, p.cfg.Timeout, p.cluster.reach)
	admin, err := sarama.NewClusterAdmin(p.cfg.Brokers, settings)
	if err != nil {
		return fmt.Errorf("reach the cluster to make it: %w", err)
	}
	defer func() { _ = admin.Close() }()
	detail := &sarama.TopicDetail{NumPartitions: int32(p.cfg.Partitions), ReplicationFactor: int16(p.cfg.Replication)}
	if p.cfg.Retention != 0 {
		retention := strconv.FormatInt(p.cfg.Retention.Milliseconds(), 10)
		detail.ConfigEntries = map[string]*string{retentionName: &retention}
	}
	err = admin.CreateTopic(name, detail, false)
	switch {
	case err == nil:
		p.logger.Info("topic was made", "topic", name, "partitions", p.cfg.Partitions, "replication", p.cfg.Replication, "retention", p.cfg.Retention)
	case errors.Is(err, sarama.ErrTopicAlreadyExists):
	case errors.Is(err, sarama.ErrTopicAuthorizationFailed), errors.Is(err, sarama.ErrClusterAuthorizationFailed):
		return fmt.Errorf("it is not there, and we may not make it (an administrator must): %w", err)
	default:
		return fmt.Errorf("make it: %w", err)
	}
	return nil
}

const retentionName = "retention.ms"

// appeared waits until the brokers know a topic that was just made.
func (p *Producer) appeared(ctx context.Context, name string) ([]string, error) {
	for {
		leaders, err := p.cluster.leaders(ctx, name)
		if err == nil && !slices.Contains(leaders, "") {
			return leaders, nil
		}
		if !pause(ctx, 50*time.Millisecond) {
			return nil, errors.Join(err, context.Cause(ctx))
		}
	}
}

// publish lets records in.
func (p *Producer) publish(name string, partitions int) {
	t := &topic{name: name}
	for i := range partitions {
		t.lanes = append(t.lanes, newLane(p, name, int32(i)))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.wanted, name)
	if !p.closed {
		p.topics[name] = t
	}
}

// retire takes a topic out that the cluster does not have any more, or that has fewer partitions; it is made ready again when all that
// it took has an outcome, so that nothing overtakes.
func (p *Producer) retire(name string) {
	p.mu.Lock()
	t := p.topics[name]
	closed := p.closed
	p.mu.Unlock()
	if t == nil || closed {
		return
	}
	first := false
	for i, l := range t.lanes {
		l.mu.Lock()
		if i == 0 {
			first = !l.retired
		}
		l.retired = true
		l.mu.Unlock()
	}
	if !first {
		return
	}
	p.logger.Warn("topic is gone", "topic", name)
	p.keeper.Go(func() {
		for _, l := range t.lanes {
			for l.isRunning() {
				if !pause(p.ctx, 20*time.Millisecond) {
					return
				}
			}
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.closed {
			return
		}
		for _, l := range t.lanes {
			l.disconnect()
			l.mu.Lock()
			if l.failures > 0 {
				p.metrics.open.WithLabelValues(name).Dec()
			}
			l.mu.Unlock()
		}
		delete(p.topics, name)
		p.wanted[name] = true
		p.kick()
	})
}

func (l *lane) isRunning() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.running
}

// TopicState is what the cluster says of a topic.
type TopicState struct {
	Name        string
	Exists      bool // the rest is zero when not
	Partitions  int
	Replication int           // of partition 0
	MinInsync   int           // 0: not told
	Retention   time.Duration // -1: for ever; 0: not told
	EndOffsets  []int64       // by partition; -1: not told, because it has no leader
}

// ListTopics returns the state of each of names, in their order. It ends with ctx, and no connection stays.
func ListTopics(ctx context.Context, cfg Config, names []string) ([]TopicState, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	states, err := listTopics(ctx, cfg, names)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("list topics of Kafka at %v: %w", cfg.Brokers, err)
	}
	return states, nil
}

func listTopics(ctx context.Context, cfg Config, names []string) (states []TopicState, err error) {
	if len(names) == 0 {
		return nil, nil
	}
	settings := cfg.Sarama()
	settings.Metadata.Retry.Max, settings.Admin.Retry.Max = 1, 1
	settings.Net.Proxy.Enable, settings.Net.Proxy.Dialer = true, boundDialer(ctx, cfg.Timeout, nil)
	client, err := sarama.NewClient(cfg.Brokers, settings)
	if err != nil {
		return nil, err
	}
	admin, err := sarama.NewClusterAdminFromClient(client)
	if err != nil {
		_ = client.Close()
		return nil, err
	}
	defer func() { _ = admin.Close() }() // closes client too
	described, err := admin.DescribeTopics(names)
	if err != nil {
		return nil, err
	}
	byName := map[string]*sarama.TopicMetadata{}
	for _, t := range described {
		byName[t.Name] = t
	}
	for _, name := range names {
		state := TopicState{Name: name}
		t := byName[name]
		switch {
		case t == nil || t.Err == sarama.ErrUnknownTopicOrPartition || t.Err == sarama.ErrInvalidTopic:
		case t.Err != sarama.ErrNoError && t.Err != sarama.ErrLeaderNotAvailable:
			return nil, fmt.Errorf("topic %s: %w", name, t.Err)
		default:
			if err := state.fill(client, admin, t); err != nil {
				return nil, fmt.Errorf("topic %s: %w", name, err)
			}
		}
		states = append(states, state)
	}
	return states, nil
}

func (s *TopicState) fill(client sarama.Client, admin sarama.ClusterAdmin, t *sarama.TopicMetadata) error {
	s.Exists, s.Partitions = true, len(t.Partitions)
	for _, p := range t.Partitions {
		if p.ID == 0 {
			s.Replication = len(p.Replicas)
		}
	}
	resources := []*sarama.ConfigResource{{Type: sarama.TopicResource, Name: s.Name, ConfigNames: []string{retentionName, insyncName}}}
	settings, err := admin.DescribeConfigs(resources, sarama.DescribeConfigsOptions{})
	if err == nil && (len(settings) != 1 || settings[0].ErrorCode != sarama.ErrNoError) {
		err = errors.New("the broker does not tell them")
		if len(settings) == 1 {
			err = settings[0].ErrorCode
		}
	}
	if err != nil {
		return fmt.Errorf("read its settings: %w", err)
	}
	for _, e := range settings[0].Configs {
		n, err := strconv.ParseInt(e.Value, 10, 64)
		if err != nil {
			continue
		}
		switch {
		case e.Name == insyncName:
			s.MinInsync = int(n)
		case e.Name == retentionName && n < 0:
			s.Retention = -1
		case e.Name == retentionName:
			s.Retention = time.Duration(min(n, int64(1<<63-1)/int64(time.Millisecond))) * time.Millisecond
		}
	}
	if err := client.RefreshMetadata(s.Name); err != nil {
		return err
	}
	for i := range s.Partitions {
		end, err := client.GetOffset(s.Name, int32(i), sarama.OffsetNewest)
		switch {
		case errors.Is(err, sarama.ErrLeaderNotAvailable):
			end = -1
		case err != nil:
			return fmt.Errorf("end of partition %d: %w", i, err)
		}
		s.EndOffsets = append(s.EndOffsets, end)
	}
	return nil
}
