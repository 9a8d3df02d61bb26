package sql

import (
	"context"
	stdsql "database/sql"
	"math/bits"
	"sync"

	"github.com/gatepost/gatepost/store"
)

// statement names a kept statement.
type statement int

const (
	stmtInsert statement = iota
	stmtDigests
	stmtConfirmLast
	stmtConfirmDelete
	stmtConfirmUpdate
	stmtConfirmLock
	stmtKnown
	stmtPage
	stmtMaxID
	stmtCount
	stmtCounter
	stmtSeenAgain
	statements
)

// The row counts for which a statement of many rows is kept are its shapes. MariaDB holds 5 KiB for each row of an insert, 1 KiB for
// each of stmtConfirmLast and 4 KiB for each of the others, on each connection that has run them: 33 to 37 MiB were measured on those
// that write under load.
//
// An insert has exactly its rows, so its shapes are those of store.StatementRows. A statement that looks for rows may have a shape that is
// larger than what it looks for: it is filled up with rows that nobody has, or with one twice.

// maxPaddedRows is the largest shape of a statement that is filled up.
const maxPaddedRows = 256

// paddedRows is the shape that n rows, n > 0, are filled up to: the next number of which only the two highest bits are set. Of more rows
// than maxPaddedRows the rest is for another statement.
func paddedRows(n int) int { return roundUp(min(n, maxPaddedRows), 2) }

// lastRows is the same for stmtConfirmLast: its shapes are larger and closer, for a row takes less memory.
func lastRows(n int) int { return roundUp(min(n, store.MaxStatementRows), 3) }

// roundUp is the smallest number of at least n of which only the highest few bits are set.
func roundUp(n, few int) int {
	step := 1 << max(0, bits.Len(uint(n))-few)
	return (n + step - 1) / step * step
}

// stmtCache keeps prepared statements, which live as long as the pool.
type stmtCache struct {
	mu   sync.RWMutex
	kept [statements]map[int]*stdsql.Stmt // by rows
}

// prepared returns the statement for so many rows over pool. It is to be called before a transaction begins: preparing takes a connection, of which SQLite has one.
func (db *DB) prepared(ctx context.Context, pool *stdsql.DB, s statement, rows int) (*stdsql.Stmt, error) {
	db.stmts.mu.RLock()
	stmt := db.stmts.kept[s][rows]
	db.stmts.mu.RUnlock()
	if stmt != nil {
		return stmt, nil
	}
	db.stmts.mu.Lock()
	defer db.stmts.mu.Unlock()
	if stmt := db.stmts.kept[s][rows]; stmt != nil {
		return stmt, nil
	}
	stmt, err := pool.PrepareContext(ctx, db.d.text(s, rows))
	if err != nil {
		return nil, err
	}
	if db.stmts.kept[s] == nil {
		db.stmts.kept[s] = map[int]*stdsql.Stmt{}
	}
	db.stmts.kept[s][rows] = stmt
	return stmt, nil
}
