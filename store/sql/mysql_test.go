//go:build integration

package sql_test

import (
	"context"
	stdsql "database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/google/uuid"

	"github.com/gatepost/gatepost/store"
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

func BenchmarkMySQL(b *testing.B) {
	for _, depth := range depths {
		b.Run(fmt.Sprintf("depth=%d", depth), func(b *testing.B) { benchmarkCycle(b, mysqlDatabase(b), depth) })
	}
}

// mysqlMigrated is the configuration of a database that is set up, and its DSN taken apart.
func mysqlMigrated(t *testing.T) (sql.Config, *mysql.Config) {
	cfg := mysqlConfig(t)
	if err := sql.Migrate(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	dsn, err := mysql.ParseDSN(cfg.DSN)
	if err != nil {
		t.Fatal(err)
	}
	return cfg, dsn
}

// overCable is a database that is set up and reached through a cable. The caller closes it.
func overCable(t *testing.T) (*sql.DB, *cable) {
	cfg, dsn := mysqlMigrated(t)
	c := newCable(t, dsn.Addr)
	dsn.Addr = c.address()
	cfg.DSN = dsn.FormatDSN()
	db, err := sql.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return db, c
}

// toHimself is n messages of user to himself, at most 255, and their ids.
func toHimself(user store.UserKey, n int) (batch []store.Message, ids []store.MsgID) {
	for i := range n {
		m := store.Message{ID: store.MsgID(i + 1), Owner: user, From: user}
		m.ClientMsgID[0] = byte(i + 1)
		m.Digest = store.DigestOf(user, m.ClientMsgID, 0, user)
		batch, ids = append(batch, m), append(ids, m.ID)
	}
	return batch, ids
}

// TestMySQLHangs: a database that takes connections and says no more is store.ErrUnavailable when the context ends, in the middle of a transaction too.
func TestMySQLHangs(t *testing.T) {
	db, cable := overCable(t)
	user := store.UserKey{Domain: "d", UID: "u"}
	for _, tc := range []struct {
		rows    int
		packets int64 // that are sent to store them
	}{
		{1, 1}, // one statement that commits by itself
		{9, 4}, // a transaction of two
	} {
		batch, ids := toHimself(user, tc.rows)
		check := func() { // stores, so that the next round stores again
			t.Helper()
			if _, err := db.Append(t.Context(), batch); err != nil {
				t.Error(err)
			}
			if _, err := db.Confirm(t.Context(), []store.Confirmation{{Owner: user, Class: 1, IDs: ids}}); err != nil {
				t.Error(err)
			}
		}
		check()
		// From the n-th packet on nothing passes: before the transaction, in it, at its commit.
		for n := range tc.packets + 1 {
			cable.cutAfter(n)
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			_, err := db.Append(ctx, batch)
			if n < tc.packets && !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("%d rows, cut after %d packets: %v", tc.rows, n, err)
			}
			cancel()
			cable.mend()
			check()
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestMySQLOneWay: a full insert, and a confirmation that is all that its rows wait for, are one packet each.
func TestMySQLOneWay(t *testing.T) {
	db, cable := overCable(t)
	user := store.UserKey{Domain: "d", UID: "u\xff\x00"}
	if _, err := db.Register(t.Context(), store.Device{Owner: user, Class: 31, SeenAt: time.Now()}); err != nil {
		t.Fatal(err)
	}
	batch, ids := toHimself(user, 12)
	once := func(what string, call func(ctx context.Context) error) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if err := call(ctx); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	appendAll := func(ctx context.Context) error { _, err := db.Append(ctx, batch); return err }
	confirmAll := func(ctx context.Context) error {
		_, err := db.Confirm(ctx, []store.Confirmation{{Owner: user, Class: 31, IDs: ids}})
		return err
	}
	once("append, prepared", appendAll)
	once("confirm, prepared", confirmAll)
	for range 3 {
		cable.cutAfter(1)
		once("append by one packet", appendAll)
		cable.cutAfter(1)
		once("confirm by one packet", confirmAll)
		cable.cutAfter(-1)
		if _, _, _, err := db.Page(t.Context(), store.PageQuery{Owner: user, Class: 1, Limit: 1, MaxBytes: 1}); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestMySQLConfirmsWhatIsLeft: a row that is complete since a class retired, and is still there because that was interrupted, goes when it is
// confirmed once more.
func TestMySQLConfirmsWhatIsLeft(t *testing.T) {
	cfg, dsn := mysqlMigrated(t)
	db, err := sql.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	raw, err := stdsql.Open("mysql", dsn.FormatDSN())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	user := store.UserKey{Domain: "d", UID: "u"}
	for _, class := range []store.DeviceClass{1, 2} {
		if _, err := db.Register(t.Context(), store.Device{Owner: user, Class: class, SeenAt: time.Now()}); err != nil {
			t.Fatal(err)
		}
	}
	m := store.Message{ID: 1, Owner: user, From: user, Digest: store.Digest{1}}
	if _, err := db.Append(t.Context(), []store.Message{m}); err != nil {
		t.Fatal(err)
	}
	for confirmed, want := range []int{1, 0} {
		if _, err := db.Confirm(t.Context(), []store.Confirmation{{Owner: user, Class: 1, IDs: []store.MsgID{1}}}); err != nil {
			t.Fatal(err)
		}
		var rows int
		if err := raw.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM inbox").Scan(&rows); err != nil || rows != want {
			t.Fatalf("%d rows after confirmation %d, want %d, %v", rows, confirmed+1, want, err)
		}
		if _, err := raw.ExecContext(t.Context(), "UPDATE device_mask SET mask = 2"); err != nil { // class 1 alone
			t.Fatal(err)
		}
	}
}

// TestMySQLCommitsByItself: what is accepted is committed, whatever the server or the DSN says of autocommit [G1].
func TestMySQLCommitsByItself(t *testing.T) {
	cfg, dsn := mysqlMigrated(t)
	if dsn.Params == nil {
		dsn.Params = map[string]string{}
	}
	dsn.Params["autocommit"] = "0"
	other, err := sql.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	cfg.DSN = dsn.FormatDSN()
	db, err := sql.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()

	user, at := store.UserKey{Domain: "d", UID: "u"}, time.UnixMilli(1)
	m := store.Message{ID: 1, Owner: user, From: user, CreatedAt: at, ExpiresAt: at.Add(time.Hour)}
	m.Digest = store.DigestOf(user, m.ClientMsgID, 0, user)
	inbox := func() int {
		t.Helper()
		page, _, _, err := other.Page(t.Context(), store.PageQuery{Owner: user, Class: 1, Limit: 10, MaxBytes: 1 << 20, Now: at})
		if err != nil {
			t.Fatal(err)
		}
		return len(page)
	}
	if _, err := db.Append(t.Context(), []store.Message{m}); err != nil || inbox() != 1 {
		t.Fatalf("others find %d rows after an append, %v", inbox(), err)
	}
	if _, err := db.Confirm(t.Context(), []store.Confirmation{{Owner: user, Class: 1, IDs: []store.MsgID{1}}}); err != nil || inbox() != 0 {
		t.Fatalf("others find %d rows after its confirmation, %v", inbox(), err)
	}
}

// cable is a proxy that stops passing on what the client says, and forgets the connection when it is mended.
type cable struct {
	t     testing.TB
	l     net.Listener
	to    string
	left  atomic.Int64 // packets that pass; negative: all
	mu    sync.Mutex
	conns []net.Conn
	wg    sync.WaitGroup
}

func newCable(t testing.TB, to string) *cable {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cable{t: t, l: l, to: to}
	c.left.Store(-1)
	c.wg.Go(c.serve)
	t.Cleanup(func() {
		l.Close()
		c.mend()
		c.wg.Wait()
	})
	return c
}

func (c *cable) address() string { return c.l.Addr().String() }

func (c *cable) cutAfter(n int64) { c.left.Store(n) }

// mend closes what is open, so that nothing hangs for ever, and lets everything pass.
func (c *cable) mend() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		conn.Close()
	}
	c.conns = nil
	c.left.Store(-1)
}

func (c *cable) serve() {
	for {
		client, err := c.l.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", c.to)
		if err != nil {
			client.Close()
			continue
		}
		c.mu.Lock()
		c.conns = append(c.conns, client, server)
		c.mu.Unlock()
		c.wg.Go(func() {
			defer client.Close()
			io.Copy(client, server)
		})
		c.wg.Go(func() {
			defer server.Close()
			buf := make([]byte, 1<<20)
			for {
				n, err := client.Read(buf)
				if err != nil {
					return
				}
				if left := c.left.Load(); left >= 0 && c.left.Add(-1) < 0 {
					c.left.Store(0)
					continue // swallowed: the server never answers
				}
				if _, err := server.Write(buf[:n]); err != nil {
					return
				}
			}
		})
	}
}
