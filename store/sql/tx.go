package sql

import (
	"context"
	stdsql "database/sql"
	"math/rand/v2"
	"sync"
	"time"
)

// maxAttempts is how often a transaction is run that lost a deadlock or a lock wait.
const maxAttempts = 4

// retryPause is the longest pause before the second attempt; it doubles from there.
const retryPause = 10 * time.Millisecond

// inTx runs f in a transaction, again when it lost a deadlock or a lock wait, and classifies what remains of the error.
func (db *DB) inTx(ctx context.Context, what string, f func(tx *stdsql.Tx) error) error {
	return db.again(ctx, what, func() error { return db.once(ctx, f) })
}

// alone runs one kept statement as a transaction of its own, and returns how many rows it affected. A message that has the machine for
// itself spends most of its time on the way to the database: BEGIN and COMMIT are two ways of three.
func (db *DB) alone(ctx context.Context, what string, stmt *stdsql.Stmt, args []any) (affected int64, err error) {
	err = db.again(ctx, what, func() error {
		affected, err = execCount(ctx, stmt, args)
		return err
	})
	return affected, err
}

// execCount runs a statement and returns how many rows it affected.
func execCount(ctx context.Context, stmt *stdsql.Stmt, args []any) (int64, error) {
	res, err := stmt.ExecContext(ctx, args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// again runs f until it loses no deadlock and no lock wait, at most maxAttempts times, and classifies what remains of the error.
func (db *DB) again(ctx context.Context, what string, f func() error) error {
	for attempt := 1; ; attempt++ {
		err := f()
		if err == nil {
			return nil
		}
		if attempt == maxAttempts || !db.d.retryable(err) || !pause(ctx, attempt) {
			return db.d.classify(what, err)
		}
	}
}

func (db *DB) once(ctx context.Context, f func(tx *stdsql.Tx) error) error {
	tx, err := db.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := f(tx); err != nil {
		tx.Rollback() // its error says less than err
		return err
	}
	return db.commit(ctx, tx)
}

// commit commits, but returns when ctx is done: database/sql offers no commit that a context ends.
// What then becomes of the transaction is unknown to the caller, as with any commit whose answer is lost.
func (db *DB) commit(ctx context.Context, tx *stdsql.Tx) error {
	if ctx.Done() == nil {
		return tx.Commit()
	}
	done := make(chan error, 1)
	db.commits.Add(1)
	go func() {
		defer db.commits.Done()
		done <- tx.Commit()
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// pause waits a random time before another attempt; false: ctx was done first.
func pause(ctx context.Context, attempt int) bool {
	t := time.NewTimer(rand.N(retryPause << (attempt - 1)))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// argPool keeps the parameter lists of large statements.
var argPool = sync.Pool{New: func() any { return new([]any) }}

func getArgs() *[]any { return argPool.Get().(*[]any) }

func putArgs(a *[]any) {
	clear((*a)[:cap(*a)])
	*a = (*a)[:0]
	argPool.Put(a)
}
