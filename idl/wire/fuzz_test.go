package wire_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"reflect"
	"runtime"
	"testing"

	"github.com/cloudwego/prutal"

	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/limits"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/idl/vectors"
	"github.com/gatepost/gatepost/idl/wire"
)

// The seeds are the golden vectors, good and malformed.

func lines[T any](f *testing.F, name string) []T {
	f.Helper()
	all, err := vectors.Load[T](name)
	if err != nil {
		f.Fatal(err)
	}
	return all
}

func settings(*clientpb.HelloOffer) *clientpb.HelloSettings {
	return &clientpb.HelloSettings{KeepaliveIntervalMs: 60_000, Compression: clientpb.Compression_COMPRESSION_DEFLATE}
}

// shake connects both ends in clear or, with a key, with Noise.
func shake(f testing.TB, key *wire.PrivateKey) (i *wire.Initiator, hello []byte, a *wire.Accept) {
	f.Helper()
	var pin *wire.PublicKey
	var keys []wire.PrivateKey
	if key != nil {
		k := key.PublicKey()
		pin, keys = &k, []wire.PrivateKey{*key}
	}
	offer := clientpb.HelloOffer{Compressions: []clientpb.Compression{clientpb.Compression_COMPRESSION_DEFLATE}, Dictionaries: []uint32{1}}
	i, hello, err := wire.NewHello(pin, &offer)
	if err != nil {
		f.Fatal(err)
	}
	a, err = wire.AcceptHello(hello, keys, key == nil, settings)
	if err != nil {
		f.Fatal(err)
	}
	return i, hello, a
}

func bufferOf(b []byte) *wire.Buffer {
	if len(b) == 0 {
		return nil
	}
	buf := wire.GetBuffer(len(b))
	copy(buf.B, b)
	return buf
}

func FuzzReadFrame(f *testing.F) {
	for _, v := range lines[vectors.Frame](f, "frames") {
		f.Add([]byte(v.Frame))
	}
	for _, v := range lines[vectors.Malformed](f, "malformed") {
		f.Add([]byte(v.Bytes))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		const limit = 4096
		h, b, err := wire.ReadFrame(bytes.NewReader(in), limit)
		if err != nil {
			if b != nil {
				t.Fatal("a body with an error")
			}
			return
		}
		if len(b.Bytes()) > limit || len(b.Bytes()) != int(h.Length) {
			t.Fatalf("%d bytes of %d", len(b.Bytes()), h.Length)
		}
		if again := append(h.Append(nil), b.Bytes()...); !bytes.HasPrefix(in, again) {
			t.Fatalf("read %x out of %x", again, in)
		}
		b.Release()
	})
}

// FuzzOpen meets forged frames on a secured connection: none opens, and nothing opens after one.
func FuzzOpen(f *testing.F) {
	for _, v := range lines[vectors.Frame](f, "frames") {
		f.Add(v.Flags, v.Cmd, v.Seq, []byte(v.Frame[wire.HeaderLen:]))
	}
	key, err := wire.GenerateKey(1)
	if err != nil {
		f.Fatal(err)
	}
	i, _, a := shake(f, &key)
	_, _, sealer, err := i.Finish(a.Answer)
	if err != nil {
		f.Fatal(err)
	}
	first := sealer.AppendFrame(nil, wire.Header{Cmd: 2}, []byte("genuine"))
	fresh := a.Opener
	f.Fuzz(func(t *testing.T, flags uint8, cmd uint16, seq uint32, body []byte) {
		o := fresh
		h := wire.Header{Flags: wire.Flags(flags), Cmd: cmd, Seq: seq, Length: uint32(len(body))}
		if plain, err := o.Open(h, bufferOf(body), limits.BodyToGateBytes); err == nil {
			if !bytes.Equal(append(h.Append(nil), body...), first) {
				t.Fatalf("a forged frame opened to %x", plain.Bytes())
			}
			return
		}
		good, err := wire.ParseHeader(first)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := o.Open(good, bufferOf(first[wire.HeaderLen:]), limits.BodyToGateBytes); err == nil {
			t.Fatal("the opener lives on after a failure")
		}
	})
}

// FuzzInflate meets compressed bodies that somebody made.
func FuzzInflate(f *testing.F) {
	for _, v := range lines[vectors.Compressed](f, "compressed") {
		f.Add([]byte(v.Compressed))
	}
	for _, v := range lines[vectors.Malformed](f, "malformed") {
		f.Add([]byte(v.Bytes))
	}
	_, _, a := shake(f, nil)
	fresh := a.Opener
	f.Fuzz(func(t *testing.T, in []byte) {
		o := fresh
		h := wire.Header{Flags: wire.FlagCompressed, Length: uint32(len(in))}
		plain, err := o.Open(h, bufferOf(in), limits.BodyToGateBytes)
		if err != nil {
			if plain != nil {
				t.Fatal("a body with an error")
			}
			return
		}
		if n, _ := binary.Uvarint(in); n != uint64(len(plain.B)) || n > limits.BodyToGateBytes {
			t.Fatalf("%d bytes, %d said", len(plain.B), n)
		}
		plain.Release()
	})
}

