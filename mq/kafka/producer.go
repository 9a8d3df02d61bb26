package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/gatepost/gatepost/idl/event"
	"github.com/gatepost/gatepost/mq"
)

// Deps is what a Producer is given.
type Deps struct {
	Logger  *slog.Logger
	Metrics prometheus.Registerer // nil: none
	// Reach returns where the broker is dialled that the cluster names by address. nil: there. For a broker that names itself to others
	// by an address that its own machine may not reach.
	Reach func(address string) string
}

// Producer writes records to topics: acknowledged by all in-sync replicas, once per producer id, in the order of Produce for each key.
// It is safe for concurrent use.
//
// Each partition has a lane with a queue, a connection and a producer id of its own, and one produce request in flight, so a partition
// or a topic that hangs holds up no other one. The number of a topic's partitions is read once: partitions that are added later
// are used after a restart, because a key that moves would lose its order.
type Producer struct {
	cfg      Config
	logger   *slog.Logger
	metrics  *metrics
	registry prometheus.Registerer
	cluster  *cluster
	outlet   *outlet
	rule     rule

	// every connection and all work in the background end with ctx
	ctx    context.Context
	cancel context.CancelFunc
	lanes  sync.WaitGroup // that run
	keeper sync.WaitGroup
	wake   chan struct{}

	ensuring sync.Mutex // one at a time; before mu

	mu     sync.RWMutex // before lane.mu
	closed bool
	topics map[string]*topic
	wanted map[string]bool // true: somebody named it; kept until it is ready
}

// topic is one that can be produced to.
type topic struct {
	name  string
	lanes []*lane // by partition
}

