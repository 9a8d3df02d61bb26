package appserver_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/goleak"

	"github.com/gatepost/gatepost/idl/event"
	"github.com/gatepost/gatepost/sdk/go/appserver"
)

// TestMain leaves out what Kitex and sarama's metrics keep for the whole process.
func TestMain(m *testing.M) {
	if os.Getenv(childGroup) != "" {
		os.Exit(childConsumes())
	}
	var kept []goleak.Option
	for _, f := range []string{
		"github.com/rcrowley/go-metrics.(*meterArbiter).tick",
		"github.com/cloudwego/kitex/client.(*timeoutPool).createWorker.func1",
		"github.com/cloudwego/kitex/client.(*timeoutPool).createTicker.func1",
		"github.com/cloudwego/kitex/pkg/loadbalance/lbcache.(*BalancerFactory).watcher",
		"github.com/cloudwego/netpoll.(*defaultPoll).Wait",
		"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc.preallocateForStream",
	} {
		kept = append(kept, goleak.IgnoreAnyFunction(f))
	}
	goleak.VerifyTestMain(m, kept...)
}

// log is one topic that a test writes to and consumes.
type log struct {
	brokers    []string
	topic      string
	partitions int
	producer   sarama.SyncProducer
}

// fakeLog makes a topic in a Kafka inside the process.
func fakeLog(t *testing.T, partitions int) *log {
	t.Helper()
	k, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(int32(partitions), "uplinks"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	return newLog(t, k.ListenAddrs(), "uplinks", partitions)
}

func newLog(t *testing.T, brokers []string, topic string, partitions int) *log {
	t.Helper()
	cfg := sarama.NewConfig()
	cfg.Version = sarama.V2_4_0_0
	cfg.Producer.Return.Successes = true
	cfg.Producer.RequiredAcks = sarama.WaitForAll
	cfg.Producer.Partitioner = sarama.NewManualPartitioner
	p, err := sarama.NewSyncProducer(brokers, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return &log{brokers: brokers, topic: topic, partitions: partitions, producer: p}
}

// produce writes the events ids to partition id mod partitions; at is the time of the records.
func (l *log) produce(t *testing.T, at time.Time, ids ...int) {
	t.Helper()
	var list []*sarama.ProducerMessage
	for _, id := range ids {
		m := &sarama.ProducerMessage{Topic: l.topic, Partition: int32(id % l.partitions), Timestamp: at, Key: sarama.StringEncoder("shop/u"), Value: sarama.StringEncoder(fmt.Sprint("content ", id))}
		for _, h := range [][2]string{{event.SpecVersion, event.Version}, {event.ID, fmt.Sprint(id)}, {event.Source, event.SourceOf("shop", "u")}, {event.Type, "order"}} {
			m.Headers = append(m.Headers, sarama.RecordHeader{Key: []byte(h[0]), Value: []byte(h[1])})
		}
		list = append(list, m)
	}
	if err := l.producer.SendMessages(list); err != nil {
		t.Fatal(err)
	}
}

// seen gathers what was handed over, by partition.
type seen struct {
	mu   sync.Mutex
	list []*appserver.Event
}

func (s *seen) handle(_ context.Context, e *appserver.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, e)
	return nil
}

func (s *seen) events() []*appserver.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.list)
}

func (s *seen) ids() []string {
	var ids []string
	for _, e := range s.events() {
		ids = append(ids, e.ID)
	}
	return ids
}

