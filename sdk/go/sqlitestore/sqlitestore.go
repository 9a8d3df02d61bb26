// Package sqlitestore keeps a Client's state in one SQLite file.
package sqlitestore

import (
	"errors"

	gatepost "github.com/gatepost/gatepost/sdk/go"
)

// Store is a gatepost.Store in a file.
type Store struct{ gatepost.Store }

// Open opens or creates the file at path.
func Open(path string) (*Store, error) { return nil, errors.New("sqlitestore: not open") }
