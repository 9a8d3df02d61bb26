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

// deviceRow is the part of a device that decides.
type deviceRow struct {
	counter      uint64
	installation [16]byte
	seenAt       int64
	retiredAt    int64
}

// lockDevice reads a device and locks it; nil when there is none. Index PRIMARY (domain, uid, class).
func (db *DB) lockDevice(ctx context.Context, tx *stdsql.Tx, owner store.UserKey, class store.DeviceClass) (*deviceRow, error) {
	var d deviceRow
	var counter number
	var installation []byte
	err := tx.QueryRowContext(ctx, "SELECT login_counter, installation, seen_at, retired_at FROM device WHERE domain = ? AND uid = ? AND class = ?"+db.d.lockRow,
		owner.Domain, owner.UID, int64(class)).Scan(&counter, &installation, &d.seenAt, &d.retiredAt)
	if errors.Is(err, stdsql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	d.counter = uint64(counter)
	copy(d.installation[:], installation)
	return &d, nil
}

// Register owes class the user's messages from now on. retired: it had been registered before and was retired since.
// Within one installation the login counter never goes back: a lower one leaves the stored one, and does not bring back a class that was retired after it.
func (db *DB) Register(ctx context.Context, d store.Device) (retired bool, err error) {
	err = db.inTx(ctx, "register a device class", func(tx *stdsql.Tx) error {
		retired = false
		// A no-op when it is there: two first registrations at once meet here. Index PRIMARY.
		res, err := tx.ExecContext(ctx, "INSERT INTO device (domain, uid, class, login_counter, installation, seen_at, retired_at) VALUES (?, ?, ?, ?, ?, ?, 0)"+
			db.d.onDeviceConflict, d.Owner.Domain, d.Owner.UID, int64(d.Class), db.d.u64(d.LoginCounter), d.Installation[:], millis(d.SeenAt))
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil {
			return err
		} else if n == 0 {
			old, err := db.lockDevice(ctx, tx, d.Owner, d.Class)
			if err != nil {
				return err
			}
			if old == nil {
				return errVanished
			}
			retired = old.retiredAt != 0
			counter := d.LoginCounter
			if old.installation == d.Installation && d.LoginCounter < old.counter {
				if retired {
					return nil
				}
				counter = old.counter
			}
			// Index PRIMARY.
			if _, err := tx.ExecContext(ctx, "UPDATE device SET login_counter = ?, installation = ?, seen_at = ?, retired_at = 0 WHERE domain = ? AND uid = ? AND class = ?",
				db.d.u64(counter), d.Installation[:], max(old.seenAt, millis(d.SeenAt)), d.Owner.Domain, d.Owner.UID, int64(d.Class)); err != nil {
				return err
			}
		}
		// Index PRIMARY of device_mask.
		_, err = tx.ExecContext(ctx, "INSERT INTO device_mask (domain, uid, mask) VALUES (?, ?, ?)"+db.d.onMaskConflict,
			d.Owner.Domain, d.Owner.UID, int64(d.Class.Bit()), int64(d.Class.Bit()))
		return err
	})
	return retired && err == nil, err
}

// errVanished: a row that conflicted is not there; nobody deletes devices.
var errVanished = errors.New("a device vanished")

// Retire stops owing class the user's messages, and removes the rows that only it had not confirmed, in bounded chunks.
// It does nothing when another installation has registered the class since d did, or d's own with a higher login counter: what is late ends nothing newer (G5).
// What no class has confirmed stays, also when the last class retires: it waits for whoever registers next. Retiring again finishes what an error interrupted.
func (db *DB) Retire(ctx context.Context, d store.Device) error {
	done, err := db.retire(ctx, d.Owner, d.Class, func(row *deviceRow) bool {
		return row.installation == d.Installation && row.counter <= d.LoginCounter
	})
	if err != nil || !done {
		return err
	}
	return db.removeComplete(ctx, d.Owner)
}

// retire clears the class's bit if may says so; done: the class is retired, now or before.
func (db *DB) retire(ctx context.Context, owner store.UserKey, class store.DeviceClass, may func(*deviceRow) bool) (done bool, err error) {
	err = db.inTx(ctx, "retire a device class", func(tx *stdsql.Tx) error {
		done = false
		d, err := db.lockDevice(ctx, tx, owner, class)
		if err != nil || d == nil || !may(d) {
			return err
		}
		done = true
		if d.retiredAt != 0 {
			return nil
		}
		// Index PRIMARY.
		if _, err := tx.ExecContext(ctx, "UPDATE device SET retired_at = "+db.d.nowMS+" WHERE domain = ? AND uid = ? AND class = ?",
			owner.Domain, owner.UID, int64(class)); err != nil {
			return err
		}
		// Index PRIMARY.
		_, err = tx.ExecContext(ctx, "UPDATE device_mask SET mask = mask & ~CAST(? AS "+db.d.unsigned+") WHERE domain = ? AND uid = ?",
			int64(class.Bit()), owner.Domain, owner.UID)
		return err
	})
	return done, err
}

// removeComplete removes the rows of owner that the classes of his mask, as it is now, have all confirmed.
// A confirmation that commits at the same time either is seen by the locking delete, or has seen the mask.
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
			// Index inbox_owner: a range; PRIMARY of device_mask.
			_, err := tx.ExecContext(ctx, db.d.deleteComplete, owner.Domain, owner.UID, db.d.id(after), db.d.id(last))
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
	Domain       string
	UID          string
	Class        uint8
	LoginCounter number
	Installation []byte
	SeenAt       int64
	RetiredAt    int64
}

// TableName implements gorm's Tabler.
func (device) TableName() string { return "device" }

// List returns the registered device classes of a user.
func (db *DB) List(ctx context.Context, owner store.UserKey) ([]store.Device, error) {
	var rows []device
	// Index PRIMARY (domain, uid, class).
	err := db.on(ctx, db.read).Select("domain", "uid", "class", "login_counter", "installation", "seen_at").
		Where("domain = ? AND uid = ? AND retired_at = 0", owner.Domain, owner.UID).Order("class").Find(&rows).Error
	if err != nil {
		return nil, db.d.classify("list device classes", err)
	}
	devices := make([]store.Device, len(rows))
	for i, r := range rows {
		devices[i] = store.Device{Owner: owner, Class: store.DeviceClass(r.Class), LoginCounter: uint64(r.LoginCounter), SeenAt: fromMillis(r.SeenAt)}
		copy(devices[i].Installation[:], r.Installation)
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
		done, err := db.retire(ctx, owner, store.DeviceClass(d.Class), func(d *deviceRow) bool { return d.retiredAt == 0 && d.seenAt < millis(cutoff) })
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
