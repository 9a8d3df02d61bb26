// Package memstore keeps a Client's state in memory, for tests and for clients that may forget: what was not sent or shown
// when the process ends is lost to this device, and the next process is another installation.
package memstore

import (
	"cmp"
	"maps"
	"slices"
	"sync"

	gatepost "github.com/gatepost/gatepost/sdk/go"
)

// Store is a gatepost.Store in memory. After Close it can be loaded again, by one Client at a time.
type Store struct {
	mu       sync.Mutex
	loaded   bool
	identity gatepost.Identity
	targets  map[gatepost.User]gatepost.Target
	outbox   map[uint64]*gatepost.OutboxEntry
	marks    map[gatepost.MarkKey]gatepost.Mark
	received map[uint64]*gatepost.Received
	seen     map[uint64]gatepost.SeenID
}

// New makes an empty Store.
func New() *Store {
	return &Store{
		targets:  map[gatepost.User]gatepost.Target{},
		outbox:   map[uint64]*gatepost.OutboxEntry{},
		marks:    map[gatepost.MarkKey]gatepost.Mark{},
		received: map[uint64]*gatepost.Received{},
		seen:     map[uint64]gatepost.SeenID{},
	}
}

// Load returns all that is kept. It fails with gatepost.ErrStoreInUse until the Client that loaded before has closed.
func (s *Store) Load() (*gatepost.Snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.loaded {
		return nil, gatepost.ErrStoreInUse
	}
	s.loaded = true
	return &gatepost.Snapshot{
		Identity: s.identity,
		Targets:  slices.Collect(maps.Values(s.targets)),
		Outbox:   values(sorted(s.outbox)),
		Marks:    slices.Collect(maps.Values(s.marks)),
		Received: values(sorted(s.received)),
		Seen:     sorted(s.seen),
	}, nil
}

func sorted[V any](m map[uint64]V) []V {
	if len(m) == 0 {
		return nil
	}
	list := make([]V, 0, len(m))
	for _, n := range slices.SortedFunc(maps.Keys(m), cmp.Compare[uint64]) {
		list = append(list, m[n])
	}
	return list
}

func values[V any](list []*V) []V {
	var all []V
	for _, v := range list {
		all = append(all, *v)
	}
	return all
}

// Commit applies c. It does not fail.
func (s *Store) Commit(c *gatepost.Changes) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.Identity != nil {
		s.identity = *c.Identity
	}
	drop(s.targets, c.DeleteTargets)
	for _, t := range c.PutTargets {
		s.targets[t.To] = t
	}
	for _, e := range c.PutOutbox {
		s.outbox[e.Number] = &e
	}
	for _, n := range c.SetSent {
		if e := s.outbox[n]; e != nil {
			e.Sent = true
		}
	}
	for _, o := range c.SetOutcomes {
		if e := s.outbox[o.Number]; e != nil {
			e.Outcome, e.Content = &o.Outcome, nil
		}
	}
	drop(s.outbox, c.DeleteOutbox)
	drop(s.marks, c.DeleteMarks)
	for _, m := range c.PutMarks {
		s.marks[m.Key] = m
	}
	for _, r := range c.PutReceived {
		s.received[r.Number] = &r
	}
	for _, n := range c.SetShown {
		if r := s.received[n]; r != nil {
			rest := gatepost.Message{MsgID: r.Message.MsgID, Receipt: r.Message.Receipt}
			*r = gatepost.Received{Number: n, Shown: true, Message: rest}
		}
	}
	drop(s.received, c.DeleteReceived)
	for _, id := range c.PutSeen {
		s.seen[id.Number] = id
	}
	drop(s.seen, c.DeleteSeen)
	return nil
}

func drop[K comparable, V any](m map[K]V, keys []K) {
	for _, k := range keys {
		delete(m, k)
	}
}

// Copy makes a Store with the same content, as if the process had ended here: nobody has loaded it.
func (s *Store) Copy() *Store {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &Store{
		identity: s.identity,
		targets:  maps.Clone(s.targets),
		outbox:   copies(s.outbox),
		marks:    maps.Clone(s.marks),
		received: copies(s.received),
		seen:     maps.Clone(s.seen),
	}
}

func copies[V any](m map[uint64]*V) map[uint64]*V {
	other := make(map[uint64]*V, len(m))
	for n, v := range m {
		own := *v
		other[n] = &own
	}
	return other
}

// Close lets another Client load the Store. The content stays.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loaded = false
	return nil
}
