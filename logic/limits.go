package logic

import (
	"time"

	"github.com/gatepost/gatepost/idl/status"
)

// Limits of the protocol. A client reads them in the book; a node enforces them whatever the gate did before.
const (
	maxDomainBytes  = 64
	maxUIDBytes     = 128
	maxTokenBytes   = 2048
	maxTypeBytes    = 64
	maxContentBytes = 32 << 10

	// maxLife is the longest time to live, and the age from which a resend is refused: receivers keep their marks for longer.
	maxLife = 7 * 24 * time.Hour

	maxConfirmIDs = 500

	maxPageRows      = 500
	defaultPageRows  = 100
	maxPageContent   = 192 << 10 // of content in one page
	maxPullBodyBytes = 240 << 10 // of an encoded page: under the 256 KiB that a body to a client may have

	maxReasonBytes = 256

	minClass, maxClass = 1, 31 // fit the confirmation mask
)

// Caps of one Deliver call.
const (
	maxDeliverItems = 512
	maxDeliverBytes = 1 << 20
)

// checkSent checks what messages and reports of a client have in common, within the limits of the sender's domain (nil: the platform's
// own), and returns what is left of the time to live.
func checkSent(d *Domain, clientMsgID []byte, kind string, content []byte, ageMS, ttlMS uint64) (left time.Duration, refusal *status.Error) {
	switch {
	case len(clientMsgID) != 16 || [16]byte(clientMsgID) == ([16]byte{}):
		return 0, status.New(status.BadRequest, "client_msg_id has 16 bytes, not all of them zero")
	case len(kind) > maxTypeBytes:
		return 0, status.New(status.BadRequest, "the type has more than %d bytes", maxTypeBytes)
	case ttlMS > uint64(maxLife/time.Millisecond):
		return 0, status.New(status.BadRequest, "the time to live is above seven days")
	}
	if err := checkText("type", kind); err != nil {
		return 0, status.New(status.BadRequest, "%v", err)
	}
	if refusal := d.checkContent(content); refusal != nil {
		return 0, refusal
	}
	lifeMS := d.cutLife(ttlMS)
	if ageMS >= lifeMS {
		return 0, status.New(status.Expired, "its time to live had ended before it arrived")
	}
	return time.Duration(lifeMS-ageMS) * time.Millisecond, nil
}
