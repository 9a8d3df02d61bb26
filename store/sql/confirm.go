package sql

import (
	"cmp"
	"context"
	stdsql "database/sql"
	"slices"
	"strconv"
	"strings"

	"github.com/gatepost/gatepost/store"
)

// mark is one id confirmed by some classes of its owner.
type mark struct {
	id    store.MsgID
	owner store.UserKey
	bits  uint32
}

// Confirm marks each id that belongs to the confirmation's owner as confirmed by its class, and removes the rows that every registered
// class of the owner has confirmed. Ids of others, and ids that are gone, are passed over (G4). When it fails some may be marked and
// removed already, and may be confirmed again.
//
// First the rows go for which these confirmations are all that is missing, which with one device class are all. Only when some remain
// they are marked, and looked at again: two classes that confirm at once each saw the row without the other's mark, and the update that
// came second reads both.
//
// Receipts, if any are asked for, are made before that, in the same transaction: see storeReceipts. It returns those that it stored.
// store.ErrIDCollision: the id of one belongs to another row, and nothing was committed.
func (db *DB) Confirm(ctx context.Context, batch []store.Confirmation) ([]store.Message, error) {
	marks := merge(batch)
	if len(marks) == 0 {
		return nil, nil
	}
	wishes, err := wishesOf(batch)
	if err != nil {
		return nil, err
	}
	first, err := db.firstRemovals(ctx, marks)
	if err != nil {
		return nil, db.d.classify("prepare a confirmation", err)
	}
	args := getArgs()
	defer putArgs(args)
	tried := false // the first removals are done
	if db.d.endsAlone && len(wishes) == 0 && len(first) == 1 {
		r := first[0]
		*args = r.fill(db.d, *args, r.marks, r.rows)
		removed, err := db.alone(ctx, "confirm messages", r.stmt, *args)
		if err != nil || removed == int64(len(marks)) {
			return nil, err
		}
		tried = true
	}
	chunks, err := db.confirmChunks(ctx, marks, len(wishes) > 0)
	if err != nil {
		return nil, db.d.classify("prepare a confirmation", err)
	}
	var receipts []store.Message
	err = db.inTx(ctx, "confirm messages", func(tx *stdsql.Tx) error {
		receipts = nil
		if len(wishes) > 0 {
			if receipts, err = db.storeReceipts(ctx, tx, chunks, wishes, args); err != nil {
				return err
			}
		}
		if !tried {
			left := int64(len(marks))
			for _, r := range first {
				*args = r.fill(db.d, (*args)[:0], r.marks, r.rows)
				removed, err := execCount(ctx, tx.StmtContext(ctx, r.stmt), *args)
				if err != nil {
					return err
				}
				left -= removed
			}
			if left == 0 {
				return nil
			}
		}
		for i := range chunks {
			if err := db.confirmChunk(ctx, tx, &chunks[i], args); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return receipts, nil
}

// removal is a statement that removes rows for which marks are all that is missing.
type removal struct {
	stmt  *stdsql.Stmt
	marks []mark
	rows  int // of the statement's shape
	// fill appends the statement's parameters.
	fill func(d *dialect, args []any, marks []mark, rows int) []any
}

func (db *DB) firstRemovals(ctx context.Context, marks []mark) (first []removal, err error) {
	what, shape, fill := stmtConfirmLast, lastRows, lastArgs
	if db.d.confirmLast == "" {
		what, shape, fill = stmtConfirmDelete, paddedRows, confirmArgs
	}
	for len(marks) > 0 {
		r := removal{rows: shape(len(marks)), fill: fill}
		if r.stmt, err = db.prepared(ctx, db.write, what, r.rows); err != nil {
			return nil, err
		}
		n := min(len(marks), r.rows)
		r.marks, marks = marks[:n], marks[n:]
		first = append(first, r)
	}
	return first, nil
}

// confirmChunk is some marks and the statements that take so many.
type confirmChunk struct {
	marks          []mark
	rows           int // of the statements' shape
	remove, update *stdsql.Stmt
	lock           *stdsql.Stmt // nil: no receipts are asked for
}

func (db *DB) confirmChunks(ctx context.Context, marks []mark, lock bool) (chunks []confirmChunk, err error) {
	for len(marks) > 0 {
		c := confirmChunk{rows: paddedRows(len(marks))}
		c.marks = marks[:min(len(marks), c.rows)]
		marks = marks[len(c.marks):]
		if c.remove, err = db.prepared(ctx, db.write, stmtConfirmDelete, c.rows); err == nil {
			c.update, err = db.prepared(ctx, db.write, stmtConfirmUpdate, c.rows)
		}
		if err == nil && lock {
			c.lock, err = db.prepared(ctx, db.write, stmtConfirmLock, c.rows)
		}
		if err != nil {
			return nil, err
		}
		chunks = append(chunks, c)
	}
	return chunks, nil
}

// confirmArgs appends the parameters of dialect.confirmRows: marks, filled up to rows.
func confirmArgs(d *dialect, args []any, marks []mark, rows int) []any {
	for i := range rows {
		m := mark{} // id 0 is no row's: it fills the shape
		if i < len(marks) {
			m = marks[i]
		}
		args = append(args, d.id(m.id), m.owner.Domain, m.owner.UID, int64(m.bits))
	}
	return args
}

// lastArgs appends the parameters of dialect.confirmLast: ids and keys of marks, the last one again until there are rows of each.
func lastArgs(d *dialect, args []any, marks []mark, rows int) []any {
	for i := range rows {
		args = append(args, d.id(marks[min(i, len(marks)-1)].id))
	}
	size := 0
	for i := range marks {
		size += marks[i].keySize()
	}
	keys := make([]byte, 0, size)
	for i := range rows {
		if i >= len(marks) {
			args = append(args, args[len(args)-1])
			continue
		}
		begin := len(keys)
		keys = marks[i].appendKey(keys)
		args = append(args, keys[begin:len(keys):len(keys)])
	}
	return args
}

// appendKey appends what dialect.confirmLast makes of a row of this id and owner that these bits of the owner's mask are missing to.
// Ids and bits are decimal and a domain has no NUL in it, so no two marks have one key.
func (m *mark) appendKey(b []byte) []byte {
	b = strconv.AppendUint(b, uint64(m.id), 10)
	b = append(b, ' ')
	b = strconv.AppendUint(b, uint64(m.bits), 10)
	b = append(b, ' ')
	b = append(b, m.owner.Domain...)
	b = append(b, 0)
	return append(b, m.owner.UID...)
}

// keySize is at least the length of the key.
func (m *mark) keySize() int { return 20 + 1 + 10 + 1 + len(m.owner.Domain) + 1 + len(m.owner.UID) }

// confirmChunk marks rows, and removes those that are complete then, or were before: what a class that retired has left is removed when
// another one confirms it again.
func (db *DB) confirmChunk(ctx context.Context, tx *stdsql.Tx, c *confirmChunk, args *[]any) error {
	*args = confirmArgs(db.d, (*args)[:0], c.marks, c.rows)
	if _, err := tx.StmtContext(ctx, c.update).ExecContext(ctx, *args...); err != nil {
		return err
	}
	_, err := tx.StmtContext(ctx, c.remove).ExecContext(ctx, *args...)
	return err
}

// merge makes one mark for each id and owner, sorted by id: a joined row is changed once, whatever it is joined with.
func merge(batch []store.Confirmation) []mark {
	n := 0
	for i := range batch {
		n += len(batch[i].IDs) + len(batch[i].Receipts)
	}
	marks := make([]mark, 0, n)
	for i := range batch {
		for _, id := range batch[i].IDs {
			if id != 0 {
				marks = append(marks, mark{id, batch[i].Owner, batch[i].Class.Bit()})
			}
		}
		for _, r := range batch[i].Receipts {
			if r.Of != 0 {
				marks = append(marks, mark{r.Of, batch[i].Owner, batch[i].Class.Bit()})
			}
		}
	}
	slices.SortFunc(marks, func(a, b mark) int {
		if a.id != b.id {
			return cmp.Compare(a.id, b.id)
		}
		if c := strings.Compare(a.owner.Domain, b.owner.Domain); c != 0 {
			return c
		}
		return strings.Compare(a.owner.UID, b.owner.UID)
	})
	out := marks[:0]
	for _, m := range marks {
		if k := len(out) - 1; k >= 0 && out[k].id == m.id && out[k].owner == m.owner {
			out[k].bits |= m.bits
			continue
		}
		out = append(out, m)
	}
	return out
}
