package sql_test

import (
	stdsql "database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/gatepost/gatepost/migrations"
	"github.com/gatepost/gatepost/store/sql"
	"github.com/gatepost/gatepost/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func sqliteConfig(t testing.TB) sql.Config {
	cfg := sql.Default()
	cfg.Path = filepath.Join(t.TempDir(), "a b?c.db")
	return cfg
}

func sqliteDatabase(t testing.TB) storetest.Database {
	cfg := sqliteConfig(t)
	cfg.AutoMigrate = true
	return database(t, cfg, func(t testing.TB) *stdsql.DB {
		raw, err := stdsql.Open("sqlite", "file:"+strings.ReplaceAll(strings.ReplaceAll(cfg.Path, "?", "%3f"), " ", "%20")+"?_pragma=busy_timeout(5000)")
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}, func(content []byte) string {
		return fmt.Sprintf("CREATE TRIGGER poison BEFORE INSERT ON inbox WHEN NEW.content = x'%s' BEGIN SELECT RAISE(ABORT, 'poison'); END", hex.EncodeToString(content))
	})
}

// database opens a migrated database, and a second way in for what no port offers.
func database(t testing.TB, cfg sql.Config, open func(t testing.TB) *stdsql.DB, poison func(content []byte) string) storetest.Database {
	db, err := sql.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	raw := open(t)
	t.Cleanup(func() {
		if err := errors.Join(raw.Close(), db.Close()); err != nil {
			t.Error(err)
		}
	})
	return storetest.Database{
		Inbox: db, Devices: db, Nodes: db, Sweeper: db, AppKeys: db.AppKeys(),
		Poison: func(t testing.TB, content []byte) {
			if _, err := raw.Exec(poison(content)); err != nil {
				t.Fatal(err)
			}
		},
		Raw: func(t testing.TB) (n int) {
			if err := raw.QueryRow("SELECT COUNT(*) FROM inbox").Scan(&n); err != nil {
				t.Fatal(err)
			}
			return n
		},
	}
}

func runAll(t *testing.T, factory storetest.DatabaseFactory) {
	t.Run("Inbox", func(t *testing.T) { storetest.RunInbox(t, factory) })
	t.Run("Devices", func(t *testing.T) { storetest.RunDevices(t, factory) })
	t.Run("Nodes", func(t *testing.T) { storetest.RunNodes(t, factory) })
	t.Run("Sweeper", func(t *testing.T) { storetest.RunSweeper(t, factory) })
	t.Run("AppKeys", func(t *testing.T) { storetest.RunAppKeys(t, factory) })
}

func TestSQLite(t *testing.T) { runAll(t, sqliteDatabase) }

func TestSQLiteSchema(t *testing.T) { testSchema(t, sqliteConfig(t)) }

// testSchema: an empty database is a sentence with the command to run, and a migrated one opens.
func testSchema(t *testing.T, cfg sql.Config) {
	_, err := sql.Open(cfg)
	if !errors.Is(err, migrations.ErrSchema) || !strings.Contains(err.Error(), "`gatepost migrate up`") {
		t.Fatal(err)
	}
	for range 2 {
		if err := sql.Migrate(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
	}
	states, err := sql.Status(t.Context(), cfg)
	if err != nil || len(states) == 0 {
		t.Fatal(states, err)
	}
	for _, s := range states {
		if s.AppliedAt.IsZero() || s.Version == 0 {
			t.Errorf("%+v", s)
		}
	}
	reg := prometheus.NewRegistry()
	cfg.Metrics = reg
	for range 2 { // the same registry again
		db, err := sql.Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Ping(t.Context()); err != nil {
			t.Error(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	families, err := reg.Gather()
	if err != nil || len(families) != 1 || families[0].GetName() != "gatepost_store_durable" || len(families[0].GetMetric()) < 2 {
		t.Fatal(families, err)
	}
}

func TestValidate(t *testing.T) {
	for _, spoil := range []func(*sql.Config){
		func(c *sql.Config) { c.Path = "" },
		func(c *sql.Config) { c.Driver = "postgres" },
		func(c *sql.Config) { c.Driver, c.DSN = sql.DriverMySQL, "nonsense" },
		func(c *sql.Config) { c.Driver, c.DSN = sql.DriverMySQL, "root@tcp(localhost)/" },
		func(c *sql.Config) { c.MaxConns = 0 },
		func(c *sql.Config) { c.LockTimeout = 0 },
	} {
		cfg := sql.Default()
		cfg.Path = "x"
		spoil(&cfg)
		if err := cfg.Validate(); err == nil {
			t.Errorf("%+v was taken", cfg)
		}
	}
}
