package limit

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-sql-driver/mysql"
	"modernc.org/sqlite"

	"github.com/gatepost/gatepost/migrations"
)

// Database is a MySQL, a MariaDB or SQLite alone, in a database of its own beside the platform's.
type Database struct {
	dialect migrations.Dialect
	db      *sql.DB
	drop    func(context.Context) error
	rows    *rows
	try     time.Duration // of one plan, each time
	best    Plan
}

// Plan is how rows are put in and taken out.
type Plan struct {
	Batch int  // rows of one statement
	Lanes int  // that work at the same time, each with its connection
	Join  bool // rows are removed by a join with the owner, which checks him; else by their ids alone
}

// String is for people.
func (p Plan) String() string {
	by := "ids"
	if p.Join {
		by = "a join with the owner"
	}
	return fmt.Sprintf("batches of %d in %d lanes, removed by %s", p.Batch, p.Lanes, by)
}

// users whose rows they are: as many as receive in the usual load.
const users = 200

// OpenMySQL makes a database of its own on the server that dsn names, which must give the right to. size is bytes of content.
func OpenMySQL(ctx context.Context, dsn string, size int) (*Database, error) {
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		return nil, errors.New("limit: the data source name does not parse (it should look like user:password@tcp(host:port)/)")
	}
	name := fmt.Sprintf("gatepost_limit_%x", rand.Uint64())
	cfg.DBName = ""
	execute := func(ctx context.Context, text string) error {
		c, err := mysql.NewConnector(cfg)
		if err != nil {
			return err
		}
		db := sql.OpenDB(c)
		_, err = db.ExecContext(ctx, text)
		return errors.Join(err, db.Close())
	}
	if err := execute(ctx, "CREATE DATABASE "+name+" CHARACTER SET utf8mb4"); err != nil {
		return nil, fmt.Errorf("limit: make a database: %w", err)
	}
	drop := func(ctx context.Context) error { return execute(ctx, "DROP DATABASE IF EXISTS "+name) }
	own := cfg.Clone()
	own.DBName, own.ParseTime = name, true // goose reads when a migration was applied
	d, err := openMySQL(ctx, own, size)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("limit: %w", err), drop(context.WithoutCancel(ctx)))
	}
	d.drop = drop
	return d, nil
}

// OpenMySQLIn measures in the database that dsn names, beside the rows that are in it already, and removes its own only.
func OpenMySQLIn(ctx context.Context, dsn string, size int) (*Database, error) {
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil || cfg.DBName == "" {
		return nil, errors.New("limit: the data source name does not parse, or names no database")
	}
	cfg.ParseTime = true
	d, err := openMySQL(ctx, cfg, size)
	if err != nil {
		return nil, fmt.Errorf("limit: %w", err)
	}
	return d, nil
}

func openMySQL(ctx context.Context, cfg *mysql.Config, size int) (*Database, error) {
	c, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	d := &Database{dialect: migrations.MySQL, db: sql.OpenDB(readCommitted{c}), rows: newRows(users, size), try: tryTime}
	d.db.SetMaxOpenConns(16)
	d.db.SetMaxIdleConns(16)
	d.drop = func(context.Context) error { return nil }
	return d, d.prepare(ctx)
}

// readCommitted gives each connection the isolation that suits a queue: no gaps are locked.
type readCommitted struct{ driver.Connector }

// Connect implements driver.Connector.
func (c readCommitted) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := conn.(driver.ExecerContext).ExecContext(ctx, "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED", nil); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// OpenSQLite makes a database file in dir, with a write-ahead log that is flushed at each commit.
func OpenSQLite(ctx context.Context, dir string, size int) (*Database, error) {
	q := url.Values{"_txlock": {"immediate"}, "_pragma": {"journal_mode(WAL)", "synchronous(FULL)", "temp_store(MEMORY)"}}
	c, err := sqlite.NewConnector((&url.URL{Scheme: "file", Opaque: (&url.URL{Path: filepath.Join(dir, fmt.Sprintf("limit-%x.db", rand.Uint64()))}).EscapedPath(), RawQuery: q.Encode()}).String())
	if err != nil {
		return nil, fmt.Errorf("limit: %w", err)
	}
	d := &Database{dialect: migrations.SQLite, db: sql.OpenDB(c), rows: newRows(users, size), try: tryTime, drop: func(context.Context) error { return nil }}
	d.db.SetMaxOpenConns(1)
	d.db.SetMaxIdleConns(1)
	if err := d.prepare(ctx); err != nil {
		return nil, fmt.Errorf("limit: %w", err)
	}
	return d, nil
}

