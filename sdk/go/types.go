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

// Outgoing is what an app sends. The Client keeps Content: it is not to be changed afterwards.
type Outgoing struct {
	Type    string        // at most 64 bytes, for the receiving app to tell messages apart
	Content []byte        // at most 32,768 bytes, opaque
	TTL     time.Duration // time to live from now on, at most seven days; 0: seven days
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
	Late          bool // a later message of the same sender was shown before it: no pull could find this one then [G3]
	MaybeRepeated bool // the process ended after it was taken and before it was known to be shown: it may have been [G2]
}

// SendResult is the final outcome of one message.
type SendResult struct {
	ClientMsgID ClientMsgID
	To          User
	MsgID       uint64 // the server's id, when Err is nil
	Duplicate   bool   // it had been accepted by an earlier attempt
	Err         error  // nil: accepted, and durable at the server [G1]. Otherwise *Error, or ErrRestored: not accepted as far as is known
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
