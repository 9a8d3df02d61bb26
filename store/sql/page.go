package sql

import (
	"context"
	stdsql "database/sql"

	"github.com/gatepost/gatepost/store"
)

// pageChunk is how many rows are read at a time: a page ends at its bytes, and what was read beyond is thrown away.
const pageChunk = 64

// Page returns one page of an inbox, ordered by id; more says that rows were left out. See store.PageQuery.
func (db *DB) Page(ctx context.Context, q store.PageQuery) (page []store.Message, upto store.MsgID, more bool, err error) {
	page, upto, more, err = db.page(ctx, q)
	return page, upto, more, db.d.classify("read an inbox", err)
}

func (db *DB) page(ctx context.Context, q store.PageQuery) (page []store.Message, upto store.MsgID, more bool, err error) {
	if q.Limit <= 0 {
		return nil, q.Upto, false, nil
	}
	upto = q.Upto
	if upto == 0 {
		stmt, err := db.prepared(ctx, db.read, stmtMaxID, 0)
		if err != nil {
			return nil, 0, false, err
		}
		var last stdsql.Null[number]
		if err := stmt.QueryRowContext(ctx, q.Owner.Domain, q.Owner.UID).Scan(&last); err != nil {
			return nil, 0, false, err
		}
		if !last.Valid {
			return nil, 0, false, nil
		}
		upto = store.MsgID(last.V)
	}
	stmt, err := db.prepared(ctx, db.read, stmtPage, 0)
	if err != nil {
		return nil, 0, false, err
	}
	bytes := 0
	for after := q.After; !more; {
		chunk := min(q.Limit+1-len(page), pageChunk)
		n, last, full, err := db.pageChunk(ctx, stmt, q, after, upto, chunk, &page, &bytes)
		if err != nil {
			return nil, 0, false, err
		}
		more, after = full, last
		if n < chunk {
			break
		}
	}
	if len(page) == 0 && q.Upto == 0 {
		upto = 0
	}
	return page, upto, more, nil
}

// pageChunk appends rows to page. full: a row did not fit.
func (db *DB) pageChunk(ctx context.Context, stmt *stdsql.Stmt, q store.PageQuery, after, upto store.MsgID, limit int, page *[]store.Message, bytes *int) (n int, last store.MsgID, full bool, err error) {
	rows, err := stmt.QueryContext(ctx, q.Owner.Domain, q.Owner.UID, db.d.id(after), db.d.id(upto), int64(q.Class.Bit()), millis(q.Now), limit)
	if err != nil {
		return 0, 0, false, err
	}
	defer rows.Close()
	for rows.Next() {
		m, err := scanMessage(rows)
		if err != nil {
			return 0, 0, false, err
		}
		n++
		if len(*page) > 0 && (len(*page) == q.Limit || q.MaxBytes > 0 && *bytes+len(m.Content) > q.MaxBytes) {
			return n, last, true, nil
		}
		*bytes += len(m.Content)
		last = m.ID
		*page = append(*page, m)
	}
	return n, last, false, rows.Err()
}

func scanMessage(rows *stdsql.Rows) (store.Message, error) {
	var (
		m                             store.Message
		id, stream, seq               number
		digest, clientMsgID, target   stdsql.RawBytes
		created, expires, class, kind int64
		flags                         int64
	)
	err := rows.Scan(&id, &m.Owner.Domain, &m.Owner.UID, &digest, &m.From.Domain, &m.From.UID, &class, &stream, &seq, &clientMsgID,
		&kind, &m.Type, &m.Content, &flags, &target, &created, &expires)
	m.ID, m.Stream, m.TargetSeq = store.MsgID(id), uint64(stream), uint64(seq)
	copy(m.Digest[:], digest)
	copy(m.ClientMsgID[:], clientMsgID)
	m.Target = targetOf(target)
	m.FromClass, m.Kind, m.Flags = store.DeviceClass(class), store.Kind(kind), uint32(flags)
	m.CreatedAt, m.ExpiresAt = fromMillis(created), fromMillis(expires)
	return m, err
}

// Count counts owner's rows, at most limit. What has expired and is not swept yet counts.
func (db *DB) Count(ctx context.Context, owner store.UserKey, limit int) (int, error) {
	stmt, err := db.prepared(ctx, db.read, stmtCount, 0)
	if err != nil {
		return 0, db.d.classify("count an inbox", err)
	}
	var n int
	err = stmt.QueryRowContext(ctx, owner.Domain, owner.UID, limit).Scan(&n)
	return n, db.d.classify("count an inbox", err)
}
