package sql

import (
	"context"
	stdsql "database/sql"
	"fmt"
	"math"

	"github.com/gatepost/gatepost/store"
)

// wish is a receipt asked for by one confirmation; its row is still to be read.
type wish struct {
	id store.MsgID // of the receipt
	by *store.Confirmation
}

// wishKey is a row as its confirmation names it: a forged owner finds no row.
type wishKey struct {
	of    store.MsgID
	owner store.UserKey
}

// wishesOf gathers the receipts that batch asks for. Of several for one row the first counts. nil: none.
func wishesOf(batch []store.Confirmation) (map[wishKey]wish, error) {
	var wishes map[wishKey]wish
	for i := range batch {
		c := &batch[i]
		for _, r := range c.Receipts {
			if r.ID == 0 || r.ID > math.MaxInt64 {
				return nil, fmt.Errorf("confirm messages: %w: message id %d of a receipt", errData, r.ID)
			}
			if wishes == nil {
				wishes = make(map[wishKey]wish)
			}
			key := wishKey{r.Of, c.Owner}
			if _, ok := wishes[key]; !ok {
				wishes[key] = wish{r.ID, c}
			}
		}
	}
	return wishes, nil
}

// storeReceipts stores, of each wish whose row wants a receipt and was confirmed by no class yet, the receipt, and returns those stored.
// A receipt whose digest is there, and has not expired, was stored for an earlier copy of the same message, and is passed over.
//
// It locks all rows that the transaction confirms, by id ascending as the delete that follows would: whoever waits for one of them
// holds none that is to come. Of two classes that confirm a row at once the second so reads it with the first one's mark, or not at all.
func (db *DB) storeReceipts(ctx context.Context, tx *stdsql.Tx, chunks []confirmChunk, wishes map[wishKey]wish, args *[]any) ([]store.Message, error) {
	var receipts []store.Message
	for i := range chunks {
		*args = confirmArgs(db.d, (*args)[:0], chunks[i].marks, chunks[i].rows)
		var err error
		if receipts, err = db.lockConfirmed(ctx, tx, chunks[i].lock, *args, wishes, receipts); err != nil {
			return nil, err
		}
	}
	if len(receipts) == 0 {
		return nil, nil
	}
	results := make([]store.AppendResult, len(receipts))
	rows, _, err := db.distinct(receipts, results)
	if err != nil {
		return nil, err
	}
	stored := make([]store.Message, 0, len(rows))
	for _, c := range cut(receipts, rows) {
		*args = (*args)[:0]
		for _, r := range c {
			*args = db.insertArgs(*args, &receipts[r])
		}
		res, err := tx.ExecContext(ctx, db.d.text(stmtInsert, len(c)), *args...)
		if err != nil {
			return nil, err
		}
		if err := db.settle(ctx, tx, receipts, c, res, results); err != nil {
			return nil, err
		}
		for _, r := range c {
			switch results[r].Outcome {
			case store.Stored:
				stored = append(stored, receipts[r])
			case store.IDCollision:
				return nil, fmt.Errorf("receipt %d: %w", receipts[r].ID, store.ErrIDCollision)
			}
		}
	}
	return stored, nil
}

// lockConfirmed locks the rows of one chunk and appends the receipts that they want.
func (db *DB) lockConfirmed(ctx context.Context, tx *stdsql.Tx, lock *stdsql.Stmt, args []any, wishes map[wishKey]wish, receipts []store.Message) ([]store.Message, error) {
	rows, err := tx.StmtContext(ctx, lock).QueryContext(ctx, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var (
			m                      store.Message
			id                     number
			clientMsgID            stdsql.RawBytes
			kind, flags, confirmed int64
		)
		if err := rows.Scan(&id, &m.Owner.Domain, &m.Owner.UID, &m.From.Domain, &m.From.UID, &clientMsgID, &kind, &flags, &confirmed); err != nil {
			return nil, err
		}
		m.ID, m.Kind = store.MsgID(id), store.Kind(kind)
		copy(m.ClientMsgID[:], clientMsgID)
		w, ok := wishes[wishKey{m.ID, m.Owner}]
		if !ok || confirmed != 0 || uint32(flags)&store.FlagReceipt == 0 || !receiptable(m.Kind) {
			continue
		}
		receipts = append(receipts, store.ReceiptOf(&m, w.by.Class, w.id, w.by.At, w.by.ReceiptExpires))
	}
	return receipts, rows.Err()
}

// receiptable: a user sent it, who has an inbox for the receipt. Nobody gets a receipt of a receipt or of a copy.
func receiptable(k store.Kind) bool { return k == store.KindC2C || k == store.KindC2G }
