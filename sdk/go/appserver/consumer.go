package appserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"
)

// Handler takes one event. The events of a partition come one after the other, those of different partitions at the same time.
//
// nil: the event is done, and is committed. An error: the same event comes again after a while, and its partition waits; there is no
// end to that, so a handler puts aside what it can never take. ctx ends when the partition is taken away or the consumer stops:
// return soon then, with an error if the work is not done; whoever gets the partition begins with this event.
type Handler func(ctx context.Context, e *Event) error

// Window is how far back a repeated id is recognised, in each partition.
//
// The ids are in memory, and lead back to the log: who begins with a partition, after a start or a rebalance, first reads that part
// of it which the window covers and which the group has committed, without handing it over. Until that is read the partition waits,
// whatever Kafka does; the Logger hears why. What the log no longer has, since Kafka deleted or compacted it, is not recognised. What
// was handed over and not committed when a process died is handed over again.
//
// While a partition is read again, one answer of Kafka (Consumer.Fetch.Default of sarama, 1 MiB, or a record batch that is larger) is in
// memory as well, and one more connection is open.
type Window struct {
	Records int           // ids at most; 0: 65,536 (about 8 MiB in each partition); negative: no window
	Age     time.Duration // between the records' timestamps; 0: 10 minutes; negative: of any age
}

// ConsumerConfig of a Consumer. The zero value of all but the first three means the default.
type ConsumerConfig struct {
	Brokers []string // host:port
	// Group shares the partitions among its members. A new group begins at the oldest record there is, unless FromEnd.
	Group   string
	Topics  []string
	Handler Handler
	// FromEnd has a group begin, in partitions where it has committed nothing (or nothing that is still kept), behind the last record
	// of that moment: to watch, not to process. What comes while no member runs, before the first commit, is passed over.
	FromEnd bool
	Window  Window
	// CommitEvery is how often what is done is committed; default 1 s; negative: after each event. It is how much work a process
	// that dies leaves to be done twice; who stops or hands a partition over in peace commits all.
	CommitEvery time.Duration
	// RetryBase and RetryCap bound the waits before an event comes again, and before Kafka is looked for again: the n-th is anywhere
	// from 0 to RetryBase·2ⁿ, at most RetryCap; defaults 100 ms and 30 s.
	RetryBase, RetryCap time.Duration
	// Adjust may change what is asked of Kafka, such as TLS, SASL or the client id. It is called once, by NewConsumer; nil: nothing.
	Adjust func(*sarama.Config)
	// Logger hears of handlers and brokers that fail; default: nothing is logged.
	Logger *slog.Logger
}

// Consumer hands over the events of some topics, as one member of a consumer group.
type Consumer struct {
	cfg     ConsumerConfig
	sarama  *sarama.Config
	running atomic.Bool
}

// NewConsumer makes a Consumer. It does not connect yet.
func NewConsumer(cfg ConsumerConfig) (*Consumer, error) {
	var faults []error
	if len(cfg.Brokers) == 0 {
		faults = append(faults, errors.New("no broker is named"))
	}
	if cfg.Group == "" {
		faults = append(faults, errors.New("no group is named"))
	}
	if len(cfg.Topics) == 0 {
		faults = append(faults, errors.New("no topic is named"))
	}
	if cfg.Handler == nil {
		faults = append(faults, errors.New("there is no handler"))
	}
	if cfg.RetryBase < 0 || cfg.RetryCap < 0 {
		faults = append(faults, errors.New("a wait is negative"))
	}
	or := func(d *time.Duration, by time.Duration) {
		if *d == 0 {
			*d = by
		}
	}
	or(&cfg.Window.Age, 10*time.Minute)
	or(&cfg.CommitEvery, time.Second)
	or(&cfg.RetryBase, 100*time.Millisecond)
	or(&cfg.RetryCap, 30*time.Second)
	if cfg.Window.Records == 0 {
		cfg.Window.Records = 65536
	}
	cfg.Window.Records, cfg.Window.Age = max(cfg.Window.Records, 0), max(cfg.Window.Age, 0)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := sarama.NewConfig()
	s.ClientID = "gatepost-appserver"
	s.Version = sarama.V2_4_0_0
	s.Net.DialTimeout = 5 * time.Second
	s.Metadata.AllowAutoTopicCreation = false
	s.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{sarama.NewBalanceStrategySticky()}
	if cfg.Adjust != nil {
		cfg.Adjust(s)
	}
	// What the promises rest on.
	s.Consumer.Return.Errors = true
	s.Consumer.Offsets.Initial = sarama.OffsetOldest
	if cfg.FromEnd {
		s.Consumer.Offsets.Initial = sarama.OffsetNewest
	}
	s.Consumer.Offsets.AutoCommit.Enable = cfg.CommitEvery > 0
	if cfg.CommitEvery > 0 {
		s.Consumer.Offsets.AutoCommit.Interval = cfg.CommitEvery
	}
	if err := s.Validate(); err != nil {
		faults = append(faults, err)
	}
	if err := errors.Join(faults...); err != nil {
		return nil, fmt.Errorf("consumer: %w", err)
	}
	return &Consumer{cfg: cfg, sarama: s}, nil
}