// prepare makes the tables and the receivers, and removes what a run that was killed has left. It closes the pool when it fails.
func (d *Database) prepare(ctx context.Context) error {
	err := migrations.Up(ctx, d.dialect, d.db)
	for _, table := range []string{"inbox", "device_mask"} { // by inbox_owner and PRIMARY
		if err == nil {
			_, err = d.db.ExecContext(ctx, "DELETE FROM "+table+" WHERE domain = ?", domain)
		}
	}
	for u := 0; u < users && err == nil; u++ {
		_, err = d.db.ExecContext(ctx, "INSERT INTO device_mask (domain, uid, mask) VALUES (?, ?, 2)", domain, fmt.Sprintf("limit-%d", u))
	}
	if err != nil {
		return errors.Join(err, d.db.Close())
	}
	return nil
}

// Close removes the database.
func (d *Database) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return errors.Join(d.db.Close(), d.drop(ctx))
}

// Rate is how many rows a second were put in and taken out again.
type Rate struct {
	Plan Plan
	PerS float64
	Rows uint64
	Took time.Duration
}

// tryTime is how long a plan is tried at once.
const tryTime = 400 * time.Millisecond

// FindPlan tries plans and keeps the one that was fastest in the mean, which it returns; tell hears of each try. All are tried once, the better half
// of them again, and so on (successive halving: Jamieson and Talwalkar, 2016): what else the machine does in one moment must not decide.
// A second call returns what the first one found.
func (d *Database) FindPlan(ctx context.Context, tell func(Rate)) (Plan, error) {
	if d.best.Batch > 0 {
		return d.best, nil
	}
	lanes := []int{1, 2, 4}
	if d.dialect == migrations.SQLite {
		lanes = lanes[:1] // it has one writer
	}
	type candidate struct {
		Plan
		sum float64 // of its rates
	}
	var left []*candidate
	for _, join := range []bool{false, true} {
		for _, n := range lanes {
			for _, batch := range []int{128, 256, 512, 1024} {
				left = append(left, &candidate{Plan: Plan{Batch: batch, Lanes: n, Join: join}})
			}
		}
	}
	if _, err := d.Cycle(ctx, Plan{Batch: 256, Lanes: lanes[len(lanes)-1]}, d.try); err != nil { // warm
		return Plan{}, err
	}
	for {
		for _, c := range left {
			r, err := d.Cycle(ctx, c.Plan, d.try)
			if err != nil {
				return Plan{}, err
			}
			tell(r)
			c.sum += r.PerS
		}
		slices.SortFunc(left, func(a, b *candidate) int { return cmp.Compare(b.sum, a.sum) })
		if len(left) <= 3 {
			d.best = left[0].Plan
			return d.best, nil
		}
		left = left[:(len(left)+1)/2]
		rand.Shuffle(len(left), func(i, j int) { left[i], left[j] = left[j], left[i] })
	}
}

