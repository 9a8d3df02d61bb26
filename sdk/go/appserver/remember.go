package appserver

import (
	"context"
	"errors"
	"time"

	"github.com/IBM/sarama"
)

// quiet is how long a part of a log may yield nothing before it counts as read: its last offsets may be of records that are not
// handed out, such as the ends of transactions.
const quiet = 3 * time.Second

// remember fills w with the ids of the records below upto, as far back as w reaches: those that the group has consumed.
func (m *member) remember(ctx context.Context, w *window, topic string, partition int32, upto int64) error {
	if upto <= 0 || w.records == 0 { // nothing is committed: the group begins here
		return nil
	}
	oldest, err := m.client.GetOffset(topic, partition, sarama.OffsetOldest)
	if err != nil {
		return err
	}
	from := max(oldest, upto-int64(w.records))
	if from >= upto {
		return nil
	}
	if w.age > 0 && from < upto-1 {
		// The window is behind the last record that was consumed, not behind the present.
		var last time.Time
		err := m.read(ctx, topic, partition, upto-1, func(msg *sarama.ConsumerMessage) bool {
			last = msg.Timestamp
			return false
		})
		if err != nil {
			return err
		}
		if !last.IsZero() {
			since, err := m.client.GetOffset(topic, partition, last.Add(-w.age).UnixMilli())
			if err != nil {
				return err
			}
			if since < 0 { // no record is so young
				return nil
			}
			from = max(from, since)
		}
	}
	if from >= upto {
		return nil
	}
	return m.read(ctx, topic, partition, from, func(msg *sarama.ConsumerMessage) bool {
		if msg.Offset < upto {
			if key, ok := keyOf(msg); ok {
				w.add(key, msg.Timestamp)
			}
		}
		return msg.Offset < upto-1
	})
}

// read gives f the records from an offset on until f has enough, the log is quiet, or ctx is done.
func (m *member) read(ctx context.Context, topic string, partition int32, from int64, f func(*sarama.ConsumerMessage) (more bool)) (err error) {
	part, err := m.past.ConsumePartition(topic, partition, from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, part.Close()) }()
	silence := time.NewTimer(quiet)
	defer silence.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-part.Errors():
			return err
		case <-silence.C:
			return nil
		case msg, ok := <-part.Messages():
			if !ok || !f(msg) {
				return nil
			}
			silence.Reset(quiet)
		}
	}
}
