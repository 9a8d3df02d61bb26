package sql

import (
	"context"

	"github.com/gatepost/gatepost/store"
)

// Find returns, in the order of digests, the ids of the rows that have them; 0: there is no such row. A digest may come twice.
func (db *DB) Find(ctx context.Context, digests []store.Digest) ([]store.MsgID, error) {
	ids := make([]store.MsgID, len(digests))
	at := make(map[store.Digest][]int, len(digests))
	for i, d := range digests {
		at[d] = append(at[d], i)
	}
	args := getArgs()
	defer putArgs(args)
	for begin := 0; begin < len(digests); {
		shape := shapeAbove(len(digests) - begin)
		*args = (*args)[:0]
		for i := begin; i < begin+shapes[shape]; i++ {
			*args = append(*args, digests[min(i, len(digests)-1)][:]) // the last one fills the shape
		}
		if err := db.findChunk(ctx, shape, *args, at, ids); err != nil {
			return nil, db.d.classify("look for messages", err)
		}
		begin += shapes[shape]
	}
	return ids, nil
}

// findChunk sets the ids of the rows that the statement finds.
func (db *DB) findChunk(ctx context.Context, shape int, args []any, at map[store.Digest][]int, ids []store.MsgID) error {
	stmt, err := db.prepared(ctx, db.read, stmtDigests, shape)
	if err != nil {
		return err
	}
	rows, err := stmt.QueryContext(ctx, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var digest []byte
		var id number
		if err := rows.Scan(&digest, &id); err != nil {
			return err
		}
		for _, i := range at[store.Digest(digest)] {
			ids[i] = store.MsgID(id)
		}
	}
	return rows.Err()
}
