package appserver

import (
	"strconv"
	"time"

	"github.com/IBM/sarama"

	"github.com/gatepost/gatepost/idl/event"
)

// Event is one record of a topic. Those of the platform are CloudEvents 1.0 in the binary mode of Kafka; of any other record the
// CloudEvents fields are empty, and so is a single field that cannot be read.
type Event struct {
	SpecVersion string    // "1.0"; "": no CloudEvent
	ID          string    // the client_msg_id; stable over resends, unique together with Source
	Source      string    // "/domain/uid", each part escaped as in a URI
	Type        string    // the message type that the app gave, or one that the platform makes itself, such as gatepost.presence.online
	Time        time.Time // when the app handed the report over
	Domain, UID string    // who reported
	Device      string    // class of the device: android, ios, web, desktop, iot
	Stream, Seq uint64    // number of the report in the sequence of one installation; 0: none
	Traceparent string    // W3C trace context; "": none
	ContentType string    // of events that the platform makes itself

	Content []byte   // the app's bytes, untouched
	Key     []byte   // of the record: "domain/uid"
	Headers []Header // all of them, in their order

	Topic     string
	Partition int32
	Offset    int64
	Timestamp time.Time // of the record
}

// Header of a record.
type Header struct {
	Key   string
	Value []byte
}

func eventOf(m *sarama.ConsumerMessage) *Event {
	e := &Event{Content: m.Value, Key: m.Key, Topic: m.Topic, Partition: m.Partition, Offset: m.Offset, Timestamp: m.Timestamp}
	for _, h := range m.Headers {
		name, v := string(h.Key), string(h.Value)
		e.Headers = append(e.Headers, Header{name, h.Value})
		switch name {
		case event.SpecVersion:
			e.SpecVersion = v
		case event.ID:
			e.ID = v
		case event.Source:
			e.Source = v
		case event.Type:
			e.Type = v
		case event.Time:
			e.Time, _ = time.Parse(time.RFC3339Nano, v)
		case event.Domain:
			e.Domain = v
		case event.UID:
			e.UID = v
		case event.Device:
			e.Device = v
		case event.Stream:
			e.Stream, _ = strconv.ParseUint(v, 10, 64)
		case event.Seq:
			e.Seq, _ = strconv.ParseUint(v, 10, 64)
		case event.Traceparent:
			e.Traceparent = v
		case event.ContentType:
			e.ContentType = v
		}
	}
	return e
}
