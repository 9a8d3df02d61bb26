package sqlitestore

import (
	"encoding/binary"
	"errors"
	"time"

	gatepost "github.com/gatepost/gatepost/sdk/go"
	"github.com/ncruces/go-sqlite3"
)

// Load reads the whole file.
func (s *Store) Load() (*gatepost.Snapshot, error) {
	kept := &gatepost.Snapshot{}
	err := errors.Join(
		s.query(`SELECT domain, uid, device, installation, login_counter, stream, uplink_stream, uplink_seq FROM identity`, func(r *sqlite3.Stmt) {
			c := columns{Stmt: r}
			kept.Identity.User, kept.Identity.Device = c.user(), gatepost.Device(c.int())
			copy(kept.Identity.Installation[:], c.blob())
			kept.Identity.LoginCounter, kept.Identity.Stream = uint64(c.int()), uint64(c.int())
			kept.Identity.UplinkStream, kept.Identity.UplinkSeq = uint64(c.int()), uint64(c.int())
		}),
		s.query("SELECT domain, uid, stream, last_seq, last_used FROM target", func(r *sqlite3.Stmt) {
			c := columns{Stmt: r}
			kept.Targets = append(kept.Targets, gatepost.Target{
				To: c.user(), Stream: uint64(c.int()), LastSeq: uint64(c.int()), LastUsed: c.time(),
			})
		}),
		s.query(`SELECT number, client_msg_id, domain, uid, stream, target_seq, type, content, created_at, ttl,
			settled, msg_id, duplicate, code, reason, restored, kind, replace_key, traceparent, sent, receipt,
			copy_stream, copy_seq, replaced FROM outbox ORDER BY number`, func(r *sqlite3.Stmt) {
			kept.Outbox = append(kept.Outbox, outboxEntry(columns{Stmt: r}))
		}),
		s.query("SELECT domain, uid, stream, target, high, gaps, last_used FROM mark", func(r *sqlite3.Stmt) {
			c := columns{Stmt: r}
			kept.Marks = append(kept.Marks, gatepost.Mark{
				Key:  gatepost.MarkKey{From: c.user(), Stream: uint64(c.int()), Target: c.text()},
				High: uint64(c.int()), Gaps: decodeGaps(c.blob()), LastUsed: c.time(),
			})
		}),
		s.query(`SELECT number, shown, msg_id, domain, uid, device, client_msg_id, type, content, created_at, expires_at,
			stream, target_seq, late, kind, receipt, to_domain, to_uid FROM received ORDER BY number`, func(r *sqlite3.Stmt) {
			kept.Received = append(kept.Received, receivedMessage(columns{Stmt: r}))
		}),
		s.query("SELECT number, domain, uid, client_msg_id, kind FROM seen ORDER BY number", func(r *sqlite3.Stmt) {
			c := columns{Stmt: r}
			id := gatepost.SeenID{Number: uint64(c.int()), From: c.user()}
			copy(id.ID[:], c.blob())
			id.Kind = gatepost.MessageKind(c.int())
			kept.Seen = append(kept.Seen, id)
		}),
	)
	if err != nil {
		return nil, err
	}
	return kept, nil
}

func outboxEntry(c columns) gatepost.OutboxEntry {
	e := gatepost.OutboxEntry{Number: uint64(c.int())}
	copy(e.ClientMsgID[:], c.blob())
	e.To, e.Stream, e.TargetSeq = c.user(), uint64(c.int()), uint64(c.int())
	e.Type, e.Content = c.text(), c.blob()
	e.CreatedAt, e.TTL = c.time(), time.Duration(c.int())
	settled := c.int() != 0
	out := gatepost.Outcome{
		MsgID: uint64(c.int()), Duplicate: c.int() != 0, Code: uint16(c.int()), Reason: c.text(), Restored: c.int() != 0,
	}
	e.Kind, e.ReplaceKey, e.Traceparent = gatepost.SendKind(c.int()), c.text(), c.text()
	e.Sent, e.Receipt = c.int() != 0, c.int() != 0
	e.CopyStream, e.CopySeq = uint64(c.int()), uint64(c.int())
	out.Replaced = c.int() != 0
	if settled {
		e.Outcome = &out
	}
	return e
}

func receivedMessage(c columns) gatepost.Received {
	r := gatepost.Received{Number: uint64(c.int()), Shown: c.int() != 0}
	m := &r.Message
	m.MsgID, m.From, m.FromDevice = uint64(c.int()), c.user(), gatepost.Device(c.int())
	copy(m.ClientMsgID[:], c.blob())
	m.Type, m.Content = c.text(), c.blob()
	m.CreatedAt, m.ExpiresAt = c.time(), c.time()
	m.Stream, m.TargetSeq, m.Late = uint64(c.int()), uint64(c.int()), c.int() != 0
	m.Kind, m.Receipt, m.To = gatepost.MessageKind(c.int()), c.int() != 0, c.user()
	return r
}

// columns reads a row from left to right.
type columns struct {
	*sqlite3.Stmt
	next int
}

func (c *columns) column() int         { c.next++; return c.next - 1 }
func (c *columns) int() int64          { return c.ColumnInt64(c.column()) }
func (c *columns) text() string        { return c.ColumnText(c.column()) }
func (c *columns) time() time.Time     { return timeOf(c.int()) }
func (c *columns) user() gatepost.User { return gatepost.User{Domain: c.text(), UID: c.text()} }
func (c *columns) blob() []byte {
	b := c.ColumnBlob(c.column(), nil)
	if len(b) == 0 {
		return nil
	}
	return b
}

func timeOf(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns)
}

func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func encodeGaps(gaps []gatepost.Span) []byte {
	var b []byte
	last := uint64(0)
	for _, g := range gaps {
		b = binary.AppendUvarint(b, g.First-last)
		b = binary.AppendUvarint(b, g.Last-g.First)
		last = g.Last
	}
	return b
}

func decodeGaps(b []byte) (gaps []gatepost.Span) {
	last := uint64(0)
	for len(b) > 0 {
		skip, n := binary.Uvarint(b)
		if n <= 0 {
			return gaps
		}
		length, k := binary.Uvarint(b[n:])
		if k <= 0 {
			return gaps
		}
		b = b[n+k:]
		last += skip + length
		gaps = append(gaps, gatepost.Span{First: last - length, Last: last})
	}
	return gaps
}
