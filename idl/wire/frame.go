package wire

import (
	"fmt"
	"io"
	"sync"
)

// ReadHeader reads a header through scratch, which the caller keeps (in its connection), so that waiting for a frame holds no buffer.
// io.EOF: the peer closed between two frames; io.ErrUnexpectedEOF: inside a header. Others: what r said, ErrMagic, ErrVersion.
func ReadHeader(r io.Reader, scratch *[HeaderLen]byte) (Header, error) {
	if _, err := io.ReadFull(r, scratch[:]); err != nil {
		return Header{}, err
	}
	return ParseHeader(scratch[:])
}

// ReadBody reads the body that h announces into a pooled buffer, which belongs to the caller; nil when h.Length is 0.
// A Length above limit is ErrTooLarge, before anything is allocated. limit counts bytes on the wire: for a secured connection
// it is the limit of plain bytes + SealOverhead (a compressed body is smaller than its plain one).
func ReadBody(r io.Reader, h Header, limit int) (*Buffer, error) {
	if int64(h.Length) > int64(limit) {
		return nil, fmt.Errorf("%w: %d bytes on the wire, %d allowed", ErrTooLarge, h.Length, limit)
	}
	if h.Length == 0 {
		return nil, nil
	}
	b := GetBuffer(int(h.Length))
	if _, err := io.ReadFull(r, b.B); err != nil {
		b.Release()
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return b, nil
}

// ReadFrame reads header and body. It is ReadHeader and ReadBody, whose rules hold.
func ReadFrame(r io.Reader, limit int) (Header, *Buffer, error) {
	scratch := scratches.Get().(*[HeaderLen]byte)
	h, err := ReadHeader(r, scratch)
	scratches.Put(scratch)
	if err != nil {
		return Header{}, nil, err
	}
	b, err := ReadBody(r, h, limit)
	if err != nil {
		return Header{}, nil, err
	}
	return h, b, nil
}

var scratches = sync.Pool{New: func() any { return new([HeaderLen]byte) }}
