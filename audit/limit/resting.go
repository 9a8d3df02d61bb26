package limit

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/gatepost/gatepost/migrations"
)

// Resting are rows that wait in the inbox of users who are away.
type Resting struct {
	DSN    string // of the database, with the tables in it or empty
	Domain string // of the users
	Rows   int64
	Size   int // bytes of content
}

// RowsPerUser is how many rows wait for each of the users.
const RowsPerUser = 100

// Users is how many users the rows are for.
func (r Resting) Users() int64 { return max(1, r.Rows/RowsPerUser) }

// UID of user n.
func (r Resting) UID(n int64) string { return fmt.Sprintf("resting-%d", n%r.Users()) }

// KeptDatabase is the DSN of the database name on the server that dsn names; it is made when it is missing, and stays.
func KeptDatabase(ctx context.Context, dsn, name string) (string, error) {
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		return "", errors.New("limit: the data source name does not parse")
	}
	cfg.DBName = ""
	c, err := mysql.NewConnector(cfg)
	if err != nil {
		return "", fmt.Errorf("limit: %w", err)
	}
	db := sql.OpenDB(c)
	_, err = db.ExecContext(ctx, "CREATE DATABASE IF NOT EXISTS `"+name+"` CHARACTER SET utf8mb4")
	if err := errors.Join(err, db.Close()); err != nil {
		return "", fmt.Errorf("limit: make the database %s: %w", name, err)
	}
	cfg.DBName = name
	return cfg.FormatDSN(), nil
}

// Fill puts in what is missing, by plain SQL: the rows of a user come between those of the others, as they would over time. tell hears how many are there.
func (r Resting) Fill(ctx context.Context, tell func(rows int64)) error {
	cfg, err := mysql.ParseDSN(r.DSN)
	if err != nil {
		return errors.New("limit: the data source name does not parse")
	}
	cfg.ParseTime = true
	c, err := mysql.NewConnector(cfg)
	if err != nil {
		return fmt.Errorf("limit: %w", err)
	}
	db := sql.OpenDB(readCommitted{c})
	if err := errors.Join(r.fill(ctx, db, tell), db.Close()); err != nil {
		return fmt.Errorf("limit: rows that rest: %w", err)
	}
	return nil
}

func (r Resting) fill(ctx context.Context, db *sql.DB, tell func(int64)) error {
	if err := migrations.Up(ctx, migrations.MySQL, db); err != nil {
		return err
	}
	var have int64
	// The uid's range and not its pattern: index inbox_owner.
	if err := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM inbox WHERE domain = ? AND uid >= 'resting-' AND uid < 'resting.'", r.Domain).Scan(&have); err != nil {
		return err
	}
	if have > r.Rows {
		return fmt.Errorf("%d are there, more than %d: take another database", have, r.Rows)
	}
	const batch, lanes = 500, 4
	var next, done atomic.Int64
	next.Store(have)
	done.Store(have)
	// The ids lie in the past, so that they are not met again by those of the platform.
	source := newRows(users, r.Size)
	source.id.Store(time.Now().Add(-24*time.Hour).UnixMilli() << 22)
	var all sync.WaitGroup
	errs := make([]error, lanes)
	stop := make(chan struct{})
	told := make(chan struct{})
	go func() {
		defer close(told)
		tick := time.NewTicker(2 * time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				tell(done.Load())
			case <-stop:
				return
			}
		}
	}()
	for i := range lanes {
		all.Go(func() {
			for errs[i] == nil && ctx.Err() == nil {
				end := next.Add(batch)
				first := end - batch
				n := min(end, r.Rows) - first
				if n <= 0 {
					return
				}
				if errs[i] = r.insert(ctx, db, source, first, int(n)); errs[i] == nil {
					done.Add(n)
				}
			}
		})
	}
	all.Wait()
	close(stop)
	<-told
	tell(done.Load())
	return errors.Join(append(errs, ctx.Err())...)
}

// insert puts in rows first, first+1, … n of them.
func (r Resting) insert(ctx context.Context, db *sql.DB, source *rows, first int64, n int) error {
	args := make([]any, 0, n*nColumn)
	for i := range n {
		args, _ = source.append(args, r.Domain)
		row := args[len(args)-nColumn:]
		row[2] = r.UID(first + int64(i)) // column uid
	}
	_, err := db.ExecContext(ctx, insertText(n), args...)
	return err
}
