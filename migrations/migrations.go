// Package migrations holds the only DDL of the platform: numbered SQL files, a folder for each dialect, embedded and applied by goose.
package migrations

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/pressly/goose/v3"
)

//go:embed mysql/*.sql sqlite/*.sql
var files embed.FS

// Dialect names a folder of migrations.
type Dialect string

const (
	MySQL  Dialect = "mysql" // MySQL 8, MariaDB 10.6 and later
	SQLite Dialect = "sqlite"
)

// State of one migration in one database.
type State struct {
	Version   int64
	Name      string
	AppliedAt time.Time // zero: not applied
}

// ErrSchema: the schema is not the one this program was built for. The message says what to do.
var ErrSchema = errors.New("wrong schema")

// lockName is the name of the lock that lets one process migrate a MySQL server at a time.
const lockName = "gatepost_migrate"

// lockWaitSeconds is how long a process waits for another one that migrates.
const lockWaitSeconds = 60

// Up applies what is missing. On MySQL one process does so at a time; the others wait.
func Up(ctx context.Context, d Dialect, db *sql.DB) (err error) {
	p, err := provider(d, db)
	if err != nil {
		return err
	}
	if d == MySQL {
		conn, err := db.Conn(ctx)
		if err != nil {
			return fmt.Errorf("migrate: %w", err)
		}
		defer conn.Close()
		var got sql.NullInt64
		if err := conn.QueryRowContext(ctx, "SELECT GET_LOCK(CONCAT(?, '_', MD5(DATABASE())), ?)", lockName, lockWaitSeconds).Scan(&got); err != nil {
			return fmt.Errorf("migrate: lock: %w", err)
		}
		if got.Int64 != 1 {
			return fmt.Errorf("migrate: another process has been migrating for %d s", lockWaitSeconds)
		}
		defer func() {
			_, unlockErr := conn.ExecContext(context.WithoutCancel(ctx), "DO RELEASE_LOCK(CONCAT(?, '_', MD5(DATABASE())))", lockName)
			err = errors.Join(err, unlockErr)
		}()
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

// Status lists every migration of the dialect, in order.
func Status(ctx context.Context, d Dialect, db *sql.DB) ([]State, error) {
	p, err := provider(d, db)
	if err != nil {
		return nil, err
	}
	list, err := p.Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("migration status: %w", err)
	}
	states := make([]State, 0, len(list))
	for _, s := range list {
		states = append(states, State{Version: s.Source.Version, Name: s.Source.Path, AppliedAt: s.AppliedAt})
	}
	return states, nil
}

// Check returns an error that wraps ErrSchema and names the command to run, unless every migration has been applied and none beyond. It changes nothing.
func Check(ctx context.Context, d Dialect, db *sql.DB) error {
	want, err := latest(d)
	if err != nil {
		return err
	}
	exists := "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = 'goose_db_version'"
	if d == SQLite {
		exists = "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = 'goose_db_version'"
	}
	var tables int
	if err := db.QueryRowContext(ctx, exists).Scan(&tables); err != nil {
		return fmt.Errorf("check the schema: %w", err)
	}
	if tables == 0 {
		return fmt.Errorf("%w: the database is empty: run `gatepost migrate up` first", ErrSchema)
	}
	var have sql.NullInt64
	if err := db.QueryRowContext(ctx, "SELECT MAX(version_id) FROM goose_db_version WHERE is_applied").Scan(&have); err != nil {
		return fmt.Errorf("check the schema: %w", err)
	}
	switch {
	case have.Int64 < want:
		return fmt.Errorf("%w: the database is at version %d and this program needs %d: run `gatepost migrate up` first", ErrSchema, have.Int64, want)
	case have.Int64 > want:
		return fmt.Errorf("%w: the database is at version %d and this program knows %d only: run a newer gatepost (the one whose `gatepost migrate up` was run last)", ErrSchema, have.Int64, want)
	}
	return nil
}

func folder(d Dialect) (fs.FS, goose.Dialect, error) {
	switch d {
	case MySQL:
		f, err := fs.Sub(files, "mysql")
		return f, goose.DialectMySQL, err
	case SQLite:
		f, err := fs.Sub(files, "sqlite")
		return f, goose.DialectSQLite3, err
	}
	return nil, "", fmt.Errorf("migrations: unknown dialect %q", d)
}

func provider(d Dialect, db *sql.DB) (*goose.Provider, error) {
	f, dialect, err := folder(d)
	if err != nil {
		return nil, err
	}
	p, err := goose.NewProvider(dialect, db, f, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return nil, fmt.Errorf("migrations: %w", err)
	}
	return p, nil
}

// latest is the version of the last file of a dialect.
func latest(d Dialect) (int64, error) {
	f, _, err := folder(d)
	if err != nil {
		return 0, err
	}
	names, err := fs.Glob(f, "*.sql")
	if err != nil {
		return 0, err
	}
	var last int64
	for _, name := range names {
		v, err := goose.NumericComponent(name)
		if err != nil {
			return 0, fmt.Errorf("migrations: %s: %w", name, err)
		}
		last = max(last, v)
	}
	return last, nil
}
