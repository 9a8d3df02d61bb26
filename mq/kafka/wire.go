package kafka

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/IBM/sarama"
)

// verdict is what one attempt to write a batch came to.
type verdict int

const (
	taken    verdict = iota // all in-sync replicas have it
	retry                   // it is not in the log: try again
	unknown                 // it may be in the log: try the same again
	refused                 // the brokers will never take this batch
	strange                 // an error that says nothing: perhaps one record is to blame
	hopeless                // only an operator can help
	lost                    // the time is up
)

// wire is the connection of one partition to its leader with the identity that keeps retries from writing twice.
// It belongs to one goroutine at a time.
//
// A sequence number advances only with what the broker has taken. When the outcome of a batch stays unknown the epoch is raised: the broker
// then refuses the old batch if it still comes, and never takes a new one for a repetition of it.
type wire struct {
	p         *Producer
	topic     string
	partition int32

	broker *sarama.Broker
	cancel context.CancelFunc // closes the connection under any call

	identified bool
	id         int64
	epoch      int16
	sequence   int32 // of the next record
}

// produce sends records once. wrote: the request may have left. again: an earlier attempt of the same batch may be in the log.
func (w *wire) produce(ctx context.Context, records []*sarama.Record, again bool) (wrote bool, res result) {
	if err := w.connect(ctx); err != nil {
		return false, resultOf(retry, err)
	}
	// whoever waits on the connection returns when the time is up
	defer context.AfterFunc(ctx, w.cancel)()
	if int64(w.sequence)+int64(len(records)) > math.MaxInt32 {
		w.renumber()
	}
	if !w.identified {
		if err := w.identify(); err != nil {
			w.disconnect()
			return false, resultOf(retry, err)
		}
	}
	now := time.Now()
	request := &sarama.ProduceRequest{
		RequiredAcks: sarama.WaitForAll, Version: 8,
		Timeout: int32(max(w.p.cfg.ProduceTimeout/2, 100*time.Millisecond) / time.Millisecond),
	}
	request.AddBatch(w.topic, w.partition, &sarama.RecordBatch{
		Version: 2, Codec: sarama.CompressionNone, FirstTimestamp: now, MaxTimestamp: now, LastOffsetDelta: int32(len(records) - 1),
		ProducerID: w.id, ProducerEpoch: w.epoch, FirstSequence: w.sequence, Records: records,
	})
	w.p.metrics.batch.Observe(float64(len(records)))
	response, err := w.broker.Produce(request)
	if err != nil {
		w.disconnect()
		return true, resultOf(unknown, fmt.Errorf("topic %s, partition %d: %w", w.topic, w.partition, err))
	}
	block := response.GetBlock(w.topic, w.partition)
	if block == nil {
		w.disconnect()
		return true, resultOf(unknown, fmt.Errorf("topic %s, partition %d: the broker's answer lacks it", w.topic, w.partition))
	}
	return true, w.judge(block, len(records), again)
}

// judge turns the broker's answer into a result, and does what the answer asks of the connection and the identity.
func (w *wire) judge(block *sarama.ProduceResponseBlock, count int, again bool) result {
	code := block.Err
	cause := fmt.Errorf("topic %s, partition %d: %w", w.topic, w.partition, code)
	if block.ErrorMessage != nil && *block.ErrorMessage != "" {
		cause = fmt.Errorf("%w (%s)", cause, *block.ErrorMessage)
	}
	res := result{code: code, cause: cause}
	switch code {
	case sarama.ErrNoError:
		w.sequence += int32(count)
		return result{verdict: taken}
	case sarama.ErrDuplicateSequenceNumber:
		if again {
			w.sequence += int32(count)
			return result{verdict: taken}
		}
		// never sent before: these numbers stand for something else
		w.renumber()
		res.verdict = retry
	case sarama.ErrOutOfOrderSequenceNumber:
		w.renumber()
		res.verdict = retry
	case sarama.ErrUnknownProducerID, sarama.ErrInvalidProducerEpoch, sarama.ErrInvalidProducerIDMapping, sarama.ErrProducerFenced:
		w.identified = false
		res.verdict = retry
	case sarama.ErrMessageSizeTooLarge, sarama.ErrMessageSetSizeTooLarge, sarama.ErrInvalidMessage, sarama.ErrInvalidRecord,
		sarama.ErrInvalidTimestamp, sarama.ErrInvalidMessageSize, sarama.ErrUnsupportedForMessageFormat:
		res.verdict = refused
		for _, e := range block.RecordErrors {
			// an answer that names none of ours is no help
			if e.BatchIndex >= 0 && int(e.BatchIndex) < count {
				if res.bad == nil {
					res.bad = map[int32]bool{}
				}
				res.bad[e.BatchIndex] = true
			}
		}
	case sarama.ErrRequestTimedOut, sarama.ErrNotEnoughReplicasAfterAppend, sarama.ErrNetworkException:
		res.verdict = unknown
	case sarama.ErrNotLeaderForPartition, sarama.ErrLeaderNotAvailable, sarama.ErrUnknownTopicOrPartition, sarama.ErrBrokerNotAvailable,
		sarama.ErrReplicaNotAvailable, sarama.ErrFencedLeaderEpoch, sarama.ErrUnknownLeaderEpoch, sarama.ErrKafkaStorageError:
		w.disconnect() // the leader is looked up again
		res.verdict = retry
	case sarama.ErrNotEnoughReplicas:
		res.verdict = retry
	case sarama.ErrTopicAuthorizationFailed, sarama.ErrClusterAuthorizationFailed, sarama.ErrInvalidTopic, sarama.ErrPolicyViolation,
		sarama.ErrInvalidRequiredAcks, sarama.ErrUnsupportedVersion, sarama.ErrSASLAuthenticationFailed:
		res.verdict = hopeless
	default:
		res.verdict = strange
	}
	return res
}

