package appserver_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/gatepost/gatepost/sdk/go/appserver"
)

// clusterLog is fakeLog with its Kafka.
func clusterLog(t *testing.T) (*log, *kfake.Cluster) {
	t.Helper()
	k, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "uplinks"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	return newLog(t, k.ListenAddrs(), "uplinks", 1), k
}

func (l *log) admin(t *testing.T) sarama.ClusterAdmin {
	t.Helper()
	cfg := sarama.NewConfig()
	cfg.Version = sarama.V2_4_0_0
	a, err := sarama.NewClusterAdmin(l.brokers, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() }) // after the cluster it is in vain
	return a
}

// reread returns the offset of a fetch that asks for records which the group has consumed; -1: it does not.
func reread(r *kmsg.FetchRequest, committed int64) int64 {
	for _, topic := range r.Topics {
		for _, p := range topic.Partitions {
			if p.FetchOffset < committed {
				return p.FetchOffset
			}
		}
	}
	return -1
}

// answer answers a fetch of one partition without a record.
func answer(r *kmsg.FetchRequest, code int16, highWatermark int64) *kmsg.FetchResponse {
	resp := r.ResponseKind().(*kmsg.FetchResponse)
	p := kmsg.NewFetchResponseTopicPartition()
	p.Partition, p.ErrorCode, p.HighWatermark, p.LastStableOffset = r.Topics[0].Partitions[0].Partition, code, highWatermark, highWatermark
	p.RecordBatches = []byte{} // sarama takes no null
	topic := kmsg.NewFetchResponseTopic()
	topic.Topic, topic.Partitions = r.Topics[0].Topic, append(topic.Partitions, p)
	resp.Topics = append(resp.Topics, topic)
	return resp
}

// consumed writes n events one by one, and has a group consume them all.
func (l *log) consumed(t *testing.T, group string, n int) {
	t.Helper()
	for id := range n {
		l.produce(t, time.Now(), id)
	}
	var s seen
	stop := l.consume(t, group, s.handle, nil)
	s.waitFor(t, n)
	stop()
}

// TestConsumerWindowWaits: however the part of the log that the window covers is kept from the consumer, nothing is handed over before
// it has been read.
func TestConsumerWindowWaits(t *testing.T) {
	const n = 5
	hang := make(chan struct{})
	for name, c := range map[string]struct {
		times int32 // more than 10 in a row end the session as well
		fault func(k *kfake.Cluster, r *kmsg.FetchRequest) (kmsg.Response, error)
	}{
		"the broker hangs": {2, func(k *kfake.Cluster, _ *kmsg.FetchRequest) (kmsg.Response, error) {
			k.SleepControl(func() { <-hang })
			return nil, errors.New("cut")
		}},
		"the connection is cut": {25, func(*kfake.Cluster, *kmsg.FetchRequest) (kmsg.Response, error) { return nil, errors.New("cut") }},
		"another broker leads": {25, func(_ *kfake.Cluster, r *kmsg.FetchRequest) (kmsg.Response, error) {
			return answer(r, kerr.NotLeaderForPartition.Code, -1), nil
		}},
		"the leader is behind": {25, func(_ *kfake.Cluster, r *kmsg.FetchRequest) (kmsg.Response, error) { return answer(r, 0, n-1), nil }},
		"the answer is empty":  {25, func(_ *kfake.Cluster, r *kmsg.FetchRequest) (kmsg.Response, error) { return r.ResponseKind(), nil }},
		"the broker throttles": {25, func(_ *kfake.Cluster, r *kmsg.FetchRequest) (kmsg.Response, error) {
			resp := answer(r, 0, n)
			resp.ThrottleMillis = 1
			return resp, nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			l, k := clusterLog(t)
			l.consumed(t, "g", n)
			l.produce(t, time.Now(), numbers(0, n)...)
			l.produce(t, time.Now(), n)
			var faults atomic.Int32
			k.ControlKey(int16(kmsg.Fetch), func(r kmsg.Request) (kmsg.Response, error, bool) {
				k.KeepControl()
				fetch := r.(*kmsg.FetchRequest)
				if reread(fetch, n) < 0 || faults.Load() == c.times {
					return nil, nil, false
				}
				if faults.Add(1) == c.times && name == "the broker hangs" {
					close(hang)
				}
				resp, err := c.fault(k, fetch)
				return resp, err, true
			})
			var s seen
			l.consume(t, "g", func(ctx context.Context, e *appserver.Event) error {
				if got := faults.Load(); got < c.times {
					t.Errorf("event %s after %d of %d faults", e.ID, got, c.times)
				}
				return s.handle(ctx, e)
			}, func(c *appserver.ConsumerConfig) {
				adjust := c.Adjust
				c.Adjust = func(s *sarama.Config) {
					adjust(s)
					s.Net.ReadTimeout = 500 * time.Millisecond
				}
			})
			eventually(t, func() error {
				if !slices.Contains(s.ids(), strconv.Itoa(n)) {
					return fmt.Errorf("the new event has not come, only %v", s.ids())
				}
				return nil
			})
			if !slices.Equal(s.ids(), []string{strconv.Itoa(n)}) {
				t.Errorf("%v were handed over, want only %d", s.ids(), n)
			}
		})
	}
}

