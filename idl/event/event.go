// Package event names what a Kafka record of Gatepost carries: a CloudEvent 1.0 in the binary mode of the Kafka protocol binding.
// The value is the content untouched; everything else is a header; the key is the user.
package event

import (
	"net/url"
)

// Headers of a record. Those that begin with ce_ are CloudEvents attributes, the ones behind Time are extensions of ours.
const (
	SpecVersion = "ce_specversion" // always "1.0"
	ID          = "ce_id"          // the client_msg_id, a UUID in its text form; stable over resends, unique together with Source
	Source      = "ce_source"      // SourceOf
	Type        = "ce_type"        // the message type that the app gave, or one of the Type… below
	Time        = "ce_time"        // RFC 3339 in UTC: when the app handed the report over
	Domain      = "ce_domain"
	UID         = "ce_uid"
	Device      = "ce_device" // name of the device class: android, ios, web, desktop, iot
	Stream      = "ce_stream" // decimal; names the sequence of one installation's uplinks
	Seq         = "ce_seq"    // decimal; rises in the stream
	Traceparent = "traceparent"
	ContentType = "content-type" // of events that the platform makes itself; the app's content has none
)

// Version is the value of SpecVersion.
const Version = "1.0"

// Types of the events that the platform makes itself. Their value is a JSON object.
const (
	TypeOnline  = "gatepost.presence.online"
	TypeOffline = "gatepost.presence.offline"
	TypeWaiting = "gatepost.message.waiting"
)

// SourceOf is the ce_source of what a user's devices report: "/domain/uid", each part escaped as in a URI.
func SourceOf(domain, uid string) string {
	return "/" + url.PathEscape(domain) + "/" + url.PathEscape(uid)
}

// KeyOf is the key of the records of a user: "domain/uid".
func KeyOf(domain, uid string) string { return string(AppendKey(nil, domain, uid)) }

// AppendKey appends what KeyOf returns to b.
func AppendKey(b []byte, domain, uid string) []byte {
	return append(append(append(b, domain...), '/'), uid...)
}