// Run consumes until ctx is done, then commits what is done, leaves the group and returns nil. While Kafka or a topic is away it goes
// on looking for it. A Consumer runs once at a time.
func (c *Consumer) Run(ctx context.Context) error {
	if !c.running.CompareAndSwap(false, true) {
		return errors.New("consumer: it runs already")
	}
	defer c.running.Store(false)
	wait := backoff{base: c.cfg.RetryBase, cap: c.cfg.RetryCap}
	for {
		joined, err := c.member(ctx)
		if ctx.Err() != nil {
			return nil
		}
		c.cfg.Logger.Warn("the consumer is out of its group, and tries again", slog.String("group", c.cfg.Group), slog.Any("error", err))
		if joined {
			wait.attempt = 0
		}
		if !sleep(ctx, wait.next()) {
			return nil
		}
	}
}

// member is a member of the group until ctx is done or something fails. joined: it has been one for a while.
func (c *Consumer) member(ctx context.Context) (joined bool, err error) {
	client, err := sarama.NewClient(c.cfg.Brokers, c.sarama)
	if err != nil {
		return false, err
	}
	defer client.Close()
	group, err := sarama.NewConsumerGroupFromClient(c.cfg.Group, client)
	if err != nil {
		return false, err
	}
	var errs sync.WaitGroup
	errs.Go(func() {
		for err := range group.Errors() {
			c.cfg.Logger.Warn("kafka", slog.String("group", c.cfg.Group), slog.Any("error", err))
		}
	})
	defer errs.Wait()
	defer group.Close()
	m := &member{Consumer: c, client: client}
	for {
		if err := group.Consume(ctx, c.cfg.Topics, m); err != nil || ctx.Err() != nil {
			return m.joined.Load(), err
		}
	}
}

// member implements sarama.ConsumerGroupHandler.
type member struct {
	*Consumer
	client sarama.Client
	joined atomic.Bool
}

// Setup implements sarama.ConsumerGroupHandler.
func (m *member) Setup(sarama.ConsumerGroupSession) error {
	m.joined.Store(true)
	return nil
}

// Cleanup implements sarama.ConsumerGroupHandler.
func (m *member) Cleanup(s sarama.ConsumerGroupSession) error {
	s.Commit()
	return nil
}

// ConsumeClaim implements sarama.ConsumerGroupHandler: it serves one partition until it is taken away.
func (m *member) ConsumeClaim(s sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	ctx := s.Context()
	w := newWindow(m.cfg.Window.Records, m.cfg.Window.Age)
	if err := m.remember(ctx, w, claim.Topic(), claim.Partition(), claim.InitialOffset()); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err // ends the session: the member joins anew
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case msg, ok := <-claim.Messages():
			if !ok || ctx.Err() != nil {
				return nil
			}
			key, named := keyOf(msg.Headers)
			if !named || !w.has(key, msg.Timestamp) {
				if !m.handle(ctx, msg) {
					return nil
				}
			}
			if named {
				w.add(key, msg.Timestamp)
			}
			s.MarkMessage(msg, "")
			if m.cfg.CommitEvery < 0 {
				s.Commit()
			}
		}
	}
}

// handle hands msg over until it is done; false: the partition was taken away first.
func (m *member) handle(ctx context.Context, msg *sarama.ConsumerMessage) bool {
	wait := backoff{base: m.cfg.RetryBase, cap: m.cfg.RetryCap}
	for attempt := 1; ; attempt++ {
		err := m.cfg.Handler(ctx, eventOf(msg))
		if err == nil {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		m.cfg.Logger.Warn("an event is handed over again: its handler failed", slog.String("topic", msg.Topic), slog.Int("partition", int(msg.Partition)),
			slog.Int64("offset", msg.Offset), slog.Int("attempt", attempt), slog.Any("error", err))
		if !sleep(ctx, wait.next()) {
			return false
		}
	}
}