func resultOf(v verdict, err error) result {
	if errors.Is(err, sarama.ErrTopicAuthorizationFailed) || errors.Is(err, sarama.ErrClusterAuthorizationFailed) {
		v = hopeless
	}
	return result{verdict: v, cause: err}
}

// reasonOf labels a failed attempt.
func reasonOf(r result) string {
	switch {
	case r.verdict == refused:
		return "refused"
	case r.verdict == strange:
		return "unexpected"
	case r.verdict == hopeless:
		return "not_allowed"
	case r.verdict == unknown && r.code == sarama.ErrNoError:
		return "connection"
	case r.verdict == unknown:
		return "timeout"
	case r.code == sarama.ErrNoError:
		return "no_leader"
	case r.code == sarama.ErrNotEnoughReplicas:
		return "replicas"
	case r.code == sarama.ErrOutOfOrderSequenceNumber, r.code == sarama.ErrDuplicateSequenceNumber, r.code == sarama.ErrUnknownProducerID, r.code == sarama.ErrInvalidProducerEpoch:
		return "sequence"
	}
	return "leader"
}

// connect finds the leader and dials it, when there is no connection.
func (w *wire) connect(ctx context.Context) error {
	if w.broker != nil {
		return nil
	}
	leaders, err := w.p.cluster.leaders(ctx, w.topic)
	if err != nil {
		return err
	}
	if int(w.partition) >= len(leaders) {
		return fmt.Errorf("topic %s, partition %d: %w", w.topic, w.partition, sarama.ErrUnknownTopicOrPartition)
	}
	if leaders[w.partition] == "" {
		return fmt.Errorf("topic %s, partition %d: %w", w.topic, w.partition, sarama.ErrLeaderNotAvailable)
	}
	life, cancel := context.WithCancel(w.p.ctx)
	unbind := context.AfterFunc(ctx, cancel)
	broker, err := w.p.cluster.dial(life, leaders[w.partition])
	unbind()
	if err != nil {
		cancel()
		return err
	}
	w.broker, w.cancel = broker, cancel
	return nil
}

// identify asks for a producer id.
func (w *wire) identify() error {
	response, err := w.broker.InitProducerID(&sarama.InitProducerIDRequest{Version: 1, TransactionTimeout: time.Minute})
	if err == nil && response.Err != sarama.ErrNoError {
		err = response.Err
	}
	if err != nil {
		return fmt.Errorf("get a producer id: %w", err)
	}
	w.identified, w.id, w.epoch, w.sequence = true, response.ProducerID, response.ProducerEpoch, 0
	return nil
}

// renumber begins a new sequence.
func (w *wire) renumber() {
	w.sequence = 0
	if w.epoch >= math.MaxInt16-1 {
		w.identified = false
		return
	}
	w.epoch++
}

// disconnect closes the connection, if there is one.
func (w *wire) disconnect() {
	if w.broker == nil {
		return
	}
	w.cancel()
	_ = w.broker.Close() // closed already, by the line above or by the broker
	w.broker, w.cancel = nil, nil
}
