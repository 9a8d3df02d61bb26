package wire

import (
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
)

// SealOverhead is what sealing adds to a body: the tag of ChaCha20-Poly1305 [P-5.2].
const SealOverhead = 16

var (
	// ErrSeal: the body is not what the peer sealed in this place, or the sealed flag does not fit the connection.
	ErrSeal = errors.New("wire: seal broken")
	// ErrNonce: the direction has used up its nonces; the connection has to begin anew.
	ErrNonce = errors.New("wire: nonces used up")
	// ErrDeflate: the body does not inflate to what it says, or compression was not agreed on.
	ErrDeflate = errors.New("wire: bad compressed body")
	// ErrLength: the header's length is not that of the body that came with it.
	ErrLength = errors.New("wire: length of header and body differ")
)

// maxNonce is the last nonce of a direction; 2^64-1 is not used, as in the Noise specification.
const maxNonce = math.MaxUint64 - 1

// secret is the sealing state of one direction: the key in aead, and the counter that is the nonce [P-5.1]:
//
//	nonce = 00 00 00 00 │ counter:8, little endian        counter = 0, 1, 2, … of this direction
//
// The scratch arrays are fields so that passing them to aead does not allocate.
type secret struct {
	aead    cipher.AEAD // nil: the connection is not secured
	counter uint64
	nonce   [12]byte
}

func (s *secret) next() (nonce []byte, err error) {
	if s.counter > maxNonce {
		return nil, ErrNonce
	}
	binary.LittleEndian.PutUint64(s.nonce[4:], s.counter)
	s.counter++
	return s.nonce[:], nil
}

// Opener opens the bodies of one direction, in the order of their frames. The zero value is a clear direction without compression.
// It is used by one goroutine at a time, and not copied once it has opened a frame.
type Opener struct {
	secret
	dict *dictionary // nil: no compression was agreed on
	err  error       // the first failure, for good
	ad   [HeaderLen]byte
}

// Open turns the body of a frame into its plain form: verifies and decrypts in place, then inflates. It takes ownership of body,
// also when it fails; the buffer it returns belongs to the caller and is nil when the plain body is empty. limit is of plain bytes.
//
// Errors wrap ErrSeal, ErrNonce, ErrDeflate, ErrTooLarge or ErrLength. Any of them is final: the opener says the same error from
// then on, and the connection is to be closed [P-5.4].
func (o *Opener) Open(h Header, body *Buffer, limit int) (*Buffer, error) {
	if o.err == nil {
		var plain *Buffer
		if plain, o.err = o.open(h, body, limit); o.err == nil {
			return plain, nil
		}
		o.aead = nil // the key is of no more use
	}
	body.Release()
	return nil, o.err
}

// open leaves body to its caller when it fails.
func (o *Opener) open(h Header, body *Buffer, limit int) (*Buffer, error) {
	if int64(h.Length) != int64(len(body.Bytes())) {
		return nil, fmt.Errorf("%w: %d and %d", ErrLength, h.Length, len(body.Bytes()))
	}
	sealed := h.Flags&FlagSealed != 0
	switch {
	case o.aead == nil && sealed:
		return nil, fmt.Errorf("%w: sealed frame on a clear connection", ErrSeal)
	case o.aead != nil && !sealed:
		return nil, fmt.Errorf("%w: clear frame on a secured connection", ErrSeal)
	case sealed:
		if len(body.Bytes()) < SealOverhead {
			return nil, fmt.Errorf("%w: shorter than its tag", ErrSeal)
		}
		nonce, err := o.next()
		if err != nil {
			return nil, err
		}
		h.put(&o.ad)
		plain, err := o.aead.Open(body.B[:0], nonce, body.B, o.ad[:])
		if err != nil {
			return nil, ErrSeal
		}
		body.B = plain
	}
	if h.Flags&FlagCompressed != 0 {
		plain, err := o.dict.inflate(body.Bytes(), limit)
		if err != nil {
			return nil, err
		}
		body.Release()
		return plain, nil
	}
	if len(body.Bytes()) > limit {
		return nil, fmt.Errorf("%w: %d bytes, %d allowed", ErrTooLarge, len(body.B), limit)
	}
	if len(body.Bytes()) == 0 {
		body.Release()
		return nil, nil
	}
	return body, nil
}

