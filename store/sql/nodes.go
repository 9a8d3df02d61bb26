package sql

import (
	"context"
	stdsql "database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/gatepost/gatepost/store"
)

// clock reads the database's clock and compares it with now, this node's clock when the call began at began.
// Time spent waiting for a connection or a lock is not taken for a difference: the reading happened between two known moments of this node.
func (db *DB) clock(ctx context.Context, tx *stdsql.Tx, began, now time.Time, maxSkew time.Duration) (dbNow int64, err error) {
	before := now.Add(time.Since(began))
	if err := tx.QueryRowContext(ctx, "SELECT "+db.d.nowMS).Scan(&dbNow); err != nil {
		return 0, err
	}
	after := now.Add(time.Since(began))
	if at := fromMillis(dbNow); at.Before(before.Add(-maxSkew-time.Millisecond)) || at.After(after.Add(maxSkew)) {
		return 0, fmt.Errorf("%w: %s here, %s there", store.ErrClockSkew, after.UTC().Format(time.RFC3339Nano), at.Format(time.RFC3339Nano))
	}
	return dbNow, nil
}

// Lease takes a free number for owner. now is this node's clock: when it differs from the database's by more than maxSkew, store.ErrClockSkew.
// Ids of the lease lie from From, where whoever held the number before must have stopped, to below HighWater.
// Numbers whose high water has passed are preferred, so that From is not ahead of any clock as long as there are some.
func (db *DB) Lease(ctx context.Context, owner string, now time.Time, maxSkew, ttl, ahead time.Duration) (store.NodeLease, error) {
	began := time.Now()
	var l store.NodeLease
	err := db.inTx(ctx, "lease a node number", func(tx *stdsql.Tx) error {
		dbNow, err := db.clock(ctx, tx, began, now, maxSkew)
		if err != nil {
			return err
		}
		number, high, err := db.freeNumber(ctx, tx, dbNow, maxSkew)
		if err != nil {
			return err
		}
		newHigh := max(high, millis(now)) + ahead.Milliseconds()
		until := dbNow + ttl.Milliseconds()
		// Index PRIMARY.
		if _, err := tx.ExecContext(ctx, "UPDATE node SET owner = ?, high_water = ?, until_at = ? WHERE number = ?", owner, newHigh, until, number); err != nil {
			return err
		}
		l = store.NodeLease{Number: uint16(number), Owner: owner, HighWater: fromMillis(newHigh), Until: fromMillis(until)}
		if high > 0 {
			l.From = fromMillis(high)
		}
		return nil
	})
	return l, err
}

// freeNumber locks a number that nobody holds. The table has 1,024 rows: it is read along PRIMARY.
func (db *DB) freeNumber(ctx context.Context, tx *stdsql.Tx, dbNow int64, maxSkew time.Duration) (number, high int64, err error) {
	const free = "SELECT number, high_water FROM node WHERE until_at <= ? AND high_water <= ? ORDER BY number LIMIT 1"
	for _, limit := range []int64{dbNow - maxSkew.Milliseconds(), 1<<63 - 1} {
		err = tx.QueryRowContext(ctx, free+db.d.skipLocked, dbNow, limit).Scan(&number, &high)
		if err == nil || !errors.Is(err, stdsql.ErrNoRows) {
			return number, high, err
		}
	}
	return 0, 0, fmt.Errorf("%w: every node number is taken", store.ErrUnavailable)
}

// Renew prolongs the lease and reserves ids ahead of now. store.ErrLeaseLost when owner does not hold it any more; store.ErrClockSkew as for Lease.
// A lease that ran out but was not taken by another one is renewed.
func (db *DB) Renew(ctx context.Context, l store.NodeLease, now time.Time, maxSkew, ttl, ahead time.Duration) (store.NodeLease, error) {
	began := time.Now()
	err := db.inTx(ctx, "renew a node number", func(tx *stdsql.Tx) error {
		var owner string
		var high int64
		// Index PRIMARY.
		err := tx.QueryRowContext(ctx, "SELECT owner, high_water FROM node WHERE number = ?"+db.d.lockRow, int64(l.Number)).Scan(&owner, &high)
		if errors.Is(err, stdsql.ErrNoRows) || err == nil && owner != l.Owner {
			return fmt.Errorf("%w: number %d", store.ErrLeaseLost, l.Number)
		}
		if err != nil {
			return err
		}
		dbNow, err := db.clock(ctx, tx, began, now, maxSkew)
		if err != nil {
			return err
		}
		high = max(high, millis(now)+ahead.Milliseconds())
		until := dbNow + ttl.Milliseconds()
		// Index PRIMARY.
		if _, err := tx.ExecContext(ctx, "UPDATE node SET high_water = ?, until_at = ? WHERE number = ?", high, until, int64(l.Number)); err != nil {
			return err
		}
		l.HighWater, l.Until = fromMillis(high), fromMillis(until)
		return nil
	})
	if err != nil {
		return store.NodeLease{}, err
	}
	return l, nil
}

// Release gives the number back. The high water stays: ids may have been made up to it.
func (db *DB) Release(ctx context.Context, l store.NodeLease) error {
	return db.inTx(ctx, "release a node number", func(tx *stdsql.Tx) error {
		// Index PRIMARY.
		_, err := tx.ExecContext(ctx, "UPDATE node SET owner = '', until_at = 0 WHERE number = ? AND owner = ?", int64(l.Number), l.Owner)
		return err
	})
}
