//go:build integration

package sql_test

import (
	stdsql "database/sql"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/google/uuid"

	"github.com/gatepost/gatepost/store/sql"
	"github.com/gatepost/gatepost/store/storetest"
)

// mysqlConfig makes a database of t's own on the server that GATEPOST_TEST_MYSQL names.
func mysqlConfig(t testing.TB) sql.Config {
	server := os.Getenv("GATEPOST_TEST_MYSQL")
	if server == "" {
		t.Fatal("GATEPOST_TEST_MYSQL is not set: it must be the DSN of a MySQL or MariaDB server that lets us create databases, such as root@tcp(127.0.0.1:3306)/")
	}
	dsn, err := mysql.ParseDSN(server)
	if err != nil {
		t.Fatal(err)
	}
	root, err := stdsql.Open("mysql", dsn.FormatDSN())
	if err != nil {
		t.Fatal(err)
	}
	dsn.DBName = "gatepost_test_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	if _, err := root.Exec("CREATE DATABASE " + dsn.DBName); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := root.Exec("DROP DATABASE " + dsn.DBName); err != nil {
			t.Error(err)
		}
		root.Close()
	})
	cfg := sql.Default()
	cfg.Driver, cfg.DSN = sql.DriverMySQL, dsn.FormatDSN()
	return cfg
}

func mysqlDatabase(t testing.TB) storetest.Database {
	cfg := mysqlConfig(t)
	cfg.AutoMigrate = true
	return database(t, cfg, func(t testing.TB) *stdsql.DB {
		raw, err := stdsql.Open("mysql", cfg.DSN)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}, func(content []byte) string {
		return fmt.Sprintf("CREATE TRIGGER poison BEFORE INSERT ON inbox FOR EACH ROW BEGIN IF NEW.content = x'%s' THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'poison'; END IF; END", hex.EncodeToString(content))
	})
}

func TestMySQL(t *testing.T) { runAll(t, mysqlDatabase) }

func TestMySQLSchema(t *testing.T) { testSchema(t, mysqlConfig(t)) }
