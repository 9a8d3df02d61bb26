package sql

import (
	"bytes"
	"context"
	stdsql "database/sql"
	"fmt"
	"math"
	"slices"

	"github.com/gatepost/gatepost/store"
)

// maxStatementBytes bounds the content in one insert, far below the packet that any server takes by default.
const maxStatementBytes = 4 << 20

// Append commits the rows of batch, and answers in their order. store.ErrUnavailable: nothing is known of the outcome, some may be
// stored; the same rows may be appended again. Any other error: nothing was committed, and some row is to blame.
//
// A row that had expired when a row with its digest was created gives way to it, swept or not: see replace.
func (db *DB) Append(ctx context.Context, batch []store.Message) ([]store.AppendResult, error) {
	if len(batch) == 0 {
		return nil, nil
	}
	results := make([]store.AppendResult, len(batch))
	rows, first, err := db.distinct(batch, results)
	if err != nil {
		return nil, fmt.Errorf("append %d messages: %w", len(batch), err)
	}
	chunks := cut(batch, rows)
	stmts := make([]*stdsql.Stmt, len(chunks))
	for i, c := range chunks {
		if stmts[i], err = db.prepared(ctx, db.write, stmtInsert, len(c)); err != nil {
			return nil, db.d.classify("prepare an append", err)
		}
	}
	args := getArgs()
	defer putArgs(args)
	switch done, err := db.appendAlone(ctx, batch, chunks, stmts[0], args, results); {
	case err != nil:
		return nil, err
	case done:
		return results, nil
	}
	err = db.inTx(ctx, "append messages", func(tx *stdsql.Tx) error {
		for i, c := range chunks {
			*args = (*args)[:0]
			for _, r := range c {
				*args = db.insertArgs(*args, &batch[r])
			}
			res, err := tx.StmtContext(ctx, stmts[i]).ExecContext(ctx, *args...)
			if err != nil {
				return err
			}
			if err := db.settle(ctx, tx, batch, c, res, results); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i := range batch {
		if f := first[batch[i].Digest]; f != i {
			results[i] = results[f]
			if results[f].Outcome == store.Stored {
				results[i].Outcome = store.Duplicate
			}
		}
	}
	return results, nil
}

// appendAlone appends a batch of one insert, without duplicates among themselves, by that insert alone. Not done: it is not such a batch, or
// some rows were there before. Then the others are committed, and appending the batch once more finds them under their ids.
func (db *DB) appendAlone(ctx context.Context, batch []store.Message, chunks [][]int, insert *stdsql.Stmt, args *[]any, results []store.AppendResult) (done bool, err error) {
	if !db.d.endsAlone || len(chunks) > 1 || len(chunks[0]) < len(batch) {
		return false, nil
	}
	for _, r := range chunks[0] {
		*args = db.insertArgs(*args, &batch[r])
	}
	stored, err := db.alone(ctx, "append messages", insert, *args)
	if err != nil || stored < int64(len(batch)) {
		return false, err
	}
	for i := range batch {
		results[i] = store.AppendResult{ID: batch[i].ID, Outcome: store.Stored}
	}
	return true, nil
}

// distinct returns the rows that are the first of their digest, sorted by id, and the first row of each digest.
func (db *DB) distinct(batch []store.Message, results []store.AppendResult) (rows []int, first map[store.Digest]int, err error) {
	first = make(map[store.Digest]int, len(batch))
	rows = make([]int, 0, len(batch))
	for i := range batch {
		if id := batch[i].ID; id == 0 || id > math.MaxInt64 {
			return nil, nil, fmt.Errorf("%w: message id %d", errData, id)
		}
		if _, ok := first[batch[i].Digest]; ok {
			continue
		}
		first[batch[i].Digest] = i
		rows = append(rows, i)
	}
	slices.SortFunc(rows, func(a, b int) int {
		switch {
		case batch[a].ID < batch[b].ID:
			return -1
		case batch[a].ID > batch[b].ID:
			return 1
		}
		return a - b
	})
	return rows, first, nil
}

// cut divides rows into inserts of kept shapes and bounded bytes.
func cut(batch []store.Message, rows []int) [][]int {
	var chunks [][]int
	for len(rows) > 0 {
		n, bytes := 0, 0
		for n < len(rows) && n < store.MaxStatementRows && (n == 0 || bytes+len(batch[rows[n]].Content) <= maxStatementBytes) {
			bytes += len(batch[rows[n]].Content)
			n++
		}
		n = store.StatementRows(n)
		chunks = append(chunks, rows[:n])
		rows = rows[n:]
	}
	return chunks
}

// empty is the content of a message without any: NULL means that the content lies elsewhere.
var empty = []byte{}

func (db *DB) insertArgs(args []any, m *store.Message) []any {
	content := m.Content
	if content == nil {
		content = empty
	}
	return append(args, db.d.id(m.ID), m.Owner.Domain, m.Owner.UID, m.Digest[:], m.From.Domain, m.From.UID, int64(m.FromClass),
		db.d.u64(m.Stream), db.d.u64(m.TargetSeq), m.ClientMsgID[:], int64(m.Kind), m.Type, content, int64(m.Flags),
		targetText(m.Target), millis(m.CreatedAt), millis(m.ExpiresAt))
}

// targetText is how the column target holds a user: a domain has no NUL in it.
func targetText(u store.UserKey) string {
	if u == (store.UserKey{}) {
		return ""
	}
	return u.Domain + "\x00" + u.UID
}

func targetOf(text []byte) store.UserKey {
	domain, uid, _ := bytes.Cut(text, []byte{0})
	return store.UserKey{Domain: string(domain), UID: string(uid)}
}