// consume runs a consumer until stop or the end of the test.
func (l *log) consume(t *testing.T, group string, h appserver.Handler, change func(*appserver.ConsumerConfig)) (stop func()) {
	t.Helper()
	cfg := appserver.ConsumerConfig{Brokers: l.brokers, Group: group, Topics: []string{l.topic}, Handler: h, RetryBase: time.Millisecond, RetryCap: 10 * time.Millisecond,
		Adjust: func(s *sarama.Config) {
			s.Consumer.Group.Heartbeat.Interval = 200 * time.Millisecond
			s.Consumer.MaxWaitTime = 50 * time.Millisecond
		}}
	if change != nil {
		change(&cfg)
	}
	c, err := appserver.NewConsumer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func eventually(t *testing.T, f func() error) {
	t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (s *seen) waitFor(t *testing.T, n int) {
	t.Helper()
	eventually(t, func() error {
		if got := len(s.events()); got < n {
			return fmt.Errorf("%d events, want %d", got, n)
		}
		return nil
	})
}

func numbers(from, to int) []int {
	var n []int
	for i := from; i < to; i++ {
		n = append(n, i)
	}
	return n
}

func TestConsumerFromTheEnd(t *testing.T) {
	l := fakeLog(t, 1)
	l.produce(t, time.Now(), numbers(0, 5)...)
	fromEnd := func(cfg *appserver.ConsumerConfig) { cfg.FromEnd = true }
	var s seen
	stop := l.consume(t, "watch", s.handle, fromEnd)
	next := 5
	eventually(t, func() error { // it begins at some time
		if len(s.events()) > 0 {
			return nil
		}
		l.produce(t, time.Now(), next)
		next++
		return errors.New("nothing is seen")
	})
	stop()
	first := s.events()[0].Offset
	if first < 5 {
		t.Errorf("record %d of before was handed over", first)
	}
	// Its place is kept: what came meanwhile is not passed over.
	last := s.events()[len(s.events())-1].Offset
	l.produce(t, time.Now(), 1000)
	var again seen
	l.consume(t, "watch", again.handle, fromEnd)
	again.waitFor(t, 1)
	if got := again.events()[0].Offset; got != last+1 {
		t.Errorf("the group goes on at %d, want %d", got, last+1)
	}
}

func TestConsumerFields(t *testing.T) { testFields(t, fakeLog(t, 1)) }

func testFields(t *testing.T, l *log) {
	at := time.Now().Truncate(time.Millisecond)
	m := &sarama.ProducerMessage{Topic: l.topic, Timestamp: at, Key: sarama.StringEncoder("shop/a b"), Value: sarama.ByteEncoder{0, 1, 255}}
	id := uuid.NewString()
	for _, h := range [][2]string{{event.SpecVersion, "1.0"}, {event.ID, id}, {event.Source, "/shop/a%20b"}, {event.Type, "t"}, {event.Time, "2026-01-02T03:04:05.678Z"},
		{event.Domain, "shop"}, {event.UID, "a b"}, {event.Device, "ios"}, {event.Stream, "18446744073709551615"}, {event.Seq, "7"}, {event.Traceparent, "00-a"},
		{event.ContentType, "application/json"}, {"other", "x"}} {
		m.Headers = append(m.Headers, sarama.RecordHeader{Key: []byte(h[0]), Value: []byte(h[1])})
	}
	plain := &sarama.ProducerMessage{Topic: l.topic, Timestamp: at, Value: sarama.StringEncoder("no event")}
	broken := &sarama.ProducerMessage{Topic: l.topic, Timestamp: at, Headers: []sarama.RecordHeader{{Key: []byte(event.Seq), Value: []byte("many")}, {Key: []byte(event.Time), Value: []byte("noon")}}}
	for _, m := range []*sarama.ProducerMessage{m, m, plain, plain, broken} {
		again := *m
		if _, _, err := l.producer.SendMessage(&again); err != nil {
			t.Fatal(err)
		}
	}
	var s seen
	l.consume(t, "fields-"+uuid.NewString(), s.handle, nil)
	s.waitFor(t, 4)
	got := s.events()
	e := got[0]
	if e.SpecVersion != "1.0" || e.ID != id || e.Source != "/shop/a%20b" || e.Type != "t" || !e.Time.Equal(time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC)) ||
		e.Domain != "shop" || e.UID != "a b" || e.Device != "ios" || e.Stream != 1<<64-1 || e.Seq != 7 || e.Traceparent != "00-a" || e.ContentType != "application/json" ||
		string(e.Content) != "\x00\x01\xff" || string(e.Key) != "shop/a b" || e.Topic != l.topic || e.Partition != 0 || e.Offset != 0 || !e.Timestamp.Equal(at) || len(e.Headers) != 13 {
		t.Errorf("%+v", e)
	}
	// What has no id is handed over each time it is there.
	for i, offset := range []int64{2, 3} {
		if e := got[1+i]; e.SpecVersion != "" || e.ID != "" || string(e.Content) != "no event" || e.Offset != offset {
			t.Errorf("%+v", e)
		}
	}
	if e := got[3]; e.Seq != 0 || !e.Time.IsZero() || len(e.Headers) != 2 {
		t.Errorf("%+v", e)
	}
}

// TestConsumerOnce: each id once and in order, also after a restart, and again when the window is over.
func TestConsumerOnce(t *testing.T) { testOnce(t, fakeLog(t, 1)) }

func testOnce(t *testing.T, l *log) {
	group := "once-" + uuid.NewString()
	at := time.Now().Add(-2 * time.Hour)
	l.produce(t, at, 1, 2, 1, 3, 2, 4)
	var s seen
	stop := l.consume(t, group, s.handle, nil)
	s.waitFor(t, 4)
	l.produce(t, at.Add(9*time.Minute), 3, 5)
	s.waitFor(t, 5)
	stop()
	// Another process: it knows the ids from the log. 20 minutes later they are forgotten.
	l.produce(t, at.Add(9*time.Minute), 1, 4, 5, 6)
	stop = l.consume(t, group, s.handle, nil)
	s.waitFor(t, 6)
	l.produce(t, at.Add(30*time.Minute), 7, 1, 5, 1)
	s.waitFor(t, 9)
	stop()
	if want := []string{"1", "2", "3", "4", "5", "6", "7", "1", "5"}; !slices.Equal(s.ids(), want) {
		t.Errorf("%v, want %v", s.ids(), want)
	}
}

func TestConsumerWindowOfRecords(t *testing.T) {
	l := fakeLog(t, 1)
	l.produce(t, time.Now(), 1, 2, 3, 1, 4, 3, 4, 1, 2)
	var s seen
	l.consume(t, "records", s.handle, func(c *appserver.ConsumerConfig) { c.Window.Records = 2 })
	// Of 1 2 3 is 1 forgotten, then 2.
	want := []string{"1", "2", "3", "1", "4", "3", "1", "2"}
	s.waitFor(t, len(want))
	if !slices.Equal(s.ids(), want) {
		t.Errorf("%v, want %v", s.ids(), want)
	}
	var all seen
	l.consume(t, "none", all.handle, func(c *appserver.ConsumerConfig) { c.Window.Records = -1 })
	all.waitFor(t, 9)
}

// TestConsumerRetries: an event whose handler fails comes again, and nothing behind it comes before.
func TestConsumerRetries(t *testing.T) {
	l := fakeLog(t, 1)
	l.produce(t, time.Now(), numbers(0, 10)...)
	var s seen
	failures := 0
	h := func(ctx context.Context, e *appserver.Event) error {
		if e.ID == "4" && failures < 5 {
			failures++
			return errors.New("not now")
		}
		return s.handle(ctx, e)
	}
	stop := l.consume(t, "retries", h, func(c *appserver.ConsumerConfig) { c.CommitEvery = -1 })
	s.waitFor(t, 10)
	for i, id := range s.ids() {
		if id != fmt.Sprint(i) {
			t.Fatal(s.ids())
		}
	}
	stop()
	if failures != 5 {
		t.Errorf("%d failures", failures)
	}
}

// TestConsumerUncommitted: what a handler had not done when its consumer stopped comes again, to whoever is next; what it had done does not.
func TestConsumerUncommitted(t *testing.T) {
	l := fakeLog(t, 1)
	l.produce(t, time.Now(), numbers(0, 10)...)
	var s seen
	reached := make(chan struct{}, 1)
	stop := l.consume(t, "uncommitted", func(ctx context.Context, e *appserver.Event) error {
		if e.ID == "6" {
			reached <- struct{}{}
			<-ctx.Done()
			return ctx.Err()
		}
		return s.handle(ctx, e)
	}, nil)
	<-reached
	stop()
	l.consume(t, "uncommitted", s.handle, nil)
	s.waitFor(t, 10)
	for i, id := range s.ids() {
		if id != fmt.Sprint(i) {
			t.Fatal(s.ids())
		}
	}
}

func TestConsumerRebalance(t *testing.T) { testRebalance(t, fakeLog(t, 4)) }

// testRebalance: a second member comes in the middle and the first one goes: nothing is lost, each partition stays in order, and no id
// comes twice, though half of them are in the log twice, on both sides of the changes.
func testRebalance(t *testing.T, l *log) {
	const n = 1200
	group := "rebalance-" + uuid.NewString()
	now := time.Now()
	var s, first, second seen
	both := func(own *seen) appserver.Handler {
		return func(ctx context.Context, e *appserver.Event) error {
			own.handle(ctx, e)
			return s.handle(ctx, e)
		}
	}
	l.produce(t, now, numbers(0, 400)...)
	stop := l.consume(t, group, both(&first), nil)
	s.waitFor(t, 400)
	l.consume(t, group, both(&second), nil)
	// The first has them all until the second joins: it goes on while new ones and old ones come.
	next := 400
	eventually(t, func() error {
		if next < 800 {
			l.produce(t, now, numbers(next, next+20)...)
			l.produce(t, now, numbers(next-400, next-390)...)
			next += 20
		} else {
			l.produce(t, now, numbers(0, 4)...)
		}
		if len(second.events()) == 0 && next < 800 {
			return errors.New("the second member has got nothing")
		}
		return nil
	})
	for ; next < 800; next += 20 {
		l.produce(t, now, numbers(next, next+20)...)
	}
	s.waitFor(t, 800)
	l.produce(t, now, numbers(800, 1000)...)
	stop()
	l.produce(t, now, numbers(300, 900)...) // repeats, which the second meets in partitions that it has just got
	l.produce(t, now, numbers(1000, n)...)
	s.waitFor(t, n)
	count := make(map[string]int)
	last := make(map[int32]int64)
	for _, e := range s.events() {
		count[e.ID]++
		if e.Offset < last[e.Partition] {
			t.Errorf("partition %d: offset %d after %d", e.Partition, e.Offset, last[e.Partition])
		}
		last[e.Partition] = e.Offset
	}
	for i := range n {
		if c := count[fmt.Sprint(i)]; c != 1 {
			t.Errorf("event %d came %d times", i, c)
		}
	}
	if len(second.events()) == 0 {
		t.Error("the second member got nothing")
	}
}

// TestConsumerStops: a consumer that finds no Kafka, or no topic, stops when it is told to.
func TestConsumerStops(t *testing.T) {
	var s seen
	l := &log{brokers: []string{deadAddress(t)}, topic: "uplinks"}
	stop := l.consume(t, "g", s.handle, nil)
	stop()
	l = fakeLog(t, 1)
	l.topic = "not-there"
	l.consume(t, "g", s.handle, nil)()
}

func TestConsumerConfig(t *testing.T) {
	if _, err := appserver.NewConsumer(appserver.ConsumerConfig{}); err == nil {
		t.Fatal("taken")
	}
	if _, err := appserver.NewConsumer(appserver.ConsumerConfig{Brokers: []string{"a:1"}, Group: "g", Topics: []string{"t"}, Handler: (&seen{}).handle, RetryCap: -1}); err == nil {
		t.Fatal("taken")
	}
}
