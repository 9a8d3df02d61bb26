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

// Confirm marks each id that belongs to the confirmation's owner as confirmed by its class, and removes the rows that every registered
// class of the owner has confirmed. Ids of others, and ids that are gone, are passed over (G4). When it fails some may be marked and
// removed already, and may be confirmed again.
//
// First the rows go that are complete with this confirmation, which with one device class are all. Only when some remain they are marked, and looked at again:
// two classes that confirm at once each saw the row without the other's mark, and the update that came second reads both.
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
	chunks := make([]confirmChunk, 0, 1)
	for rest := marks; len(rest) > 0; {
		shape := shapeAbove(len(rest))
		n := min(len(rest), shapes[shape])
		c := confirmChunk{marks: rest[:n], rows: shapes[shape]}
		if c.remove, err = db.prepared(ctx, db.write, stmtConfirmDelete, shape); err == nil {
			c.update, err = db.prepared(ctx, db.write, stmtConfirmUpdate, shape)
		}
		if err == nil && len(wishes) > 0 {
			c.lock, err = db.prepared(ctx, db.write, stmtConfirmLock, shape)
		}
		if err != nil {
			return nil, db.d.classify("prepare a confirmation", err)
		}
		chunks = append(chunks, c)
		rest = rest[n:]
	}
	args := getArgs()
	defer putArgs(args)
	if c := &chunks[0]; db.d.endsAlone && len(wishes) == 0 && len(chunks) == 1 { // with one device class all rows go at once
		*args = c.args(db.d, *args)
		removed, err := db.alone(ctx, "confirm messages", c.remove, *args)
		if err != nil || removed == int64(len(marks)) {
			return nil, err
		}
		c.removed = true
	}
	var receipts []store.Message
	err = db.inTx(ctx, "confirm messages", func(tx *stdsql.Tx) error {
		receipts = nil
		if len(wishes) > 0 {
			if receipts, err = db.storeReceipts(ctx, tx, chunks, wishes, args); err != nil {
				return err
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

type confirmChunk struct {
	marks          []mark
	rows           int // of the statement's shape
	remove, update *stdsql.Stmt
	lock           *stdsql.Stmt // nil: no receipts are asked for
	removed        bool         // what was complete with this confirmation; some rows remain
}

// args appends the parameters of the chunk's statements.
func (c *confirmChunk) args(d *dialect, args []any) []any {
	for i := range c.rows {
		m := mark{} // id 0 is no row's: it fills the shape
		if i < len(c.marks) {
			m = c.marks[i]
		}
		args = append(args, d.id(m.id), m.owner.Domain, m.owner.UID, int64(m.bits))
	}
	return args
}

func (db *DB) confirmChunk(ctx context.Context, tx *stdsql.Tx, c *confirmChunk, args *[]any) error {
	*args = c.args(db.d, (*args)[:0])
	if !c.removed {
		removed, err := execCount(ctx, tx.StmtContext(ctx, c.remove), *args)
		if err != nil || removed == int64(len(c.marks)) {
			return err
		}
	}
	updated, err := execCount(ctx, tx.StmtContext(ctx, c.update), *args)
	if err != nil || updated == 0 {
		return err
	}
	_, err = execCount(ctx, tx.StmtContext(ctx, c.remove), *args)
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
