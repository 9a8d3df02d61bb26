package audit

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
)

// Every message carries its own identity, so that what is shown is recognised without asking who sent it:
//
//	magic:4 "gpA2"  crc32:4 of all that follows  run:8  flow:1 sender:3  to:4  number:4  sent:8 (nanoseconds since the run began)  filler
const (
	contentMagic  = "gpA2"
	contentHeader = 36
)

// MinSize is the least content of a message, in bytes.
const MinSize = contentHeader

// label is what a message says of itself.
type label struct {
	run    uint64
	flow   Flow
	sender uint32 // index of the sending device, below 2^24
	to     uint32 // index of the receiving user; of a push how many users it is for
	number uint32 // of the sending device in its flow, rising; of a push the one of its first user
	sentNS int64
}

var errContent = errors.New("not a message of this run")

// appendContent writes a message of size bytes, at least contentHeader.
func appendContent(dst []byte, l label, size int) []byte {
	begin := len(dst)
	dst = append(dst, contentMagic...)
	dst = append(dst, 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint64(dst, l.run)
	dst = binary.BigEndian.AppendUint32(dst, uint32(l.flow)<<24|l.sender)
	dst = binary.BigEndian.AppendUint32(dst, l.to)
	dst = binary.BigEndian.AppendUint32(dst, l.number)
	dst = binary.BigEndian.AppendUint64(dst, uint64(l.sentNS))
	dst = AppendFiller(dst, l.number, size-contentHeader)
	binary.BigEndian.PutUint32(dst[begin+4:], crc32.ChecksumIEEE(dst[begin+8:]))
	return dst
}

// AppendFiller appends size bytes that look like what apps send; number varies where they begin.
func AppendFiller(dst []byte, number uint32, size int) []byte {
	at := int(number) * 7 % len(filler)
	for rest := size; rest > 0; {
		n := min(rest, len(filler)-at)
		dst = append(dst, filler[at:at+n]...)
		rest -= n
		at = 0
	}
	return dst
}

// parseContent reads a label back. Content that was cut, changed, or belongs to another run is errContent.
func parseContent(b []byte, run uint64) (label, error) {
	if len(b) < contentHeader || string(b[:4]) != contentMagic || binary.BigEndian.Uint32(b[4:]) != crc32.ChecksumIEEE(b[8:]) {
		return label{}, errContent
	}
	l := label{
		run:    binary.BigEndian.Uint64(b[8:]),
		flow:   Flow(b[16]),
		sender: binary.BigEndian.Uint32(b[16:]) & (1<<24 - 1),
		to:     binary.BigEndian.Uint32(b[20:]),
		number: binary.BigEndian.Uint32(b[24:]),
		sentNS: int64(binary.BigEndian.Uint64(b[28:])),
	}
	if l.run != run {
		return label{}, errContent
	}
	return l, nil
}

// filler looks like what apps send, so that compression has its usual work.
const filler = `{"type":"text","order":"A-20417","body":"the driver is five minutes away","lat":48.13743,"lng":11.57549,"at":1767225600123,` +
	`"shop":{"id":40417,"name":"corner store","open":true},"lines":[{"sku":"81-220","n":2},{"sku":"17-004","n":1}],"note":""}`
