package gate

import (
	"hash/maphash"
	"slices"
	"sync"

	"github.com/gatepost/gatepost/idl/gen/logicpb"
)

// tableShards is a power of two; a walk over the sessions goes shard by shard.
const tableShards = 64

// table holds the gate's connections by id, and its sessions by user. A shard's lock may be taken while a connection's is held,
// never the other way round: whoever walks takes a copy first.
type table struct {
	seed  maphash.Seed
	conns [tableShards]struct {
		mu   sync.Mutex
		byID map[uint64]*conn
	}
	users [tableShards]struct {
		mu    sync.Mutex
		byKey map[userKey][]entry
	}
}

type userKey struct{ domain, uid string }

// entry is one session of a user: at most one for each device class.
type entry struct {
	c       *conn
	session *logicpb.Session
}

func newTable() *table {
	t := &table{seed: maphash.MakeSeed()}
	for i := range tableShards {
		t.conns[i].byID = make(map[uint64]*conn)
		t.users[i].byKey = make(map[userKey][]entry)
	}
	return t
}

func (t *table) userShard(k userKey) int {
	return int(maphash.Comparable(t.seed, k) % tableShards)
}

func (t *table) add(c *conn) {
	s := &t.conns[c.id%tableShards]
	s.mu.Lock()
	s.byID[c.id] = c
	s.mu.Unlock()
}

func (t *table) remove(c *conn) {
	s := &t.conns[c.id%tableShards]
	s.mu.Lock()
	delete(s.byID, c.id)
	s.mu.Unlock()
}

// get returns the connection with that id, nil when there is none.
func (t *table) get(id uint64) *conn {
	s := &t.conns[id%tableShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byID[id]
}

// shard returns the connections of one shard, as they are now, sessions or not.
func (t *table) shard(i int) []*conn {
	s := &t.conns[i]
	s.mu.Lock()
	defer s.mu.Unlock()
	cs := make([]*conn, 0, len(s.byID))
	for _, c := range s.byID {
		cs = append(cs, c)
	}
	return cs
}

// all returns all connections, shard by shard.
func (t *table) all() []*conn {
	var cs []*conn
	for i := range tableShards {
		cs = append(cs, t.shard(i)...)
	}
	return cs
}

// bind enters session s of c, unless a session with a higher number of that user and device class stands there:
// that one is returned as winner, and nothing has changed. replaced is the connection that lost its place to c.
func (t *table) bind(c *conn, s *logicpb.Session) (replaced *conn, winner *logicpb.Session) {
	k := userKey{s.Domain, s.Uid}
	u := &t.users[t.userShard(k)]
	u.mu.Lock()
	defer u.mu.Unlock()
	entries := u.byKey[k]
	i := slices.IndexFunc(entries, func(e entry) bool { return e.session.DeviceClass == s.DeviceClass })
	if i < 0 {
		u.byKey[k] = append(entries, entry{c, s})
		return nil, nil
	}
	if entries[i].session.Number > s.Number {
		return nil, entries[i].session
	}
	if entries[i].c != c {
		replaced = entries[i].c
	}
	entries[i] = entry{c, s}
	return replaced, nil
}

// unbind removes session s of c, if it still stands there.
func (t *table) unbind(c *conn, s *logicpb.Session) {
	k := userKey{s.Domain, s.Uid}
	u := &t.users[t.userShard(k)]
	u.mu.Lock()
	defer u.mu.Unlock()
	entries := slices.DeleteFunc(u.byKey[k], func(e entry) bool { return e.c == c && e.session == s })
	if len(entries) == 0 {
		delete(u.byKey, k)
	} else {
		u.byKey[k] = entries
	}
}

// find appends the sessions of a user to dst; class 0: of all device classes.
func (t *table) find(dst []entry, domain, uid string, class int32) []entry {
	k := userKey{domain, uid}
	u := &t.users[t.userShard(k)]
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, e := range u.byKey[k] {
		if class == 0 || e.session.DeviceClass == class {
			dst = append(dst, e)
		}
	}
	return dst
}
