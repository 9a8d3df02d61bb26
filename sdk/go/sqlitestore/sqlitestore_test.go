package sqlitestore_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	gatepost "github.com/gatepost/gatepost/sdk/go"
	"github.com/gatepost/gatepost/sdk/go/sqlitestore"
	"github.com/gatepost/gatepost/sdk/go/storetest"
)

func TestContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) (gatepost.Store, func() gatepost.Store) {
		path := filepath.Join(t.TempDir(), "store.db")
		s, err := sqlitestore.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		return s, func() gatepost.Store {
			crashed := filepath.Join(t.TempDir(), "store.db")
			for _, suffix := range []string{"", "-wal"} {
				b, err := os.ReadFile(path + suffix)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(crashed+suffix, b, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			again, err := sqlitestore.Open(crashed)
			if err != nil {
				t.Fatal(err)
			}
			return again
		}
	})
}

func TestFilesAreTheOwnersAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a ?#%41+&=b.db")
	s, err := sqlitestore.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, suffix := range []string{"", "-wal"} {
		info, err := os.Stat(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != 0o600 {
			t.Errorf("store%s has mode %v, want 0600", suffix, got)
		}
	}
}

func TestSecondOpenIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s, err := sqlitestore.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sqlitestore.Open(path); !errors.Is(err, gatepost.ErrStoreInUse) {
		t.Fatalf("second open: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, err = sqlitestore.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}
