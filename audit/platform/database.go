package platform

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"path/filepath"
	"time"

	"github.com/go-sql-driver/mysql"
	_ "modernc.org/sqlite" // the database of standalone
)

// CreateDatabase makes an empty database, prefix_RANDOM, on the server that dsn names, and returns the DSN that names it. drop removes it.
func CreateDatabase(ctx context.Context, dsn, prefix string) (named string, drop func() error, err error) {
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		return "", nil, fmt.Errorf("data source name: %w", err)
	}
	cfg.DBName = ""
	name := fmt.Sprintf("%s_%x", prefix, rand.Uint64())
	execute := func(ctx context.Context, statement string) error {
		connector, err := mysql.NewConnector(cfg)
		if err != nil {
			return err
		}
		db := sql.OpenDB(connector)
		_, err = db.ExecContext(ctx, statement)
		return errors.Join(err, db.Close())
	}
	if err := execute(ctx, "CREATE DATABASE "+name+" CHARACTER SET utf8mb4"); err != nil {
		return "", nil, fmt.Errorf("create a database: %w", err)
	}
	own := cfg.Clone()
	own.DBName = name
	return own.FormatDSN(), func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := execute(ctx, "DROP DATABASE IF EXISTS "+name); err != nil {
			return fmt.Errorf("drop the database %s: %w", name, err)
		}
		return nil
	}, nil
}

// InboxRows counts the rows of users whose uids begin with prefix, as the database holds them, confirmed or not.
func (p *Platform) InboxRows(ctx context.Context, prefix string) (n int, err error) {
	driver, dsn := "mysql", p.opt.MySQL
	if p.opt.Logic == 0 {
		driver, dsn = "sqlite", (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: filepath.Join(p.opt.Dir, "data", "gatepost.db")}).EscapedPath(), RawQuery: "mode=ro"}).String()
	}
	db, err := sql.Open(driver, dsn)
	if err != nil {
		return 0, fmt.Errorf("platform: %w", err)
	}
	// Index inbox_owner: a range. No uid of a run has a byte above the tilde.
	err = db.QueryRowContext(ctx, "SELECT COUNT(*) FROM inbox WHERE domain = ? AND uid >= ? AND uid < ?", Domain, prefix, prefix+"~").Scan(&n)
	if err = errors.Join(err, db.Close()); err != nil {
		return 0, fmt.Errorf("platform: count rows of the inbox: %w", err)
	}
	return n, nil
}
