package sql

import (
	"context"
	stdsql "database/sql"
	"time"

	"github.com/gatepost/gatepost/store"
)

// TryLease takes or renews the named lease for owner, by the database's clock; false: another one holds it.
func (db *DB) TryLease(ctx context.Context, name, owner string, ttl time.Duration) (bool, error) {
	held := false
	err := db.inTx(ctx, "take a lease", func(tx *stdsql.Tx) error {
		// Index PRIMARY in all three.
		if _, err := tx.ExecContext(ctx, "INSERT INTO lease (name, owner, until_at) VALUES (?, '', 0)"+db.d.onLeaseConflict, name); err != nil {
			return err
		}
		var now, until int64
		var holder string
		if err := tx.QueryRowContext(ctx, "SELECT owner, until_at, "+db.d.nowMS+" FROM lease WHERE name = ?"+db.d.lockRow, name).Scan(&holder, &until, &now); err != nil {
			return err
		}
		if held = holder == owner || until <= now; !held {
			return nil
		}
		_, err := tx.ExecContext(ctx, "UPDATE lease SET owner = ?, until_at = ? WHERE name = ?", owner, now+ttl.Milliseconds(), name)
		return err
	})
	return held && err == nil, err
}

// Sweep removes rows that have expired at now among the next limit rows behind after, and returns where to go on; 0: the end was reached.
func (db *DB) Sweep(ctx context.Context, after store.MsgID, limit int, now time.Time) (next store.MsgID, removed int, err error) {
	var last stdsql.Null[number]
	var seen int
	var expired stdsql.NullInt64
	// Index PRIMARY: a range.
	err = db.read.QueryRowContext(ctx, "SELECT MAX(msg_id), COUNT(*), SUM(expires_at <= ?) FROM (SELECT msg_id, expires_at FROM inbox WHERE msg_id > ? ORDER BY msg_id LIMIT ?) AS next",
		millis(now), db.d.id(after), limit).Scan(&last, &seen, &expired)
	if err != nil {
		return 0, 0, db.d.classify("look for expired messages", err)
	}
	if expired.Int64 > 0 {
		err = db.inTx(ctx, "remove expired messages", func(tx *stdsql.Tx) error {
			// Index PRIMARY: a range.
			res, err := tx.ExecContext(ctx, "DELETE FROM inbox WHERE msg_id > ? AND msg_id <= ? AND expires_at <= ?", db.d.id(after), db.d.u64(uint64(last.V)), millis(now))
			if err != nil {
				return err
			}
			n, err := res.RowsAffected()
			removed = int(n)
			return err
		})
		if err != nil {
			return 0, 0, err
		}
	}
	if seen < limit {
		return 0, removed, nil
	}
	return store.MsgID(last.V), removed, nil
}
