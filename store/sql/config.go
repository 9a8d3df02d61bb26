package sql

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/prometheus/client_golang/prometheus"
)

// The drivers.
const (
	DriverMySQL  = "mysql"
	DriverSQLite = "sqlite"
)

// Config says which database, and how patiently it is used. Start from Default.
type Config struct {
	Driver string // mysql (for MariaDB as well) or sqlite
	DSN    string // MySQL: user:password@tcp(host:port)/database; it is a secret
	Path   string // SQLite: the file; empty in standalone: gatepost.db in the data directory

	AutoMigrate bool // whether to apply missing migrations at Open: for a single process that owns its database

	MaxConns        int           // MySQL: open connections; SQLite: reading connections
	ConnMaxLifetime time.Duration // MySQL: age at which a connection is made anew, so that a balancer or a failover is noticed; 0: never
	DialTimeout     time.Duration // MySQL: of making one connection
	IOTimeout       time.Duration // MySQL: of one read or write on the socket, longer than LockTimeout; bounds a commit that hangs
	LockTimeout     time.Duration // how long a statement waits for a lock; whole seconds, at least 1s

	Logger  *slog.Logger          // nil: slog.Default()
	Metrics prometheus.Registerer // nil: none are exported
}

// Default is a Config that lacks only the database.
func Default() Config {
	return Config{
		Driver:          DriverSQLite,
		MaxConns:        16,
		ConnMaxLifetime: 30 * time.Minute,
		DialTimeout:     3 * time.Second,
		IOTimeout:       8 * time.Second,
		LockTimeout:     3 * time.Second,
	}
}

// Validate returns all faults, joined.
func (c Config) Validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	switch c.Driver {
	case DriverMySQL:
		dsn, err := mysql.ParseDSN(c.DSN)
		switch {
		case err != nil:
			fault("store dsn: it does not parse (it should look like user:password@tcp(host:port)/database)")
		case dsn.DBName == "":
			fault("store dsn: it names no database (it should look like user:password@tcp(host:port)/database)")
		}
		if c.DialTimeout <= 0 || c.IOTimeout <= 0 {
			fault("store: the timeouts must be positive: a database that hangs would hang its callers")
		}
		if c.LockTimeout >= c.IOTimeout {
			fault("store: the lock timeout (%s) must be shorter than the i/o timeout (%s)", c.LockTimeout, c.IOTimeout)
		}
	case DriverSQLite:
		if c.Path == "" {
			fault("store path: the SQLite file is missing")
		}
	default:
		fault("store driver %q: it is %q or %q", c.Driver, DriverMySQL, DriverSQLite)
	}
	if c.MaxConns < 1 {
		fault("store connections: at least 1")
	}
	if c.LockTimeout < time.Second {
		fault("store lock timeout: at least 1s")
	}
	return errors.Join(faults...)
}

func (c Config) logger() *slog.Logger {
	if c.Logger != nil {
		return c.Logger
	}
	return slog.Default()
}
