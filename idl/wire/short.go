package wire

import (
	"encoding/binary"
	"math/bits"
	"sync"
)

// Most bodies are a few hundred bytes long, or a few such ones in a row. For these a general deflater spends its time on tables: it clears
// some tens of kilobytes to find matches with, and builds and describes a Huffman code that the body hardly pays for. The deflater in
// this file is for short bodies alone: one block of the fixed Huffman code (RFC 1951, 3.2.6), matches with the preset dictionary found by
// an index that is made once, and matches within the body by a table of 4 KiB. What it writes is raw DEFLATE, which every inflater reads.

const (
	// maxShort is the plain size up to which a body is short: sixteen messages or so take either deflater as long. Beyond it a Huffman code
	// of its own gains more than it costs.
	maxShort = 4096

	bodyBits   = 11 // of the hash in a body
	textBits   = 12 // of the hash in a dictionary
	minMatch   = 4  // bytes: 3 at the distances of a dictionary save nothing
	maxMatch   = 258
	maxChain   = 16 // candidates of the dictionary that are compared for one position
	goodEnough = 24 // bytes of a match for which a longer one is not looked for
)

// shortIndex finds places of a dictionary by the hash of four bytes. It is not changed once it is made.
type shortIndex struct {
	head [1 << textBits]uint16 // place + 1 of the last one with that hash; 0: none
	prev []uint16              // place → place + 1 of the one before with the same hash
}

// hash4 hashes the first four bytes of b to 32 bits, of which the highest are the best.
func hash4(b []byte) uint32 { return binary.LittleEndian.Uint32(b) * 2654435761 }

// newShortIndex indexes text, of at most 32 KiB less maxShort.
func newShortIndex(text []byte) *shortIndex {
	x := &shortIndex{prev: make([]uint16, len(text))}
	for i := 0; i+minMatch <= len(text); i++ {
		h := hash4(text[i:]) >> (32 - textBits)
		x.prev[i] = x.head[h]
		x.head[h] = uint16(i + 1)
	}
	return x
}

// shortTable finds earlier places of the body in the same way, the last one only.
type shortTable [1 << bodyBits]uint16

var shortTables = sync.Pool{New: func() any { return new(shortTable) }}

// bitWriter appends bits, the lowest first.
type bitWriter struct {
	out  []byte
	bits uint64
	n    uint // of bits, below 32 between two calls of put
}

// put appends the low n bits of v, n at most 32.
func (w *bitWriter) put(v uint64, n uint) {
	w.bits |= v << w.n
	w.n += n
	if w.n >= 32 {
		w.out = binary.LittleEndian.AppendUint32(w.out, uint32(w.bits))
		w.bits >>= 32
		w.n -= 32
	}
}

// end is all that was written, with zeros up to the end of the last byte.
func (w *bitWriter) end() []byte {
	for ; w.n > 0; w.n -= min(w.n, 8) {
		w.out = append(w.out, byte(w.bits))
		w.bits >>= 8
	}
	return w.out
}

// code is a code word with the bits that follow it, the first bit lowest.
type code struct {
	bits uint32
	n    uint8
}

var (
	literals  [256]code
	lengths   [maxMatch + 1]code // with their extra bits
	endOfBody code
	distances [30]struct {
		code
		base  uint16
		extra uint8
	}
)

func init() {
	symbol := func(s int) code {
		switch {
		case s < 144:
			return code{bits: reversed(0x30+s, 8), n: 8}
		case s < 256:
			return code{bits: reversed(0x190+s-144, 9), n: 9}
		case s < 280:
			return code{bits: reversed(s-256, 7), n: 7}
		}
		return code{bits: reversed(0xC0+s-280, 8), n: 8}
	}
	for i := range literals {
		literals[i] = symbol(i)
	}
	endOfBody = symbol(256)
	// Length symbols 257..264 have no extra bits, then four have one, the next four two, and so on; 285 is 258 alone.
	for length, s := 3, 257; s < 285; s++ {
		extra := max(0, (s-261)/4)
		for i := 0; i < 1<<extra && length < maxMatch; i++ {
			c := symbol(s)
			lengths[length] = code{bits: c.bits | uint32(i)<<c.n, n: c.n + uint8(extra)}
			length++
		}
	}
	lengths[maxMatch] = symbol(285)
	base := 1
	for s := range distances {
		extra := max(0, s/2-1)
		d := &distances[s]
		d.code, d.base, d.extra = code{bits: reversed(s, 5), n: 5}, uint16(base), uint8(extra)
		base += 1 << extra
	}
}

