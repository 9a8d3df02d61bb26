package vectors

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"

	"github.com/cloudwego/prutal"
	"github.com/flynn/noise"

	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/limits"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/idl/wire"
)

// Generate makes all files, by their names. It gives the same bytes each time.
func Generate() (map[string][]byte, error) {
	g := generator{files: map[string][]byte{}}
	for _, step := range []func() error{g.headers, g.bodies, g.handshakes, g.frames, g.compressed, g.malformed} {
		if err := step(); err != nil {
			return nil, fmt.Errorf("generate vectors: %w", err)
		}
	}
	return g.files, nil
}

type generator struct {
	files map[string][]byte
	key   wire.PrivateKey
	ends  map[string]ends // by the name of a handshake
}

// ends of one connection: what each side seals with.
type ends struct {
	client, gate *wire.Sealer
	secured      bool
	fresh        func() (client *wire.Sealer) // another connection with the same keys
}

func put[T any](g *generator, name string, lines []T) error {
	var out bytes.Buffer
	out.WriteString("[\n")
	for i, line := range lines {
		text, err := json.Marshal(line)
		if err != nil {
			return err
		}
		if i > 0 {
			out.WriteString(",\n")
		}
		out.Write(text)
	}
	out.WriteString("\n]\n")
	g.files[name+".json"] = out.Bytes()
	return nil
}

func (g *generator) headers() error {
	var lines []Header
	for _, h := range []struct {
		name string
		wire.Header
	}{
		{"hello", wire.Header{Cmd: uint16(clientpb.Cmd_CMD_HELLO), Seq: 1, Length: 70}},
		{"keepalive", wire.Header{Cmd: uint16(clientpb.Cmd_CMD_KEEPALIVE), Seq: 2}},
		{"sealed c2c that restarts its stream", wire.Header{Flags: wire.FlagSealed | wire.FlagRestart, Cmd: uint16(clientpb.Cmd_CMD_C2C), Seq: 0x01020304, Length: 0x0a0b}},
		{"answer with a refusal", wire.Header{Flags: wire.FlagSealed | wire.FlagResponse, Cmd: uint16(clientpb.Cmd_CMD_C2C), Status: status.InboxFull, Seq: 9, Length: 40}},
		{"compressed and sealed push", wire.Header{Flags: wire.FlagSealed | wire.FlagCompressed, Cmd: uint16(clientpb.Cmd_CMD_DELIVER), Seq: 0xffffffff, Length: 200}},
		{"close", wire.Header{Cmd: uint16(clientpb.Cmd_CMD_CLOSE), Status: status.Idle, Seq: 3, Length: 12}},
		{"unknown flags, command and status", wire.Header{Flags: 0xf0, Cmd: 0x7fff, Status: 65535, Seq: 0, Length: 1}},
	} {
		lines = append(lines, Header{h.name, h.Append(nil), uint8(h.Flags), h.Cmd, uint16(h.Status), h.Seq, h.Length})
	}
	return put(g, "headers", lines)
}

func (g *generator) bodies() error {
	lines, err := bodies()
	if err != nil {
		return err
	}
	return put(g, "bodies", lines)
}

// fixed is n bytes that count up from first.
func fixed(first byte, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = first + byte(i)
	}
	return b
}

func (g *generator) handshakes() error {
	var err error
	if g.key, err = wire.NewPrivateKey(7, [32]byte(fixed(0x40, 32))); err != nil {
		return err
	}
	g.ends = map[string]ends{}
	var lines []Handshake
	for _, c := range []struct {
		name  string
		key   *wire.PrivateKey
		offer *clientpb.HelloOffer
	}{
		{"noise", &g.key, offer()},
		{"noise without compression", &g.key, &clientpb.HelloOffer{Sdk: "golden/1.0"}},
		{"clear", nil, &clientpb.HelloOffer{Sdk: "golden/1.0"}},
		{"clear with compression", nil, offer()},
	} {
		line, e, err := handshake(c.name, c.key, c.offer)
		if err != nil {
			return fmt.Errorf("handshake %q: %w", c.name, err)
		}
		e.fresh = func() *wire.Sealer {
			_, again, err := handshake(c.name, c.key, c.offer)
			if err != nil {
				panic(err) // it went well before
			}
			return again.client
		}
		g.ends[c.name] = e
		lines = append(lines, line)
	}
	return put(g, "handshakes", lines)
}

