//go:build integration

package limit

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
)

// server is a DSN with the right to create databases.
func server(t *testing.T) string {
	t.Helper()
	dsn := os.Getenv("GATEPOST_TEST_MYSQL")
	if dsn == "" {
		t.Fatal("GATEPOST_TEST_MYSQL must name a server: run deploy/servers/up.sh mariadb, then source the file that it names")
	}
	return dsn
}

func openReal(t *testing.T, dsn string) *Database {
	t.Helper()
	d, err := OpenMySQL(t.Context(), dsn, 200)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func TestRealCycleLeavesNothing(t *testing.T) {
	d := openReal(t, server(t))
	for _, p := range []Plan{{Batch: 1, Lanes: 1}, {Batch: 1024, Lanes: 4}, {Batch: 64, Lanes: 2, Join: true}} {
		r, err := d.Cycle(t.Context(), p, 100*time.Millisecond)
		if err != nil || r.Rows == 0 {
			t.Fatal(p, r, err)
		}
		if n := d.count(t); n != 0 {
			t.Errorf("%s: %d rows stay", p, n)
		}
	}
}

// A commit through the proxy takes longer, whether it is asked for or comes with a statement; a select does not.
func TestRealCommitsAreSlower(t *testing.T) {
	const delay = 80 * time.Millisecond
	p, dsn, err := NewSlowCommits(server(t), delay)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	d := openReal(t, dsn)
	l, err := d.CommitAt(t.Context(), 5, 500*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if low := float64(delay/time.Millisecond) * 0.99; l.P50 < low {
		t.Errorf("a commit took %.1f ms, less than it is delayed", l.P50)
	}
	fast := time.Hour // of ten: what else the machine does is not asked for
	for range 10 {
		begin := time.Now()
		d.count(t)
		fast = min(fast, time.Since(begin))
	}
	if fast >= delay {
		t.Errorf("a select takes %s", fast)
	}
	tx, err := d.db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := tx.Commit(); err != nil || time.Since(begin) < delay {
		t.Errorf("a COMMIT took %s: %v", time.Since(begin), err)
	}
}

func TestRealRowsRestOverRuns(t *testing.T) {
	ctx, name := t.Context(), fmt.Sprintf("gatepost_test_rest_%x", rand.Uint64())
	dsn, err := KeptDatabase(ctx, server(t), name)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	c, err := mysql.NewConnector(cfg)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(c)
	t.Cleanup(func() {
		if _, err := db.ExecContext(context.Background(), "DROP DATABASE "+name); err != nil {
			t.Error(err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	r := Resting{DSN: dsn, Domain: "local", Rows: 3300, Size: 50}
	for range 2 { // the second time everything is there
		var told int64
		if err := r.Fill(ctx, func(n int64) { told = n }); err != nil || told != r.Rows {
			t.Fatal(told, err)
		}
		var rows, users, least int64
		if err := db.QueryRow("SELECT SUM(n), COUNT(*), MIN(n) FROM (SELECT COUNT(*) AS n FROM inbox WHERE domain = 'local' GROUP BY uid) AS u").Scan(&rows, &users, &least); err != nil {
			t.Fatal(err)
		}
		if rows != r.Rows || users != r.Users() || least != RowsPerUser {
			t.Errorf("%d rows for %d users, at least %d each", rows, users, least)
		}
	}
	beside, err := OpenMySQLIn(ctx, dsn, 50)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := beside.Cycle(ctx, Plan{Batch: 16, Lanes: 2}, 50*time.Millisecond); err != nil {
		t.Error(err)
	}
	if n := beside.count(t); int64(n) != r.Rows {
		t.Errorf("%d rows rest after a cycle beside them", n)
	}
	if err := beside.Close(); err != nil {
		t.Error(err)
	}
	r.Rows = 100
	if err := r.Fill(ctx, func(int64) {}); err == nil || !strings.Contains(err.Error(), "more than 100") {
		t.Errorf("%v", err)
	}
}
