package kafka

import (
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"github.com/gatepost/gatepost/idl/event"
	"github.com/gatepost/gatepost/mq"
)

// maxHeaders is how many headers a record has at most.
const maxHeaders = 12

// The names of the headers, as a record carries them. Nobody changes them.
var (
	keySpecVersion = []byte(event.SpecVersion)
	keyID          = []byte(event.ID)
	keySource      = []byte(event.Source)
	keyType        = []byte(event.Type)
	keyTime        = []byte(event.Time)
	keyDomain      = []byte(event.Domain)
	keyUID         = []byte(event.UID)
	keyDevice      = []byte(event.Device)
	keyStream      = []byte(event.Stream)
	keySeq         = []byte(event.Seq)
	keyTraceparent = []byte(event.Traceparent)
	keyContentType = []byte(event.ContentType)
	specVersion    = []byte(event.Version)
)

// recordMaker makes the records of a batch. They are valid until the next make, or until it lies in makers.
type recordMaker struct {
	records    []*sarama.Record
	all        []sarama.Record
	headers    []sarama.RecordHeader
	headerRefs []*sarama.RecordHeader
	text       []byte
}

// make turns events into CloudEvents in binary mode: the values are the contents untouched, which the records share.
func (m *recordMaker) make(items []*item) []*sarama.Record {
	text := 0
	for _, it := range items {
		text += it.bytes - len(it.record.Event.Content)
	}
	m.records = slices.Grow(m.records[:0], len(items))
	m.all = slices.Grow(m.all[:0], len(items))
	m.headers = slices.Grow(m.headers[:0], maxHeaders*len(items))
	m.headerRefs = slices.Grow(m.headerRefs[:0], maxHeaders*len(items))
	m.text = slices.Grow(m.text[:0], text)
	for i, it := range items {
		m.add(&it.record.Event, i)
	}
	return m.records
}

// makers keep the memory of batches for others.
var makers = sync.Pool{New: func() any { return new(recordMaker) }}

// release lets go of the contents.
func (m *recordMaker) release() {
	clear(m.all)
	makers.Put(m)
}

func (m *recordMaker) add(e *mq.Event, place int) {
	first := len(m.headers)
	m.header(keySpecVersion, specVersion)
	m.string(keyID, e.ID)
	m.string(keySource, e.Source)
	m.string(keyType, e.Type)
	if !e.Time.IsZero() {
		from := len(m.text)
		m.text = e.Time.UTC().AppendFormat(m.text, time.RFC3339Nano)
		m.header(keyTime, m.text[from:])
	}
	m.string(keyDomain, e.Domain)
	m.string(keyUID, e.UID)
	m.string(keyDevice, e.Device)
	m.number(keyStream, e.Stream)
	m.number(keySeq, e.Seq)
	m.string(keyTraceparent, e.Traceparent)
	m.string(keyContentType, e.ContentType)

	value := e.Content
	if value == nil { // an empty report is an empty value: none at all would be a tombstone
		value = []byte{}
	}
	from := len(m.text)
	m.text = event.AppendKey(m.text, e.Domain, e.UID)
	m.all = append(m.all, sarama.Record{Key: m.text[from:], Value: value, Headers: m.headerRefs[first:len(m.headers)], OffsetDelta: int64(place)})
	m.records = append(m.records, &m.all[len(m.all)-1])
}

func (m *recordMaker) header(key, value []byte) {
	m.headers = append(m.headers, sarama.RecordHeader{Key: key, Value: value})
	m.headerRefs = append(m.headerRefs, &m.headers[len(m.headers)-1])
}

// string adds a header unless value is empty.
func (m *recordMaker) string(key []byte, value string) {
	if value == "" {
		return
	}
	from := len(m.text)
	m.text = append(m.text, value...)
	m.header(key, m.text[from:])
}

// number adds a header unless n is 0.
func (m *recordMaker) number(key []byte, n uint64) {
	if n == 0 {
		return
	}
	from := len(m.text)
	m.text = strconv.AppendUint(m.text, n, 10)
	m.header(key, m.text[from:])
}

// sizeOf is at least the bytes that e takes in a batch.
func sizeOf(e *mq.Event) int {
	// names of the headers, lengths, numbers and the time of the event
	const fixed = 320
	return fixed + len(e.Content) + len(e.ID) + len(e.Source) + len(e.Type) + 2*(len(e.Domain)+len(e.UID)) +
		len(e.Device) + len(e.Traceparent) + len(e.ContentType)
}

// partitionOf is the partition of key among n, the same one that Kafka's own client takes.
func partitionOf(key []byte, n int) int {
	return int(murmur2(key)&0x7fffffff) % n
}

// murmur2 is the hash of Kafka's own client, with its seed.
func murmur2(key []byte) uint32 {
	const (
		seed = 0x9747b28c
		m    = 0x5bd1e995
		r    = 24
	)
	h := uint32(seed) ^ uint32(len(key))
	for ; len(key) >= 4; key = key[4:] {
		k := uint32(key[0]) | uint32(key[1])<<8 | uint32(key[2])<<16 | uint32(key[3])<<24
		k *= m
		k ^= k >> r
		k *= m
		h *= m
		h ^= k
	}
	switch len(key) {
	case 3:
		h ^= uint32(key[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(key[1]) << 8
		fallthrough
	case 1:
		h ^= uint32(key[0])
		h *= m
	}
	h ^= h >> 13
	h *= m
	h ^= h >> 15
	return h
}
