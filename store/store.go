// Package store holds the records that logic keeps, and the sentinel errors of every store.
//
// Its folders implement logic's ports over them: sql (MySQL, MariaDB, SQLite), redis and memory.
// storetest holds the contract that all of them pass.
package store

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math/bits"
	"time"
)

// Sentinels. An implementation wraps them; callers compare with errors.Is.
var (
	// ErrUnavailable: the store is away, slow or overloaded. Nothing is known of the outcome; the same call may be made again.
	ErrUnavailable = errors.New("store unavailable")
	// ErrNotFound: there is no such record.
	ErrNotFound = errors.New("not found")
	// ErrLeaseLost: somebody else holds the lease, or the clock check failed.
	ErrLeaseLost = errors.New("lease lost")
	// ErrIDCollision: an id that was given belongs to another row. Nothing was committed; the same call with new ids may be made.
	ErrIDCollision = errors.New("id taken")
	// ErrClockSkew: this node's clock differs too much from the database's.
	ErrClockSkew = errors.New("clock differs from the database's")
)

// UserKey is the key of the whole system.
type UserKey struct {
	Domain string // 1..64 bytes
	UID    string // 1..128 bytes
}

// DeviceClass is 1..31; 0 is none.
type DeviceClass uint8

// Bit is the class in a mask of classes.
func (c DeviceClass) Bit() uint32 { return 1 << c }

// MsgID is the server's time-ordered id of one inbox row. 0 is none.
type MsgID uint64

// Kind of a message. The numbers are those of MessageKind in client.proto.
type Kind uint8

const (
	KindC2C     Kind = 0
	KindC2G     Kind = 1
	KindS2C     Kind = 2
	KindReceipt Kind = 3
	KindCopy    Kind = 4
)

// FlagReceipt in Message.Flags: the sender wants to hear of the first confirmation.
const FlagReceipt uint32 = 1

// Digest names a message by who sent what to whom, in 16 bytes. It is unique in the inbox.
type Digest [16]byte

// digestTime is how many bytes of a digest are the first of the client_msg_id: of a UUIDv7 the time, in steps of 256 ms.
// Rows that come at one time so lie together in the unique index, however many rest there; a digest that is random throughout
// has each row of a batch change a page of its own. The other 88 bits are out of the sender's hands.
const digestTime = 5

// DigestOf makes the digest of one message to one user: a prefix of its client_msg_id, then SHA-256 of (sender, client_msg_id,
// kind and key of the target), each part length-prefixed, cut to what remains. Resends keep their client_msg_id and so their digest;
// an id without a time in it makes a digest as good and a slower insert.
func DigestOf(from UserKey, clientMsgID [16]byte, kind Kind, to UserKey) Digest {
	text := make([]byte, 0, 512) // on the stack, and longer than the longest
	part := func(p string) {
		text = binary.BigEndian.AppendUint32(text, uint32(len(p)))
		text = append(text, p...)
	}
	part(from.Domain)
	part(from.UID)
	part(string(clientMsgID[:]))
	part(string([]byte{byte(kind)}))
	part(to.Domain)
	part(to.UID)
	hash := sha256.Sum256(text)
	var d Digest
	copy(d[:], clientMsgID[:digestTime])
	copy(d[digestTime:], hash[:])
	return d
}

// Message is one inbox row.
type Message struct {
	ID          MsgID
	Owner       UserKey // who receives it
	Digest      Digest
	From        UserKey
	FromClass   DeviceClass
	Stream      uint64 // 0: not numbered
	TargetSeq   uint64
	ClientMsgID [16]byte
	Kind        Kind
	Type        string
	Content     []byte
	Flags       uint32
	Target      UserKey   // of a copy: whom the original is for; else zero
	CreatedAt   time.Time // milliseconds
	ExpiresAt   time.Time // milliseconds
}

// MaxStatementRows is how many rows a database takes in one statement.
const MaxStatementRows = 512

// StatementRows is how many of n rows, n > 0, a database takes in one statement: n with its three highest bits, MaxStatementRows at
// most. It keeps a statement for each such number, so an append of another one is several statements in a transaction.
func StatementRows(n int) int {
	n = min(n, MaxStatementRows)
	return n &^ (1<<max(0, bits.Len(uint(n))-3) - 1)
}

// Outcome of one row of an append.
type Outcome uint8

const (
	// Stored: committed under the id it came with.
	Stored Outcome = iota
	// Duplicate: the digest was there already, alive; AppendResult.ID is the stored id.
	Duplicate
	// IDCollision: the digest is not there and the id belongs to another row: nothing was stored, append it again with a new id.
	IDCollision
)

// AppendResult is the outcome of one row.
type AppendResult struct {
	ID      MsgID
	Outcome Outcome
}

