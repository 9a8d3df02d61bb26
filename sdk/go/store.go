package gatepost

import "time"

// Store keeps what a Client must not forget: who it is, what it has to send, and what it has received.
//
// A Client uses its Store from one goroutine at a time. What Load returns is the Client's. Changes and the lists in it are the Client's
// again when Commit returns; what the elements of the lists refer to may be kept, and neither side changes it.
type Store interface {
	// Load returns all that is kept, in the orders that Snapshot says. It is called once, before any Commit.
	Load() (*Snapshot, error)
	// Commit applies all of c or nothing, in the order of its fields. With c.Durable it survives a power loss when Commit
	// returns, and so does every Commit before it; without, it survives the end of the process, and a power loss may take
	// the last ones away, youngest first.
	Commit(c *Changes) error
	// Close releases the store. What was committed stays.
	Close() error
}

// Identity is who a store is. A zero Identity is a store that was never used.
type Identity struct {
	User         User
	Device       Device
	Installation [16]byte
	LoginCounter uint64 // the last one used
	Stream       uint64 // for targets that have none yet
	UplinkStream uint64 // of all uplinks
	UplinkSeq    uint64 // the last number that an uplink took
}

// Target is the numbering of messages to one user.
type Target struct {
	To       User
	Stream   uint64
	LastSeq  uint64
	LastUsed time.Time // by the server's clock as far as known
}

// OutboxEntry is one message or uplink that has no outcome that the app was told of.
type OutboxEntry struct {
	Number      uint64 // order of sending, unique over both kinds
	Kind        SendKind
	ClientMsgID ClientMsgID
	To          User // zero: an uplink
	Stream      uint64
	TargetSeq   uint64 // of an uplink: its number in the stream
	Type        string
	Content     []byte
	CreatedAt   time.Time // by the server's clock as far as known
	TTL         time.Duration
	ReplaceKey  string // "": nothing replaces it
	Traceparent string
	Sent        bool     // it may have left this device; only kept of what has a ReplaceKey
	Receipt     bool     // the sender wants to hear of the first confirmation
	CopyStream  uint64   // of the copy for the sender's other devices; 0: none
	CopySeq     uint64   // likewise
	Outcome     *Outcome // nil: not final yet
}

// Outcome is a SendResult as it is kept.
type Outcome struct {
	MsgID     uint64
	Duplicate bool
	Code      uint16 // of the refusal; 0 and not Restored: accepted
	Reason    string
	Restored  bool
	Replaced  bool // a later uplink with the same ReplaceKey took its place
}

// MarkKey names one numbered sequence that arrives: a stream of a sender, towards one target (nil for the user himself).
type MarkKey struct {
	From   User
	Stream uint64
	Target string // "": this user
}

// Span is the numbers First..Last.
type Span struct{ First, Last uint64 }

// Mark says which numbers of a sequence were taken: all up to High but those in Gaps.
type Mark struct {
	Key      MarkKey
	High     uint64
	Gaps     []Span // ascending, disjoint
	LastUsed time.Time
}

// Received is one message that was taken and is not settled: not shown, or not confirmed.
type Received struct {
	Number  uint64 // order of arrival, unique
	Message Message
	Shown   bool // and not confirmed yet; only MsgID and Receipt of Message are kept then
}

// SeenID names an unnumbered message.
type SeenID struct {
	Number uint64 // order of arrival, unique
	Kind   MessageKind
	From   User
	ID     ClientMsgID
}

// Snapshot is the whole content of a store.
type Snapshot struct {
	Identity Identity
	Targets  []Target
	Outbox   []OutboxEntry // by Number
	Marks    []Mark
	Received []Received // by Number
	Seen     []SeenID   // by Number
}

// Changes is what one Commit does. Putting replaces what has the same key; deleting what is not there does nothing.
type Changes struct {
	Identity       *Identity
	DeleteTargets  []User
	PutTargets     []Target
	PutOutbox      []OutboxEntry
	SetSent        []uint64 // numbers: Sent becomes true
	SetOutcomes    []OutboxOutcome
	DeleteOutbox   []uint64 // numbers
	DeleteMarks    []MarkKey
	PutMarks       []Mark
	PutReceived    []Received
	SetShown       []uint64 // numbers of Received: Shown becomes true, all but MsgID and Receipt goes
	DeleteReceived []uint64 // numbers
	PutSeen        []SeenID
	DeleteSeen     []uint64 // numbers
	Durable        bool
}

// OutboxOutcome settles the entry Number; its content goes.
type OutboxOutcome struct {
	Number  uint64
	Outcome Outcome
}

func (c *Changes) empty() bool {
	return c.Identity == nil && len(c.PutTargets)+len(c.DeleteTargets)+len(c.PutOutbox)+len(c.SetSent)+len(c.SetOutcomes)+len(c.DeleteOutbox)+
		len(c.PutMarks)+len(c.DeleteMarks)+len(c.PutReceived)+len(c.SetShown)+len(c.DeleteReceived)+
		len(c.PutSeen)+len(c.DeleteSeen) == 0
}

// clear empties c, and keeps its lists' memory for the next one.
func (c *Changes) clear() {
	*c = Changes{
		DeleteTargets:  emptied(c.DeleteTargets),
		PutTargets:     emptied(c.PutTargets),
		PutOutbox:      emptied(c.PutOutbox),
		SetSent:        emptied(c.SetSent),
		SetOutcomes:    emptied(c.SetOutcomes),
		DeleteOutbox:   emptied(c.DeleteOutbox),
		DeleteMarks:    emptied(c.DeleteMarks),
		PutMarks:       emptied(c.PutMarks),
		PutReceived:    emptied(c.PutReceived),
		SetShown:       emptied(c.SetShown),
		DeleteReceived: emptied(c.DeleteReceived),
		PutSeen:        emptied(c.PutSeen),
		DeleteSeen:     emptied(c.DeleteSeen),
	}
}

// maxSpare is the longest list whose memory is kept for the next one.
const maxSpare = 64

// emptied is list without its elements.
func emptied[E any](list []E) []E {
	if cap(list) > maxSpare {
		return nil
	}
	clear(list)
	return list[:0]
}