// TestConsumerWindowStops: who waits for the window stops when told to, though the broker never answers.
func TestConsumerWindowStops(t *testing.T) {
	l, k := clusterLog(t)
	l.consumed(t, "g", 3)
	asked, hang := make(chan struct{}, 1), make(chan struct{})
	t.Cleanup(func() { close(hang) })
	k.ControlKey(int16(kmsg.Fetch), func(r kmsg.Request) (kmsg.Response, error, bool) {
		k.KeepControl()
		if reread(r.(*kmsg.FetchRequest), 3) < 0 {
			return nil, nil, false
		}
		select {
		case asked <- struct{}{}:
		default:
		}
		k.SleepControl(func() { <-hang })
		return nil, errors.New("cut"), true
	})
	stop := l.consume(t, "g", (&seen{}).handle, func(c *appserver.ConsumerConfig) {
		adjust := c.Adjust
		c.Adjust = func(s *sarama.Config) {
			adjust(s)
			s.Net.ReadTimeout = time.Hour
		}
	})
	<-asked
	stop()
}

// TestConsumerWindowTrimmed: what is gone from the log is forgotten, and only that.
func TestConsumerWindowTrimmed(t *testing.T) { testTrimmed(t, fakeLog(t, 1)) }

func testTrimmed(t *testing.T, l *log) {
	group := "trimmed-" + uuid.NewString()
	l.consumed(t, group, 5)
	if err := l.admin(t).DeleteRecords(l.topic, map[int32]int64{0: 3}); err != nil {
		t.Fatal(err)
	}
	l.produce(t, time.Now(), numbers(0, 6)...)
	var s seen
	l.consume(t, group, s.handle, nil)
	s.waitFor(t, 4)
	if want := []string{"0", "1", "2", "5"}; !slices.Equal(s.ids(), want) {
		t.Errorf("%v, want %v", s.ids(), want)
	}
}

// TestConsumerWindowCompacted: where the leader has no record any more, behind the last that is left, the window has none either.
func TestConsumerWindowCompacted(t *testing.T) {
	l, k := clusterLog(t)
	l.consumed(t, "g", 5)
	k.ControlKey(int16(kmsg.Fetch), func(r kmsg.Request) (kmsg.Response, error, bool) {
		k.KeepControl()
		fetch := r.(*kmsg.FetchRequest)
		if reread(fetch, 5) < 3 {
			return nil, nil, false
		}
		return answer(fetch, 0, 5), nil, true
	})
	l.produce(t, time.Now(), numbers(0, 6)...)
	var s seen
	l.consume(t, "g", s.handle, func(c *appserver.ConsumerConfig) {
		adjust := c.Adjust
		c.Adjust = func(s *sarama.Config) {
			adjust(s)
			s.Consumer.Fetch.Default = 1 // a batch in each answer
		}
	})
	s.waitFor(t, 3)
	if want := []string{"3", "4", "5"}; !slices.Equal(s.ids(), want) {
		t.Errorf("%v, want %v", s.ids(), want)
	}
}

// transaction writes events within one, and ends it.
func (l *log) transaction(t *testing.T, commit bool, ids ...int) {
	t.Helper()
	cfg := sarama.NewConfig()
	cfg.Version = sarama.V2_4_0_0
	cfg.Producer.Return.Successes = true
	cfg.Producer.RequiredAcks = sarama.WaitForAll
	cfg.Producer.Partitioner = sarama.NewManualPartitioner
	cfg.Producer.Idempotent = true
	cfg.Producer.Transaction.ID = uuid.NewString()
	cfg.Net.MaxOpenRequests = 1
	p, err := sarama.NewSyncProducer(l.brokers, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.BeginTxn(); err != nil {
		t.Fatal(err)
	}
	within := *l
	within.producer = p
	within.produce(t, time.Now(), ids...)
	end := p.AbortTxn
	if commit {
		end = p.CommitTxn
	}
	if err := end(); err != nil {
		t.Fatal(err)
	}
}

// TestConsumerWindowTransactions: the last offset that a group has consumed may be of the end of a transaction, behind which there is
// nothing yet.
func TestConsumerWindowTransactions(t *testing.T) { testTransactions(t, fakeLog(t, 1)) }

func testTransactions(t *testing.T, l *log) {
	group := "transactions-" + uuid.NewString()
	l.transaction(t, true, 0, 1, 2)
	l.transaction(t, false, 3, 4)
	// 0 1 2 end 3 4 end, and the group stands at 7.
	_, err := l.admin(t).AlterConsumerGroupOffsets(group, map[string]map[int32]sarama.OffsetAndMetadata{l.topic: {0: {Offset: 7, LeaderEpoch: -1}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var s, all seen
	stop := l.consume(t, group, s.handle, func(c *appserver.ConsumerConfig) {
		adjust := c.Adjust
		c.Adjust = func(s *sarama.Config) {
			adjust(s)
			s.Consumer.IsolationLevel = sarama.ReadCommitted
		}
	})
	l.joined(t, group)
	l.produce(t, time.Now(), numbers(0, 6)...)
	s.waitFor(t, 3)
	stop()
	if want := []string{"3", "4", "5"}; !slices.Equal(s.ids(), want) { // what was aborted was never handed over
		t.Errorf("%v, want %v", s.ids(), want)
	}
	// Who reads what is not committed has had them.
	group += "-all"
	_, err = l.admin(t).AlterConsumerGroupOffsets(group, map[string]map[int32]sarama.OffsetAndMetadata{l.topic: {0: {Offset: 7, LeaderEpoch: -1}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	l.consume(t, group, all.handle, nil)
	all.waitFor(t, 1)
	if want := []string{"5"}; !slices.Equal(all.ids(), want) {
		t.Errorf("%v, want %v", all.ids(), want)
	}
}

// joined waits until a group has its members.
func (l *log) joined(t *testing.T, group string) {
	t.Helper()
	admin := l.admin(t)
	eventually(t, func() error {
		groups, err := admin.DescribeConsumerGroups([]string{group})
		if err == nil && groups[0].State != "Stable" {
			err = fmt.Errorf("the group is %s", groups[0].State)
		}
		return err
	})
}