func reversed(v, n int) uint32 { return bits.Reverse32(uint32(v)) >> (32 - n) }

// distanceSymbol is the symbol of distance d, 1..32768: two for each power of two.
func distanceSymbol(d int) int {
	if d <= 2 {
		return d - 1
	}
	n := bits.Len(uint(d - 1))
	return 2*(n-1) + (d-1)>>(n-2)&1
}

// matchLength is how many bytes a and b have in common at their beginning, at most maxMatch.
func matchLength(a, b []byte) int {
	n := min(len(a), len(b), maxMatch)
	i := 0
	for ; i+8 <= n; i += 8 {
		if x := binary.LittleEndian.Uint64(a[i:]) ^ binary.LittleEndian.Uint64(b[i:]); x != 0 {
			return i + bits.TrailingZeros64(x)/8
		}
	}
	for i < n && a[i] == b[i] {
		i++
	}
	return i
}

// appendShort appends the raw DEFLATE of plain, which is at most maxShort bytes long, to dst. It gives up when that would not fit
// below limit bytes of dst, and when half of plain has gained nothing.
func (d *dictionary) appendShort(dst, plain []byte, limit int) ([]byte, bool) {
	table := shortTables.Get().(*shortTable)
	defer shortTables.Put(table)
	clear(table[:])
	w := bitWriter{out: dst}
	w.put(1|1<<1, 3) // the last block; the fixed code
	for i := 0; i < len(plain); {
		length, distance := d.longest(table, plain, i)
		if length >= minMatch && length < goodEnough && i+1 < len(plain) {
			if next, _ := d.longest(table, plain, i+1); next > length+1 {
				length = 0 // a literal and the better match behind it
			}
		}
		step := 1
		if length < minMatch {
			c := literals[plain[i]]
			w.put(uint64(c.bits), uint(c.n))
		} else {
			c, s := lengths[length], &distances[distanceSymbol(distance)]
			w.put(uint64(c.bits), uint(c.n))
			w.put(uint64(s.bits)|uint64(distance-int(s.base))<<5, 5+uint(s.extra))
			step = length
		}
		next := i + step
		for end := min(next, len(plain)-minMatch+1); i < end; i++ {
			table[hash4(plain[i:])>>(32-bodyBits)] = uint16(i + 1)
		}
		i = next
		if len(w.out) >= limit || i > len(plain)/2 && len(w.out)-len(dst) >= i {
			return dst, false // it does not fit, or half of the body has gained nothing
		}
	}
	w.put(uint64(endOfBody.bits), uint(endOfBody.n))
	if out := w.end(); len(out) < limit {
		return out, true
	}
	return dst, false
}

// longest is the longest match for plain[i:] before it, in the body or in the dictionary; the nearest one of that length.
func (d *dictionary) longest(table *shortTable, plain []byte, i int) (length, distance int) {
	rest := plain[i:]
	if len(rest) < minMatch {
		return 0, 0
	}
	four := binary.LittleEndian.Uint32(rest)
	h := hash4(rest)
	if at := int(table[h>>(32-bodyBits)]) - 1; at >= 0 && at < i && binary.LittleEndian.Uint32(plain[at:]) == four {
		length, distance = matchLength(plain[at:], rest), i-at
	}
	at := d.short.head[h>>(32-textBits)]
	for tries := 0; at > 0 && tries < maxChain && length < goodEnough; tries++ {
		place := int(at - 1)
		at = d.short.prev[place]
		if length >= len(rest) || place+length >= len(d.text) || d.text[place+length] != rest[length] || binary.LittleEndian.Uint32(d.text[place:]) != four {
			continue // not a match, or not a longer one
		}
		if n := matchLength(d.text[place:], rest); n > length {
			length, distance = n, i+len(d.text)-place
		}
	}
	return length, distance
}
