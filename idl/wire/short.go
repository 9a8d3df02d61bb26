package wire

import (
	"encoding/binary"
	"math/bits"
	"slices"
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
	knownBits  = 15 // of the hash by which a dictionary is known not to have it
	minMatch   = 4  // bytes: 3 at the distances of a dictionary save nothing
	maxMatch   = 258
	maxChain   = 8  // candidates of the dictionary that are compared for one position
	goodEnough = 16 // bytes of a match for which a longer one is not looked for

	deflateRoom = 16 // bytes behind the longest output that the deflater writes into
)

// shortIndex finds places of a dictionary by the hash of four bytes. It is not changed once it is made.
type shortIndex struct {
	known [1 << (knownBits - 6)]uint64 // bit by bit: the dictionary has four bytes with that hash. Most that it has not end here
	head  [1 << textBits]uint16        // place + 1 of the last one with that hash; 0: none
	prev  []uint16                     // place → place + 1 of the one before with the same hash
}

// hash4 hashes four bytes to 32 bits, of which the highest are the best.
func hash4(four uint32) uint32 { return four * 2654435761 }

func fourAt(b []byte, i int) uint32 { return binary.LittleEndian.Uint32(b[i:]) }

// newShortIndex indexes text, of at most 32 KiB less maxShort.
func newShortIndex(text []byte) *shortIndex {
	x := &shortIndex{prev: make([]uint16, len(text))}
	for i := 0; i+minMatch <= len(text); i++ {
		h := hash4(fourAt(text, i))
		known := h >> (32 - knownBits)
		x.known[known/64] |= 1 << (known % 64)
		last := &x.head[h>>(32-textBits)]
		x.prev[i] = *last
		*last = uint16(i + 1)
	}
	return x
}

// has reports whether four bytes with hash h may be in the dictionary.
func (x *shortIndex) has(h uint32) bool {
	h >>= 32 - knownBits
	return x.known[h/64]>>(h%64)&1 != 0
}

// shortTable finds earlier places of the body in the same way, the last one only.
type shortTable [1 << bodyBits]uint16

var shortTables = sync.Pool{New: func() any { return new(shortTable) }}

// add keeps place i of plain, if a match may begin there.
func (t *shortTable) add(plain []byte, i int) {
	if i+minMatch <= len(plain) {
		t[hash4(fourAt(plain, i))>>(32-bodyBits)] = uint16(i + 1)
	}
}

// bitWriter appends bits to out[:n], the lowest first. Behind them there has to be room for 8 bytes.
type bitWriter struct {
	out  []byte
	n    int    // whole bytes
	bits uint64 // of the byte behind them
	used uint   // of bits, below 8 between two calls of put
}

// put appends the low n bits of v, at most 56; the others are 0. It stores 8 bytes each time: a branch on how many are full costs more.
func (w *bitWriter) put(v uint64, n uint) {
	w.bits |= v << w.used
	w.used += n
	binary.LittleEndian.PutUint64(w.out[w.n:], w.bits)
	w.n += int(w.used / 8)
	w.bits >>= w.used &^ 7
	w.used &= 7
}

// end is all that was written, with zeros up to the end of the last byte.
func (w *bitWriter) end() []byte { return w.out[:w.n+int(w.used+7)/8] }

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
	room := min(len(plain)+len(plain)/8, max(0, limit-len(dst))) // nine bits for each byte at most
	dst = slices.Grow(dst, room+deflateRoom)
	w := bitWriter{out: dst[:cap(dst)], n: len(dst)}
	w.put(1|1<<1, 3) // the last block; the fixed code
	length, distance := d.longest(table, plain, 0)
	for i := 0; i < len(plain); {
		table.add(plain, i)
		var next, nextDistance int
		if length < goodEnough {
			next, nextDistance = d.longest(table, plain, i+1)
		}
		if length < minMatch || next > length+1 { // a literal, perhaps with the better match behind it
			c := literals[plain[i]]
			w.put(uint64(c.bits), uint(c.n))
			i++
			length, distance = next, nextDistance
		} else {
			c, s := lengths[length], &distances[distanceSymbol(distance)]
			w.put(uint64(c.bits)|(uint64(s.bits)|uint64(distance-int(s.base))<<5)<<c.n, uint(c.n)+5+uint(s.extra))
			// What lies within a match is found where the match is, but for what reaches beyond its end.
			i += length
			for j := i - minMatch + 1; j < i; j++ {
				table.add(plain, j)
			}
			length, distance = d.longest(table, plain, i)
		}
		if w.n >= limit || i > len(plain)/2 && w.n-len(dst) >= i {
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
	if len(plain)-i < minMatch {
		return 0, 0
	}
	rest, four := plain[i:], fourAt(plain, i)
	h := hash4(four)
	if at := int(table[h>>(32-bodyBits)]) - 1; at >= 0 && fourAt(plain, at) == four {
		length, distance = matchLength(plain[at:], rest), i-at
	}
	if !d.short.has(h) {
		return length, distance
	}
	at := d.short.head[h>>(32-textBits)]
	for tries := 0; at > 0 && tries < maxChain && length < goodEnough; tries++ {
		place := int(at - 1)
		at = d.short.prev[place]
		if length >= len(rest) || place+length >= len(d.text) || d.text[place+length] != rest[length] || fourAt(d.text, place) != four {
			continue // not a match, or not a longer one
		}
		if n := matchLength(d.text[place:], rest); n > length {
			length, distance = n, i+len(d.text)-place
		}
	}
	return length, distance
}
