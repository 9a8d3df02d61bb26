package platform

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/go-sql-driver/mysql"
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
