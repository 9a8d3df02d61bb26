// Package limits holds the bounds of what crosses between a client and the house [P-12]: numbers only, so that
// rooms which must not know the wire can share them.
package limits

import "time"

// Bodies, in bytes, before compression and sealing.
const (
	// HelloBodyBytes is the most that HELLO and its answer may have.
	HelloBodyBytes = 1024
	// BodyBeforeLoginBytes is the most that a frame to the gate may have before LOGIN was answered.
	BodyBeforeLoginBytes = 4096
	// BodyToGateBytes is the most that a frame to the gate may have after that.
	BodyToGateBytes = 64 << 10
	// BodyToClientBytes is the most that a frame to the client may have.
	BodyToClientBytes = 256 << 10
)

// Fields, in bytes.
const (
	DomainBytes       = 64
	UIDBytes          = 128
	TypeBytes         = 64
	ContentBytes      = 32 << 10
	TokenBytes        = 2048
	InstallationBytes = 16 // exactly
	ClientMsgIDBytes  = 16 // exactly
	ReasonBytes       = 256
	SDKNameBytes      = 64
	// TraceparentBytes is what version 00 of W3C Trace Context has.
	TraceparentBytes = 55 // exactly
	// OfferedOptions is the most entries that each list of a HelloOffer may have.
	OfferedOptions = 16
)

// Lists.
const (
	ConfirmIDs      = 500
	PullRows        = 500
	PullRowsDefault = 100
	// PullContentBytes bounds the content of one page; the page's body is bounded by BodyToClientBytes besides.
	PullContentBytes = 192 << 10
	// PushTargets is the most users that one call of an app-server may name.
	PushTargets = 1000
)

// Times.
const (
	// TTL is the longest time to live of a message, and what ttl_ms = 0 means.
	TTL = 7 * 24 * time.Hour
	// ResendFor is how long a client may go on sending a message that was not accepted.
	ResendFor = 7 * 24 * time.Hour
)

// MaxInFlight is the default of unanswered requests that a gate takes from one connection.
const MaxInFlight = 256
