package wire

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/limits"
	"github.com/gatepost/gatepost/idl/status"
)

// side is one end of a connection.
type side struct {
	open *Opener
	seal *Sealer
}

func mustKey(t testing.TB, id uint32) PrivateKey {
	t.Helper()
	k, err := GenerateKey(id)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

var fullOffer = clientpb.HelloOffer{
	Sdk:          "test/1",
	Compressions: []clientpb.Compression{clientpb.Compression_COMPRESSION_DEFLATE},
	Dictionaries: []uint32{DictionaryID},
}

func wantDeflate(*clientpb.HelloOffer) *clientpb.HelloSettings {
	return &clientpb.HelloSettings{
		KeepaliveIntervalMs: 60_000, MaxBodyBytes: limits.BodyToGateBytes, MaxContentBytes: limits.ContentBytes,
		Compression: clientpb.Compression_COMPRESSION_DEFLATE, MaxInFlight: limits.MaxInFlight,
	}
}

// connect makes both ends of a connection; key nil: in clear.
func connect(t testing.TB, key *PrivateKey, offer clientpb.HelloOffer) (client, gate side) {
	t.Helper()
	var pin *PublicKey
	var keys []PrivateKey
	if key != nil {
		k := key.PublicKey()
		pin, keys = &k, []PrivateKey{*key}
	}
	i, hello, err := NewHello(pin, &offer)
	if err != nil {
		t.Fatal(err)
	}
	a, err := AcceptHello(hello, keys, key == nil, wantDeflate)
	if err != nil {
		t.Fatal(err)
	}
	if _, o, s, err := i.Finish(a.Answer); err != nil {
		t.Fatal(err)
	} else {
		return side{&o, &s}, side{&a.Opener, &a.Sealer}
	}
	return
}

// pass sends one body from one end to the other through bytes.
func pass(from, to side, h Header, body []byte, limit int) (Header, *Buffer, error) {
	h, b, err := ReadFrame(bytes.NewReader(from.seal.AppendFrame(nil, h, body)), limit+SealOverhead)
	if err != nil {
		return h, nil, err
	}
	b, err = to.open.Open(h, b, limit)
	return h, b, err
}

func TestFramesPassBothWays(t *testing.T) {
	key := mustKey(t, 7)
	plainOffer := clientpb.HelloOffer{Sdk: "test/1"}
	for name, c := range map[string]struct {
		key   *PrivateKey
		offer clientpb.HelloOffer
	}{
		"clear": {nil, plainOffer}, "clear deflate": {nil, fullOffer},
		"noise": {&key, plainOffer}, "noise deflate": {&key, fullOffer},
	} {
		t.Run(name, func(t *testing.T) {
			client, gate := connect(t, c.key, c.offer)
			bodies := [][]byte{nil, []byte("x"), samplePosition(3), bytes.Repeat([]byte("order "), 9000), randomBytes(1000)}
			for _, ends := range [][2]side{{client, gate}, {gate, client}} {
				for n, body := range bodies {
					sent := Header{Flags: FlagRestart, Cmd: 0x0101, Status: 5, Seq: uint32(n)}
					got, b, err := pass(ends[0], ends[1], sent, body, limits.BodyToGateBytes)
					if err != nil {
						t.Fatalf("body %d: %v", n, err)
					}
					if !bytes.Equal(b.Bytes(), body) || (len(body) == 0) != (b == nil) {
						t.Fatalf("body %d came out as %d bytes", n, len(b.Bytes()))
					}
					b.Release()
					if got.Cmd != sent.Cmd || got.Seq != sent.Seq || got.Status != sent.Status || !got.IsRestart() || got.IsResponse() {
						t.Fatalf("header %+v", got)
					}
					if sealed := got.Flags&FlagSealed != 0; sealed != (c.key != nil) {
						t.Fatalf("body %d sealed: %v", n, sealed)
					}
					small := len(c.offer.Compressions) > 0 && (n == 2 || n == 3)
					if deflated := got.Flags&FlagCompressed != 0; deflated != small {
						t.Fatalf("body %d compressed: %v", n, deflated)
					}
				}
			}
		})
	}
}

func TestOpenerIsDeadAfterAFailure(t *testing.T) {
	key := mustKey(t, 1)
	client, gate := connect(t, &key, fullOffer)
	good := func() []byte { return client.seal.AppendFrame(nil, Header{Cmd: 1, Seq: 1}, samplePosition(1)) }
	first, second := good(), good()
	spoiled := bytes.Clone(first)
	spoiled[len(spoiled)-1] ^= 1
	for n, frame := range [][]byte{spoiled, first, second} {
		h, b, err := ReadFrame(bytes.NewReader(frame), 1<<16)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := gate.open.Open(h, b, 1<<16); !errors.Is(err, ErrSeal) {
			t.Fatalf("frame %d: %v", n, err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	key := mustKey(t, 1)
	sealed := func(change func(*Header)) func(t *testing.T) error {
		return func(t *testing.T) error {
			client, gate := connect(t, &key, fullOffer)
			h, b, err := ReadFrame(bytes.NewReader(client.seal.AppendFrame(nil, Header{Cmd: 0x0301, Seq: 9}, samplePosition(1))), 1<<16)
			if err != nil {
				t.Fatal(err)
			}
			change(&h)
			_, err = gate.open.Open(h, b, 1<<16)
			return err
		}
	}
	clear := func(offer clientpb.HelloOffer, flags Flags, limit int, body []byte) func(t *testing.T) error {
		return func(t *testing.T) error {
			_, gate := connect(t, nil, offer)
			b := GetBuffer(len(body))
			copy(b.B, body)
			_, err := gate.open.Open(Header{Flags: flags, Length: uint32(len(body))}, b, limit)
			return err
		}
	}
	none := clientpb.HelloOffer{}
	packed, ok := dictionaries[1].appendDeflate(nil, samplePosition(1))
	if !ok {
		t.Fatal("does not shrink")
	}
	for name, c := range map[string]struct {
		run  func(*testing.T) error
		want error
	}{
		"untouched":                {sealed(func(h *Header) {}), nil},
		"cmd changed":              {sealed(func(h *Header) { h.Cmd++ }), ErrSeal},
		"status changed":           {sealed(func(h *Header) { h.Status++ }), ErrSeal},
		"seq changed":              {sealed(func(h *Header) { h.Seq++ }), ErrSeal},
		"restart added":            {sealed(func(h *Header) { h.Flags |= FlagRestart }), ErrSeal},
		"unknown flag added":       {sealed(func(h *Header) { h.Flags |= 0x80 }), ErrSeal},
		"compressed removed":       {sealed(func(h *Header) { h.Flags &^= FlagCompressed }), ErrSeal},
		"sealed removed":           {sealed(func(h *Header) { h.Flags &^= FlagSealed }), ErrSeal},
		"length of another":        {sealed(func(h *Header) { h.Length++ }), ErrLength},
		"sealed in clear":          {clear(none, FlagSealed, 100, make([]byte, 40)), ErrSeal},
		"compressed, not agreed":   {clear(none, FlagCompressed, 1<<16, packed), ErrDeflate},
		"compressed":               {clear(fullOffer, FlagCompressed, 1<<16, packed), nil},
		"inflates above limit":     {clear(fullOffer, FlagCompressed, len(samplePosition(1))-1, packed), ErrTooLarge},
		"cut":                      {clear(fullOffer, FlagCompressed, 1<<16, packed[:len(packed)-1]), ErrDeflate},
		"bytes behind":             {clear(fullOffer, FlagCompressed, 1<<16, append(bytes.Clone(packed), 0)), ErrDeflate},
		"empty compressed":         {clear(fullOffer, FlagCompressed, 1<<16, nil), ErrDeflate},
		"says 0":                   {clear(fullOffer, FlagCompressed, 1<<16, []byte{0, 3, 0}), ErrDeflate},
		"says less":                {clear(fullOffer, FlagCompressed, 1<<16, withLength(packed, uint64(len(samplePosition(1)))-1)), ErrDeflate},
		"says more":                {clear(fullOffer, FlagCompressed, 1<<16, withLength(packed, uint64(len(samplePosition(1)))+1)), ErrDeflate},
		"says 2^63":                {clear(fullOffer, FlagCompressed, 1<<16, withLength(packed, 1<<63)), ErrTooLarge},
		"clear above limit":        {clear(none, 0, 10, make([]byte, 11)), ErrTooLarge},
		"unknown flags are nobody": {clear(none, 0xf0, 10, make([]byte, 10)), nil},
	} {
		t.Run(name, func(t *testing.T) {
			if err := c.run(t); !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
		})
	}
}

func TestNonces(t *testing.T) {
	key := mustKey(t, 1)
	client, gate := connect(t, &key, clientpb.HelloOffer{})
	client.seal.counter, gate.open.counter = maxNonce, maxNonce
	if _, b, err := pass(client, gate, Header{}, []byte("last"), 100); err != nil || string(b.B) != "last" {
		t.Fatalf("the last nonce: %v", err)
	}
	dst := []byte("before")
	if out := client.seal.AppendFrame(dst, Header{}, []byte("one more")); string(out) != "before" || !errors.Is(client.seal.Err(), ErrNonce) {
		t.Fatalf("%q, %v", out, client.seal.Err())
	}
	b := GetBuffer(20)
	if _, err := gate.open.Open(Header{Flags: FlagSealed, Length: 20}, b, 100); !errors.Is(err, ErrNonce) {
		t.Fatal(err)
	}
}

func TestReadFrame(t *testing.T) {
	frame := (&Sealer{}).AppendFrame(nil, Header{Cmd: 2}, []byte("body"))
	version2 := bytes.Clone(frame)
	version2[2] = 2
	huge := Header{Length: 1 << 31}.Append(nil)
	for name, c := range map[string]struct {
		in   []byte
		want error
	}{
		"whole": {frame, nil}, "nothing": {nil, io.EOF}, "half a header": {frame[:7], io.ErrUnexpectedEOF},
		"no body": {frame[:16], io.ErrUnexpectedEOF}, "half a body": {frame[:18], io.ErrUnexpectedEOF},
		"http": {[]byte("GET / HTTP/1.1\r\n\r\n"), ErrMagic}, "version 2": {version2, ErrVersion}, "2 GiB": {huge, ErrTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			_, b, err := ReadFrame(bytes.NewReader(c.in), 100)
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			b.Release()
		})
	}
}

func TestHandshakeRefuses(t *testing.T) {
	key, other := mustKey(t, 1), mustKey(t, 1)
	second := mustKey(t, 2)
	pin := key.PublicKey()
	hello := func(k *PublicKey) []byte {
		_, b, err := NewHello(k, &fullOffer)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for name, c := range map[string]struct {
		body  []byte
		keys  []PrivateKey
		clear bool
		want  status.Code
	}{
		"good":            {hello(&pin), []PrivateKey{second, key}, false, status.OK},
		"clear":           {hello(nil), nil, true, status.OK},
		"clear refused":   {hello(nil), []PrivateKey{key}, false, status.ClearRefused},
		"no such key":     {hello(&pin), []PrivateKey{second}, true, status.UnknownKey},
		"another key":     {hello(&pin), []PrivateKey{other}, false, status.BadHandshake},
		"version 0":       {nil, []PrivateKey{key}, true, status.UnsupportedVersion},
		"version 2":       {[]byte{8, 2}, []PrivateKey{key}, true, status.UnsupportedVersion},
		"security 9":      {[]byte{8, 1, 16, 9}, []PrivateKey{key}, true, status.UnsupportedVersion},
		"noise missing":   {[]byte{8, 1, 16, 1, 24, 1}, []PrivateKey{key}, true, status.BadHandshake},
		"noise short":     {[]byte{8, 1, 16, 1, 24, 1, 34, 3, 1, 2, 3}, []PrivateKey{key}, true, status.BadHandshake},
		"key id 0":        {[]byte{8, 1, 16, 1}, []PrivateKey{{}}, true, status.UnknownKey},
		"no protobuf":     {[]byte{0xff}, nil, true, status.BadHandshake},
		"too long":        {make([]byte, 1025), nil, true, status.BadHandshake},
		"clear and noise": {[]byte{8, 1, 34, 1, 1}, nil, true, status.BadHandshake},
		"zero ephemeral":  {append([]byte{8, 1, 16, 1, 24, 1, 34, 48}, make([]byte, 48)...), []PrivateKey{key}, true, status.BadHandshake},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := AcceptHello(c.body, c.keys, c.clear, wantDeflate)
			if (a == nil) != (err != nil) {
				t.Fatal(a, err)
			}
			var got *status.Error
			if errors.As(err, &got) != (c.want != status.OK) || got != nil && got.Code != c.want {
				t.Fatalf("got %v, want %v", err, c.want)
			}
		})
	}
}

func TestFinishRefuses(t *testing.T) {
	key := mustKey(t, 3)
	pin := key.PublicKey()
	answer := func(k *PublicKey, offer *clientpb.HelloOffer) (*Initiator, []byte) {
		i, hello, err := NewHello(k, offer)
		if err != nil {
			t.Fatal(err)
		}
		a, err := AcceptHello(hello, []PrivateKey{key}, true, wantDeflate)
		if err != nil {
			t.Fatal(err)
		}
		return i, a.Answer
	}
	noised, noiseAnswer := answer(&pin, &fullOffer)
	_, foreign := answer(&pin, &fullOffer)
	plain, clearAnswer := answer(nil, &clientpb.HelloOffer{})
	_, deflating := answer(nil, &fullOffer)
	bare, _ := answer(nil, &clientpb.HelloOffer{})
	for name, c := range map[string]struct {
		i      *Initiator
		answer []byte
		ok     bool
	}{
		"answer to another": {noised, foreign, false}, "in clear": {noised, clearAnswer, false}, "empty": {noised, nil, false},
		"noise to clear": {plain, noiseAnswer, false}, "not offered": {bare, deflating, false}, "clear": {plain, clearAnswer, true},
		"too long": {plain, make([]byte, 1025), false},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, _, err := c.i.Finish(c.answer)
			if (err == nil) != c.ok || err != nil && !errors.Is(err, ErrHandshake) {
				t.Fatal(err)
			}
		})
	}
}

