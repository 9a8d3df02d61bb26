package sql

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
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

// MySQL and MariaDB error numbers of a database that is not set up for its user. MariaDB answers 1044 also for a database that is not there.
const (
	myHostRefused     = 1130
	myDatabaseDenied  = 1044
	myAccessDenied    = 1045
	myUnknownDatabase = 1049
	myTableDenied     = 1142
	myColumnDenied    = 1143
	myNeedsPrivilege  = 1227
	myAuthUnsupported = 1251
	myRoutineDenied   = 1370
	myAccessNoPass    = 1698
)

// ErrSetup: the database answers, and somebody has to set it up or to name it right: trying again does not help. The message says what to do.
var ErrSetup = errors.New("the database is not set up")

// explain makes a sentence with what to do of an error that Open or a migration met. Others stay as they are.
func explain(cfg Config, err error) error {
	if err == nil || cfg.Driver != DriverMySQL {
		return err
	}
	dsn, parseErr := mysql.ParseDSN(cfg.DSN)
	if parseErr != nil {
		return err // Validate has refused it
	}
	setup := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrSetup, fmt.Sprintf(format, args...))
	}
	const inDSN = "in the data source name (sql.dsn, GATEPOST_SQL_DSN, --mysql)"
	grant := fmt.Sprintf("GRANT ALL PRIVILEGES ON `%s`.* TO '%s'@'…'", dsn.DBName, dsn.User)
	var e *mysql.MySQLError
	if errors.As(err, &e) {
		switch e.Number {
		case myUnknownDatabase:
			return setup("%s has no database %q: run CREATE DATABASE `%s` there, or name another one %s (%v)", dsn.Addr, dsn.DBName, dsn.DBName, inDSN, e)
		case myDatabaseDenied:
			return setup("user %q may not use database %q of %s, or it is not there: as its administrator run CREATE DATABASE `%s` and %s (%v)", dsn.User, dsn.DBName, dsn.Addr, dsn.DBName, grant, e)
		case myAccessDenied, myAccessNoPass:
			return setup("%s refuses user %q with this password: check both %s (%v)", dsn.Addr, dsn.User, inDSN, e)
		case myHostRefused:
			return setup("%s admits nobody from this machine: as its administrator run CREATE USER '%s'@'…' for its address (%v)", dsn.Addr, dsn.User, e)
		case myTableDenied, myColumnDenied, myNeedsPrivilege, myRoutineDenied:
			return setup("user %q lacks a right on database %q of %s: as its administrator run %s (%v)", dsn.User, dsn.DBName, dsn.Addr, grant, e)
		case myAuthUnsupported:
			return setup("user %q of %s has a way to log in that is not supported: give it a password of another plugin (%v)", dsn.User, dsn.Addr, e)
		}
		return err
	}
	for _, plugin := range []error{mysql.ErrUnknownPlugin, mysql.ErrCleartextPassword, mysql.ErrNativePassword, mysql.ErrOldPassword, mysql.ErrNoTLS, mysql.ErrOldProtocol} {
		if errors.Is(err, plugin) {
			return setup("user %q cannot log in to %s as the data source name says: %v", dsn.User, dsn.Addr, plugin)
		}
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return fmt.Errorf("%w: nobody answers at %s: start the database, or name another address %s (%w)", store.ErrUnavailable, dsn.Addr, inDSN, op)
	}
	return err
}

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
	for _, v := range []error{store.ErrUnavailable, store.ErrNotFound, store.ErrLeaseLost, store.ErrClockSkew, store.ErrIDCollision, errData} {
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