func handshake(name string, key *wire.PrivateKey, o *clientpb.HelloOffer) (Handshake, ends, error) {
	clientRandom, gateRandom := fixed(0x80, 32), fixed(0xc0, 32)
	line := Handshake{Name: name}
	var pin *wire.PublicKey
	if key != nil {
		k := key.PublicKey()
		pin = &k
		line.KeyID, line.GatePrivate, line.GatePublic, line.PinnedKey = key.ID, key.Private[:], key.Public[:], k.String()
		line.ClientEphemeral, line.GateEphemeral = clientRandom, gateRandom
	}
	i, hello, err := wire.NewHelloWith(bytes.NewReader(clientRandom), pin, o)
	if err != nil {
		return line, ends{}, err
	}
	a, err := wire.AcceptHelloWith(bytes.NewReader(gateRandom), hello, keysOf(key), key == nil,
		func(*clientpb.HelloOffer) *clientpb.HelloSettings { return settings() })
	if err != nil {
		return line, ends{}, err
	}
	s, _, toGate, err := i.Finish(a.Answer)
	if err != nil {
		return line, ends{}, err
	}
	line.CompressionDict = s.Dictionary
	if line.Offer, err = prutal.MarshalAppend(nil, o); err != nil {
		return line, ends{}, err
	}
	if line.Settings, err = prutal.MarshalAppend(nil, s); err != nil {
		return line, ends{}, err
	}
	line.HelloFrame = new(wire.Sealer).AppendFrame(nil, wire.Header{Cmd: uint16(clientpb.Cmd_CMD_HELLO), Seq: 1}, hello)
	line.AnswerFrame = new(wire.Sealer).AppendFrame(nil, wire.Header{Flags: wire.FlagResponse, Cmd: uint16(clientpb.Cmd_CMD_HELLO), Seq: 1}, a.Answer)
	if key != nil {
		err = line.noise(hello, a.Answer)
	}
	return line, ends{client: &toGate, gate: &a.Sealer, secured: key != nil}, err
}

func keysOf(key *wire.PrivateKey) []wire.PrivateKey {
	if key == nil {
		return nil
	}
	return []wire.PrivateKey{*key}
}

// noise plays the client's part again, with nothing but the Noise library, for the keys that package wire does not show; so it also
// checks the bytes that package wire made.
func (line *Handshake) noise(hello, answer []byte) error {
	line.Prologue = append([]byte("gatepost\x00\x01\x01"), binary.BigEndian.AppendUint32(nil, line.KeyID)...)
	hs, err := noise.NewHandshakeState(noise.Config{
		CipherSuite: noise.NewCipherSuite(noise.DH25519, noise.CipherChaChaPoly, noise.HashSHA256),
		Random:      bytes.NewReader(line.ClientEphemeral), Pattern: noise.HandshakeNK, Initiator: true,
		Prologue: line.Prologue, PeerStatic: line.GatePublic,
	})
	if err != nil {
		return err
	}
	first, _, _, err := hs.WriteMessage(nil, line.Offer)
	if err != nil {
		return err
	}
	var h clientpb.Hello
	var a clientpb.HelloAnswer
	if err := prutal.Unmarshal(hello, &h); err != nil {
		return err
	}
	if err := prutal.Unmarshal(answer, &a); err != nil {
		return err
	}
	if !bytes.Equal(first, h.Noise) {
		return fmt.Errorf("the first message differs from the library's")
	}
	payload, toGate, toClient, err := hs.ReadMessage(nil, a.Noise)
	if err != nil {
		return err
	}
	if !bytes.Equal(payload, line.Settings) {
		return fmt.Errorf("the settings differ")
	}
	up, down := toGate.UnsafeKey(), toClient.UnsafeKey()
	line.KeyToGate, line.KeyToClient, line.NoiseHashAfterwards = up[:], down[:], hs.ChannelBinding()
	return nil
}

