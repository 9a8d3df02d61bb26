package wire

import (
	"bytes"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/flate"

	"github.com/gatepost/gatepost/idl/gen/clientpb"
)

// A compressed body is [P-6.1]:
//
//	┌──────────────────────┬──────────────────────────────────────────────┐
//	│ plain length, uvarint│ raw DEFLATE (RFC 1951) with the dictionary   │
//	└──────────────────────┴──────────────────────────────────────────────┘
//
// Each body is compressed on its own, so that no secret of one message shows in the size of another.

// dictionary1 never changes: another text is another dictionary, with the next id.
//
//go:embed dictionary1.txt
var dictionary1 []byte

// dictionary compresses and inflates with one preset dictionary. It is safe for concurrent use.
// A nil dictionary inflates nothing: compression was not agreed on.
type dictionary struct {
	id        uint32
	text      []byte
	short     *shortIndex // of text
	inflaters sync.Pool   // *inflater
}

var dictionaries = map[uint32]*dictionary{1: {id: 1, text: dictionary1, short: newShortIndex(dictionary1)}}

// DictionaryID is the dictionary that this release offers and prefers.
const DictionaryID = 1

// Dictionary returns a copy of the preset dictionary with that id; nil: there is none.
func Dictionary(id uint32) []byte {
	d := dictionaries[id]
	if d == nil {
		return nil
	}
	return bytes.Clone(d.text)
}

// compressionOf is the dictionary for a pair of negotiated options; nil, true: no compression; false: not known here.
func compressionOf(c clientpb.Compression, dict uint32) (*dictionary, bool) {
	switch c {
	case clientpb.Compression_COMPRESSION_NONE:
		return nil, true
	case clientpb.Compression_COMPRESSION_DEFLATE:
		d := dictionaries[dict]
		return d, d != nil
	default:
		return nil, false
	}
}

// sink takes what the deflater writes.
type sink struct {
	out   []byte // appended to
	limit int    // of len(out)
}

var errNoGain = errors.New("no gain")

// Write appends to out, and refuses once the limit is passed: then compressing was in vain.
func (s *sink) Write(p []byte) (int, error) {
	if len(s.out)+len(p) > s.limit {
		return 0, errNoGain
	}
	s.out = append(s.out, p...)
	return len(p), nil
}

var sinks = sync.Pool{New: func() any { return new(sink) }}

// minGain is how many bytes of n compressing has to save: for less the receiver would inflate in vain.
func minGain(n int) int { return max(8, n/8) }

// appendDeflate appends the compressed body of plain to dst if that saves minGain bytes; otherwise it returns dst as it was.
//
// Short bodies have a deflater of their own, see appendShort: over 200-byte JSON 1.1 µs a body and 87 bytes of 195, against 11 µs and
// 92 bytes with the stateless deflater, which longer ones go through, and 18 µs and 84 bytes with a pooled writer of level 7, which
// keeps 1 MB.
func (d *dictionary) appendDeflate(dst, plain []byte) ([]byte, bool) {
	out, limit := binary.AppendUvarint(dst, uint64(len(plain))), len(dst)+len(plain)-minGain(len(plain))+1 // out is to stay below limit
	if len(plain) <= maxShort {
		if out, ok := d.appendShort(out, plain, limit); ok {
			return out, true
		}
		return dst, false
	}
	s := sinks.Get().(*sink)
	s.out, s.limit = out, limit-1
	err := flate.StatelessDeflate(s, plain, true, d.text)
	out = s.out
	s.out = nil
	sinks.Put(s)
	if err != nil || len(out) >= limit {
		return dst, false
	}
	return out, true
}

type inflater struct {
	src  bytes.Reader
	r    io.ReadCloser
	tail [1]byte
}

// inflate returns the plain body of a compressed one in a buffer of its own. The plain length is compared with limit before memory
// is taken for it, and has to be met exactly, at the end of the input.
func (d *dictionary) inflate(body []byte, limit int) (*Buffer, error) {
	if d == nil {
		return nil, fmt.Errorf("%w: compression was not agreed on", ErrDeflate)
	}
	n, size := binary.Uvarint(body)
	if size <= 0 || n == 0 {
		return nil, fmt.Errorf("%w: no plain length", ErrDeflate)
	}
	if limit < 0 || n > uint64(limit) {
		return nil, fmt.Errorf("%w: %d bytes inflated, %d allowed", ErrTooLarge, n, limit)
	}
	f, _ := d.inflaters.Get().(*inflater)
	if f == nil {
		f = &inflater{}
		f.r = flate.NewReaderDict(&f.src, d.text)
	}
	defer d.inflaters.Put(f)
	f.src.Reset(body[size:])
	defer f.src.Reset(nil)
	if err := f.r.(flate.Resetter).Reset(&f.src, d.text); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrDeflate, err)
	}
	plain := GetBuffer(int(n))
	if _, err := io.ReadFull(f.r, plain.B); err != nil {
		plain.Release()
		return nil, fmt.Errorf("%w: %v", ErrDeflate, err)
	}
	if more, err := f.r.Read(f.tail[:]); more != 0 || err != io.EOF || f.src.Len() != 0 {
		plain.Release()
		return nil, fmt.Errorf("%w: longer than it says", ErrDeflate)
	}
	return plain, nil
}