// FuzzFrame passes any body through a sealer and the opener of the other side.
func FuzzFrame(f *testing.F) {
	for _, v := range lines[vectors.Frame](f, "frames") {
		f.Add([]byte(v.Body), v.ToGate)
	}
	key, err := wire.GenerateKey(1)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte, secured bool) {
		if len(body) > limits.BodyToGateBytes {
			return
		}
		var k *wire.PrivateKey
		if secured {
			k = &key
		}
		i, _, a := shake(t, k)
		_, opener, sealer, err := i.Finish(a.Answer)
		if err != nil {
			t.Fatal(err)
		}
		for _, way := range []struct {
			s *wire.Sealer
			o *wire.Opener
		}{{&sealer, &a.Opener}, {&a.Sealer, &opener}} {
			h, b, err := wire.ReadFrame(bytes.NewReader(way.s.AppendFrame(nil, wire.Header{Cmd: 9}, body)), limits.BodyToGateBytes+wire.SealOverhead)
			if err != nil {
				t.Fatal(err)
			}
			plain, err := way.o.Open(h, b, limits.BodyToGateBytes)
			if err != nil || !bytes.Equal(plain.Bytes(), body) {
				t.Fatalf("%x came out as %x, %v", body, plain.Bytes(), err)
			}
			plain.Release()
		}
	})
}

// FuzzAcceptHello is the gate's side of the handshake: every failure has a status.
func FuzzAcceptHello(f *testing.F) {
	for _, v := range lines[vectors.Malformed](f, "malformed") {
		f.Add([]byte(v.Bytes))
	}
	for _, v := range lines[vectors.Handshake](f, "handshakes") {
		f.Add([]byte(v.HelloFrame[wire.HeaderLen:]))
	}
	key, err := wire.NewPrivateKey(7, [32]byte(bytes.Repeat([]byte{0x42}, 32)))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		a, err := wire.AcceptHello(body, []wire.PrivateKey{key}, true, settings)
		if err != nil {
			var refused *status.Error
			if a != nil || !errors.As(err, &refused) || refused.Code.Final() {
				t.Fatalf("%v", err)
			}
			return
		}
		if len(a.Answer) > limits.HelloBodyBytes || a.Opener.Secured() != (a.Security == clientpb.Security_SECURITY_NOISE_NK) {
			t.Fatalf("%+v", a)
		}
	})
}

// FuzzFinish is the client's side: no answer but the gate's own ends a handshake with Noise.
func FuzzFinish(f *testing.F) {
	for _, v := range lines[vectors.Handshake](f, "handshakes") {
		f.Add([]byte(v.AnswerFrame[wire.HeaderLen:]), v.KeyID != 0)
	}
	key, err := wire.GenerateKey(1)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, answer []byte, secured bool) {
		var k *wire.PrivateKey
		if secured {
			k = &key
		}
		i, _, _ := shake(t, k)
		if _, _, _, err := i.Finish(answer); err == nil && secured {
			t.Fatal("a forged answer passes")
		}
	})
}

// FuzzBodies feeds every decoder: no panic, no memory beyond a bound, no alias of the input, and what was decoded encodes to something
// that decodes to the same.
func FuzzBodies(f *testing.F) {
	for _, v := range lines[vectors.Body](f, "bodies") {
		f.Add([]byte(v.Bytes))
	}
	for _, v := range lines[vectors.Malformed](f, "malformed") {
		f.Add([]byte(v.Bytes))
	}
	names := map[string]bool{}
	for _, v := range lines[vectors.Body](f, "bodies") {
		names[v.Message] = true
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) > limits.BodyToGateBytes {
			return
		}
		for name := range names {
			m := vectors.NewMessage(name)
			input := bytes.Clone(in)
			if prutal.Unmarshal(input, m) != nil {
				continue
			}
			clear(input)
			out, err := prutal.MarshalAppend(nil, m)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			again := vectors.NewMessage(name)
			if err := prutal.Unmarshal(out, again); err != nil {
				t.Fatalf("%s: %x decodes, its encoding %x does not: %v", name, in, out, err)
			}
			if !reflect.DeepEqual(vectors.Fields(m), vectors.Fields(again)) {
				t.Fatalf("%s: %x and %x differ", name, in, out)
			}
		}
	})
}

// The worst that a body can make its decoder allocate is a list of empty messages: it stays within a small multiple of the body.
func TestDecodersAllocateInProportion(t *testing.T) {
	const size = limits.BodyToGateBytes
	for _, c := range []struct {
		name   string
		unit   []byte
		factor int // bytes taken for each byte of the body
	}{
		{"C2C", []byte{0x12, 0}, 64},     // each a User
		{"Confirm", []byte{0x0a, 0}, 32}, // each an empty pack
		{"Deliver", []byte{0x0a, 0}, 160},
		{"HelloOffer", []byte{0x10, 1}, 16},
		{"Login", []byte{0x1a, 0}, 64},
	} {
		in := bytes.Repeat(c.unit, size/len(c.unit))
		m := vectors.NewMessage(c.name)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_ = prutal.Unmarshal(in, m)
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; took > uint64(c.factor*size) {
			t.Errorf("%s: %d bytes for a body of %d", c.name, took, size)
		}
	}
}
