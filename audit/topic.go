package audit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/IBM/sarama"
	"github.com/google/uuid"

	"github.com/gatepost/gatepost/idl/event"
)

// KafkaTopic is a Topic read by a plain consumer, without a group.
type KafkaTopic struct {
	Brokers []string // host:port
	Name    string

	from map[int32]int64 // partition → the first offset that is read; nil: all
}

// FromNow makes Read begin behind what stands in the topic now: records of others, perhaps years of them.
func (t *KafkaTopic) FromNow(ctx context.Context) error {
	client, err := connect(ctx, t.Brokers)
	if err != nil {
		return err
	}
	defer client.Close()
	partitions, err := client.Partitions(t.Name)
	if err != nil {
		return fmt.Errorf("partitions of %s: %w", t.Name, err)
	}
	t.from = make(map[int32]int64)
	for _, p := range partitions {
		if t.from[p], err = client.GetOffset(t.Name, p, sarama.OffsetNewest); err != nil {
			return fmt.Errorf("partition %d of %s: end offset: %w", p, t.Name, err)
		}
	}
	return nil
}

// Read reads each partition from its first record, or from the end that FromNow saw, to the end that it had when Read was called. Brokers that do not answer are asked
// again until ctx ends.
func (t KafkaTopic) Read(ctx context.Context, each func(TopicRecord)) error {
	client, err := connect(ctx, t.Brokers)
	if err != nil {
		return err
	}
	defer client.Close()
	consumer, err := sarama.NewConsumerFromClient(client)
	if err != nil {
		return err
	}
	defer consumer.Close()
	partitions, err := client.Partitions(t.Name)
	if err != nil {
		return fmt.Errorf("partitions of %s: %w", t.Name, err)
	}
	for _, p := range partitions {
		if err := t.readPartition(ctx, client, consumer, p, each); err != nil {
			return fmt.Errorf("partition %d of %s: %w", p, t.Name, err)
		}
	}
	return nil
}

func connect(ctx context.Context, brokers []string) (sarama.Client, error) {
	cfg := sarama.NewConfig()
	cfg.ClientID = "gatepost-audit"
	cfg.Consumer.IsolationLevel = sarama.ReadCommitted
	cfg.Metadata.AllowAutoTopicCreation = false
	for {
		client, err := sarama.NewClient(brokers, cfg)
		if err == nil {
			return client, nil
		}
		if !sleep(ctx, 200*time.Millisecond) {
			return nil, errors.Join(err, ctx.Err())
		}
	}
}

func (t KafkaTopic) readPartition(ctx context.Context, client sarama.Client, consumer sarama.Consumer, p int32, each func(TopicRecord)) error {
	first, err := client.GetOffset(t.Name, p, sarama.OffsetOldest)
	if err != nil {
		return fmt.Errorf("first offset: %w", err)
	}
	first = max(first, t.from[p])
	end, err := client.GetOffset(t.Name, p, sarama.OffsetNewest)
	if err != nil {
		return fmt.Errorf("end offset: %w", err)
	}
	if first >= end {
		return nil
	}
	records, err := consumer.ConsumePartition(t.Name, p, first)
	if err != nil {
		return err
	}
	defer records.AsyncClose()
	for {
		select {
		case m, ok := <-records.Messages():
			if !ok {
				return errors.New("the consumer ended before the end of the partition")
			}
			each(recordOf(m))
			if m.Offset >= end-1 {
				return nil
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func recordOf(m *sarama.ConsumerMessage) TopicRecord {
	r := TopicRecord{Content: m.Value}
	for _, h := range m.Headers {
		switch string(h.Key) {
		case event.ID:
			if id, err := uuid.ParseBytes(h.Value); err == nil {
				r.ID = id
			}
		case event.UID:
			r.UID = string(h.Value)
		}
	}
	return r
}
