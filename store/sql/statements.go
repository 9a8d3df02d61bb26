package sql

import (
	"fmt"
	"strings"

	"github.com/gatepost/gatepost/migrations"
)

// The columns of an inbox row, in the order of insertArgs and scanMessage.
const messageColumns = "msg_id, domain, uid, digest, from_domain, from_uid, from_class, stream, target_seq, client_msg_id, kind, type, content, flags, target, created_at, expires_at"

const insertColumns = 17

// The columns of a confirmed row that decide on its receipt and make it, in the order of scanConfirmed.
const receiptColumns = "i.msg_id, i.domain, i.uid, i.from_domain, i.from_uid, i.client_msg_id, i.kind, i.flags, i.confirmed"

// text writes a kept statement for n rows. Each names the index that it uses.
func (d *dialect) text(s statement, n int) string {
	switch s {
	case stmtInsert:
		// Appends to PRIMARY; inbox_digest and PRIMARY find conflicts.
		return "INSERT INTO inbox (" + messageColumns + ") VALUES " +
			repeat("(?"+strings.Repeat(", ?", insertColumns-1)+")", ", ", n) + d.onConflict
	case stmtDigests:
		// Index inbox_digest.
		return "SELECT digest, msg_id, expires_at, confirmed FROM inbox WHERE digest IN (" + repeat("?", ", ", n) + ")"
	case stmtConfirmLast:
		// Index PRIMARY of inbox, PRIMARY of device_mask.
		return fmt.Sprintf(d.confirmLast, repeat("?", ", ", n), repeat("?", ", ", n))
	case stmtConfirmDelete:
		// Index PRIMARY of inbox, PRIMARY of device_mask.
		return fmt.Sprintf(d.confirmDelete, d.confirmRows(n))
	case stmtConfirmUpdate:
		// Index PRIMARY of inbox.
		return fmt.Sprintf(d.confirmUpdate, d.confirmRows(n))
	case stmtConfirmLock:
		// Index PRIMARY of inbox, in the order of the rows: the order of stmtConfirmDelete.
		return fmt.Sprintf(d.confirmLock, d.confirmRows(n))
	case stmtKnown:
		// Index PRIMARY of device_mask.
		return fmt.Sprintf(d.known, d.confirmRows(n))
	case stmtPage:
		// Index inbox_owner (domain, uid, msg_id): a range, in order.
		return "SELECT " + messageColumns + " FROM inbox WHERE domain = ? AND uid = ? AND msg_id > ? AND msg_id <= ?" +
			" AND (confirmed & ?) = 0 AND expires_at > ? ORDER BY msg_id LIMIT ?"
	case stmtMaxID:
		// Index inbox_owner: its last entry of the user.
		return "SELECT MAX(msg_id) FROM inbox WHERE domain = ? AND uid = ?"
	case stmtCount:
		// Index inbox_owner alone.
		return "SELECT COUNT(*) FROM (SELECT 1 FROM inbox WHERE domain = ? AND uid = ? LIMIT ?) AS few"
	case stmtCounter:
		// Index PRIMARY.
		return "SELECT login_counter FROM device_login WHERE domain = ? AND uid = ? AND class = ? AND installation = ?"
	case stmtSeenAgain:
		return d.seenAgain
	}
	panic("unknown statement")
}