func (g *generator) frames() error {
	body := func(m any) []byte {
		b, err := prutal.MarshalAppend(nil, m)
		if err != nil {
			panic(err) // bodies.json was made of the same
		}
		return b
	}
	type step struct {
		name   string
		toGate bool
		h      wire.Header
		body   []byte
	}
	command := func(c clientpb.Cmd, flags wire.Flags, seq uint32) wire.Header {
		return wire.Header{Cmd: uint16(c), Flags: flags, Seq: seq}
	}
	refused := command(clientpb.Cmd_CMD_C2C, wire.FlagResponse, 6)
	refused.Status = status.StreamClosed
	noTopic := command(clientpb.Cmd_CMD_C2S, wire.FlagResponse, 9)
	noTopic.Status = status.NoTopic
	talk := []step{
		{"login", true, command(clientpb.Cmd_CMD_LOGIN, 0, 2), body(aliceLogin())},
		{"login answer", false, command(clientpb.Cmd_CMD_LOGIN, wire.FlagResponse, 2), body(&clientpb.LoginAnswer{Session: 1763719200000001, ServerTimeMs: now})},
		{"first pull", true, command(clientpb.Cmd_CMD_PULL, 0, 3), body(&clientpb.Pull{Register: true})},
		{"empty inbox", false, command(clientpb.Cmd_CMD_PULL, wire.FlagResponse, 3), body(&clientpb.PullAnswer{ServerTimeMs: now})},
		{"c2c that opens the stream", true, command(clientpb.Cmd_CMD_C2C, wire.FlagRestart, 4), body(aliceToBob())},
		{"accepted", false, command(clientpb.Cmd_CMD_C2C, wire.FlagResponse, 4), body(&clientpb.C2CAnswer{MsgId: msgID, ServerTimeMs: now})},
		{"keepalive, no body", true, command(clientpb.Cmd_CMD_KEEPALIVE, 0, 5), nil},
		{"keepalive answer, no body", false, command(clientpb.Cmd_CMD_KEEPALIVE, wire.FlagResponse, 5), nil},
		{"refusal", false, refused, body(&clientpb.Refusal{Reason: "an earlier message of the stream had no final outcome"})},
		{"push of two messages", false, command(clientpb.Cmd_CMD_DELIVER, 0, 1), body(&clientpb.Deliver{Messages: []*clientpb.Message{bobReads(), bobReads()}})},
		{"confirm", true, command(clientpb.Cmd_CMD_CONFIRM, 0, 7), body(&clientpb.Confirm{MsgIds: []uint64{msgID}})},
		{"c2s that opens the other stream", true, command(clientpb.Cmd_CMD_C2S, wire.FlagRestart, 8), body(aliceReports())},
		{"in its topic", false, command(clientpb.Cmd_CMD_C2S, wire.FlagResponse, 8), body(&clientpb.C2SAnswer{ServerTimeMs: now})},
		{"refused for good", false, noTopic, body(&clientpb.Refusal{Reason: "there is no topic for uplinks of this type"})},
		{"push of a receipt, a copy and what an app-server sent", false, command(clientpb.Cmd_CMD_DELIVER, 0, 2),
			body(&clientpb.Deliver{Messages: []*clientpb.Message{aliceHears(), aliceCopies(), shopPushes()}})},
		{"confirm with a receipt", true, command(clientpb.Cmd_CMD_CONFIRM, 0, 10), body(&clientpb.Confirm{ReceiptIds: []uint64{msgID}})},
	}
	var lines []Frame
	for _, name := range []string{"noise", "noise without compression", "clear", "clear with compression"} {
		e := g.ends[name]
		nonces := map[bool]uint64{}
		for _, s := range talk {
			sealer := e.gate
			if s.toGate {
				sealer = e.client
			}
			frame := sealer.AppendFrame(nil, s.h, s.body)
			line := Frame{Name: s.name, Handshake: name, ToGate: s.toGate, Flags: frame[3], Cmd: s.h.Cmd, Status: uint16(s.h.Status), Seq: s.h.Seq, Body: s.body, Frame: frame}
			if e.secured {
				line.Nonce = binary.LittleEndian.AppendUint64(make([]byte, 4), nonces[s.toGate])
				nonces[s.toGate]++
			}
			lines = append(lines, line)
		}
	}
	return put(g, "frames", lines)
}

// deflate is the compressed form of plain.
func deflate(plain []byte) ([]byte, error) {
	_, e, err := handshake("", nil, offer())
	if err != nil {
		return nil, err
	}
	frame := e.client.AppendFrame(nil, wire.Header{}, plain)
	if wire.Flags(frame[3])&wire.FlagCompressed == 0 {
		return nil, fmt.Errorf("%q does not shrink", plain)
	}
	return frame[wire.HeaderLen:], nil
}

