package wire

import "sync"

// Buffer is a body in pooled memory. It has one owner, who may change B as he likes (also reslice it) and releases it once.
// Nothing may point into B after that: what outlives the buffer is copied out of it. A nil *Buffer is an empty body.
type Buffer struct {
	B []byte

	mem   []byte // the whole of it, whatever B was made
	class int8   // index in pools; -1: not pooled; released: lies in the pool
}

// Size classes are 2^k + 64 bytes, k = 8..18: a body of a round size and its tag fit into the class of that size.
const (
	minShift  = 8
	maxShift  = 18
	slack     = 64
	notPooled = -1
	released  = -2
)

var pools [maxShift - minShift + 1]sync.Pool

func classOf(n int) int8 {
	for i := range pools {
		if n <= 1<<(minShift+i)+slack {
			return int8(i)
		}
	}
	return notPooled
}

// GetBuffer returns a buffer with len(B) == n; its bytes are arbitrary. The caller has compared n with a limit before:
// GetBuffer takes whatever it is asked for. Buffers above 256 KiB + 64 are not pooled.
func GetBuffer(n int) *Buffer {
	c := classOf(n)
	if c == notPooled {
		mem := make([]byte, n)
		return &Buffer{B: mem, mem: mem, class: notPooled}
	}
	b, _ := pools[c].Get().(*Buffer)
	if b == nil {
		b = &Buffer{mem: make([]byte, 1<<(minShift+int(c))+slack)}
	}
	b.class = c
	b.B = b.mem[:n]
	return b
}

// Release gives the buffer back. The second release by the same owner panics, if nobody took the buffer in between. Nil is fine.
func (b *Buffer) Release() {
	if b == nil {
		return
	}
	c := b.class
	if c == released {
		panic("wire: buffer released twice")
	}
	b.class = released
	b.B = nil
	if c >= 0 {
		pools[c].Put(b)
	}
}

// Bytes is B, nil for an empty body.
func (b *Buffer) Bytes() []byte {
	if b == nil {
		return nil
	}
	return b.B
}
