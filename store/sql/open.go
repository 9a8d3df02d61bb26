package sql

import (
	"context"
	stdsql "database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"sync"
	"time"

	gormmysql "gorm.io/driver/mysql"
	"gorm.io/gorm"
	gormlogger "gorm.io/gorm/logger"
	"modernc.org/sqlite"

	"github.com/gatepost/gatepost/migrations"
)

// DB is a database. It is safe for concurrent use.
type DB struct {
	d     *dialect
	write *stdsql.DB
	read  *stdsql.DB // the same as write on MySQL
	gorm  *gorm.DB   // over write, bound to a transaction or to read where it is used
	stmts stmtCache

	commits sync.WaitGroup // commits whose caller did not wait for the end
}

// openTimeout bounds the checks of Open.
const openTimeout = 15 * time.Second

// slowQuery is the time from which gorm's statements are logged as slow.
const slowQuery = 500 * time.Millisecond

// Open opens the database, checks its schema and warns when its settings do not keep what is committed.
// The error wraps migrations.ErrSchema when the schema is wrong, ErrSetup when the database is not there or refuses its user, and
// store.ErrUnavailable when it cannot be reached: only the last one may heal by itself.
func Open(cfg Config) (*DB, error) {
	db, err := open(cfg)
	return db, explain(cfg, err)
}

func open(cfg Config) (*DB, error) {
	db, err := connect(cfg)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
	defer cancel()
	if err := db.prepareSchema(ctx, cfg.AutoMigrate); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if err := db.checkDurability(ctx, cfg.logger(), cfg.Metrics); err != nil {
		return nil, errors.Join(db.d.classify("check the database's durability", err), db.Close())
	}
	return db, nil
}

// Migrate applies the missing migrations. The context bounds it. Its errors are those of Open.
func Migrate(ctx context.Context, cfg Config) error {
	db, err := connect(cfg)
	if err != nil {
		return err
	}
	err = db.d.classify("migrate", migrations.Up(ctx, db.d.migrations, db.write))
	return errors.Join(explain(cfg, err), db.Close())
}

// Status lists the migrations and when each was applied. Its errors are those of Open.
func Status(ctx context.Context, cfg Config) ([]migrations.State, error) {
	db, err := connect(cfg)
	if err != nil {
		return nil, err
	}
	states, err := migrations.Status(ctx, db.d.migrations, db.write)
	return states, errors.Join(explain(cfg, db.d.classify("migration status", err)), db.Close())
}

// Ping asks the database for a sign of life.
func (db *DB) Ping(ctx context.Context) error {
	return db.d.classify("ping", db.read.PingContext(ctx))
}

// Close closes the connections. Calls in flight fail; commits in flight end first.
func (db *DB) Close() error {
	db.commits.Wait()
	err := db.write.Close()
	if db.read != db.write {
		err = errors.Join(err, db.read.Close())
	}
	return err
}

func (db *DB) prepareSchema(ctx context.Context, migrate bool) error {
	if migrate {
		if err := migrations.Up(ctx, db.d.migrations, db.write); err != nil {
			return db.d.classify("migrate", err)
		}
	}
	err := migrations.Check(ctx, db.d.migrations, db.write)
	if errors.Is(err, migrations.ErrSchema) {
		return err
	}
	return db.d.classify("open", err)
}

// connect opens the pools; it reaches for the database no further than gorm does.
func connect(cfg Config) (*DB, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	db := &DB{}
	var dialector gorm.Dialector
	switch cfg.Driver {
	case DriverMySQL:
		connector, err := newConnector(cfg)
		if err != nil {
			return nil, fmt.Errorf("store: %w", err)
		}
		db.d = &mysqlDialect
		db.write = stdsql.OpenDB(connector)
		db.write.SetMaxOpenConns(cfg.MaxConns)
		db.write.SetMaxIdleConns(cfg.MaxConns)
		db.write.SetConnMaxLifetime(cfg.ConnMaxLifetime)
		db.read = db.write
		dialector = gormmysql.New(gormmysql.Config{Conn: db.write, SkipInitializeWithVersion: true, DisableWithReturning: true})
	case DriverSQLite:
		db.d = &sqliteDialect
		var err error
		if db.write, err = openSQLite(cfg, false); err != nil {
			return nil, fmt.Errorf("store: %w", err)
		}
		if db.read, err = openSQLite(cfg, true); err != nil {
			return nil, errors.Join(fmt.Errorf("store: %w", err), db.write.Close())
		}
		dialector = sqliteDialector{db.write}
	}
	g, err := gorm.Open(dialector, &gorm.Config{
		SkipDefaultTransaction: true,
		DisableAutomaticPing:   true,
		Logger: gormlogger.NewSlogLogger(cfg.logger(), gormlogger.Config{
			SlowThreshold:             slowQuery,
			LogLevel:                  gormlogger.Warn,
			IgnoreRecordNotFoundError: true,
			ParameterizedQueries:      true,
		}),
	})
	if err != nil {
		return nil, errors.Join(db.d.classify("open", err), db.Close())
	}
	db.gorm = g
	return db, nil
}

// openSQLite opens one of the two pools: a single connection that writes, so that writers queue in Go and not in SQLite's busy handler, or the reading ones.
func openSQLite(cfg Config, reading bool) (*stdsql.DB, error) {
	// SQLite gives the files beside it the mode of this one: all of them hold messages.
	// It is never opened when it is there already: closing it would drop the locks of this process.
	if f, err := os.OpenFile(cfg.Path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600); err == nil {
		f.Close()
	} else if !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	q := url.Values{}
	q.Set("_txlock", "immediate")
	q.Add("_pragma", fmt.Sprintf("busy_timeout(%d)", cfg.LockTimeout.Milliseconds()))
	q.Add("_pragma", "journal_mode(WAL)")
	q.Add("_pragma", "synchronous(FULL)")  // the write-ahead log is flushed at each commit (G1)
	q.Add("_pragma", "temp_store(MEMORY)") // what a statement of many rows keeps to undo itself: it is bounded by the batch
	conns := 1
	if reading {
		q.Add("_pragma", "query_only(1)")
		conns = cfg.MaxConns
	}
	u := url.URL{Scheme: "file", Opaque: (&url.URL{Path: cfg.Path}).EscapedPath(), RawQuery: q.Encode()}
	connector, err := sqlite.NewConnector(u.String())
	if err != nil {
		return nil, err
	}
	db := stdsql.OpenDB(connector)
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	return db, nil
}

// on is gorm over one transaction or pool.
func (db *DB) on(ctx context.Context, conn gorm.ConnPool) *gorm.DB {
	g := db.gorm.Session(&gorm.Session{NewDB: true, Context: ctx})
	g.Statement.ConnPool = conn
	return g
}
