package kafka_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/gatepost/gatepost/idl/event"
	"github.com/gatepost/gatepost/mq"
	"github.com/gatepost/gatepost/mq/kafka"
)

// Errors that pass are tried again, in order; a batch that was written although the broker said otherwise is not written twice.
func TestPassingErrors(t *testing.T) {
	for _, fault := range []*kerr.Error{
		kerr.NotLeaderForPartition, kerr.LeaderNotAvailable, kerr.NotEnoughReplicas, kerr.NotEnoughReplicasAfterAppend, kerr.RequestTimedOut,
		kerr.KafkaStorageError, kerr.OutOfOrderSequenceNumber, kerr.UnknownProducerID, kerr.InvalidProducerEpoch, kerr.UnknownTopicOrPartition, kerr.DuplicateSequenceNumber,
	} {
		t.Run(fault.Message, func(t *testing.T) {
			cluster, cfg := startKafka(t)
			p := startProducer(t, cfg, "orders")
			var o outcomes
			o.produce(p, report("orders", "anna", 0))
			o.wait(t)
			cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "orders", Err: fault, Count: 2})
			want := []string{"anna-0"}
			for n := 1; n < 50; n++ {
				r := report("orders", "anna", n)
				want = append(want, r.Event.ID)
				o.produce(p, r)
			}
			for id, err := range o.wait(t) {
				if err != nil {
					t.Errorf("%s: %v", id, err)
				}
			}
			if diff := cmp.Diff(want, idsOf(consume(t, cfg, "orders"))); diff != "" {
				t.Errorf("(-want +stored):\n%s", diff)
			}
		})
	}
}

// The brokers name the bad records of a batch: these alone are refused.
func TestRecordErrors(t *testing.T) {
	cluster, cfg := startKafka(t)
	p := startProducer(t, cfg, "orders")
	var asked atomic.Int32
	cluster.ControlKey(int16(kmsg.Produce), func(request kmsg.Request) (kmsg.Response, error, bool) {
		r := request.(*kmsg.ProduceRequest)
		var batch kmsg.RecordBatch
		if err := batch.ReadFrom(r.Topics[0].Partitions[0].Records); err != nil || batch.NumRecords < 10 || asked.Add(1) > 1 {
			return nil, nil, false
		}
		return produceAnswer(r, kerr.InvalidRecord.Code, 3, 5), nil, true
	})
	var o outcomes
	entered, gate := make(chan struct{}), make(chan struct{})
	first := report("orders", "anna", 0)
	first.Closed = func() bool { close(entered); <-gate; return false } // the others gather behind it
	o.produce(p, first)
	<-entered
	var want []string
	for n := 1; n <= 20; n++ {
		o.produce(p, report("orders", "anna", n))
	}
	close(gate)
	var refused []string
	for n := range 21 {
		id := "anna-" + strconv.Itoa(n)
		switch err := o.wait(t)[id]; {
		case err == nil:
			want = append(want, id)
		case errors.Is(err, mq.ErrRefused) && !errors.Is(err, mq.ErrTooLarge):
			refused = append(refused, id)
		default:
			t.Errorf("%s: %v", id, err)
		}
	}
	if !slices.Equal(refused, []string{"anna-4", "anna-6"}) {
		t.Errorf("refused: %q", refused)
	}
	if diff := cmp.Diff(want, idsOf(consume(t, cfg, "orders"))); diff != "" {
		t.Errorf("(-want +stored):\n%s", diff)
	}
}

// produceAnswer answers r for its one partition.
func produceAnswer(r *kmsg.ProduceRequest, code int16, bad ...int32) *kmsg.ProduceResponse {
	response := r.ResponseKind().(*kmsg.ProduceResponse)
	topic := kmsg.NewProduceResponseTopic()
	topic.Topic = r.Topics[0].Topic
	partition := kmsg.NewProduceResponseTopicPartition()
	partition.Partition = r.Topics[0].Partitions[0].Partition
	partition.ErrorCode = code
	for _, index := range bad {
		e := kmsg.NewProduceResponseTopicPartitionErrorRecord()
		e.RelativeOffset = index
		partition.ErrorRecords = append(partition.ErrorRecords, e)
	}
	topic.Partitions = append(topic.Partitions, partition)
	response.Topics = append(response.Topics, topic)
	return response
}

