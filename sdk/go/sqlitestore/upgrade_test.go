package sqlitestore_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	gatepost "github.com/gatepost/gatepost/sdk/go"
	"github.com/gatepost/gatepost/sdk/go/sqlitestore"
	"github.com/google/go-cmp/cmp"
	"github.com/ncruces/go-sqlite3"
)

// within runs do over the file at path.
func within(t *testing.T, path string, do func(db *sqlite3.Conn)) {
	t.Helper()
	db, err := sqlite3.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	do(db)
}

// columns lists all that the file at path has, whatever their order.
func columns(t *testing.T, path string) (all []string) {
	t.Helper()
	within(t, path, func(db *sqlite3.Conn) {
		rows, _, err := db.Prepare(`SELECT m.name, c.name, c.type, c."notnull", c.pk FROM sqlite_schema m, pragma_table_info(m.name) c WHERE m.type = 'table'`)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		for rows.Step() {
			all = append(all, fmt.Sprint(rows.ColumnText(0), ".", rows.ColumnText(1), " ", rows.ColumnText(2), rows.ColumnInt(3), rows.ColumnInt(4)))
		}
	})
	slices.Sort(all)
	return all
}

func openAndClose(t *testing.T, path string) {
	t.Helper()
	s, err := sqlitestore.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestOldFileIsBroughtUpToDate(t *testing.T) {
	old, fresh := filepath.Join(t.TempDir(), "old.db"), filepath.Join(t.TempDir(), "fresh.db")
	schema, err := os.ReadFile("testdata/schema1.sql")
	if err != nil {
		t.Fatal(err)
	}
	within(t, old, func(db *sqlite3.Conn) {
		if err := db.Exec(string(schema) + `;
			INSERT INTO identity VALUES (1, 'd', 'alice', 2, x'01020304050607080900010203040506', 3, 4);
			INSERT INTO outbox (number, client_msg_id, domain, uid, stream, target_seq, type, content, created_at, ttl)
				VALUES (1, x'01000000000000000000000000000000', 'd', 'bob', 4, 1, 't', x'78', 1700000000000000000, 0);
			INSERT INTO received VALUES (7, 5, 1, '', '', 0, x'', '', x'', 0, 0, 0, 0, 0);
			INSERT INTO seen VALUES (4, 'd', 'bob', x'03000000000000000000000000000000');
			PRAGMA user_version = 1`); err != nil {
			t.Fatal(err)
		}
	})
	s, err := sqlitestore.Open(old)
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.Load()
	if err != nil {
		t.Fatal(err)
	}
	bob := gatepost.User{Domain: "d", UID: "bob"}
	want := &gatepost.Snapshot{
		Identity: gatepost.Identity{
			User: gatepost.User{Domain: "d", UID: "alice"}, Device: gatepost.IOS, LoginCounter: 3, Stream: 4,
			Installation: [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2, 3, 4, 5, 6},
		},
		Outbox: []gatepost.OutboxEntry{{
			Number: 1, ClientMsgID: gatepost.ClientMsgID{1}, To: bob, Stream: 4, TargetSeq: 1, Type: "t", Content: []byte("x"),
			CreatedAt: time.Unix(1_700_000_000, 0),
		}},
		Received: []gatepost.Received{{Number: 7, Shown: true, Message: gatepost.Message{MsgID: 5}}},
		Seen:     []gatepost.SeenID{{Number: 4, From: bob, ID: gatepost.ClientMsgID{3}}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("-want +got:\n%s", diff)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	openAndClose(t, old)
	openAndClose(t, fresh)
	if diff := cmp.Diff(columns(t, fresh), columns(t, old)); diff != "" {
		t.Fatalf("an old file differs from a new one (-new +old):\n%s", diff)
	}
}

func TestNewerFileIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	openAndClose(t, path)
	within(t, path, func(db *sqlite3.Conn) {
		if err := db.Exec("PRAGMA user_version = 99"); err != nil {
			t.Fatal(err)
		}
	})
	if _, err := sqlitestore.Open(path); err == nil || !strings.Contains(err.Error(), "newer SDK") {
		t.Fatalf("open: %v", err)
	}
}
