package sql

import (
	"context"
	stdsql "database/sql"
	"errors"
	"time"

	"github.com/gatepost/gatepost/store"
)

// retireChunk is how many rows of an inbox one transaction of Retire looks at.
const retireChunk = 500

// loginsKept is of how many installations of a device class the login counter is remembered.
const loginsKept = 8

// deviceRow is the part of a device that decides.
type deviceRow struct {
	session   uint64
	seenAt    int64
	retiredAt int64
	counter   stdsql.Null[number] // of the installation that asks, when it is remembered
}

// lockDevice reads d's row and locks it, and what is remembered of d's installation; nil when there is none. Index PRIMARY of both.
func (db *DB) lockDevice(ctx context.Context, tx *stdsql.Tx, d store.Device) (*deviceRow, error) {
	var row deviceRow
	var session number
	err := tx.QueryRowContext(ctx, "SELECT d.session, d.seen_at, d.retired_at, l.login_counter FROM device AS d"+
		" LEFT JOIN device_login AS l ON l.domain = d.domain AND l.uid = d.uid AND l.class = d.class AND l.installation = ?"+
		" WHERE d.domain = ? AND d.uid = ? AND d.class = ?"+db.d.lockRow,
		d.Installation[:], d.Owner.Domain, d.Owner.UID, int64(d.Class)).Scan(&session, &row.seenAt, &row.retiredAt, &row.counter)
	if errors.Is(err, stdsql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	row.session = uint64(session)
	return &row, nil
}

// Register owes d's class the user's messages from now on, and remembers d's login counter. retired: it had been registered before and was retired since.
// When a higher session number has registered or retired the class, it stays as that one left it: what is late brings nothing back (G5).
func (db *DB) Register(ctx context.Context, d store.Device) (retired bool, err error) {
	if db.d.seenAgain != "" {
		if done, err := db.seenAgain(ctx, d); done || err != nil {
			return false, db.d.classify("register a device class", err)
		}
	}
	err = db.inTx(ctx, "register a device class", func(tx *stdsql.Tx) error {
		retired = false
		// A no-op when it is there: two first registrations at once meet here. Index PRIMARY.
		res, err := tx.ExecContext(ctx, "INSERT INTO device (domain, uid, class, session, seen_at, retired_at) VALUES (?, ?, ?, ?, ?, 0)"+
			db.d.onDeviceConflict, d.Owner.Domain, d.Owner.UID, int64(d.Class), db.d.u64(d.Session), millis(d.SeenAt))
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil {
			return err
		} else if n > 0 {
			if err := db.rememberLogin(ctx, tx, d, stdsql.Null[number]{}); err != nil {
				return err
			}
			return db.oweClass(ctx, tx, d)
		}
		old, err := db.lockDevice(ctx, tx, d)
		if err != nil {
			return err
		}
		if old == nil {
			return errVanished
		}
		retired = old.retiredAt != 0
		if err := db.rememberLogin(ctx, tx, d, old.counter); err != nil || d.Session < old.session {
			return err
		}
		// Index PRIMARY.
		if _, err := tx.ExecContext(ctx, "UPDATE device SET session = ?, seen_at = ?, retired_at = 0 WHERE domain = ? AND uid = ? AND class = ?",
			db.d.u64(d.Session), max(old.seenAt, millis(d.SeenAt)), d.Owner.Domain, d.Owner.UID, int64(d.Class)); err != nil || !retired {
			return err // a class that is not retired has its bit
		}
		return db.oweClass(ctx, tx, d)
	})
	return retired && err == nil, err
}

// seenAgain is Register for the usual login, in one statement: an installation that was here before, with a newer login than any.
// Not done: it is another case, or lost a deadlock; nothing has changed.
func (db *DB) seenAgain(ctx context.Context, d store.Device) (done bool, err error) {
	stmt, err := db.prepared(ctx, db.write, stmtSeenAgain, 0)
	if err != nil {
		return false, err
	}
	session, counter := db.d.u64(d.Session), db.d.u64(d.LoginCounter)
	n, err := execCount(ctx, stmt, []any{session, millis(d.SeenAt), counter, session,
		d.Owner.Domain, d.Owner.UID, int64(d.Class), session, d.Installation[:], counter})
	if err != nil && db.d.retryable(err) {
		return false, nil
	}
	return n > 0, err
}

// oweClass sets the class's bit.
func (db *DB) oweClass(ctx context.Context, tx *stdsql.Tx, d store.Device) error {
	// Index PRIMARY of device_mask.
	_, err := tx.ExecContext(ctx, "INSERT INTO device_mask (domain, uid, mask) VALUES (?, ?, ?)"+db.d.onMaskConflict,
		d.Owner.Domain, d.Owner.UID, int64(d.Class.Bit()), int64(d.Class.Bit()))
	return err
}

// rememberLogin keeps d's login counter if it is higher than known, and forgets the oldest installations of the class.
// The transaction holds the lock of d's device.
func (db *DB) rememberLogin(ctx context.Context, tx *stdsql.Tx, d store.Device, known stdsql.Null[number]) error {
	if known.Valid {
		if d.LoginCounter <= uint64(known.V) {
			return nil
		}
		// Index PRIMARY.
		_, err := tx.ExecContext(ctx, "UPDATE device_login SET login_counter = ?, session = ? WHERE domain = ? AND uid = ? AND class = ? AND installation = ?",
			db.d.u64(d.LoginCounter), db.d.u64(d.Session), d.Owner.Domain, d.Owner.UID, int64(d.Class), d.Installation[:])
		return err
	}
	if _, err := tx.ExecContext(ctx, "INSERT INTO device_login (domain, uid, class, installation, login_counter, session) VALUES (?, ?, ?, ?, ?, ?)",
		d.Owner.Domain, d.Owner.UID, int64(d.Class), d.Installation[:], db.d.u64(d.LoginCounter), db.d.u64(d.Session)); err != nil {
		return err
	}
	// Index PRIMARY: the few rows of the class, twice.
	_, err := tx.ExecContext(ctx, "DELETE FROM device_login WHERE domain = ? AND uid = ? AND class = ? AND installation NOT IN (SELECT installation FROM"+
		" (SELECT installation FROM device_login WHERE domain = ? AND uid = ? AND class = ? ORDER BY session DESC, installation LIMIT ?) AS kept)",
		d.Owner.Domain, d.Owner.UID, int64(d.Class), d.Owner.Domain, d.Owner.UID, int64(d.Class), loginsKept)
	return err
}

// WasHere reports whether d's installation has called Register for d's class with d's login counter or a higher one.
// Of each class the last loginsKept installations are remembered, also when it is retired.
func (db *DB) WasHere(ctx context.Context, d store.Device) (bool, error) {
	stmt, err := db.prepared(ctx, db.read, stmtCounter, 0)
	if err != nil {
		return false, db.d.classify("read a login counter", err)
	}
	var counter number
	err = stmt.QueryRowContext(ctx, d.Owner.Domain, d.Owner.UID, int64(d.Class), d.Installation[:]).Scan(&counter)
	if errors.Is(err, stdsql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, db.d.classify("read a login counter", err)
	}
	return uint64(counter) >= d.LoginCounter, nil
}

// errVanished: a row that conflicted is not there; nobody deletes devices.
var errVanished = errors.New("a device vanished")

// Retire stops owing d's class the user's messages, and removes the rows that only it had not confirmed, in bounded chunks.
// It does nothing when a higher session number has registered the class: what is late ends nothing newer (G5).
// What no class has confirmed stays, also when the last class retires: it waits for whoever registers next. Retiring again finishes what an error interrupted.
func (db *DB) Retire(ctx context.Context, d store.Device) error {
	done, err := db.retire(ctx, d, func(row *deviceRow) bool { return row.session <= d.Session })
	if err != nil || !done {
		return err
	}
	return db.removeComplete(ctx, d.Owner)
}

// retire clears the class's bit if may says so; done: the class is retired, now or before.
func (db *DB) retire(ctx context.Context, d store.Device, may func(*deviceRow) bool) (done bool, err error) {
	err = db.inTx(ctx, "retire a device class", func(tx *stdsql.Tx) error {
		done = false
		old, err := db.lockDevice(ctx, tx, d)
		if err != nil || old == nil || !may(old) {
			return err
		}
		done = true
		// A newer session that retires what is retired counts too: none between them brings it back. Index PRIMARY.
		if _, err := tx.ExecContext(ctx, "UPDATE device SET session = ?, retired_at = CASE retired_at WHEN 0 THEN "+db.d.nowMS+" ELSE retired_at END"+
			" WHERE domain = ? AND uid = ? AND class = ?", db.d.u64(max(old.session, d.Session)), d.Owner.Domain, d.Owner.UID, int64(d.Class)); err != nil || old.retiredAt != 0 {
			return err
		}
		// Index PRIMARY.
		_, err = tx.ExecContext(ctx, "UPDATE device_mask SET mask = mask & ~CAST(? AS "+db.d.unsigned+") WHERE domain = ? AND uid = ?",
			int64(d.Class.Bit()), d.Owner.Domain, d.Owner.UID)
		return err
	})
	return done, err
}

// removeComplete removes the rows of owner that the classes of his mask, as it is now, have all confirmed.
// A confirmation that commits at the same time either is seen by the locking delete, or has seen the mask. A class that registers
// at the same time either is in the mask, or waits for the delete: what comes after it is registered stays until it has confirmed.
func (db *DB) removeComplete(ctx context.Context, owner store.UserKey) error {
	for after := store.MsgID(0); ; {
		last, n, err := db.chunkEnd(ctx, owner, after)
		if err != nil {
			return db.d.classify("remove confirmed messages", err)
		}
		if n == 0 {
			return nil
		}
		err = db.inTx(ctx, "remove confirmed messages", func(tx *stdsql.Tx) error {
			var mask int64
			// Index PRIMARY.
			err := tx.QueryRowContext(ctx, "SELECT mask FROM device_mask WHERE domain = ? AND uid = ?"+db.d.shareRow, owner.Domain, owner.UID).Scan(&mask)
			if err != nil && !errors.Is(err, stdsql.ErrNoRows) {
				return err
			}
			// Index inbox_owner: a range.
			_, err = tx.ExecContext(ctx, db.d.deleteComplete, owner.Domain, owner.UID, db.d.id(after), db.d.id(last), mask, mask)
			return err
		})
		if err != nil {
			return err
		}
		if n < retireChunk {
			return nil
		}
		after = last
	}
}

// chunkEnd is the id of the last of the next rows of owner, and how many they are.
func (db *DB) chunkEnd(ctx context.Context, owner store.UserKey, after store.MsgID) (last store.MsgID, n int, err error) {
	var end stdsql.Null[number]
	// Index inbox_owner alone.
	err = db.read.QueryRowContext(ctx, "SELECT MAX(msg_id), COUNT(*) FROM (SELECT msg_id FROM inbox WHERE domain = ? AND uid = ? AND msg_id > ? ORDER BY msg_id LIMIT ?) AS next",
		owner.Domain, owner.UID, db.d.id(after), retireChunk).Scan(&end, &n)
	return store.MsgID(end.V), n, err
}

// device is the table of device classes, for gorm.
type device struct {
	Domain    string
	UID       string
	Class     uint8
	Session   number
	SeenAt    int64
	RetiredAt int64
}

// TableName implements gorm's Tabler.
func (device) TableName() string { return "device" }

// List returns the registered device classes of a user, without installations and login counters.
func (db *DB) List(ctx context.Context, owner store.UserKey) ([]store.Device, error) {
	var rows []device
	// Index PRIMARY (domain, uid, class).
	err := db.on(ctx, db.read).Select("domain", "uid", "class", "session", "seen_at").
		Where("domain = ? AND uid = ? AND retired_at = 0", owner.Domain, owner.UID).Order("class").Find(&rows).Error
	if err != nil {
		return nil, db.d.classify("list device classes", err)
	}
	devices := make([]store.Device, len(rows))
	for i, r := range rows {
		devices[i] = store.Device{Owner: owner, Class: store.DeviceClass(r.Class), Session: uint64(r.Session), SeenAt: fromMillis(r.SeenAt)}
	}
	return devices, nil
}

// RetireIdle retires at most limit device classes that were last seen before cutoff.
func (db *DB) RetireIdle(ctx context.Context, cutoff time.Time, limit int) (retired int, err error) {
	var idle []device
	// Index device_idle (retired_at, seen_at): a range.
	err = db.on(ctx, db.read).Select("domain", "uid", "class").
		Where("retired_at = 0 AND seen_at < ?", millis(cutoff)).Order("seen_at").Limit(limit).Find(&idle).Error
	if err != nil {
		return 0, db.d.classify("find idle device classes", err)
	}
	for _, d := range idle {
		owner := store.UserKey{Domain: d.Domain, UID: d.UID}
		done, err := db.retire(ctx, store.Device{Owner: owner, Class: store.DeviceClass(d.Class)}, func(row *deviceRow) bool {
			return row.retiredAt == 0 && row.seenAt < millis(cutoff)
		})
		if err != nil {
			return retired, err
		}
		if !done {
			continue
		}
		retired++
		if err := db.removeComplete(ctx, owner); err != nil {
			return retired, err
		}
	}
	return retired, nil
}

// Known reports, in the order of users, whether any device class of each has ever been registered: it has a mask since, if an empty one.
func (db *DB) Known(ctx context.Context, users []store.UserKey) ([]bool, error) {
	known := make([]bool, len(users))
	args := getArgs()
	defer putArgs(args)
	for begin := 0; begin < len(users); {
		shape := paddedRows(len(users) - begin)
		*args = (*args)[:0]
		for i := begin; i < begin+shape; i++ {
			if i < len(users) {
				*args = append(*args, int64(i), users[i].Domain, users[i].UID, int64(0))
			} else {
				*args = append(*args, int64(-1), "", "", int64(0)) // fills the shape
			}
		}
		if err := db.knownChunk(ctx, shape, *args, known); err != nil {
			return nil, db.d.classify("look for users", err)
		}
		begin += shape
	}
	return known, nil
}

// knownChunk sets those of known whose positions the statement finds.
func (db *DB) knownChunk(ctx context.Context, shape int, args []any, known []bool) error {
	stmt, err := db.prepared(ctx, db.read, stmtKnown, shape)
	if err != nil {
		return err
	}
	rows, err := stmt.QueryContext(ctx, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var i number
		if err := rows.Scan(&i); err != nil {
			return err
		}
		if i < number(len(known)) {
			known[i] = true
		}
	}
	return rows.Err()
}