func (g *generator) compressed() error {
	var lines []Compressed
	for _, c := range []struct{ name, plain string }{
		{"position", `{"type":"position","driver_id":"d-004711","lat":31.230416,"lng":121.473701,"accuracy":5.0,"speed":13.9,"bearing":87,"battery":0.81,"provider":"gps","online":true,"ts":1763719200000}`},
		{"order", `{"order_id":"2026112100000017","status":"pending","pickup":{"lat":31.230416,"lng":121.473701},"dropoff":{"lat":31.197646,"lng":121.327187},"fare":42.50,"currency":"CNY","distance_m":18200}`},
		{"chat", `{"type":"text","text":"I am on my way. Please wait for me at the entrance.","lang":"en","client_time":1763719200000}`},
		{"the same again and again", string(bytes.Repeat([]byte("gatepost "), 2000))},
	} {
		packed, err := deflate([]byte(c.plain))
		if err != nil {
			return err
		}
		lines = append(lines, Compressed{c.name, 1, []byte(c.plain), packed})
	}
	// made by hand: a stored block, which no compressor of ours would send
	lines = append(lines, Compressed{"stored block", 1, []byte("hi"), []byte{2, 1, 2, 0, 0xfd, 0xff, 'h', 'i'}})
	return put(g, "compressed", lines)
}

