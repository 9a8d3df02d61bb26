package mq

import (
	"errors"
	"fmt"
	"time"

	"github.com/gatepost/gatepost/idl/event"
)

// Sentinels of a record's outcome. Implementations wrap them; callers compare with errors.Is.
var (
	// ErrUnavailable: Kafka, or this topic in it, is away or slow; the record may or may not be there. The same event may come again.
	ErrUnavailable = errors.New("topic unavailable")
	// ErrRefused: the brokers will never take this record, such as one that is too large for its topic.
	ErrRefused = errors.New("record refused")
	// ErrClosed: Record.Closed said so before the record was sent.
	ErrClosed = errors.New("stream closed")
	// ErrTooLarge is an ErrRefused: the record is larger than its topic takes.
	ErrTooLarge = fmt.Errorf("%w: too large for its topic", ErrRefused)
)

// Event is a CloudEvent; package event names its headers.
type Event struct {
	ID          string
	Source      string
	Type        string
	Time        time.Time
	Domain, UID string
	Device      string // "": none
	Stream, Seq uint64 // 0: none
	Traceparent string // "": none
	ContentType string // "": none
	Content     []byte
}

// Key is the key of the event's record.
func (e *Event) Key() string { return event.KeyOf(e.Domain, e.UID) }

// Record is one event on its way into a topic.
type Record struct {
	Topic string
	Event Event
	// Closed is asked just before the record is sent: true means that an earlier one of its stream failed, and it is not sent. nil: never.
	Closed func() bool
	// Done is called exactly once with the outcome. It must not block.
	Done func(error)
}

// RetryAfter is how long the producer of a failed record should wait, as its breaker says; 0: not told.
func RetryAfter(err error) time.Duration {
	var r interface{ RetryAfter() time.Duration }
	if errors.As(err, &r) {
		return r.RetryAfter()
	}
	return 0
}
