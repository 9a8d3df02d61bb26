package sql

import (
	"context"
	"time"

	"github.com/gatepost/gatepost/store"
)

// Find returns, in the order of digests, the ids of the rows that have them and have not expired at now; 0: there is no such row. A digest
// may come twice.
func (db *DB) Find(ctx context.Context, digests []store.Digest, now time.Time) ([]store.MsgID, error) {
	ids := make([]store.MsgID, len(digests))
	at := make(map[store.Digest][]int, len(digests))
	for i, d := range digests {
		at[d] = append(at[d], i)
	}
	args := getArgs()
	defer putArgs(args)
	for begin := 0; begin < len(digests); {
		shape := paddedRows(len(digests) - begin)
		*args = (*args)[:0]
		for i := begin; i < begin+shape; i++ {
			*args = append(*args, digests[min(i, len(digests)-1)][:]) // the last one fills the shape
		}
		if err := db.findChunk(ctx, shape, *args, at, millis(now), ids); err != nil {
			return nil, db.d.classify("look for messages", err)
		}
		begin += shape
	}
	return ids, nil
}

// findChunk sets the ids of the rows that the statement finds and that are alive at now, in milliseconds.
func (db *DB) findChunk(ctx context.Context, shape int, args []any, at map[store.Digest][]int, now int64, ids []store.MsgID) error {
	stmt, err := db.prepared(ctx, db.read, stmtDigests, shape)
	if err != nil {
		return err
	}
	rows, err := stmt.QueryContext(ctx, args...)
	if err != nil {
		return err
	}
	return scanThere(rows, func(d store.Digest, x there) {
		if x.expiredAt(now) {
			return
		}
		for _, i := range at[d] {
			ids[i] = x.id
		}
	})
}
