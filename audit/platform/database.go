package platform

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/go-sql-driver/mysql"
)

// createDatabase makes a database on the server of Options.MySQL and returns the DSN that names it.
func (p *Platform) createDatabase(ctx context.Context) (string, error) {
	cfg, err := mysql.ParseDSN(p.opt.MySQL)
	if err != nil {
		return "", errors.New("the DSN of MySQL does not parse: want user:password@tcp(host:port)/") // the cause would quote it
	}
	name := randomName()
	cfg.DBName = ""
	if err := execute(ctx, cfg, "CREATE DATABASE "+name+" CHARACTER SET utf8mb4"); err != nil {
		return "", err
	}
	p.database = name
	cfg.DBName = name
	return cfg.FormatDSN(), nil
}

func (p *Platform) dropDatabase() error {
	if p.database == "" {
		return nil
	}
	cfg, err := mysql.ParseDSN(p.opt.MySQL)
	if err != nil {
		return err
	}
	cfg.DBName = ""
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return execute(ctx, cfg, "DROP DATABASE IF EXISTS "+p.database)
}

func execute(ctx context.Context, cfg *mysql.Config, statement string) error {
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return fmt.Errorf("mysql: %w", err)
	}
	db := sql.OpenDB(connector)
	_, err = db.ExecContext(ctx, statement)
	if err := errors.Join(err, db.Close()); err != nil {
		return fmt.Errorf("mysql: %s: %w", statement, err)
	}
	return nil
}
