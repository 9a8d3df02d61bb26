package kafka

import (
	"strconv"
	"time"

	"github.com/IBM/sarama"

	"github.com/gatepost/gatepost/idl/event"
	"github.com/gatepost/gatepost/mq"
)

// recordOf turns an event into a CloudEvent in binary mode: the value is the content untouched. It keeps e.Content.
func recordOf(e *mq.Event) *sarama.Record {
	headers := make([]sarama.RecordHeader, 0, 12)
	add := func(key, value string) {
		if value != "" {
			headers = append(headers, sarama.RecordHeader{Key: []byte(key), Value: []byte(value)})
		}
	}
	add(event.SpecVersion, event.Version)
	add(event.ID, e.ID)
	add(event.Source, e.Source)
	add(event.Type, e.Type)
	if !e.Time.IsZero() {
		add(event.Time, e.Time.UTC().Format(time.RFC3339Nano))
	}
	add(event.Domain, e.Domain)
	add(event.UID, e.UID)
	add(event.Device, e.Device)
	if e.Stream != 0 {
		add(event.Stream, strconv.FormatUint(e.Stream, 10))
	}
	if e.Seq != 0 {
		add(event.Seq, strconv.FormatUint(e.Seq, 10))
	}
	add(event.Traceparent, e.Traceparent)
	add(event.ContentType, e.ContentType)

	value := e.Content
	if value == nil { // an empty report is an empty value: none at all would be a tombstone
		value = []byte{}
	}
	record := &sarama.Record{Key: []byte(e.Key()), Value: value, Headers: make([]*sarama.RecordHeader, len(headers))}
	for i := range headers {
		record.Headers[i] = &headers[i]
	}
	return record
}

// sizeOf is at least the bytes that e takes in a batch.
func sizeOf(e *mq.Event) int {
	// names of the headers, lengths, numbers and the time of the event
	const fixed = 320
	return fixed + len(e.Content) + len(e.ID) + len(e.Source) + len(e.Type) + 2*(len(e.Domain)+len(e.UID)) +
		len(e.Device) + len(e.Traceparent) + len(e.ContentType)
}

// partitionOf is the partition of key among n, the same one that Kafka's own client takes.
func partitionOf(key string, n int) int {
	return int(murmur2(key)&0x7fffffff) % n
}

// murmur2 is the hash of Kafka's own client, with its seed.
func murmur2(key string) uint32 {
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
