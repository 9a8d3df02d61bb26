package sql

import (
	"context"
	stdsql "database/sql"

	"github.com/gatepost/gatepost/store"
)

// there is a row of the inbox that has a digest which was looked for.
type there struct {
	id        store.MsgID
	expires   int64 // milliseconds
	confirmed int64 // a bit for each class
}

// expiredAt is as Page and Sweep see it.
func (x there) expiredAt(ms int64) bool { return x.expires <= ms }

// scanThere reads what stmtDigests finds, and closes rows.
func scanThere(rows *stdsql.Rows, found func(d store.Digest, x there)) error {
	defer rows.Close()
	for rows.Next() {
		var digest []byte
		var id number
		var x there
		if err := rows.Scan(&digest, &id, &x.expires, &x.confirmed); err != nil {
			return err
		}
		x.id = store.MsgID(id)
		found(store.Digest(digest), x)
	}
	return rows.Err()
}

// settle sets the results of rows, of which one insert with the result res has stored some or all. What had expired gives way to them.
func (db *DB) settle(ctx context.Context, tx *stdsql.Tx, batch []store.Message, rows []int, res stdsql.Result, results []store.AppendResult) error {
	n, err := res.RowsAffected()
	if err != nil {
		return err
	}
	if n == int64(len(rows)) {
		for _, r := range rows {
			results[r] = store.AppendResult{ID: batch[r].ID, Outcome: store.Stored}
		}
		return nil
	}
	old, err := db.resolve(ctx, tx, batch, rows, results)
	if err != nil {
		return err
	}
	var expired []int
	for _, r := range rows {
		if results[r].Outcome == store.Duplicate && old[batch[r].Digest].expiredAt(millis(batch[r].CreatedAt)) {
			expired = append(expired, r)
		}
	}
	if len(expired) == 0 {
		return nil
	}
	return db.replace(ctx, tx, batch, expired, old, results)
}

// resolve finds out which rows of an insert were there before, and returns the rows of their digests. The insert holds locks on the rows it
// met, so they are still there.
func (db *DB) resolve(ctx context.Context, tx *stdsql.Tx, batch []store.Message, rows []int, results []store.AppendResult) (map[store.Digest]there, error) {
	digests := make([]any, len(rows))
	for i, r := range rows {
		digests[i] = batch[r].Digest[:]
	}
	found, err := tx.QueryContext(ctx, db.d.text(stmtDigests, len(rows)), digests...)
	if err != nil {
		return nil, err
	}
	stored := make(map[store.Digest]there, len(rows))
	if err := scanThere(found, func(d store.Digest, x there) { stored[d] = x }); err != nil {
		return nil, err
	}
	for _, r := range rows {
		x, ok := stored[batch[r].Digest]
		switch {
		case !ok:
			results[r] = store.AppendResult{ID: batch[r].ID, Outcome: store.IDCollision}
		case x.id == batch[r].ID:
			results[r] = store.AppendResult{ID: x.id, Outcome: store.Stored}
		default:
			results[r] = store.AppendResult{ID: x.id, Outcome: store.Duplicate}
		}
	}
	return stored, nil
}

// replace stores rows whose digests belong to rows that have expired, in place of those, and sets their results. Nobody else can come
// in between: the insert before has locked the old rows, and their entries in inbox_digest stay locked when they are removed.
//
// A class that had confirmed the old row has had the message, and is not owed the new one either; a row that was confirmed makes no second receipt.
func (db *DB) replace(ctx context.Context, tx *stdsql.Tx, batch []store.Message, rows []int, old map[store.Digest]there, results []store.AppendResult) error {
	args := getArgs()
	defer putArgs(args)
	for _, r := range rows {
		*args = append(*args, db.d.id(old[batch[r].Digest].id))
	}
	// Index PRIMARY.
	if _, err := tx.ExecContext(ctx, "DELETE FROM inbox WHERE msg_id IN ("+repeat("?", ", ", len(rows))+")", *args...); err != nil {
		return err
	}
	*args = (*args)[:0]
	for _, r := range rows {
		*args = db.insertArgs(*args, &batch[r])
	}
	res, err := tx.ExecContext(ctx, db.d.text(stmtInsert, len(rows)), *args...)
	if err != nil {
		return err
	}
	n, err := res.RowsAffected()
	if err != nil {
		return err
	}
	if n < int64(len(rows)) { // the ids of some are taken
		if _, err := db.resolve(ctx, tx, batch, rows, results); err != nil {
			return err
		}
	} else {
		for _, r := range rows {
			results[r] = store.AppendResult{ID: batch[r].ID, Outcome: store.Stored}
		}
	}
	for _, r := range rows {
		x := old[batch[r].Digest]
		if x.confirmed == 0 || results[r].Outcome != store.Stored {
			continue
		}
		// Index PRIMARY.
		if _, err := tx.ExecContext(ctx, "UPDATE inbox SET confirmed = ? WHERE msg_id = ?", x.confirmed, db.d.id(batch[r].ID)); err != nil {
			return err
		}
	}
	return nil
}