// Cycle puts rows in and takes them out again, each batch by one statement and one commit, for about took. No row stays.
func (d *Database) Cycle(ctx context.Context, p Plan, took time.Duration) (Rate, error) {
	var done atomic.Uint64
	var lanes sync.WaitGroup
	errs := make([]error, p.Lanes)
	begun := make([]*lane, p.Lanes)
	for i := range begun {
		var err error
		if begun[i], err = d.lane(ctx, p); err != nil {
			for _, l := range begun[:i] {
				l.close()
			}
			return Rate{}, fmt.Errorf("limit: %w", err)
		}
	}
	begin := time.Now()
	for i, l := range begun {
		lanes.Go(func() {
			for time.Since(begin) < took && errs[i] == nil {
				if errs[i] = l.cycle(ctx); errs[i] == nil {
					done.Add(uint64(p.Batch))
				}
			}
		})
	}
	lanes.Wait()
	r := Rate{Plan: p, Rows: done.Load(), Took: time.Since(begin)}
	r.PerS = float64(r.Rows) / r.Took.Seconds()
	for _, l := range begun {
		l.close()
	}
	if err := errors.Join(errs...); err != nil {
		return r, fmt.Errorf("limit: %w", err)
	}
	return r, nil
}

// lane is one connection with its statements.
type lane struct {
	d              *Database
	plan           Plan
	conn           *sql.Conn
	insert, remove *sql.Stmt
	args           []any
	rows           []row
}

func (d *Database) lane(ctx context.Context, p Plan) (_ *lane, err error) {
	l := &lane{d: d, plan: p}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	if l.conn, err = d.db.Conn(ctx); err != nil {
		return nil, err
	}
	if l.insert, err = l.conn.PrepareContext(ctx, insertText(p.Batch)); err != nil {
		return nil, err
	}
	l.remove, err = l.conn.PrepareContext(ctx, d.removeText(p))
	return l, err
}

func (l *lane) close() {
	for _, s := range []*sql.Stmt{l.insert, l.remove} {
		if s != nil {
			_ = s.Close() // the connection goes with it
		}
	}
	if l.conn != nil {
		_ = l.conn.Close() // back into the pool
	}
}

// removeText is the statement that removes one batch.
func (d *Database) removeText(p Plan) string {
	ids := "?" + strings.Repeat(", ?", p.Batch-1)
	switch {
	case !p.Join:
		return "DELETE FROM inbox WHERE msg_id IN (" + ids + ")" // PRIMARY
	case d.dialect == migrations.SQLite:
		return "WITH c (msg_id, uid) AS (VALUES (?, ?)" + strings.Repeat(", (?, ?)", p.Batch-1) + ") DELETE FROM inbox WHERE msg_id IN" +
			" (SELECT i.msg_id FROM c CROSS JOIN inbox AS i ON i.msg_id = c.msg_id AND i.uid = c.uid AND i.domain = '" + domain + "')"
	}
	return "DELETE i FROM (SELECT CAST(? AS UNSIGNED) AS msg_id, CAST(? AS BINARY) AS uid" + strings.Repeat(" UNION ALL SELECT ?, ?", p.Batch-1) +
		") AS c STRAIGHT_JOIN inbox AS i FORCE INDEX (PRIMARY) ON i.msg_id = c.msg_id AND i.uid = c.uid AND i.domain = '" + domain + "'"
}

// cycle puts one batch in and takes it out.
func (l *lane) cycle(ctx context.Context) error {
	l.args, l.rows = l.args[:0], l.rows[:0]
	for range l.plan.Batch {
		var r row
		l.args, r = l.d.rows.append(l.args, domain)
		l.rows = append(l.rows, r)
	}
	if _, err := l.insert.ExecContext(ctx, l.args...); err != nil {
		return fmt.Errorf("insert %d rows: %w", l.plan.Batch, err)
	}
	l.args = l.args[:0]
	for _, r := range l.rows {
		l.args = append(l.args, r.id)
		if l.plan.Join {
			l.args = append(l.args, r.uid)
		}
	}
	res, err := l.remove.ExecContext(ctx, l.args...)
	if err != nil {
		return fmt.Errorf("remove %d rows: %w", l.plan.Batch, err)
	}
	if n, err := res.RowsAffected(); err != nil || n != int64(l.plan.Batch) {
		return fmt.Errorf("%d of %d rows were removed: %w", n, l.plan.Batch, err)
	}
	return nil
}