func TestKeys(t *testing.T) {
	k := mustKey(t, 42)
	p, err := ParsePublicKey(k.PublicKey().String())
	if err != nil || p != k.PublicKey() {
		t.Fatal(p, err)
	}
	back, err := ParsePrivateKey(k.Text())
	if err != nil || !back.Equal(k) || back.Equal(mustKey(t, 42)) {
		t.Fatal(err)
	}
	if secret := strings.TrimPrefix(k.Text(), "42:"); strings.Contains(k.String(), secret) || strings.Contains(k.GoString(), secret) {
		t.Fatal("the secret prints")
	}
	for _, bad := range []string{"", "1", "1:", "0:" + p.String()[3:], "x:" + p.String()[3:], "4294967296:" + p.String()[3:], p.String() + "AA", p.String()[:40], "1:%%%"} {
		if _, err := ParsePublicKey(bad); !errors.Is(err, ErrKey) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := GenerateKey(0); !errors.Is(err, ErrKey) {
		t.Error(err)
	}
}

func TestBuffers(t *testing.T) {
	for _, n := range []int{0, 1, 320, 321, 65536, 65552, 262144, 262160, 262209, 1 << 20} {
		b := GetBuffer(n)
		if len(b.B) != n {
			t.Fatalf("%d: %d", n, len(b.B))
		}
		b.Release()
	}
	var none *Buffer
	none.Release()
	b := GetBuffer(1 << 20) // not pooled, so nobody takes it in between
	b.Release()
	defer func() {
		if recover() == nil {
			t.Fatal("a second release passes")
		}
	}()
	b.Release()
}