// NewProducer makes a producer. Kafka need not be up: records fail as unavailable until it is. Close stops it.
func NewProducer(cfg Config, deps Deps) (*Producer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	if deps.Logger == nil {
		return nil, errors.New("kafka: a logger is needed")
	}
	p := &Producer{
		cfg: cfg, logger: deps.Logger, metrics: newMetrics(), registry: deps.Metrics, cluster: &cluster{cfg: cfg, reach: deps.Reach}, rule: refusals,
		wake: make(chan struct{}, 1), topics: map[string]*topic{}, wanted: map[string]bool{},
	}
	p.outlet = newOutlet(p.tell)
	if p.registry != nil {
		for i, c := range p.metrics.all() {
			if err := p.registry.Register(c); err != nil {
				for _, registered := range p.metrics.all()[:i] {
					p.registry.Unregister(registered)
				}
				return nil, fmt.Errorf("kafka: register metrics: %w", err)
			}
		}
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.keeper.Go(p.keep)
	return p, nil
}

// Produce queues r and returns at once. r.Done is called exactly once, from another goroutine, with nil when all in-sync replicas
// have the record, or with an error that wraps a sentinel of package mq. r, and what it points to, is not changed until then.
func (p *Producer) Produce(r *mq.Record) {
	if err := p.queue(r); err != nil {
		p.outlet.add(r, err)
	}
}

func (p *Producer) queue(r *mq.Record) error {
	p.mu.RLock()
	if p.closed {
		p.mu.RUnlock()
		return unavailable(errors.New("producer is closed"), 0)
	}
	if t := p.topics[r.Topic]; t != nil {
		defer p.mu.RUnlock()
		var room [128]byte
		return t.lanes[partitionOf(event.AppendKey(room[:0], r.Event.Domain, r.Event.UID), len(t.lanes))].push(r)
	}
	wanted := p.wanted[r.Topic]
	p.mu.RUnlock()
	if !wanted {
		if err := mq.ValidTopic(r.Topic); err != nil {
			return unavailable(err, 0)
		}
		p.want([]string{r.Topic})
	}
	return unavailable(fmt.Errorf("topic %s is not ready", r.Topic), keepEvery)
}

// SetTopics names all topics that will be produced to. Those that are missing are made in the background, tried again until they are there.
func (p *Producer) SetTopics(topics []string) {
	p.mu.Lock()
	p.wanted = map[string]bool{}
	p.mu.Unlock()
	p.want(topics)
}

// want has topics made ready in the background.
func (p *Producer) want(topics []string) {
	p.mu.Lock()
	for _, name := range topics {
		if p.topics[name] == nil {
			p.wanted[name] = true
		}
	}
	p.mu.Unlock()
	p.kick()
}

func (p *Producer) kick() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Times of making topics ready in the background.
const (
	keepEvery   = time.Second
	keepAtMost  = 15 * time.Second
	ensureBound = 10 * time.Second
)

// keep makes wanted topics ready until the producer ends.
func (p *Producer) keep() {
	wait := keepEvery
	for {
		p.mu.RLock()
		missing := slices.Sorted(maps.Keys(p.wanted))
		p.mu.RUnlock()
		if len(missing) == 0 {
			wait = keepEvery
			select {
			case <-p.wake:
				continue
			case <-p.ctx.Done():
				return
			}
		}
		ctx, cancel := context.WithTimeout(p.ctx, ensureBound)
		err := p.makeReady(ctx, missing)
		cancel()
		if err == nil {
			wait = keepEvery
			continue
		}
		if p.ctx.Err() != nil {
			return
		}
		p.logger.Error("topics are not ready; their records are refused as unavailable", "err", err, "retry_in", wait)
		if !pause(p.ctx, wait) {
			return
		}
		wait = min(2*wait, keepAtMost)
	}
}

// tell calls r.Done, counts, and survives what the callback does.
func (p *Producer) tell(r *mq.Record, err error) {
	p.metrics.records.WithLabelValues(r.Topic, string(outcomeOf(err))).Inc()
	defer p.recovered("an outcome")
	r.Done(err)
}

func (p *Producer) recovered(where string) {
	if v := recover(); v != nil {
		p.metrics.panics.Inc()
		p.logger.Error("panic", "where", where, "panic", v)
	}
}

// Close takes no more records and waits until those that were taken have an outcome, or until ctx ends: then what is left fails as
// unavailable. It returns after the last Done. Only the first call does something.
func (p *Producer) Close(ctx context.Context) error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	topics := slices.Collect(maps.Values(p.topics))
	p.mu.Unlock()

	flushed := make(chan struct{})
	go func() {
		defer close(flushed)
		p.lanes.Wait()
	}()
	var err error
	select {
	case <-flushed:
	case <-ctx.Done():
		err = fmt.Errorf("close the Kafka producer before all records have an outcome: %w", context.Cause(ctx))
	}
	p.cancel()
	<-flushed
	p.keeper.Wait()
	p.outlet.settle()
	for _, t := range topics {
		for _, l := range t.lanes {
			l.disconnect()
		}
	}
	if p.registry != nil {
		for _, c := range p.metrics.all() {
			p.registry.Unregister(c)
		}
	}
	return err
}

// failure is an outcome of a record.
type failure struct {
	kind  error // a sentinel of package mq
	cause error
	after time.Duration
}

func (f *failure) Error() string {
	if f.cause == nil {
		return f.kind.Error()
	}
	return f.kind.Error() + ": " + f.cause.Error()
}

func (f *failure) Unwrap() []error           { return []error{f.kind, f.cause} }
func (f *failure) RetryAfter() time.Duration { return f.after }

func unavailable(cause error, after time.Duration) error {
	return &failure{kind: mq.ErrUnavailable, cause: cause, after: after}
}

// refusal is the final outcome of a record that the brokers do not take.
func refusal(code sarama.KError, cause error) error {
	kind := mq.ErrRefused
	if code == sarama.ErrMessageSizeTooLarge || code == sarama.ErrMessageSetSizeTooLarge {
		kind = mq.ErrTooLarge
	}
	return &failure{kind: kind, cause: cause}
}
