package gatepost

import (
	"encoding/hex"
	"fmt"
	"time"

	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/status"
)

// User is the key of the whole system: a domain (one account system) of 1 to 64 bytes, and a uid in it of 1 to 128.
type User struct {
	Domain string
	UID    string
}

// String is "domain/uid".
func (u User) String() string { return u.Domain + "/" + u.UID }

// Device is a device class. A user has one live session for each of them; the newest login wins [G5].
type Device uint8

// The device classes.
const (
	Android = Device(clientpb.DeviceClass_DEVICE_CLASS_ANDROID)
	IOS     = Device(clientpb.DeviceClass_DEVICE_CLASS_IOS)
	Web     = Device(clientpb.DeviceClass_DEVICE_CLASS_WEB)
	Desktop = Device(clientpb.DeviceClass_DEVICE_CLASS_DESKTOP)
	IoT     = Device(clientpb.DeviceClass_DEVICE_CLASS_IOT)
)

// String is the class's lower case name; an unknown one is its number.
func (d Device) String() string {
	switch d {
	case Android:
		return "android"
	case IOS:
		return "ios"
	case Web:
		return "web"
	case Desktop:
		return "desktop"
	case IoT:
		return "iot"
	}
	return fmt.Sprintf("device %d", uint8(d))
}

// ClientMsgID is the sender's id of one message, a UUIDv7 kept over all resends.
type ClientMsgID [16]byte

// String is the usual text form of a UUID.
func (id ClientMsgID) String() string {
	h := hex.EncodeToString(id[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// MessageKind tells where a message comes from.
type MessageKind uint8

// The kinds that a Client shows. One of another kind is from a newer server: it is confirmed without being shown.
const (
	KindC2C     = MessageKind(clientpb.MessageKind_MESSAGE_KIND_C2C)     // from a user
	KindS2C     = MessageKind(clientpb.MessageKind_MESSAGE_KIND_S2C)     // from an app-server: From has a domain and no UID
	KindReceipt = MessageKind(clientpb.MessageKind_MESSAGE_KIND_RECEIPT) // shown by OnReceipt; OnParked may tell of one
	KindCopy    = MessageKind(clientpb.MessageKind_MESSAGE_KIND_COPY)    // what this user sent to To from another device
)

// SendKind tells the two ways out apart. They have an order, a window and limits of their own, and never wait for each other.
type SendKind uint8

// The kinds of what is sent.
const (
	SendMessage SendKind = iota // by C2C
	SendUplink                  // by C2S
)

// String is "message" or "uplink".
func (k SendKind) String() string {
	if k == SendUplink {
		return "uplink"
	}
	return "message"
}

// Report is what an app reports to the business services of its domain. The Client keeps Content: it is not to be changed
// afterwards.
type Report struct {
	Type    string // 1 to 64 bytes; the domain's configuration finds the topic by it
	Content []byte // at most 32,768 bytes, opaque
	// TTL is the time to live from now on, at most seven days; 0: seven days. A report that was not accepted by then fails with
	// status.Expired and is not sent any more.
	TTL time.Duration
	// ReplaceKey, of at most 128 bytes: of the reports with the same key that were never sent only the latest waits. Those
	// before it end with ErrReplaced. "": nothing is replaced.
	ReplaceKey  string
	Traceparent string // W3C Trace Context for the record in the topic, version 00, or ""
}

// Outgoing is what an app sends. The Client keeps Content: it is not to be changed afterwards.
type Outgoing struct {
	Type    string        // at most 64 bytes, for the receiving app to tell messages apart
	Content []byte        // at most 32,768 bytes, opaque
	TTL     time.Duration // time to live from now on, at most seven days; 0: seven days
	Receipt bool          // Config.OnReceipt is to hear of the first confirmation
	Copy    bool          // this user's devices of other classes get a copy, if the message is accepted
}

// Receipt tells that a message of this user that asked for it was confirmed, by the first of the receiver's device classes.
type Receipt struct {
	ClientMsgID   ClientMsgID // of the message
	By            User
	ByDevice      Device
	At            time.Time // by the server's clock
	MaybeRepeated bool      // as a Message's
}

// Message is one received message. Content belongs to the app.
type Message struct {
	MsgID         uint64 // the server's id of the inbox row
	From          User   // as the server stamped it
	FromDevice    Device
	ClientMsgID   ClientMsgID
	Type          string
	Content       []byte
	CreatedAt     time.Time // when it was accepted, by the server's clock
	ExpiresAt     time.Time
	Stream        uint64 // 0: not numbered
	TargetSeq     uint64
	Kind          MessageKind
	To            User // of a copy: whom the original is for; otherwise zero
	Receipt       bool // the sender hears that it was confirmed
	OnlineOnly    bool // a push that the server does not keep: MsgID is 0, and an error of OnMessage is not retried
	Late          bool // a later message of the same sender was shown before it: no pull could find this one then [G3]
	MaybeRepeated bool // the process ended after it was taken and before it was known to be shown: it may have been [G2]
}

// SendResult is the final outcome of one message or uplink.
type SendResult struct {
	Kind        SendKind
	ClientMsgID ClientMsgID
	To          User   // zero: an uplink
	MsgID       uint64 // the server's id of a message, when Err is nil
	Duplicate   bool   // it had been accepted by an earlier attempt
	Err         error  // nil: accepted, and durable at the server [G1]. Otherwise *Error, ErrReplaced, or ErrRestored: not accepted as far as is known
}

// State is where a Client stands.
type State uint8

// The states. A Client begins Offline; Closed is the end, and Login begins anew after a stay-away.
const (
	Offline    State = iota // no connection, and none is being made until the backoff ends
	Connecting              // a connection is made, or logs in, or registers for its messages
	Online                  // logged in, and the first pull has registered this device
	Closed                  // stays away (Err says why) or was closed; nothing happens until Login
)

// String is the state's lower case name.
func (s State) String() string {
	switch s {
	case Offline:
		return "offline"
	case Connecting:
		return "connecting"
	case Online:
		return "online"
	default:
		return "closed"
	}
}

// StateChange tells the app where the Client stands now.
type StateChange struct {
	State   State
	Err     error // why the connection ended or is refused; an *Error when the server said so, nil when the app did
	Retired bool  // with Online: this device class had been retired, what was sent to the user meanwhile was not kept for it
}

// Code is the status that the server gave, status.OK when there is none.
func (s StateChange) Code() status.Code { return codeOf(s.Err) }
