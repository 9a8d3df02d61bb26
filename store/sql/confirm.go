package sql

import (
	"cmp"
	"context"
	stdsql "database/sql"
	"slices"
	"strings"

	"github.com/gatepost/gatepost/store"
)

// mark is one id confirmed by some classes of its owner.
type mark struct {
	id    store.MsgID
	owner store.UserKey
	bits  uint32
}

// Confirm marks, in one transaction, each id that belongs to the confirmation's owner as confirmed by its class, and removes the rows
// that every registered class of the owner has confirmed. Ids of others, and ids that are gone, are passed over (G4).
//
// First the rows go that are complete with this confirmation, which with one device class are all. Only when some remain they are marked, and looked at again:
// two classes that confirm at once each saw the row without the other's mark, and the update that came second reads both.
func (db *DB) Confirm(ctx context.Context, batch []store.Confirmation) ([]store.Message, error) {
	marks := merge(batch)
	if len(marks) == 0 {
		return nil, nil
	}
	chunks := make([]confirmChunk, 0, 1)
	for rest := marks; len(rest) > 0; {
		shape := shapeAbove(len(rest))
		n := min(len(rest), shapes[shape])
		c := confirmChunk{marks: rest[:n], rows: shapes[shape]}
		var err error
		if c.remove, err = db.prepared(ctx, db.write, stmtConfirmDelete, shape); err == nil {
			c.update, err = db.prepared(ctx, db.write, stmtConfirmUpdate, shape)
		}
		if err != nil {
			return nil, db.d.classify("prepare a confirmation", err)
		}
		chunks = append(chunks, c)
		rest = rest[n:]
	}
	args := getArgs()
	defer putArgs(args)
	return nil, db.inTx(ctx, "confirm messages", func(tx *stdsql.Tx) error {
		for i := range chunks {
			if err := db.confirmChunk(ctx, tx, &chunks[i], args); err != nil {
				return err
			}
		}
		return nil
	})
}

type confirmChunk struct {
	marks          []mark
	rows           int // of the statement's shape
	remove, update *stdsql.Stmt
}

func (db *DB) confirmChunk(ctx context.Context, tx *stdsql.Tx, c *confirmChunk, args *[]any) error {
	*args = (*args)[:0]
	for i := range c.rows {
		m := mark{} // id 0 is no row's: it fills the shape
		if i < len(c.marks) {
			m = c.marks[i]
		}
		*args = append(*args, db.d.id(m.id), m.owner.Domain, m.owner.UID, int64(m.bits))
	}
	removed, err := execCount(ctx, tx, c.remove, *args)
	if err != nil || removed == int64(len(c.marks)) {
		return err
	}
	updated, err := execCount(ctx, tx, c.update, *args)
	if err != nil || updated == 0 {
		return err
	}
	_, err = execCount(ctx, tx, c.remove, *args)
	return err
}

func execCount(ctx context.Context, tx *stdsql.Tx, stmt *stdsql.Stmt, args []any) (int64, error) {
	res, err := tx.StmtContext(ctx, stmt).ExecContext(ctx, args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// merge makes one mark for each id and owner, sorted by id: a joined row is changed once, whatever it is joined with.
func merge(batch []store.Confirmation) []mark {
	n := 0
	for i := range batch {
		n += len(batch[i].IDs)
	}
	marks := make([]mark, 0, n)
	for i := range batch {
		for _, id := range batch[i].IDs {
			if id != 0 {
				marks = append(marks, mark{id, batch[i].Owner, batch[i].Class.Bit()})
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
