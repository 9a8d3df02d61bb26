package sql

import (
	"context"
	"database/sql/driver"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/gatepost/gatepost/migrations"
	"github.com/gatepost/gatepost/store"
)

// dialect is what MySQL and SQLite say differently.
type dialect struct {
	migrations migrations.Dialect
	// nowMS is the database's clock: milliseconds since 1970.
	nowMS string
	// onConflict ends an insert: rows whose keys are there already change nothing and are not counted as affected.
	// It is never INSERT IGNORE, which would turn errors in the data into silent damage.
	onConflict       string
	onDeviceConflict string
	onLeaseConflict  string
	onMaskConflict   string // takes the bit once more
	unsigned         string // the type of a mask
	// lockRow ends a select of rows that the transaction is going to change.
	lockRow    string
	shareRow   string // ends a select of rows that nobody else is to change before the transaction ends
	skipLocked string // like lockRow, passing over rows that others have locked
	// confirmRows is a table of n rows of parameters (msg_id, domain, uid, bit), and the statements that join it.
	confirmRows func(n int) string
	// confirmLast removes, of rows given by ids and keys, those for which these confirmations are all that is missing. Others that are
	// complete it leaves. Empty: there is no such statement, because confirmDelete is as good.
	confirmLast    string // %s: the ids; %s: the keys
	confirmDelete  string // %s: the rows
	confirmUpdate  string // %s: the rows
	confirmLock    string // %s: the rows
	known          string // %s: the rows; of them msg_id, domain and uid count
	deleteComplete string
	// endsAlone: a statement outside of a transaction ends when its context does, its flush included. SQLite's flush does not.
	endsAlone bool
	// seenAgain registers a class anew that is not retired, for an installation that is remembered with a lower login counter and a session
	// that is not older than the newest. Empty: one statement cannot.
	seenAgain string
	// signed: 64-bit numbers are stored with the sign of their highest bit.
	signed bool
	// retryable: the transaction lost a deadlock or a lock wait, and may be run again.
	retryable func(error) bool
	// blamesData: the error is caused by the rows of the call; everything else may pass by itself.
	blamesData func(error) bool
}

// u64 passes a 64-bit number to the driver.
func (d *dialect) u64(v uint64) any {
	if d.signed {
		return int64(v)
	}
	return v
}

// id passes a message id that is looked for. Ids that SQLite cannot hold become one that no row has.
func (d *dialect) id(v store.MsgID) any {
	if d.signed {
		return int64(min(uint64(v), math.MaxInt64))
	}
	return uint64(v)
}

// number scans a 64-bit number from either dialect.
type number uint64

// Scan implements sql.Scanner.
func (n *number) Scan(src any) error {
	switch v := src.(type) {
	case int64:
		*n = number(v)
	case uint64:
		*n = number(v)
	case []byte:
		u, err := strconv.ParseUint(string(v), 10, 64)
		if err != nil {
			return err
		}
		*n = number(u)
	default:
		return fmt.Errorf("cannot read a number from %T", src)
	}
	return nil
}

// Value implements driver.Valuer, for gorm; it is used for numbers below 2^63 only.
func (n number) Value() (driver.Value, error) { return int64(n), nil }

func millis(t time.Time) int64      { return t.UnixMilli() }
func fromMillis(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

// sessionConnector sets what each connection of ours relies on. The usual way, a parameter of the DSN, cannot set the isolation
// on both MySQL (transaction_isolation) and MariaDB (tx_isolation).
type sessionConnector struct {
	driver.Connector
	settings []string
}

// Connect implements driver.Connector.
func (c *sessionConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	for _, s := range c.settings {
		if _, err := conn.(driver.ExecerContext).ExecContext(ctx, s, nil); err != nil {
			conn.Close()
			return nil, err
		}
	}
	return conn, nil
}

const sqlMode = "STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"

func newConnector(cfg Config) (driver.Connector, error) {
	dsn, err := mysql.ParseDSN(cfg.DSN)
	if err != nil {
		return nil, err
	}
	dsn.Timeout = cfg.DialTimeout
	dsn.ReadTimeout = cfg.IOTimeout
	dsn.WriteTimeout = cfg.IOTimeout
	dsn.InterpolateParams = true // of the statements that are not kept prepared
	dsn.ClientFoundRows = false  // Append counts the rows that were really inserted
	dsn.ParseTime = true         // goose reads when a migration was applied; our own times are numbers
	dsn.MultiStatements = false
	dsn.Loc = time.UTC
	dsn.Logger = driverLogger{cfg.logger()}
	c, err := mysql.NewConnector(dsn)
	if err != nil {
		return nil, err
	}
	return &sessionConnector{Connector: c, settings: []string{
		"SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
		fmt.Sprintf("SET SESSION autocommit = 1, sql_mode = '%s', innodb_lock_wait_timeout = %d, time_zone = '+00:00'", sqlMode, int(cfg.LockTimeout.Seconds())),
	}}, nil
}
