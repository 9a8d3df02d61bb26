package limit

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Latency in milliseconds.
type Latency struct {
	P50, P99, P999, Max float64
}

// commitShapes are the numbers of rows of one commit at a fixed rate, rising. Their statements are kept prepared.
var commitShapes = []int{1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256}

// CommitAt puts rows in one by one at a rate, as messages come: all that are due go into one statement and one commit, and each row's time counts
// from when it was due to the end of its commit. They are taken out when it is over.
func (d *Database) CommitAt(ctx context.Context, perS float64, took time.Duration) (Latency, error) {
	conn, err := d.db.Conn(ctx)
	if err != nil {
		return Latency{}, fmt.Errorf("limit: %w", err)
	}
	defer conn.Close()
	inserts := make([]*sql.Stmt, len(commitShapes))
	for i, n := range commitShapes {
		if inserts[i], err = conn.PrepareContext(ctx, insertText(n)); err != nil {
			return Latency{}, fmt.Errorf("limit: %w", err)
		}
		defer inserts[i].Close()
	}
	const highest = int64(time.Minute / time.Microsecond)
	h := hdrhistogram.New(1, highest, 3)
	every := time.Duration(float64(time.Second) / perS)
	dueAt := func(n int) time.Duration { return time.Duration(n) * every }
	begin := time.Now()
	var args, ids []any
	for n := 0; dueAt(n) < took; {
		due := int(time.Since(begin)/every) + 1 - n
		if due <= 0 {
			if !sleep(ctx, dueAt(n)-time.Since(begin)) {
				return Latency{}, ctx.Err()
			}
			continue
		}
		shape := len(commitShapes) - 1
		for commitShapes[shape] > due {
			shape--
		}
		args = args[:0]
		for range commitShapes[shape] {
			var r row
			args, r = d.rows.append(args, domain)
			ids = append(ids, r.id)
		}
		if _, err := inserts[shape].ExecContext(ctx, args...); err != nil {
			return Latency{}, fmt.Errorf("limit: insert: %w", err)
		}
		now := time.Since(begin)
		for range commitShapes[shape] {
			us := int64((now - dueAt(n)) / time.Microsecond)
			_ = h.RecordValue(max(1, min(us, highest))) // within its bounds
			n++
		}
	}
	for len(ids) > 0 {
		k := min(len(ids), 1000)
		if _, err := conn.ExecContext(ctx, d.removeText(Plan{Batch: k}), ids[:k]...); err != nil {
			return Latency{}, fmt.Errorf("limit: remove: %w", err)
		}
		ids = ids[k:]
	}
	if h.TotalCount() == 0 {
		return Latency{}, errors.New("limit: the time is shorter than one message")
	}
	return quantiles(h), nil
}

func quantiles(h *hdrhistogram.Histogram) Latency {
	q := func(p float64) float64 { return float64(h.ValueAtQuantile(p)) / 1000 }
	return Latency{P50: q(50), P99: q(99), P999: q(99.9), Max: float64(h.Max()) / 1000}
}

// sleep waits for d; false: ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
