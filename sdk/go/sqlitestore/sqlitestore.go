// Package sqlitestore keeps a Client's state in one SQLite file.
//
// It runs SQLite as WebAssembly in pure Go and registers no database/sql driver, so it lives beside any other SQLite in the
// same program. The file, and the -wal file beside it, belong where the system's backup does not restore them.
package sqlitestore

import (
	_ "embed"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	gatepost "github.com/gatepost/gatepost/sdk/go"
	"github.com/ncruces/go-sqlite3"
	_ "github.com/ncruces/go-sqlite3/embed" // the SQLite that runs
)

//go:embed schema.sql
var schema string

//go:embed upgrade1.sql
var upgrade1 string

// version of the schema. An older file is brought up to it by Open, one of a newer SDK is refused.
const version = 2

// Store is a gatepost.Store in a file. It is used by one goroutine at a time.
//
// Durable commits are flushed (WAL, synchronous FULL); the others reach the disk with the next durable one, in order.
type Store struct {
	db      *sqlite3.Conn
	stmts   map[string]*sqlite3.Stmt
	durable bool // how synchronous stands
}

// Open opens or creates the file at path, it and its -wal readable by their owner alone, and locks it until Close. If another process or Store
// holds it, the error wraps gatepost.ErrStoreInUse.
//
// The first Open of a process compiles SQLite from WebAssembly, which takes most of a second. A program that starts often may keep
// the result on disk: sqlite3.RuntimeConfig with a wazero compilation cache, set before.
func Open(path string) (*Store, error) {
	s, err := open(path)
	if errors.Is(err, sqlite3.BUSY) || errors.Is(err, sqlite3.LOCKED) {
		err = fmt.Errorf("%w: %s is open in another process or client", gatepost.ErrStoreInUse, path)
	}
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", path, err)
	}
	return s, nil
}

func open(path string) (_ *Store, err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	f.Close()
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	// modeof: the -wal file, which holds messages too, is to have the mode of the file beside it.
	escaped := strings.ReplaceAll(url.QueryEscape(absolute), "+", "%20") // SQLite takes + as it is
	db, err := sqlite3.OpenFlags("file:"+escaped+"?modeof="+escaped, sqlite3.OPEN_READWRITE|sqlite3.OPEN_URI)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			db.Close()
		}
	}()
	// Locked exclusively from the first access on, WAL needs no shared memory.
	if err = db.Exec(`PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
		PRAGMA temp_store = MEMORY; BEGIN IMMEDIATE; COMMIT`); err != nil {
		return nil, err
	}
	s := &Store{db: db, stmts: map[string]*sqlite3.Stmt{}, durable: true}
	if err = s.migrate(); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Store) migrate() error {
	var found int64
	if err := s.query("PRAGMA user_version", func(row *sqlite3.Stmt) { found = row.ColumnInt64(0) }); err != nil {
		return err
	}
	switch {
	case found > version:
		return fmt.Errorf("it was written by a newer SDK (schema %d, this one knows %d)", found, version)
	case found == version:
		return nil
	}
	step := schema
	if found == 1 {
		step = upgrade1
	}
	err := s.inTransaction(func() error {
		return s.db.Exec(fmt.Sprintf("%s; PRAGMA user_version = %d", step, version))
	})
	if err != nil {
		return fmt.Errorf("bring schema %d to %d: %w", found, version, err)
	}
	return nil
}

// Commit applies c in one transaction.
func (s *Store) Commit(c *gatepost.Changes) error {
	if c.Durable != s.durable {
		mode := "NORMAL"
		if c.Durable {
			mode = "FULL"
		}
		if err := s.db.Exec("PRAGMA synchronous = " + mode); err != nil {
			return err
		}
		s.durable = c.Durable
	}
	return s.inTransaction(func() error { return s.apply(c) })
}

func (s *Store) inTransaction(do func() error) error {
	if err := s.db.Exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	if err := do(); err != nil {
		return errors.Join(err, s.db.Exec("ROLLBACK"))
	}
	if err := s.db.Exec("COMMIT"); err != nil {
		if !s.db.GetAutocommit() {
			err = errors.Join(err, s.db.Exec("ROLLBACK"))
		}
		return err
	}
	return nil
}

// Close unlocks the file.
func (s *Store) Close() error {
	if s.db == nil {
		return nil
	}
	for _, stmt := range s.stmts {
		stmt.Close()
	}
	err := s.db.Close()
	s.db = nil
	return err
}

// prepare returns the kept statement of sql.
func (s *Store) prepare(sql string) (*sqlite3.Stmt, error) {
	if s.db == nil {
		return nil, errors.New("sqlitestore: closed")
	}
	if stmt := s.stmts[sql]; stmt != nil {
		return stmt, nil
	}
	stmt, _, err := s.db.Prepare(sql)
	if err != nil {
		return nil, err
	}
	s.stmts[sql] = stmt
	return stmt, nil
}

// exec runs sql with args: int64, string, []byte (nil: an empty blob) or nil.
func (s *Store) exec(sql string, args ...any) error {
	stmt, err := s.prepare(sql)
	if err != nil {
		return err
	}
	for i, arg := range args {
		switch v := arg.(type) {
		case int64:
			err = stmt.BindInt64(i+1, v)
		case string:
			err = stmt.BindText(i+1, v)
		case []byte:
			if v == nil {
				v = []byte{}
			}
			err = stmt.BindBlob(i+1, v)
		case nil:
			err = stmt.BindNull(i + 1)
		default:
			err = fmt.Errorf("cannot bind a %T", arg)
		}
		if err != nil {
			return err
		}
	}
	return errors.Join(stmt.Exec(), stmt.ClearBindings())
}

// query calls row for each row.
func (s *Store) query(sql string, row func(*sqlite3.Stmt)) error {
	stmt, err := s.prepare(sql)
	if err != nil {
		return err
	}
	for stmt.Step() {
		row(stmt)
	}
	return errors.Join(stmt.Err(), stmt.Reset())
}
