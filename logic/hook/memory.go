package hook

import (
	"container/list"
	"strings"
	"sync"
	"time"
)

type verdict struct {
	allowed bool
	reason  string
}

// memory holds answers for a while, and at most so many of them. A nil one holds nothing.
type memory struct {
	life time.Duration
	most int

	mu      sync.Mutex
	answers map[question]*list.Element // of *kept
	byAge   *list.List                 // the oldest first, which also ends first
}

type kept struct {
	question question
	verdict  verdict
	until    time.Time
}

func newMemory(life time.Duration, most int) *memory {
	return &memory{life: life, most: most, answers: make(map[question]*list.Element), byAge: list.New()}
}

func (m *memory) recall(q question) (verdict, bool) {
	if m == nil {
		return verdict{}, false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forgetLocked(time.Now(), m.most)
	e := m.answers[q]
	if e == nil {
		return verdict{}, false
	}
	return e.Value.(*kept).verdict, true
}

func (m *memory) keep(q question, v verdict) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if e := m.answers[q]; e != nil { // asked twice at once: the later answer counts
		m.removeLocked(e)
	}
	m.forgetLocked(now, m.most-1)
	// The strings of a message share memory with its content.
	q.From.Domain, q.From.UID = strings.Clone(q.From.Domain), strings.Clone(q.From.UID)
	q.To.Domain, q.To.UID = strings.Clone(q.To.Domain), strings.Clone(q.To.UID)
	q.Type = strings.Clone(q.Type)
	m.answers[q] = m.byAge.PushBack(&kept{q, v, now.Add(m.life)})
}

// forgetLocked removes what has ended, and the oldest beyond most.
func (m *memory) forgetLocked(now time.Time, most int) {
	for e := m.byAge.Front(); e != nil && (m.byAge.Len() > most || !now.Before(e.Value.(*kept).until)); e = m.byAge.Front() {
		m.removeLocked(e)
	}
}

func (m *memory) removeLocked(e *list.Element) {
	delete(m.answers, e.Value.(*kept).question)
	m.byAge.Remove(e)
}
