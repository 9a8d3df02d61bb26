package sql

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/go-sql-driver/mysql"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/gatepost/gatepost/store"
)

// MySQL and MariaDB error numbers that are told apart here.
const (
	myLockWaitTimeout = 1205
	myDeadlock        = 1213
	myRecordChanged   = 1020 // MariaDB: the row has changed since the snapshot

	myBadNull         = 1048
	myDuplicateKey    = 1062
	myRowTooLarge     = 1118
	myPacketTooLarge  = 1153
	myOutOfRange      = 1264
	myTruncated       = 1265
	myPacketOverflow  = 1301
	myIncorrectValue  = 1366
	myDataTooLong     = 1406
	mySignal          = 1644
	myCheckViolated   = 3819
	mariaCheckFailed  = 4025
	myInvalidJSONText = 3140
)

func mysqlRetryable(err error) bool {
	var e *mysql.MySQLError
	return errors.As(err, &e) && (e.Number == myDeadlock || e.Number == myLockWaitTimeout || e.Number == myRecordChanged)
}

// mysqlBlamesData names the errors that a row causes. What is unknown counts as the database's fault:
// a sender that tries again in vain is told so, while a message refused for good by mistake is lost.
func mysqlBlamesData(err error) bool {
	if errors.Is(err, mysql.ErrPktTooLarge) {
		return true
	}
	var e *mysql.MySQLError
	if !errors.As(err, &e) {
		return false
	}
	switch e.Number {
	case myBadNull, myDuplicateKey, myRowTooLarge, myPacketTooLarge, myOutOfRange, myTruncated, myPacketOverflow,
		myIncorrectValue, myDataTooLong, mySignal, myCheckViolated, mariaCheckFailed, myInvalidJSONText:
		return true
	}
	// 21 cardinality, 22 data exception, 23 constraint, 44 check option, 45 signalled by a trigger
	switch string(e.SQLState[:2]) {
	case "21", "22", "23", "44", "45":
		return true
	}
	return false
}

func sqliteCode(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code() & 0xff
	}
	return 0
}

func sqliteRetryable(err error) bool {
	code := sqliteCode(err)
	return code == sqlite3.SQLITE_BUSY || code == sqlite3.SQLITE_LOCKED
}

func sqliteBlamesData(err error) bool {
	switch sqliteCode(err) {
	case sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_RANGE:
		return true
	}
	return false
}

// classify says what was tried, and wraps store.ErrUnavailable unless the data is to blame or the error is a verdict of this package already.
func (d *dialect) classify(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case isVerdict(err):
		return fmt.Errorf("%s: %w", what, err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: %w: %w", what, store.ErrUnavailable, err)
	case d.blamesData(err):
		return fmt.Errorf("%s: %w", what, err)
	}
	return fmt.Errorf("%s: %w: %w", what, store.ErrUnavailable, err)
}

// errData blames a row before the database has seen it.
var errData = errors.New("the database cannot hold this")

func isVerdict(err error) bool {
	for _, v := range []error{store.ErrUnavailable, store.ErrNotFound, store.ErrLeaseLost, store.ErrClockSkew, errData} {
		if errors.Is(err, v) {
			return true
		}
	}
	return false
}

// driverLogger brings what go-sql-driver says to slog.
type driverLogger struct{ l *slog.Logger }

// Print implements mysql.Logger.
func (l driverLogger) Print(v ...any) {
	l.l.Debug("mysql driver", slog.String("reason", strings.TrimSpace(fmt.Sprintln(v...))))
}