// Secured reports whether the direction is sealed.
func (o *Opener) Secured() bool { return o.aead != nil }

// Sealer makes the frames of one direction; they go out in the order in which they were made.
// The zero value is a clear direction without compression. It is used by one goroutine at a time, and not copied once it has made a frame.
type Sealer struct {
	secret
	dict *dictionary
	err  error
}

// minDeflate is the plain size from which on deflating is tried: what is smaller seldom shrinks by more than it costs.
const minDeflate = 48

// AppendFrame appends one whole frame to dst and returns the longer slice. body is read and not kept, and must not overlap dst's free room.
// It sets Length and the flags compressed and sealed itself, and keeps the other flags. The body is compressed when that was agreed
// on and makes it smaller; on a secured connection every body is sealed, an empty one too [P-5.3].
//
// A sealer whose nonces are used up appends nothing any more, and Err says so.
func (s *Sealer) AppendFrame(dst []byte, h Header, body []byte) []byte {
	return s.append(dst, h, body, nil)
}

// AppendShared is AppendFrame with a body that other sealers send too.
func (s *Sealer) AppendShared(dst []byte, h Header, body *Shared) []byte {
	return s.append(dst, h, body.plain, body)
}

// append appends a frame; shared is nil unless body is that of a shared one.
func (s *Sealer) append(dst []byte, h Header, body []byte, shared *Shared) []byte {
	if s.err != nil {
		return dst
	}
	if uint64(len(body)) > math.MaxUint32-SealOverhead {
		s.err = fmt.Errorf("%w: %d bytes", ErrTooLarge, len(body))
		return dst
	}
	start, content := len(dst), len(dst)+HeaderLen
	h.Flags &^= FlagCompressed | FlagSealed
	dst = slices.Grow(dst, HeaderLen+len(body)+SealOverhead)[:content]

	deflated := false
	switch {
	case s.dict == nil || len(body) < minDeflate:
	case shared != nil:
		dst, deflated = shared.appendDeflated(dst, s.dict)
	default:
		dst, deflated = s.dict.appendDeflate(dst, body)
	}
	if deflated {
		h.Flags |= FlagCompressed
	} else {
		dst = append(dst, body...)
	}

	h.Length = uint32(len(dst) - content)
	if s.aead == nil {
		h.put((*[HeaderLen]byte)(dst[start:]))
		return dst
	}
	nonce, err := s.next()
	if err != nil {
		s.err, s.aead = err, nil
		return dst[:start]
	}
	h.Flags |= FlagSealed
	h.Length += SealOverhead
	h.put((*[HeaderLen]byte)(dst[start:]))
	sealed := s.aead.Seal(dst[content:content], nonce, dst[content:], dst[start:content]) // in place: the room is there
	return dst[:content+len(sealed)]
}

// Shared is a body that goes to many connections: it is deflated once, by the first sealer that needs it so. It is safe for concurrent use.
type Shared struct {
	plain []byte

	once     sync.Once
	dict     *dictionary // that deflated was made with
	deflated []byte      // nil: not smaller than plain
}

// NewShared shares body, which must not change any more.
func NewShared(body []byte) *Shared { return &Shared{plain: body} }

// appendDeflated appends the compressed body to dst if it is smaller; otherwise it returns dst as it was.
func (b *Shared) appendDeflated(dst []byte, d *dictionary) ([]byte, bool) {
	b.once.Do(func() {
		b.dict = d
		if out, ok := d.appendDeflate(make([]byte, 0, len(b.plain)+deflateRoom), b.plain); ok {
			b.deflated = out
		}
	})
	if b.dict != d {
		return d.appendDeflate(dst, b.plain)
	}
	return append(dst, b.deflated...), b.deflated != nil
}

// Err is why the sealer makes no more frames; nil: it does.
func (s *Sealer) Err() error { return s.err }

// Secured reports whether the direction is sealed.
func (s *Sealer) Secured() bool { return s.aead != nil }