var mysqlDialect = dialect{
	endsAlone:        true,
	migrations:       migrations.MySQL,
	nowMS:            "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(3)) DIV 1000",
	onConflict:       " ON DUPLICATE KEY UPDATE confirmed = confirmed",
	onDeviceConflict: " ON DUPLICATE KEY UPDATE class = class",
	onMaskConflict:   " ON DUPLICATE KEY UPDATE mask = mask | ?",
	unsigned:         "UNSIGNED",
	onLeaseConflict:  " ON DUPLICATE KEY UPDATE name = name",
	skipLocked:       " FOR UPDATE SKIP LOCKED",
	lockRow:          " FOR UPDATE",
	shareRow:         " LOCK IN SHARE MODE",
	confirmRows: func(n int) string {
		return "(SELECT CAST(? AS UNSIGNED) AS msg_id, CAST(? AS BINARY) AS domain, CAST(? AS BINARY) AS uid, CAST(? AS UNSIGNED) AS bit" +
			strings.Repeat(" UNION ALL SELECT ?, ?, ?, ?", n-1) + ")"
	},
	// A key tells a row's id, which classes of its owner's mask have not confirmed it, and the owner: see mark.appendKey. It costs a fifth less
	// than confirmDelete, for there are half as many parameters, no table of them, and rows are removed as they are found.
	// A row of somebody else's whose id was guessed stays locked until the statement ends, because the mask is joined before the owner is compared.
	confirmLast: "DELETE i FROM inbox AS i FORCE INDEX (PRIMARY) LEFT JOIN device_mask AS m ON m.domain = i.domain AND m.uid = i.uid" +
		" WHERE i.msg_id IN (%s) AND CONCAT(i.msg_id, ' ', COALESCE(m.mask, 0) & ~i.confirmed, ' ', i.domain, x'00', i.uid) IN (%s)",
	// A row leaves when the classes of its owner's mask have all confirmed it; without a mask any confirmation does.
	// The join with the owner is what keeps a confirmation from touching another user's message (G4).
	confirmDelete: "DELETE i FROM %s AS c STRAIGHT_JOIN inbox AS i FORCE INDEX (PRIMARY) ON i.msg_id = c.msg_id AND i.domain = c.domain AND i.uid = c.uid" +
		" LEFT JOIN device_mask AS m ON m.domain = i.domain AND m.uid = i.uid" +
		" WHERE ((i.confirmed | c.bit) & COALESCE(m.mask, 0)) = COALESCE(m.mask, 0)",
	confirmUpdate: "UPDATE %s AS c STRAIGHT_JOIN inbox AS i FORCE INDEX (PRIMARY) ON i.msg_id = c.msg_id AND i.domain = c.domain AND i.uid = c.uid" +
		" SET i.confirmed = i.confirmed | c.bit",
	confirmLock: "SELECT " + receiptColumns + " FROM %s AS c STRAIGHT_JOIN inbox AS i FORCE INDEX (PRIMARY)" +
		" ON i.msg_id = c.msg_id AND i.domain = c.domain AND i.uid = c.uid FOR UPDATE",
	known: "SELECT c.msg_id FROM %s AS c STRAIGHT_JOIN device_mask AS m FORCE INDEX (PRIMARY) ON m.domain = c.domain AND m.uid = c.uid",
	// Index PRIMARY of both, in the order in which lockDevice locks them.
	seenAgain: "UPDATE device AS d STRAIGHT_JOIN device_login AS l ON l.domain = d.domain AND l.uid = d.uid AND l.class = d.class" +
		" SET d.session = ?, d.seen_at = GREATEST(d.seen_at, ?), l.login_counter = ?, l.session = ?" +
		" WHERE d.domain = ? AND d.uid = ? AND d.class = ? AND d.session <= ? AND d.retired_at = 0 AND l.installation = ? AND l.login_counter < ?",
	deleteComplete: "DELETE i FROM inbox AS i FORCE INDEX (inbox_owner)" +
		" WHERE i.domain = ? AND i.uid = ? AND i.msg_id > ? AND i.msg_id <= ? AND i.confirmed <> 0 AND (i.confirmed & ?) = ?",
	retryable:  mysqlRetryable,
	blamesData: mysqlBlamesData,
}

var sqliteDialect = dialect{
	migrations:       migrations.SQLite,
	nowMS:            "CAST(unixepoch('subsec') * 1000 AS INTEGER)",
	onConflict:       " ON CONFLICT DO NOTHING",
	onDeviceConflict: " ON CONFLICT DO NOTHING",
	onLeaseConflict:  " ON CONFLICT DO NOTHING",
	onMaskConflict:   " ON CONFLICT DO UPDATE SET mask = mask | ?",
	unsigned:         "INTEGER",
	confirmRows: func(n int) string {
		return "WITH c (msg_id, domain, uid, bit) AS (VALUES " + repeat("(?, ?, ?, ?)", ", ", n) + ")"
	},
	confirmDelete: "%s DELETE FROM inbox WHERE msg_id IN (SELECT i.msg_id FROM c" +
		" CROSS JOIN inbox AS i ON i.msg_id = c.msg_id AND i.domain = c.domain AND i.uid = c.uid" +
		" LEFT JOIN device_mask AS m ON m.domain = i.domain AND m.uid = i.uid" +
		" WHERE ((i.confirmed | c.bit) & COALESCE(m.mask, 0)) = COALESCE(m.mask, 0))",
	confirmUpdate: "%s UPDATE inbox SET confirmed = confirmed | c.bit FROM c" +
		" WHERE inbox.msg_id = c.msg_id AND inbox.domain = c.domain AND inbox.uid = c.uid",
	confirmLock: "%s SELECT " + receiptColumns + " FROM c CROSS JOIN inbox AS i ON i.msg_id = c.msg_id AND i.domain = c.domain AND i.uid = c.uid",
	known:       "%s SELECT c.msg_id FROM c CROSS JOIN device_mask AS m ON m.domain = c.domain AND m.uid = c.uid",
	deleteComplete: "DELETE FROM inbox INDEXED BY inbox_owner" +
		" WHERE domain = ? AND uid = ? AND msg_id > ? AND msg_id <= ? AND confirmed <> 0 AND (confirmed & ?) = ?",
	signed:     true,
	retryable:  sqliteRetryable,
	blamesData: sqliteBlamesData,
}

func repeat(s, sep string, n int) string {
	return s + strings.Repeat(sep+s, n-1)
}