// A topic that never answers fails its records as unavailable, then at once, and holds up no other one; nothing that waited behind
// a failed record is written; when it answers again, so does the producer.
func TestHangingTopic(t *testing.T) {
	cluster, cfg := startKafka(t)
	cfg.ProduceTimeout = 400 * time.Millisecond
	p := startProducer(t, cfg, "orders", "second")
	var hang atomic.Bool
	hang.Store(true)
	var requests atomic.Int32
	cluster.ControlKey(int16(kmsg.Produce), func(request kmsg.Request) (kmsg.Response, error, bool) {
		if r := request.(*kmsg.ProduceRequest); r.Topics[0].Topic != "orders" || !hang.Load() {
			return nil, nil, false
		}
		requests.Add(1)
		cluster.KeepControl()
		return nil, nil, true // no answer
	})
	var o, other outcomes
	var failed atomic.Bool
	for n := range 30 {
		r := report("orders", "anna", n)
		r.Closed = failed.Load
		r.Done = func(err error) {
			if err != nil {
				failed.Store(true)
			}
		}
		o.produce(p, r)
		other.produce(p, report("second", "anna", n))
	}
	for id, err := range other.wait(t) {
		if err != nil {
			t.Errorf("second, %s: %v", id, err)
		}
	}
	for id, err := range o.wait(t) {
		if !errors.Is(err, mq.ErrUnavailable) && !errors.Is(err, mq.ErrClosed) {
			t.Errorf("orders, %s: %v", id, err)
		}
	}
	before := requests.Load()
	var refused outcomes
	refused.produce(p, report("orders", "bert", 0))
	if err := refused.wait(t)["bert-0"]; !errors.Is(err, mq.ErrUnavailable) || mq.RetryAfter(err) <= 0 {
		t.Errorf("with an open breaker: %v, retry after %v", err, mq.RetryAfter(err))
	}
	if got := requests.Load(); got != before {
		t.Error("an open breaker let a request through")
	}
	hang.Store(false)
	eventually(t, func() error {
		var o outcomes
		o.produce(p, report("orders", "anna", 100))
		return o.wait(t)["anna-100"]
	})
	if got := idsOf(consume(t, cfg, "orders")); !slices.Equal(got, []string{"anna-100"}) {
		t.Errorf("stored %q", got)
	}
}

// One partition that fails holds up no other one of its topic.
func TestOnePartitionFails(t *testing.T) {
	cluster, cfg := startKafka(t)
	cfg.Partitions, cfg.ProduceTimeout = 4, 300*time.Millisecond
	p := startProducer(t, cfg, "orders")
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "orders", Partitions: []int32{2}, Err: kerr.NotEnoughReplicas, Count: -1})
	var o outcomes
	for n := range 100 {
		o.produce(p, report("orders", "u"+strconv.Itoa(n), 1))
	}
	stored := 0
	for id, err := range o.wait(t) {
		switch {
		case err == nil:
			stored++
		case !errors.Is(err, mq.ErrUnavailable):
			t.Errorf("%s: %v", id, err)
		}
	}
	messages := consume(t, cfg, "orders")
	if stored < 40 || stored == 100 || len(messages) != stored {
		t.Errorf("%d are acknowledged, %d stored", stored, len(messages))
	}
	for _, m := range messages {
		if m.Partition == 2 {
			t.Errorf("%s is in the partition that failed", header(m, event.ID))
		}
	}
}

