package audit

import (
	"context"
	"time"

	"github.com/gatepost/gatepost/idl/gen/clientpb"
)

// Class is the device class of an installation.
type Class = clientpb.DeviceClass

// Client is one running installation, as far as the engine needs it. Implementations are safe for concurrent use.
type Client interface {
	// Login connects and returns when the client is online the first time; from then on it reconnects by itself.
	Login(ctx context.Context) error
	// Send hands a message over and returns its id when it is kept durably. The outcome comes through Hooks.Sent.
	Send(ctx context.Context, to string, content []byte, ttl time.Duration) (id [16]byte, err error)
	// Report hands an uplink over, as Send does a message.
	Report(ctx context.Context, content []byte, ttl time.Duration) (id [16]byte, err error)
	// Pull fetches what lies in the inbox, to its last page.
	Pull(ctx context.Context) error
	// Counters tells how far the confirmations of this client are.
	Counters() Counters
	// Close ends the client in order; its store is kept.
	Close() error
	// Crash ends the client as a kill of its process would: nothing that happens after it has begun reaches the store.
	Crash() error
}

// Counters of a client since it was made.
type Counters struct {
	Confirmed   uint64 // ids in answered confirmations
	Unconfirmed int    // ids shown and not confirmed yet
}

// Spec names the installation that a client is.
type Spec struct {
	UID   string
	Class Class
	// Store names the store that is kept over restarts. Two specs with the same store are the same installation.
	Store string
	// Fresh asks for an installation that was never seen before, with nothing kept.
	Fresh bool
}

// Hooks are called by a client from goroutines of its own.
type Hooks struct {
	// Shown is the app's callback; an error makes the client try again. Calls for one sender's stream are not concurrent.
	Shown func(Shown) error
	// Sent tells the final outcome of a message, over restarts too.
	Sent func(Sent)
}

// Shown is a message in the app's callback.
type Shown struct {
	MsgID         uint64
	Content       []byte // valid until the callback returns
	Late          bool
	MaybeRepeated bool
}

// Sent is the final outcome of a message.
type Sent struct {
	Flow  Flow
	ID    [16]byte
	MsgID uint64 // of a message that was accepted
	Code  uint16 // the status that refused it; 0: accepted
	Err   error  // nil: accepted
}

// Dial makes the client of an installation; it is not connected yet.
type Dial func(Spec, Hooks) (Client, error)

// Topic is where the uplinks of the run end.
type Topic interface {
	// Read calls each for every record that stood in the topic when it was called, those of one key in their order. Calls are not concurrent.
	Read(ctx context.Context, each func(TopicRecord)) error
}

// TopicRecord is one record of a topic.
type TopicRecord struct {
	ID      [16]byte // ce_id
	UID     string   // of the reporting user
	Content []byte   // valid until the callback returns
}

// App is an app-server, which pushes to users. It is safe for concurrent use.
type App interface {
	// Push pushes content to users and returns an outcome for each, in their order. The same id again is the same push.
	// An error, or an outcome that says to retry, means that nothing is known: the engine pushes again.
	Push(ctx context.Context, id [16]byte, users []string, content []byte) ([]Sent, error)
}
