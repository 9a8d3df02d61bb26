package limit

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"
	"github.com/google/uuid"

	"github.com/gatepost/gatepost/idl/event"
)

// Kafka is sarama's producer alone, in a topic of its own.
type Kafka struct {
	Brokers    []string // host:port
	Partitions int      // of the topic; default 4, as the platform makes them
	Size       int      // bytes of content
	Users      int      // whose reports they are; default 200
	InFlight   int      // records without an outcome; default 20,000
}

func (k Kafka) settings() *sarama.Config {
	s := sarama.NewConfig()
	s.ClientID = "gatepost-limit"
	s.Producer.RequiredAcks = sarama.WaitForAll
	s.Producer.Idempotent = true
	s.Net.MaxOpenRequests = 1
	s.Producer.Return.Successes, s.Producer.Return.Errors = true, true
	s.Producer.Partitioner = sarama.NewHashPartitioner
	s.Metadata.AllowAutoTopicCreation = false
	return s
}

// Produce produces records like the platform's for about took, and returns how many a second all in-sync replicas acknowledged.
func (k Kafka) Produce(ctx context.Context, took time.Duration) (perS float64, records uint64, err error) {
	if k.Partitions == 0 {
		k.Partitions = 4
	}
	if k.Users == 0 {
		k.Users = 200
	}
	if k.InFlight == 0 {
		k.InFlight = 20000
	}
	topic := fmt.Sprintf("gatepost-limit-%x", rand.Uint64())
	admin, err := sarama.NewClusterAdmin(k.Brokers, k.settings())
	if err != nil {
		return 0, 0, fmt.Errorf("limit: Kafka: %w", err)
	}
	defer func() { err = errors.Join(err, admin.DeleteTopic(topic), admin.Close()) }()
	if err := admin.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: int32(k.Partitions), ReplicationFactor: -1}, false); err != nil {
		return 0, 0, fmt.Errorf("limit: make a topic: %w", err)
	}
	if err := k.ready(ctx, topic); err != nil {
		return 0, 0, err
	}
	p, err := sarama.NewAsyncProducer(k.Brokers, k.settings())
	if err != nil {
		return 0, 0, fmt.Errorf("limit: Kafka: %w", err)
	}
	return k.produce(ctx, p, topic, took)
}

// ready waits until every partition of a new topic has a leader.
func (k Kafka) ready(ctx context.Context, topic string) error {
	for {
		client, err := sarama.NewClient(k.Brokers, k.settings())
		if err == nil {
			var all []int32
			if all, err = client.WritablePartitions(topic); err == nil && len(all) < k.Partitions {
				err = fmt.Errorf("%d of %d partitions have a leader", len(all), k.Partitions)
			}
			err = errors.Join(err, client.Close())
		}
		if err == nil {
			return nil
		}
		if !sleep(ctx, 100*time.Millisecond) {
			return fmt.Errorf("limit: topic %s: %w", topic, errors.Join(err, ctx.Err()))
		}
	}
}

func (k Kafka) produce(ctx context.Context, p sarama.AsyncProducer, topic string, took time.Duration) (float64, uint64, error) {
	slots := make(chan struct{}, k.InFlight)
	outcomes := make(chan struct{}, 2)
	var done atomic.Uint64
	var failed error
	go func() {
		for range p.Successes() {
			done.Add(1)
			<-slots
		}
		outcomes <- struct{}{}
	}()
	go func() {
		for err := range p.Errors() {
			failed = err.Err
			<-slots
		}
		outcomes <- struct{}{}
	}()
	content := filler(k.Size)
	begin := time.Now()
	for n := 0; time.Since(begin) < took && ctx.Err() == nil; n++ {
		slots <- struct{}{}
		p.Input() <- k.record(topic, n, content)
	}
	records := done.Load()
	elapsed := time.Since(begin)
	p.AsyncClose()
	<-outcomes
	<-outcomes
	if failed != nil {
		return 0, 0, fmt.Errorf("limit: produce: %w", failed)
	}
	return float64(records) / elapsed.Seconds(), records, ctx.Err()
}

// record is like one of the platform's: the same key, the same headers, the content as value.
func (k Kafka) record(topic string, n int, content []byte) *sarama.ProducerMessage {
	uid := "limit-" + strconv.Itoa(n%k.Users)
	h := func(key, value string) sarama.RecordHeader {
		return sarama.RecordHeader{Key: []byte(key), Value: []byte(value)}
	}
	return &sarama.ProducerMessage{
		Topic: topic, Key: sarama.StringEncoder(event.KeyOf(domain, uid)), Value: sarama.ByteEncoder(content),
		Headers: []sarama.RecordHeader{
			h(event.SpecVersion, event.Version), h(event.ID, uuid.Must(uuid.NewV7()).String()), h(event.Source, event.SourceOf(domain, uid)),
			h(event.Type, "audit"), h(event.Time, time.Now().UTC().Format(time.RFC3339Nano)), h(event.Domain, domain), h(event.UID, uid),
			h(event.Device, "android"), h(event.Stream, "12345678901234567890"), h(event.Seq, strconv.Itoa(n)),
		},
	}
}
