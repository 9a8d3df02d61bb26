package wire

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/gatepost/gatepost/idl/status"
)

// A header is 16 bytes, big endian [P-2.1]:
//
//	 0        2         3       4      6        8      12       16
//	┌────────┬─────────┬───────┬──────┬────────┬──────┬────────┐
//	│ "GP"   │ version │ flags │ cmd  │ status │ seq  │ length │  then length bytes of body
//	└────────┴─────────┴───────┴──────┴────────┴──────┴────────┘
//	 2        1         1       2      2        4      4
const HeaderLen = 16

// Version is the version of the header and of the protocol [P-2.2].
const Version = 1

const magic = uint16('G')<<8 | 'P'

// Flags of a header. Bits that are not named here are ignored when read, and kept, because a seal covers them [P-2.3].
type Flags uint8

const (
	FlagCompressed Flags = 1 << iota // the body is deflated
	FlagSealed                       // the body is sealed
	FlagResponse                     // an answer: cmd and seq are those of the request
	FlagRestart                      // opens the ordered stream that the command travels in
)

// Header of a frame. Length is that of the body as it stands on the wire, compressed and sealed.
type Header struct {
	Flags  Flags
	Cmd    uint16
	Status status.Code
	Seq    uint32
	Length uint32
}

var (
	// ErrMagic: the bytes are no frame of this protocol.
	ErrMagic = errors.New("wire: not a gatepost frame")
	// ErrVersion: a frame of a version that is not known here.
	ErrVersion = errors.New("wire: unknown version")
	// ErrTooLarge: a body is larger than its limit, on the wire or inflated.
	ErrTooLarge = errors.New("wire: body too large")
)

// Append appends the 16 bytes of h to dst.
func (h Header) Append(dst []byte) []byte {
	var b [HeaderLen]byte
	h.put(&b)
	return append(dst, b[:]...)
}

func (h Header) put(b *[HeaderLen]byte) {
	binary.BigEndian.PutUint16(b[0:], magic)
	b[2] = Version
	b[3] = byte(h.Flags)
	binary.BigEndian.PutUint16(b[4:], h.Cmd)
	binary.BigEndian.PutUint16(b[6:], uint16(h.Status))
	binary.BigEndian.PutUint32(b[8:], h.Seq)
	binary.BigEndian.PutUint32(b[12:], h.Length)
}

// ParseHeader reads a header from the first HeaderLen bytes of b, which must hold as many.
// The error wraps ErrMagic or ErrVersion; the connection is of no use after either.
func ParseHeader(b []byte) (Header, error) {
	_ = b[HeaderLen-1]
	if binary.BigEndian.Uint16(b) != magic {
		return Header{}, ErrMagic
	}
	if b[2] != Version {
		return Header{}, fmt.Errorf("%w %d", ErrVersion, b[2])
	}
	return Header{
		Flags:  Flags(b[3]),
		Cmd:    binary.BigEndian.Uint16(b[4:]),
		Status: status.Code(binary.BigEndian.Uint16(b[6:])),
		Seq:    binary.BigEndian.Uint32(b[8:]),
		Length: binary.BigEndian.Uint32(b[12:]),
	}, nil
}

// IsResponse reports whether the frame answers a request.
func (h Header) IsResponse() bool { return h.Flags&FlagResponse != 0 }

// IsRestart reports whether the frame opens its ordered stream.
func (h Header) IsRestart() bool { return h.Flags&FlagRestart != 0 }

// Class is the high byte of the command: how it travels [P-3.1].
func (h Header) Class() Class { return Class(h.Cmd >> 8) }

// Class of a command.
type Class uint8

const (
	ClassConnection Class = 0x00 // between client and gate
	ClassMessage    Class = 0x01 // the ordered message stream
	ClassUplink     Class = 0x02 // the ordered uplink stream
	ClassRequest    Class = 0x03 // unordered requests
	ClassPush       Class = 0x04 // from the server alone
)