// PageQuery asks for one page of an inbox.
type PageQuery struct {
	Owner       UserKey
	Class       DeviceClass
	After, Upto MsgID // exclusive, inclusive; Upto 0: the highest id there is
	Limit       int   // rows
	MaxBytes    int   // of content
	Now         time.Time
}

// Confirmation is one device class confirming messages of its user.
type Confirmation struct {
	Owner UserKey
	Class DeviceClass
	IDs   []MsgID
	// Receipts are further ids, of rows whose senders want a receipt. A row that does not is confirmed like the others.
	Receipts []ReceiptID
	// At and ReceiptExpires are the times of the receipts.
	At, ReceiptExpires time.Time
}

// ReceiptID gives the receipt of one confirmed row its id.
type ReceiptID struct{ Of, ID MsgID }

// ReceiptOf is the receipt that row's sender gets when by confirms row: an inbox row of its own, from who confirmed to who sent.
func ReceiptOf(row *Message, by DeviceClass, id MsgID, at, expires time.Time) Message {
	r := Message{
		ID: id, Owner: row.From, From: row.Owner, FromClass: by, ClientMsgID: row.ClientMsgID, Kind: KindReceipt,
		CreatedAt: at, ExpiresAt: expires,
	}
	r.Digest = DigestOf(r.From, r.ClientMsgID, r.Kind, r.Owner)
	return r
}

// Device is a device class registered for a user: owed each of his messages.
type Device struct {
	Owner   UserKey
	Class   DeviceClass
	Session uint64 // fences: the higher one is the newer login
	SeenAt  time.Time
	// Of the login that registers. They are kept apart from the class, for several installations: a list of devices does not have them.
	Installation [16]byte
	LoginCounter uint64
}

// Route is where a user's session is: an entry of the presence table.
type Route struct {
	Class        DeviceClass
	GateEpoch    uint64
	ConnID       uint64
	Session      uint64 // fences: the higher one is the newer login
	Installation [16]byte
	LoginCounter uint64
}

// LoginOutcome of a presence login.
type LoginOutcome uint8

const (
	// LoginMade: the session is the newest of its class; Previous tells the one it replaced, if any.
	LoginMade LoginOutcome = iota
	// LoginRepeated: the same gate epoch and connection had logged in already; nothing changed.
	LoginRepeated
	// LoginStale: the same installation has logged in with this counter (on another connection) or a higher one.
	LoginStale
)

// LoginResult of a presence login.
type LoginResult struct {
	Outcome  LoginOutcome
	Session  uint64 // of the new or the repeated session
	Previous *Route // the session that was replaced; nil when there was none
	Winner   Route  // when stale: who won
}

// RegisterOutcome of a re-registration. The numbers are those of RegisterOutcome in logic.proto.
type RegisterOutcome uint8

const (
	RegisterKept    RegisterOutcome = 0
	RegisterMade    RegisterOutcome = 1
	RegisterRefused RegisterOutcome = 2
)

// Registration is one session to be registered anew.
type Registration struct {
	User  UserKey
	Route Route
}

// RegisterResult of one re-registration. Winner is set when a newer login refused it.
type RegisterResult struct {
	Outcome RegisterOutcome
	Winner  Route
}

// Gate is the lease of a gate in the presence table.
type Gate struct {
	Epoch           uint64 // names one run of one gate process
	Name            string
	RPCAddress      string
	ClientAddresses []string
	Connections     uint32
	Sessions        uint32
	Draining        bool
	PresenceEpoch   uint64 // of the table under which all of its sessions have been registered
}

// LogicNode is the lease of a logic node in the presence table.
type LogicNode struct {
	Epoch      uint64
	RPCAddress string
}

// Lookup is what the presence table knows of some users.
type Lookup struct {
	Epoch  uint64    // of the presence table; 0: it was emptied and nobody has begun a new one: ask every gate
	Routes [][]Route // in the order of the users; routes are not filtered by the leases of their gates
	Ended  [][]Ended // in the order of the users: tombstones, for as long as they are remembered
}

// Ended is the tombstone of a session: it was the newest of its device class, and was unregistered.
type Ended struct {
	Class   DeviceClass
	Session uint64
}

// NodeLease is a leased node number for message ids.
type NodeLease struct {
	Number    uint16    // 0..1023
	Owner     string    // random, names the process
	HighWater time.Time // ids are made below this time only; whoever leases the number next starts at it
	Until     time.Time // by the database's clock
	From      time.Time // ids are made at or above it: the high water of whoever held the number before; zero: nobody did
}

// AppKey is the credential of an app-server. The secret itself is never stored.
type AppKey struct {
	ID        string // public
	Domain    string
	Rights    []string
	Hash      [32]byte // SHA-256 of the secret, which is 32 random bytes
	CreatedAt time.Time
	RevokedAt time.Time // zero: valid
}
