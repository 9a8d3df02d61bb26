package gatepost

import (
	"slices"
	"time"
)

// Bounds of what is remembered of numbered sequences.
const (
	// maxGaps is the most spans of one mark. When there are more, the lowest is forgotten: what it misses counts as taken.
	maxGaps = 64
	// maxMarks is the most marks; when there are more, the tenth that was idle longest is forgotten.
	maxMarks = 10_000
	// maxMarksBySender is the most marks of one sender: one who makes up streams evicts nobody's but his own.
	maxMarksBySender = 64
	// markIdle is how long a mark is kept without use: longer than any sender resends.
	markIdle = 30 * 24 * time.Hour
)

type place uint8

const (
	placeNext  place = iota // the number after the highest
	placeTaken              // taken before: a repeat
	placeLate               // in a gap that was passed
	placeJump               // beyond the next
)

// place says where number seq stands. seq is not 0.
func (m *Mark) place(seq uint64) place {
	switch {
	case seq == m.High+1:
		return placeNext
	case seq > m.High:
		return placeJump
	}
	if _, in := m.gap(seq); in {
		return placeLate
	}
	return placeTaken
}

func (m *Mark) gap(seq uint64) (int, bool) {
	return slices.BinarySearchFunc(m.Gaps, seq, func(s Span, seq uint64) int {
		switch {
		case s.Last < seq:
			return -1
		case s.First > seq:
			return 1
		}
		return 0
	})
}

// take marks seq as taken, passing what lies between it and the highest. Gaps is a new slice when it changes: the store may
// hold the old one.
func (m *Mark) take(seq uint64) {
	if seq > m.High {
		if seq > m.High+1 {
			m.Gaps = append(slices.Clone(m.Gaps), Span{m.High + 1, seq - 1})
		}
		m.High = seq
	} else if i, in := m.gap(seq); in {
		s := m.Gaps[i]
		var rest []Span
		if s.First < seq {
			rest = append(rest, Span{s.First, seq - 1})
		}
		if s.Last > seq {
			rest = append(rest, Span{seq + 1, s.Last})
		}
		m.Gaps = slices.Replace(slices.Clone(m.Gaps), i, i+1, rest...)
	}
	if n := len(m.Gaps) - maxGaps; n > 0 {
		m.Gaps = m.Gaps[n:]
	}
}

// markTable holds all marks by key, and counts them by sender.
type markTable struct {
	marks    map[MarkKey]*Mark
	bySender map[User]int
}

func newMarkTable() markTable {
	return markTable{marks: map[MarkKey]*Mark{}, bySender: map[User]int{}}
}

// get returns the mark of key; one that is not there has taken nothing, and is not added.
func (t *markTable) get(key MarkKey) *Mark {
	if m := t.marks[key]; m != nil {
		return m
	}
	return &Mark{Key: key}
}

// put keeps m and returns the keys that had to go for it.
func (t *markTable) put(m *Mark) (evicted []MarkKey) {
	if t.marks[m.Key] != nil {
		return nil
	}
	if t.bySender[m.Key.From] >= maxMarksBySender {
		evicted = t.evict(1, func(k MarkKey) bool { return k.From == m.Key.From })
	} else if len(t.marks) >= maxMarks {
		evicted = t.evict(maxMarks/10, func(MarkKey) bool { return true })
	}
	t.marks[m.Key] = m
	t.bySender[m.Key.From]++
	return evicted
}

// evict forgets the n marks among those that qualify that were idle longest.
func (t *markTable) evict(n int, qualifies func(MarkKey) bool) []MarkKey {
	var idle []*Mark
	for k, m := range t.marks {
		if qualifies(k) {
			idle = append(idle, m)
		}
	}
	slices.SortFunc(idle, func(a, b *Mark) int { return a.LastUsed.Compare(b.LastUsed) })
	var keys []MarkKey
	for _, m := range idle[:min(n, len(idle))] {
		keys = append(keys, m.Key)
		t.remove(m.Key)
	}
	return keys
}

func (t *markTable) remove(key MarkKey) {
	delete(t.marks, key)
	if t.bySender[key.From]--; t.bySender[key.From] <= 0 {
		delete(t.bySender, key.From)
	}
}
