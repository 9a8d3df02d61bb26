package wire

import (
	"bytes"
	"compress/flate"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/limits"
)

// inflateStandard inflates with the standard library, which shares no code with the deflater here.
func inflateStandard(t *testing.T, packed []byte) []byte {
	t.Helper()
	src := bytes.NewReader(packed)
	plain, err := io.ReadAll(flate.NewReaderDict(src, dictionary1))
	if err != nil {
		t.Fatalf("inflate %x: %v", packed, err)
	}
	if src.Len() != 0 {
		t.Fatalf("%d bytes behind the last block", src.Len())
	}
	return plain
}

// checkShort deflates plain as a short body, and inflates it again. It is nil when the deflater gave up.
func checkShort(t *testing.T, plain []byte) []byte {
	t.Helper()
	before := []byte("before")
	out, ok := dictionaries[1].appendShort(bytes.Clone(before), plain, 1<<20)
	if !bytes.HasPrefix(out, before) {
		t.Fatalf("%d bytes: %q before it", len(plain), out[:len(before)])
	}
	if !ok {
		return nil
	}
	if got := inflateStandard(t, out[len(before):]); !bytes.Equal(got, plain) {
		t.Fatalf("inflated to\n%q, want\n%q", got, plain)
	}
	return out[len(before):]
}

func TestShortBodies(t *testing.T) {
	for i := range 300 {
		for _, plain := range [][]byte{samplePosition(i), sampleOrder(i), sampleChat(i)} {
			if n := len(checkShort(t, plain)); n == 0 || n > len(plain)*2/3 {
				t.Errorf("%d bytes of %d: %s", n, len(plain), plain)
			}
		}
	}
	for n := 0; n <= maxShort; n += 1 + n/100 {
		checkShort(t, randomBytes(n))
		checkShort(t, make([]byte, n)) // matches of all lengths with what was just written
		known := min(n, len(dictionary1))
		checkShort(t, dictionary1[len(dictionary1)-known:])
		checkShort(t, dictionary1[:known]) // the greatest distances
	}
	checkShort(t, make([]byte, maxShort))
	checkShort(t, append(randomBytes(maxShort-len(dictionary1)), dictionary1...))
	for i := range 2000 { // pieces of the dictionary among bytes of both code lengths
		r := rand.New(rand.NewPCG(uint64(i), 5))
		var plain []byte
		for len(plain) < r.IntN(maxShort-300) {
			at := r.IntN(len(dictionary1) - 300)
			plain = append(append(plain, dictionary1[at:at+r.IntN(300)]...), randomBytes(r.IntN(5))...)
			if len(plain) > 20 && r.IntN(2) == 0 { // and of the body itself
				plain = append(plain, plain[r.IntN(10):min(len(plain), 10+r.IntN(200))]...)
			}
		}
		checkShort(t, plain[:min(len(plain), maxShort)])
	}
}

// A short body is never made longer than it may be, and gives up in time.
func TestShortBodyGivesUp(t *testing.T) {
	for i := range 100 {
		plain := sampleOrder(i)
		size := len(checkShort(t, plain))
		space := make([]byte, 0, 512)
		for limit := range size + 3 {
			out, ok := dictionaries[1].appendShort(space, plain, limit)
			if ok != (size < limit) {
				t.Fatalf("limit %d: deflated %t into %d bytes, %d are needed", limit, ok, len(out), size)
			}
			if !ok && len(out) != 0 {
				t.Fatalf("limit %d: %d bytes left in dst", limit, len(out))
			}
		}
	}
}

func TestDistanceSymbols(t *testing.T) {
	for d := 1; d <= 32768; d++ {
		s := distances[distanceSymbol(d)]
		if low, high := int(s.base), int(s.base)+1<<s.extra-1; d < low || d > high {
			t.Fatalf("distance %d has symbol %d, which is for %d..%d", d, distanceSymbol(d), low, high)
		}
	}
}

func FuzzShortBody(f *testing.F) {
	for i := range 3 {
		f.Add(samplePosition(i))
		f.Add(sampleChat(i))
		f.Add(randomBytes(20 * i))
	}
	f.Fuzz(func(t *testing.T, plain []byte) {
		checkShort(t, plain[:min(len(plain), maxShort)])
	})
}

// A shared body arrives whole at connections of every kind, and is the frame that it would be alone.
func TestSharedBodies(t *testing.T) {
	key := mustKey(t, 7)
	for name, plain := range map[string][]byte{"text": sampleOrder(1), "noise": randomBytes(300), "empty": nil, "large": bytes.Repeat(sampleChat(1), 40)} {
		t.Run(name, func(t *testing.T) {
			shared := NewShared(plain)
			var wg sync.WaitGroup
			for i := range 8 {
				pin, offer := &key, fullOffer
				if i%2 == 1 {
					pin = nil
				}
				if i%4 >= 2 {
					offer = clientpb.HelloOffer{Sdk: "test/1"}
				}
				client, gate := connect(t, pin, offer)
				wg.Go(func() {
					for n := range 3 {
						frame := gate.seal.AppendShared(nil, Header{Cmd: 0x0401, Seq: uint32(n)}, shared)
						h, b, err := ReadFrame(bytes.NewReader(frame), limits.BodyToClientBytes)
						if err == nil {
							b, err = client.open.Open(h, b, limits.BodyToClientBytes)
						}
						if err != nil || !bytes.Equal(b.Bytes(), plain) {
							t.Errorf("connection %d: %d bytes, %v", i, len(b.Bytes()), err)
							return
						}
						if got := h.Flags&FlagCompressed != 0; got != (len(offer.Compressions) > 0 && (name == "text" || name == "large")) {
							t.Errorf("connection %d: compressed %t", i, got)
						}
						b.Release()
					}
				})
			}
			wg.Wait()
		})
	}
}
