package app

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/gatepost/gatepost/app/kafkahere"
	"github.com/gatepost/gatepost/mq/kafka"
)

// TypeEvents stands in a Route for the events about a domain's users.
const TypeEvents = "(events)"

// Routes are the ways of uplinks and events into topics, by domain, the way of every other type last.
func (c Config) Routes() []Route {
	var out []Route
	for _, name := range slices.Sorted(maps.Keys(c.Domains)) {
		d := c.Domains[name]
		for _, t := range slices.Sorted(maps.Keys(d.Uplinks.Topics)) {
			out = append(out, Route{name, t, d.Uplinks.Topics[t]})
		}
		if d.Uplinks.Default != "" {
			out = append(out, Route{name, anyDomain, d.Uplinks.Default})
		}
		if d.Events.Topic != "" {
			out = append(out, Route{name, TypeEvents, d.Events.Topic})
		}
	}
	return out
}

// openKafka starts the Kafka of this process where it has one, and makes the producer over its brokers or those that are named; nil
// when there is no Kafka. Topics that are missing are made in the background: a Kafka that is away stops nobody from starting.
// Both are closed with the process, the producer after it has flushed.
func (b *base) openKafka() (*kafka.Producer, error) {
	if !b.cfg.hasKafka(b.role) {
		return nil, nil
	}
	brokers, told := b.cfg.Kafka.Brokers, b.cfg.Kafka.Brokers
	deps := kafka.Deps{Logger: b.Logger, Metrics: b.metrics}
	if len(brokers) == 0 {
		here, err := kafkahere.Start(kafkahere.Config{
			Dir: b.dir.file(kafkaName), Listen: b.cfg.Kafka.Listen, Advertise: b.cfg.Kafka.Advertise, Retention: b.cfg.Kafka.Retention,
		}, b.Logger)
		if err != nil {
			return nil, err
		}
		b.opened("Kafka of this process", func(context.Context) error { here.Close(); return nil })
		brokers, told = []string{here.LocalAddr()}, []string{here.Addr()}
		// what others are told may not lead from this machine to itself
		deps.Reach = func(string) string { return here.LocalAddr() }
		b.runtime.Retention = ForEver // it trims by itself: clients that ask the broker are told of none
		if b.cfg.Kafka.Retention > 0 {
			b.runtime.Retention = b.cfg.Kafka.Retention.String()
		}
	}
	producer, err := kafka.NewProducer(b.cfg.Kafka.producer(brokers), deps)
	if err != nil {
		return nil, err
	}
	b.opened("Kafka producer", producer.Close)
	producer.SetTopics(topics(b.cfg.Domains))
	b.runtime.Kafka, b.runtime.Topics = told, b.cfg.Routes()
	return producer, nil
}

// ensureTimeout bounds the wait for topics that a changed configuration names.
const ensureTimeout = 15 * time.Second

// setTopics makes topics before they are used. What cannot be made in time is left to the background; until it is there, reports
// that are to go to it are refused as unavailable, and their senders keep them.
func (b *base) setTopics(ctx context.Context, producer *kafka.Producer, topics []string) {
	ensure, cancel := context.WithTimeout(ctx, ensureTimeout)
	defer cancel()
	if err := producer.Ensure(ensure, topics); err != nil {
		b.Logger.Warn("not all topics of the new settings are there yet: reports to them are refused until they are", "error", err)
	}
	producer.SetTopics(topics)
}

// TopicState is what a Kafka tells of a topic.
type TopicState = kafka.TopicState

// ListTopics asks the brokers of k for topics, in the order of names.
func ListTopics(ctx context.Context, k Kafka, names []string) ([]TopicState, error) {
	return kafka.ListTopics(ctx, k.Config, names)
}

// ForEver is the retention of topics that nothing is removed from.
const ForEver = "for ever"
