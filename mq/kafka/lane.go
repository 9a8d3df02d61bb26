package kafka

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"github.com/gatepost/gatepost/mq"
)

// Bounds of a lane.
const (
	queueRecords = 20000
	queueBytes   = 16 << 20
	batchRecords = 5000
	// batchBytes is below the brokers' default of message.max.bytes, 1048588.
	batchBytes = 950_000
	// totalTime bounds a record's way from Produce to its outcome.
	totalTime = 4300 * time.Millisecond
)

// Waits of a breaker.
const (
	breakerFirst = 250 * time.Millisecond
	breakerMost  = 4 * time.Second
)

// lane writes to one partition. A goroutine runs while there is something to write.
type lane struct {
	p         *Producer
	topic     string
	partition int32

	mu      sync.Mutex // no I/O and no callback under it
	queue   []*item
	bytes   int
	running bool
	retired bool // the topic is gone; nothing is taken any more
	// the breaker is open while failures > 0: nothing is taken before openUntil, then one batch as a probe
	failures  int
	openUntil time.Time
	probing   bool

	// owned by the goroutine that runs
	wire     wire
	suspects suspects
}

// item is a record on its way. record is nil after its outcome was told.
type item struct {
	record *mq.Record
	at     time.Time
	bytes  int
}

func newLane(p *Producer, topic string, partition int32) *lane {
	return &lane{p: p, topic: topic, partition: partition, wire: wire{p: p, topic: topic, partition: partition}, suspects: suspects{rule: p.rule}}
}

// push queues r, or says why not. The caller holds Producer.mu for reading.
func (l *lane) push(r *mq.Record) error {
	it := &item{record: r, at: time.Now(), bytes: sizeOf(&r.Event)}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.retired:
		return unavailable(fmt.Errorf("topic %s is gone", l.topic), keepEvery)
	case l.failures > 0 && (l.probing || it.at.Before(l.openUntil)):
		return unavailable(fmt.Errorf("topic %s, partition %d: breaker is open", l.topic, l.partition), l.retryAfterLocked(it.at))
	case len(l.queue) >= queueRecords || l.bytes+it.bytes > queueBytes && len(l.queue) > 0:
		return unavailable(fmt.Errorf("topic %s, partition %d: queue is full", l.topic, l.partition), jitter(breakerFirst))
	}
	l.queue = append(l.queue, it)
	l.bytes += it.bytes
	if l.failures > 0 {
		l.probing = true
	}
	if !l.running {
		l.running = true
		l.p.lanes.Go(l.run)
	}
	return nil
}

func (l *lane) retryAfterLocked(now time.Time) time.Duration {
	return jitter(max(l.openUntil.Sub(now), breakerFirst))
}

// jitter spreads d over d to 1.25 d.
func jitter(d time.Duration) time.Duration { return d + rand.N(d/4+1) }

// run writes until the queue is empty.
func (l *lane) run() {
	for {
		runtime.Gosched() // whoever is about to push does so first: one request for all
		batch := l.take()
		if batch == nil {
			return
		}
		l.write(batch)
	}
}

// take returns the next records in their order; nil: there are none, and the goroutine's turn is over.
func (l *lane) take() []*item {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) == 0 {
		l.queue = nil
		l.running = false
		return nil
	}
	count, bytes := 0, 0
	for count < len(l.queue) && count < batchRecords && (count == 0 || bytes+l.queue[count].bytes <= batchBytes) {
		bytes += l.queue[count].bytes
		count++
	}
	batch := l.queue[:count:count]
	l.queue = l.queue[count:]
	l.bytes -= bytes
	return batch
}

// write brings every record of batch to its outcome.
func (l *lane) write(batch []*item) {
	defer func() {
		if v := recover(); v != nil {
			l.p.metrics.panics.Inc()
			l.p.logger.Error("panic", "where", "write", "topic", l.topic, "panic", v)
			l.wire.disconnect()
			l.wire.renumber()
			l.fail(batch, fmt.Errorf("panic: %v", v))
		}
	}()
	began := time.Now()
	work := [][]*item{batch}
	answered := false
	for len(work) > 0 {
		items, res := l.deliver(work[0])
		work = work[1:]
		answered = answered || len(items) > 0 && (res.verdict == taken || res.verdict == refused)
		switch {
		case len(items) == 0: // their streams had closed
		case res.verdict == taken:
			l.suspects.decided(items, true)
			l.tell(items, nil)
		case res.verdict == refused && len(res.bad) > 0:
			// the brokers named the bad ones, and the others of the batch go again, in their order
			var rest []*item
			for i, it := range items {
				if res.bad[int32(i)] {
					l.refuse(it, res.code)
				} else {
					rest = append(rest, it)
				}
			}
			if len(rest) > 0 {
				work = append([][]*item{rest}, work...)
			}
		case res.verdict == refused && len(items) == 1:
			l.refuse(items[0], res.code)
		case res.verdict == strange && len(items) == 1:
			l.suspect(items[0], res)
		case res.verdict == refused || res.verdict == strange:
			half := len(items) / 2
			work = append([][]*item{items[:half], items[half:]}, work...)
		default:
			l.fail(batch, res.cause)
			return
		}
	}
	l.p.metrics.seconds.WithLabelValues(l.topic).Observe(time.Since(began).Seconds())
	l.mu.Lock()
	defer l.mu.Unlock()
	l.probing = false
	if l.failures > 0 && answered { // a probe that was not sent tells nothing
		l.failures, l.openUntil = 0, time.Time{}
		l.p.metrics.open.WithLabelValues(l.topic).Dec()
		l.p.logger.Info("topic is available again", "topic", l.topic, "partition", l.partition)
	}
}

