package logic

import (
	"errors"
	"sync"
	"time"

	"github.com/gatepost/gatepost/store"
)

// A message id is, from the highest bit:  0:1  milliseconds since idEpoch:41  node number:10  sequence:12
const (
	idSeqBits  = 12
	idNodeBits = 10
)

// idEpoch is where the milliseconds of message ids begin: 2024-01-01 UTC. 41 bits last until 2093.
var idEpoch = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)

var errNoIDs = errors.New("no node number, or its reserved ids are used up")

// idMaker makes message ids under a leased node number: below the lease's high-water mark only, and never back in time,
// whatever the clock does. So two holders of one number, one after the other, never make the same id.
type idMaker struct {
	now func() time.Time

	mu    sync.Mutex
	valid bool
	node  uint64
	last  int64 // millisecond of the last id
	seq   uint64
	end   int64 // ids are made in milliseconds below it
}

func millisOf(t time.Time) int64 { return t.Sub(idEpoch).Milliseconds() }

// grant begins or prolongs a lease. fresh: the number was not ours before; ids then begin at the lease's From, where whoever held the
// number before must have stopped.
func (m *idMaker) grant(l store.NodeLease, fresh bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if fresh {
		m.last, m.seq = max(m.last+1, millisOf(l.From)+1), 0 // rounded up
		m.node = uint64(l.Number)
	}
	m.end = millisOf(l.HighWater)
	m.valid = true
}

// suspend makes no ids until the next grant.
func (m *idMaker) suspend() {
	m.mu.Lock()
	m.valid = false
	m.mu.Unlock()
}

// ready reports whether an id could be made now.
func (m *idMaker) ready() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.valid && max(m.last, millisOf(m.now())) < m.end
}

// next makes an id; errNoIDs.
func (m *idMaker) next() (store.MsgID, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.valid {
		return 0, errNoIDs
	}
	if now := millisOf(m.now()); now > m.last {
		m.last, m.seq = now, 0
	} else if m.seq++; m.seq == 1<<idSeqBits {
		m.last, m.seq = m.last+1, 0
	}
	if m.last >= m.end {
		return 0, errNoIDs
	}
	return store.MsgID(uint64(m.last)<<(idNodeBits+idSeqBits) | m.node<<idSeqBits | m.seq), nil
}
