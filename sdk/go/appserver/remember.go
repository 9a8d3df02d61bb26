package appserver

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/IBM/sarama"
)

// rereads is how many times in a row a window is asked for in vain before the partition is given back: a new session asks the group
// anew where it stands, as the log may have lost records that the group had consumed.
const rereads = 10

// remember fills w with the ids of the records below upto, as far back as w reaches: those that the group has consumed. It returns
// nil when all of them have been read; until then the partition waits, since events that meet a smaller window could come twice.
// The member's heartbeats go on meanwhile, and ctx, which ends with the session, ends it at once: so it never holds up a rebalance.
func (m *member) remember(ctx context.Context, w *window, topic string, partition int32, upto int64) error {
	if upto <= 0 || w.records == 0 { // nothing is committed: the group begins here
		return nil
	}
	if !m.sarama.Version.IsAtLeast(sarama.V0_11_0_0) { // records without headers have no ids
		return nil
	}
	p := &past{client: m.client, cfg: m.sarama, topic: topic, partition: partition, upto: upto, next: max(0, upto-int64(w.records))}
	wait := backoff{base: m.cfg.RetryBase, cap: m.cfg.RetryCap}
	for failures := 1; ; failures++ {
		before := p.next
		err := p.read(ctx, w)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if p.next > before {
			failures, wait.attempt = 1, 0
		}
		m.cfg.Logger.Warn("a partition waits: what was consumed of it cannot be read again", slog.String("topic", topic), slog.Int("partition", int(partition)),
			slog.Int64("from", p.next), slog.Int64("committed", upto), slog.Int("attempt", failures), slog.Any("error", err))
		if failures == rereads {
			return fmt.Errorf("read the window of the last ids again, from %d to %d: %w", p.next, upto, err)
		}
		if !sleep(ctx, wait.next()) {
			return ctx.Err()
		}
	}
}

// past is the part of one partition that a group has consumed, as far as a window may reach back. It belongs to one goroutine.
type past struct {
	client    sarama.Client
	cfg       *sarama.Config
	topic     string
	partition int32
	upto      int64 // the first offset that is not part of it
	next      int64 // the first one that is not in the window yet; it only grows
	begun     bool  // the age of the window has been looked at
	asked     bool  // a leader has been asked
}

// read fills w with what is missing. An error leaves in w what was read before it; the next call goes on behind that.
func (p *past) read(ctx context.Context, w *window) error {
	c, err := p.dial(ctx)
	if err != nil {
		return err
	}
	defer c.close()
	oldest, err := c.offsetAt(sarama.OffsetOldest)
	if err != nil {
		return err
	}
	p.next = max(p.next, oldest)
	if w.age > 0 && !p.begun && p.next < p.upto-1 {
		from, err := c.offsetOfAge(w.age)
		if err != nil {
			return err
		}
		p.next = max(p.next, from)
	}
	p.begun = true
	for p.next < p.upto {
		records, next, err := c.fetch(p.next)
		if err != nil {
			return err
		}
		for _, r := range records {
			if r.offset >= p.upto {
				break
			}
			if key, ok := keyOf(r.headers); ok {
				w.add(key, r.at)
			}
		}
		p.next = next
	}
	return nil
}

// offsetOfAge returns an offset below which all is older than age when the window is next asked; 0: that is not known. The age counts
// back from the last record that was consumed, not from the present. It saves reading; the window alone decides what it forgets.
func (c *pastConn) offsetOfAge(age time.Duration) (int64, error) {
	records, _, err := c.fetch(c.upto - 1)
	if err != nil || len(records) == 0 {
		return 0, err
	}
	ms := records[0].at.Add(-age).UnixMilli()
	if ms < 0 { // no time, and Kafka takes these numbers for names
		return 0, nil
	}
	from, err := c.offsetAt(ms)
	return max(0, from), err
}