func (g *generator) malformed() error {
	hello := func(change func(h *clientpb.Hello)) []byte {
		pin := g.key.PublicKey()
		_, b, err := wire.NewHelloWith(bytes.NewReader(fixed(0x80, 32)), &pin, offer())
		if err != nil {
			panic(err) // it went well before
		}
		var h clientpb.Hello
		if err := prutal.Unmarshal(b, &h); err != nil {
			panic(err)
		}
		change(&h)
		if b, err = prutal.MarshalAppend(nil, &h); err != nil {
			panic(err)
		}
		return b
	}
	changed := func(b []byte, at int, to byte) []byte {
		b = bytes.Clone(b)
		if at < 0 {
			at += len(b)
		}
		b[at] = to
		return b
	}
	keepalive := wire.Header{Cmd: uint16(clientpb.Cmd_CMD_KEEPALIVE), Seq: 2}
	plain := new(wire.Sealer).AppendFrame(nil, keepalive, []byte("body"))
	sealed := g.ends["noise"].fresh().AppendFrame(nil, keepalive, []byte("body"))
	twice := g.ends["noise"].fresh()
	second := twice.AppendFrame(twice.AppendFrame(nil, keepalive, nil), keepalive, []byte("body"))[wire.HeaderLen+wire.SealOverhead:]
	packed, err := deflate([]byte(`{"type":"position","driver_id":"d-004711","lat":31.230416,"lng":121.473701}`))
	if err != nil {
		return err
	}
	code := func(c status.Code) string { return fmt.Sprint(uint16(c)) }
	flagged := wire.Header{Flags: wire.FlagCompressed, Length: uint32(len(packed))}
	const limit = limits.BodyToGateBytes
	return put(g, "malformed", []Malformed{
		{"no magic", KindFrame, []byte("GET / HTTP/1.1\r\n\r\n"), limit, "magic"},
		{"one letter wrong", KindFrame, changed(plain, 1, 'Q'), limit, "magic"},
		{"version 0", KindFrame, changed(plain, 2, 0), limit, "version"},
		{"version 2", KindFrame, changed(plain, 2, 2), limit, "version"},
		{"half a header", KindFrame, plain[:8], limit, "truncated"},
		{"header without its body", KindFrame, plain[:16], limit, "truncated"},
		{"half a body", KindFrame, plain[:18], limit, "truncated"},
		{"one byte above the limit", KindFrame, plain, 3, "too_large"},
		{"4 GiB", KindFrame, wire.Header{Length: 1<<32 - 1}.Append(nil), limit, "too_large"},

		{"empty", KindHello, nil, 0, code(status.UnsupportedVersion)},
		{"no protobuf", KindHello, []byte{0xff, 0xff}, 0, code(status.BadHandshake)},
		{"version 2", KindHello, hello(func(h *clientpb.Hello) { h.ProtocolVersion = 2 }), 0, code(status.UnsupportedVersion)},
		{"in clear", KindHello, hello(func(h *clientpb.Hello) { *h = clientpb.Hello{ProtocolVersion: 1, Offer: offer()} }), 0, code(status.ClearRefused)},
		{"unknown security", KindHello, hello(func(h *clientpb.Hello) { h.Security = 2 }), 0, code(status.UnsupportedVersion)},
		{"unknown key", KindHello, hello(func(h *clientpb.Hello) { h.KeyId = 8 }), 0, code(status.UnknownKey)},
		{"key 0", KindHello, hello(func(h *clientpb.Hello) { h.KeyId = 0 }), 0, code(status.UnknownKey)},
		{"no first message", KindHello, hello(func(h *clientpb.Hello) { h.Noise = nil }), 0, code(status.BadHandshake)},
		{"cut first message", KindHello, hello(func(h *clientpb.Hello) { h.Noise = h.Noise[:47] }), 0, code(status.BadHandshake)},
		{"changed ephemeral key", KindHello, hello(func(h *clientpb.Hello) { h.Noise[0] ^= 1 }), 0, code(status.BadHandshake)},
		{"changed tag", KindHello, hello(func(h *clientpb.Hello) { h.Noise[len(h.Noise)-1] ^= 1 }), 0, code(status.BadHandshake)},
		{"ephemeral key of small order", KindHello, hello(func(h *clientpb.Hello) { clear(h.Noise[:32]) }), 0, code(status.BadHandshake)},
		{"noise and an offer in clear", KindHello, hello(func(h *clientpb.Hello) { h.Offer = offer() }), 0, code(status.BadHandshake)},
		{"1,025 bytes", KindHello, make([]byte, limits.HelloBodyBytes+1), 0, code(status.BadHandshake)},

		{"empty", KindCompressed, nil, limit, "deflate"},
		{"length without an end", KindCompressed, bytes.Repeat([]byte{0xff}, 11), limit, "deflate"},
		{"says 0", KindCompressed, []byte{0, 3, 0}, limit, "deflate"},
		{"says one less", KindCompressed, changed(packed, 0, packed[0]-1), limit, "deflate"},
		{"says one more", KindCompressed, changed(packed, 0, packed[0]+1), limit, "deflate"},
		{"says more than the limit", KindCompressed, packed, int(packed[0]) - 1, "too_large"},
		{"says 2^63", KindCompressed, append(binary.AppendUvarint(nil, 1<<63), packed[1:]...), limit, "too_large"},
		{"cut", KindCompressed, packed[:len(packed)-1], limit, "deflate"},
		{"one byte behind the end", KindCompressed, append(bytes.Clone(packed), 0), limit, "deflate"},
		{"reserved block type", KindCompressed, []byte{2, 7}, limit, "deflate"},

		{"changed tag", KindSealed, changed(sealed, -1, sealed[len(sealed)-1]^1), limit, "seal"},
		{"changed body", KindSealed, changed(sealed, wire.HeaderLen, sealed[wire.HeaderLen]^1), limit, "seal"},
		{"changed command", KindSealed, changed(sealed, 5, 3), limit, "seal"},
		{"changed seq", KindSealed, changed(sealed, 11, 9), limit, "seal"},
		{"unknown flag added", KindSealed, changed(sealed, 3, sealed[3]|0x80), limit, "seal"},
		{"not sealed", KindSealed, plain, limit, "seal"},
		{"no body at all", KindSealed, wire.Header{Flags: wire.FlagSealed, Cmd: keepalive.Cmd, Seq: 2}.Append(nil), limit, "seal"},
		{"shorter than a tag", KindSealed, append(wire.Header{Flags: wire.FlagSealed, Length: 15}.Append(nil), make([]byte, 15)...), limit, "seal"},
		{"the second frame first", KindSealed, second, limit, "seal"},

		{"sealed", KindUnsealed, sealed, limit, "seal"},
		{"compressed", KindUnsealed, append(flagged.Append(nil), packed...), limit, "deflate"},

		{"field cut", KindBody + "Login", []byte{0x0a, 5, 't', 'a'}, 0, "decode"},
		{"tag of field 0", KindBody + "C2C", []byte{0x02, 0}, 0, "decode"},
		{"wire type 7", KindBody + "C2C", []byte{0x0f}, 0, "decode"},
		{"varint of eleven bytes", KindBody + "C2C", append([]byte{0x20}, bytes.Repeat([]byte{0xff}, 11)...), 0, "decode"},
		{"number where bytes belong", KindBody + "C2C", []byte{0x08, 1}, 0, "decode"},
		{"group without an end", KindBody + "Pull", []byte{0x7b}, 0, "decode"},
		{"ids of seven bytes", KindBody + "Confirm", append([]byte{0x0a, 7}, make([]byte, 7)...), 0, "decode"},
		{"message cut", KindBody + "Deliver", []byte{0x0a, 3, 0x09, 1, 2}, 0, "decode"},
	})
}
