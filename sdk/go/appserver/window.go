package appserver

import (
	"crypto/sha256"
	"time"

	"github.com/IBM/sarama"

	"github.com/gatepost/gatepost/idl/event"
)

// eventKey names an event by its source and id, in 16 bytes.
type eventKey [16]byte

// keyOf returns the key of a record with these headers; ok: it has an id and a source.
func keyOf(headers []*sarama.RecordHeader) (k eventKey, ok bool) {
	var id, source []byte
	for _, h := range headers {
		switch string(h.Key) {
		case event.ID:
			id = h.Value
		case event.Source:
			source = h.Value
		}
	}
	if len(id) == 0 || len(source) == 0 {
		return k, false
	}
	h := sha256.New()
	h.Write(source)
	h.Write([]byte{0})
	h.Write(id)
	copy(k[:], h.Sum(nil))
	return k, true
}

// window remembers the last ids of one partition. Time is that of the records, so a partition that is read late remembers as much
// as one that is read at once. It belongs to one goroutine.
type window struct {
	records int           // at most; 0: nothing is remembered
	age     time.Duration // 0: whatever their age
	newest  time.Time
	known   map[eventKey]struct{}
	order   []windowEntry // from head on, oldest first
	head    int
}

type windowEntry struct {
	key eventKey
	at  time.Time
}

func newWindow(records int, age time.Duration) *window {
	return &window{records: records, age: age, known: make(map[eventKey]struct{})}
}

// has reports whether k is remembered when a record of time at is read.
func (w *window) has(k eventKey, at time.Time) bool {
	w.expire(at)
	_, ok := w.known[k]
	return ok
}

// add remembers k.
func (w *window) add(k eventKey, at time.Time) {
	w.expire(at)
	if _, ok := w.known[k]; ok || w.records == 0 {
		return
	}
	if len(w.known) == w.records {
		w.drop()
	}
	w.known[k] = struct{}{}
	w.order = append(w.order, windowEntry{k, at})
}

func (w *window) expire(at time.Time) {
	if at.After(w.newest) {
		w.newest = at
	}
	for w.age > 0 && w.head < len(w.order) && w.newest.Sub(w.order[w.head].at) > w.age {
		w.drop()
	}
}

func (w *window) drop() {
	delete(w.known, w.order[w.head].key)
	w.head++
	if w.head > len(w.order)/2 {
		w.order = append(w.order[:0], w.order[w.head:]...)
		w.head = 0
	}
}