// The producer starts without Kafka, refuses, and ends; each record has its outcome.
func TestNobodyListens(t *testing.T) {
	cfg := kafka.Default()
	l := listen(t)
	cfg.Brokers = []string{l.Addr().String()}
	closes(t, l.Close)
	p, err := kafka.NewProducer(cfg, kafka.Deps{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	p.SetTopics([]string{"orders"})
	var o outcomes
	for n := range 10 {
		r := report("orders", "anna", n)
		r.Done = func(error) { panic("the callback's own") }
		if n%2 == 0 {
			r.Done = nil
		}
		o.produce(p, r)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := p.Close(ctx); err != nil {
		t.Error(err)
	}
	after := report("orders", "anna", 99)
	told := make(chan error, 1)
	after.Done = func(err error) { told <- err }
	p.Produce(after)
	if err := <-told; !errors.Is(err, mq.ErrUnavailable) {
		t.Errorf("after Close: %v", err)
	}
}

// Close that runs out of time fails what is left, each once.
func TestCloseWithHangingKafka(t *testing.T) {
	cluster, cfg := startKafka(t)
	p := startProducer(t, cfg, "orders")
	arrived := make(chan struct{}, 100)
	cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		arrived <- struct{}{}
		return nil, nil, true
	})
	var o outcomes
	for n := range 20 {
		o.produce(p, report("orders", "anna", n))
	}
	<-arrived
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Close(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Close() = %v", err)
	}
	for id, err := range o.wait(t) {
		if !errors.Is(err, mq.ErrUnavailable) {
			t.Errorf("%s: %v", id, err)
		}
	}
}

// A record that the broker fails without a reason stops neither those before it nor other users behind it; what is behind it of its own
// stream is not sent.
func TestOneRecordFailsWithoutReason(t *testing.T) {
	cluster, cfg := startKafka(t)
	p := startProducer(t, cfg, "orders")
	cluster.ControlKey(int16(kmsg.Produce), func(request kmsg.Request) (kmsg.Response, error, bool) {
		r := request.(*kmsg.ProduceRequest)
		if !bytes.Contains(r.Topics[0].Partitions[0].Records, []byte("poison")) {
			return nil, nil, false
		}
		cluster.KeepControl()
		return produceAnswer(r, kerr.UnknownServerError.Code), nil, true
	})
	var o outcomes
	var failed atomic.Bool
	var want []string
	for n := range 40 {
		anna, bert := report("orders", "anna", n), report("orders", "bert", n)
		anna.Closed = failed.Load
		anna.Done = func(err error) {
			if err != nil {
				failed.Store(true)
			}
		}
		if n == 11 {
			anna.Event.Content = []byte("poison")
		}
		if n < 11 {
			want = append(want, anna.Event.ID)
		}
		want = append(want, bert.Event.ID)
		o.produce(p, anna)
		o.produce(p, bert)
	}
	for id, err := range o.wait(t) {
		switch {
		case id == "anna-11" && errors.Is(err, mq.ErrUnavailable), slices.Contains(want, id) && err == nil, errors.Is(err, mq.ErrClosed) && !slices.Contains(want, id):
		default:
			t.Errorf("%s: %v", id, err)
		}
	}
	if diff := cmp.Diff(want, idsOf(consume(t, cfg, "orders"))); diff != "" {
		t.Errorf("(-want +stored):\n%s", diff)
	}
}

// A record that the broker fails without a reason for ever is refused for good, once others of its partition have been stored beside it
// again and again: its stream goes on. While nothing else is stored it is never refused.
func TestPoisonIsRefusedForGoodWhileOthersAreStored(t *testing.T) {
	cluster, cfg := startKafka(t)
	p := startProducer(t, cfg)
	p.SetRefusalSpan(50 * time.Millisecond)
	if err := p.Ensure(t.Context(), []string{"orders"}); err != nil {
		t.Fatal(err)
	}
	cluster.ControlKey(int16(kmsg.Produce), func(request kmsg.Request) (kmsg.Response, error, bool) {
		r := request.(*kmsg.ProduceRequest)
		cluster.KeepControl()
		if !bytes.Contains(r.Topics[0].Partitions[0].Records, []byte("poison")) {
			return nil, nil, false
		}
		return produceAnswer(r, kerr.UnknownServerError.Code), nil, true
	})
	try := func(uid string, n int, content string) error {
		var o outcomes
		r := report("orders", uid, n)
		r.Event.Content = []byte(content)
		o.produce(p, r)
		return o.wait(t)[r.Event.ID]
	}
	for n := range 20 { // nothing else is stored
		if err := try("anna", 1, "poison"); !errors.Is(err, mq.ErrUnavailable) || mq.RetryAfter(err) == 0 {
			t.Fatalf("failure %d with nothing stored beside it: %v", n, err)
		}
	}
	failures := 0
	eventually(t, func() error {
		if err := try("bert", failures, "good"); err != nil {
			t.Fatal(err)
		}
		failures++
		err := try("anna", 1, "poison")
		if errors.Is(err, mq.ErrRefused) && !errors.Is(err, mq.ErrTooLarge) {
			return nil
		}
		if !errors.Is(err, mq.ErrUnavailable) {
			t.Fatal(err)
		}
		return err
	})
	if failures < 4 {
		t.Errorf("refused after %d failures beside which others were stored", failures)
	}
	if err := try("anna", 2, "good"); err != nil {
		t.Errorf("what was behind it: %v", err)
	}
	if got := idsOf(consume(t, cfg, "orders")); len(got) != failures+1 || slices.Contains(got, "anna-1") {
		t.Errorf("stored %q", got)
	}
}

// A topic that is deleted under the producer is made again, with other partitions perhaps.
func TestTopicIsDeleted(t *testing.T) {
	cluster, cfg := startKafka(t)
	cfg.Partitions, cfg.ProduceTimeout = 4, 300*time.Millisecond
	p := startProducer(t, cfg, "orders")
	var o outcomes
	o.produce(p, report("orders", "anna", 1))
	if err := o.wait(t)["anna-1"]; err != nil {
		t.Fatal(err)
	}
	if err := cluster.DeleteTopic("orders"); err != nil {
		t.Fatal(err)
	}
	if err := cluster.CreateTopic("orders", 1, nil); err != nil {
		t.Fatal(err)
	}
	for n := range 8 {
		eventually(t, func() error {
			var o outcomes
			o.produce(p, report("orders", "u"+strconv.Itoa(n), 1))
			return o.wait(t)["u"+strconv.Itoa(n)+"-1"]
		})
	}
}

// A probe whose stream had closed is not sent: it tells nothing of the topic, and the next record is a probe again.
func TestProbeThatWasNotSentClosesNoBreaker(t *testing.T) {
	cluster, cfg := startKafka(t)
	cfg.ProduceTimeout = 400 * time.Millisecond
	p := startProducer(t, cfg, "orders")
	cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		return nil, nil, true
	})
	var o outcomes
	o.produce(p, report("orders", "anna", 0))
	o.wait(t)
	for deadline := time.Now().Add(10 * time.Second); ; { // until the breaker lets a probe through
		var probe outcomes
		r := report("orders", "anna", 1)
		r.Closed = func() bool { return true }
		probe.produce(p, r)
		if errors.Is(probe.wait(t)["anna-1"], mq.ErrClosed) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no probe was let through")
		}
	}
	var both outcomes
	both.produce(p, report("orders", "bert", 0))
	both.produce(p, report("orders", "carl", 0))
	through := 0 // the next probe
	for id, err := range both.wait(t) {
		if err == nil {
			t.Errorf("%s was stored by a broker that answers nothing", id)
		} else if !strings.Contains(err.Error(), "breaker is open") {
			through++
		}
	}
	if through > 1 {
		t.Error("both of two were let through: the breaker was closed by a probe that was never sent")
	}
}
