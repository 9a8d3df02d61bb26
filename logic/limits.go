package logic

import "time"

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