// refuse tells that the brokers will never take it.
func (l *lane) refuse(it *item, code sarama.KError) {
	items := []*item{it}
	l.suspects.decided(items, false)
	l.tell(items, refusal(code, code))
}

// suspect tells the outcome of a record that failed alone, by an error that says nothing: unavailable, or refused by the rule.
func (l *lane) suspect(it *item, res result) {
	if !l.suspects.failed(idOf(it.record), res.code, time.Now()) {
		l.tell([]*item{it}, unavailable(res.cause, jitter(breakerFirst)))
		return
	}
	l.p.metrics.poison.WithLabelValues(l.topic).Inc()
	l.p.logger.Error("record is refused for good: the brokers fail it again and again, and take others beside it", "topic", l.topic,
		"partition", l.partition, "source", it.record.Event.Source, "id", it.record.Event.ID, "err", res.cause)
	l.tell([]*item{it}, refusal(res.code, fmt.Errorf("the brokers fail it again and again, and take others beside it: %w", res.cause)))
}

// fail opens the breaker, and fails what is left of batch and what waits behind it, in that order.
func (l *lane) fail(batch []*item, cause error) {
	l.mu.Lock()
	waiting := l.queue
	l.queue, l.bytes = nil, 0
	l.probing = false
	l.failures++
	opened := l.failures == 1
	wait := jitter(min(breakerFirst<<min(l.failures-1, 10), breakerMost))
	l.openUntil = time.Now().Add(wait)
	l.mu.Unlock()
	if opened {
		l.p.metrics.open.WithLabelValues(l.topic).Inc()
		l.p.logger.Warn("topic is unavailable", "topic", l.topic, "partition", l.partition, "err", cause)
	}
	err := unavailable(cause, wait)
	l.tell(batch, err)
	l.tell(waiting, err)
	if errors.Is(cause, sarama.ErrUnknownTopicOrPartition) {
		l.p.retire(l.topic)
	}
}

// tell tells err to those that have no outcome yet.
func (l *lane) tell(items []*item, err error) {
	for _, it := range items {
		if r := it.record; r != nil {
			it.record = nil
			l.p.tell(r, err)
		}
	}
}

// open returns those of items that are still to be sent, and tells the others that their stream is closed.
// Failures that were told before count: a record behind one that failed is not sent.
func (l *lane) open(items []*item) []*item {
	l.p.outlet.settle()
	for i, it := range items {
		if it.record != nil && !l.isClosed(it.record) {
			continue
		}
		// rare: copy
		left := append([]*item(nil), items[:i]...)
		for _, it := range items[i:] {
			switch {
			case it.record == nil:
			case l.isClosed(it.record):
				l.tell([]*item{it}, mq.ErrClosed)
			default:
				left = append(left, it)
			}
		}
		return left
	}
	return items
}

func (l *lane) isClosed(r *mq.Record) (closed bool) {
	if r.Closed == nil {
		return false
	}
	closed = true // when it panics
	defer l.p.recovered("Closed")
	return r.Closed()
}

// result is the outcome of one batch.
type result struct {
	verdict verdict
	code    sarama.KError
	bad     map[int32]bool // of refused: which, when the brokers say it
	cause   error
}

// deliver tries items until the brokers have decided or the time is up: then the verdict is lost.
// It returns those of items that the result is about.
func (l *lane) deliver(items []*item) ([]*item, result) {
	oldest := time.Now().Add(-totalTime) // nothing is left: open returns none
	for _, it := range items {
		if it.record != nil {
			oldest = it.at
			break
		}
	}
	ctx, cancel := context.WithDeadline(l.p.ctx, earlier(time.Now().Add(l.p.cfg.ProduceTimeout), oldest.Add(totalTime)))
	defer cancel()

	maker := makers.Get().(*recordMaker)
	defer maker.release()
	var records []*sarama.Record
	var last result
	sent, uncertain := false, false
	for attempt := 0; ; attempt++ {
		if attempt > 0 && !pause(ctx, retryWait(attempt)) || ctx.Err() != nil {
			break
		}
		if !sent {
			if items = l.open(items); len(items) == 0 {
				return nil, result{}
			}
			if len(records) != len(items) {
				records = maker.make(items)
			}
		}
		attemptCtx, cancelAttempt := context.WithTimeout(ctx, l.p.cfg.ProduceTimeout/2)
		wrote, res := l.wire.produce(attemptCtx, records, uncertain)
		cancelAttempt()
		sent = sent || wrote
		last = res
		if res.verdict == taken {
			return items, res
		}
		l.p.metrics.retries.WithLabelValues(l.topic, reasonOf(res)).Inc()
		uncertain = uncertain || res.verdict == unknown
		switch res.verdict {
		case refused, strange:
			if uncertain || res.verdict == strange {
				// an earlier attempt may be in the log, and its sequence numbers must not stand for other records
				l.wire.renumber()
			}
			return items, res
		case hopeless:
			attempt = giveUp
		}
		if attempt >= giveUp {
			break
		}
	}
	if uncertain {
		l.wire.renumber()
	}
	l.wire.disconnect()
	if last.cause == nil {
		last.cause = context.DeadlineExceeded
	}
	if l.p.ctx.Err() != nil {
		last.cause = fmt.Errorf("producer is closed: %w", last.cause)
	}
	return items, result{verdict: lost, cause: last.cause}
}

const giveUp = 1 << 20

// retryWait is the wait before an attempt: 20 ms, doubling to 320 ms.
func retryWait(attempt int) time.Duration {
	return jitter(10 * time.Millisecond << min(attempt, 5))
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// disconnect closes the connection of a lane that does not run any more.
func (l *lane) disconnect() { l.wire.disconnect() }
