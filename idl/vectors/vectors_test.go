package vectors

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/cloudwego/prutal"
	"github.com/google/go-cmp/cmp"

	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/limits"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/idl/wire"
)

func load[T any](t *testing.T, name string) []T {
	t.Helper()
	lines, err := Load[T](name)
	if err != nil {
		t.Fatal(err)
	}
	if len(lines) == 0 {
		t.Fatalf("%s.json is empty", name)
	}
	return lines
}

// The committed files are what the generator writes, byte for byte, each time that it runs.
func TestGeneratorWritesTheseFiles(t *testing.T) {
	for range 3 {
		made, err := Generate()
		if err != nil {
			t.Fatal(err)
		}
		entries, err := files.ReadDir(".")
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) != len(made) {
			t.Errorf("%d files, %d made", len(entries), len(made))
		}
		for name, want := range made {
			got, err := files.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s differs: go run ./idl/vectors/generate", name)
			}
		}
	}
}

func TestHeaders(t *testing.T) {
	for _, line := range load[Header](t, "headers") {
		h, err := wire.ParseHeader(line.Bytes)
		if err != nil {
			t.Fatal(line.Name, err)
		}
		want := wire.Header{Flags: wire.Flags(line.Flags), Cmd: line.Cmd, Status: status.Code(line.Status), Seq: line.Seq, Length: line.Length}
		if h != want || !bytes.Equal(h.Append(nil), line.Bytes) {
			t.Errorf("%s: %+v", line.Name, h)
		}
	}
}

func TestBodies(t *testing.T) {
	named := map[string]bool{}
	for _, line := range load[Body](t, "bodies") {
		named[line.Message] = true
		m := NewMessage(line.Message)
		if err := prutal.Unmarshal(line.Bytes, m); err != nil {
			t.Fatal(line.Name, err)
		}
		if diff := cmp.Diff(line.Fields, Fields(m)); diff != "" {
			t.Errorf("%s: %s", line.Name, diff)
		}
		again, err := prutal.MarshalAppend(nil, m)
		if err != nil || !bytes.Equal(again, line.Bytes) {
			t.Errorf("%s encodes to %x, %v", line.Name, again, err)
		}
		// a field of the future, of each wire type, in front and behind, changes nothing
		future := []byte{0xa0, 0x7d, 1, 0xa1, 0x7d, 1, 2, 3, 4, 5, 6, 7, 8, 0xa2, 0x7d, 2, 0xff, 0xff, 0xa5, 0x7d, 1, 2, 3, 4}
		m = NewMessage(line.Message)
		if err := prutal.Unmarshal(append(append(bytes.Clone(future), line.Bytes...), future...), m); err != nil {
			t.Fatal(line.Name, err)
		}
		if diff := cmp.Diff(line.Fields, Fields(m)); diff != "" {
			t.Errorf("%s with unknown fields: %s", line.Name, diff)
		}
	}
	grammar, err := os.ReadFile("../client.proto")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^message (\w+) `).FindAllSubmatch(grammar, -1) {
		if name := string(m[1]); !named[name] {
			t.Errorf("no vector for %s", name)
		}
	}
}

// There is a message of each kind, and each field of each message stands in some vector.
func TestBodiesShowEachKindAndField(t *testing.T) {
	kinds, fields := map[clientpb.MessageKind]bool{}, map[string]bool{}
	for _, line := range load[Body](t, "bodies") {
		m := NewMessage(line.Message)
		if err := prutal.Unmarshal(line.Bytes, m); err != nil {
			t.Fatal(line.Name, err)
		}
		if x, ok := m.(*clientpb.Message); ok {
			kinds[x.Kind] = true
		}
		for field := range line.Fields {
			fields[line.Message+"."+field] = true
		}
	}
	for number, name := range clientpb.MessageKind_name {
		if kind := clientpb.MessageKind(number); !kinds[kind] && kind != clientpb.MessageKind_MESSAGE_KIND_C2G {
			t.Errorf("no vector of %s", name)
		}
	}
	for _, line := range load[Body](t, "bodies") {
		v := reflect.TypeOf(NewMessage(line.Message)).Elem()
		for i := range v.NumField() {
			name, _, _ := strings.Cut(v.Field(i).Tag.Get("json"), ",")
			if !fields[line.Message+"."+name] {
				t.Errorf("no vector has %s.%s", line.Message, name)
			}
		}
	}
}

// connection plays a handshake of handshakes.json and returns the openers of both sides.
func connection(t *testing.T, line Handshake) (atGate, atClient *wire.Opener) {
	t.Helper()
	read := func(frame []byte, cmd clientpb.Cmd, response bool) []byte {
		h, b, err := wire.ReadFrame(bytes.NewReader(frame), limits.HelloBodyBytes)
		if err != nil || h.Cmd != uint16(cmd) || h.IsResponse() != response || h.Flags&(wire.FlagSealed|wire.FlagCompressed) != 0 {
			t.Fatalf("%s: %+v, %v", line.Name, h, err)
		}
		return b.Bytes()
	}
	hello := read(line.HelloFrame, clientpb.Cmd_CMD_HELLO, false)
	answer := read(line.AnswerFrame, clientpb.Cmd_CMD_HELLO, true)

	var pin *wire.PublicKey
	var keys []wire.PrivateKey
	if line.KeyID != 0 {
		key, err := wire.NewPrivateKey(line.KeyID, [32]byte(line.GatePrivate))
		if err != nil || !bytes.Equal(key.Public[:], line.GatePublic) {
			t.Fatalf("%s: %v", line.Name, err)
		}
		pinned, err := wire.ParsePublicKey(line.PinnedKey)
		if err != nil || pinned != key.PublicKey() {
			t.Fatalf("%s: %v", line.Name, err)
		}
		pin, keys = &pinned, []wire.PrivateKey{key}
	}
	var o clientpb.HelloOffer
	if err := prutal.Unmarshal(line.Offer, &o); err != nil {
		t.Fatal(err)
	}
	var want clientpb.HelloSettings
	if err := prutal.Unmarshal(line.Settings, &want); err != nil {
		t.Fatal(err)
	}
	i, made, err := wire.NewHelloWith(bytes.NewReader(line.ClientEphemeral), pin, &o)
	if err != nil || !bytes.Equal(made, hello) {
		t.Fatalf("%s: hello is %x, %v", line.Name, made, err)
	}
	a, err := wire.AcceptHelloWith(bytes.NewReader(line.GateEphemeral), hello, keys, line.KeyID == 0,
		func(*clientpb.HelloOffer) *clientpb.HelloSettings {
			s := want
			s.Compression = clientpb.Compression_COMPRESSION_DEFLATE // a wish
			return &s
		})
	if err != nil || !bytes.Equal(a.Answer, answer) {
		t.Fatalf("%s: answer is %x, %v", line.Name, a.Answer, err)
	}
	got, opener, _, err := i.Finish(answer)
	if err != nil {
		t.Fatal(line.Name, err)
	}
	if diff := cmp.Diff(&want, got); diff != "" {
		t.Errorf("%s: %s", line.Name, diff)
	}
	return &a.Opener, &opener
}

func handshakeNamed(t *testing.T, name string) Handshake {
	t.Helper()
	for _, line := range load[Handshake](t, "handshakes") {
		if line.Name == name {
			return line
		}
	}
	t.Fatalf("no handshake %q", name)
	return Handshake{}
}

func TestHandshakesAndFrames(t *testing.T) {
	frames := load[Frame](t, "frames")
	seen := map[wire.Flags]bool{}
	for _, line := range load[Handshake](t, "handshakes") {
		atGate, atClient := connection(t, line)
		for _, f := range frames {
			if f.Handshake != line.Name {
				continue
			}
			opener, limit := atClient, limits.BodyToClientBytes
			if f.ToGate {
				opener, limit = atGate, limits.BodyToGateBytes
			}
			h, b, err := wire.ReadFrame(bytes.NewReader(f.Frame), limit+wire.SealOverhead)
			if err != nil {
				t.Fatal(line.Name, f.Name, err)
			}
			seen[h.Flags&(wire.FlagSealed|wire.FlagCompressed)] = true
			want := wire.Header{Flags: wire.Flags(f.Flags), Cmd: f.Cmd, Status: status.Code(f.Status), Seq: f.Seq, Length: uint32(len(f.Frame) - wire.HeaderLen)}
			if h != want || opener.Secured() != (len(f.Nonce) > 0) {
				t.Errorf("%s, %s: %+v", line.Name, f.Name, h)
			}
			plain, err := opener.Open(h, b, limit)
			if err != nil || !bytes.Equal(plain.Bytes(), f.Body) {
				t.Fatalf("%s, %s: %x, %v", line.Name, f.Name, plain.Bytes(), err)
			}
		}
	}
	if len(seen) != 4 {
		t.Errorf("kinds of frames: %v", seen)
	}
}

func inflate(t *testing.T, body []byte, limit int) ([]byte, error) {
	t.Helper()
	atGate, _ := connection(t, handshakeNamed(t, "clear with compression"))
	b := wire.GetBuffer(len(body))
	copy(b.B, body)
	plain, err := atGate.Open(wire.Header{Flags: wire.FlagCompressed, Length: uint32(len(body))}, b, limit)
	return plain.Bytes(), err
}

func TestCompressed(t *testing.T) {
	for _, line := range load[Compressed](t, "compressed") {
		if line.Dictionary != wire.DictionaryID {
			t.Fatal(line.Name)
		}
		if plain, err := inflate(t, line.Compressed, limits.BodyToGateBytes); err != nil || !bytes.Equal(plain, line.Plain) {
			t.Errorf("%s: %q, %v", line.Name, plain, err)
		}
	}
}

func TestMalformed(t *testing.T) {
	handshakes := map[string]string{KindSealed: "noise", KindUnsealed: "clear"}
	for _, line := range load[Malformed](t, "malformed") {
		t.Run(line.Kind+"/"+line.Name, func(t *testing.T) {
			var err error
			switch {
			case line.Kind == KindFrame:
				_, _, err = wire.ReadFrame(bytes.NewReader(line.Bytes), line.Limit)
			case line.Kind == KindHello:
				key, keyErr := wire.NewPrivateKey(7, [32]byte(handshakeNamed(t, "noise").GatePrivate))
				if keyErr != nil {
					t.Fatal(keyErr)
				}
				_, err = wire.AcceptHello(line.Bytes, []wire.PrivateKey{key}, false, func(*clientpb.HelloOffer) *clientpb.HelloSettings { return settings() })
			case line.Kind == KindCompressed:
				_, err = inflate(t, line.Bytes, line.Limit)
			case handshakes[line.Kind] != "":
				atGate, _ := connection(t, handshakeNamed(t, handshakes[line.Kind]))
				var h wire.Header
				var b *wire.Buffer
				if h, b, err = wire.ReadFrame(bytes.NewReader(line.Bytes), line.Limit+wire.SealOverhead); err == nil {
					_, err = atGate.Open(h, b, line.Limit)
				}
			default:
				name, ok := strings.CutPrefix(line.Kind, KindBody)
				if !ok {
					t.Fatal("unknown kind")
				}
				if prutal.Unmarshal(line.Bytes, NewMessage(name)) != nil {
					err = errDecode
				}
			}
			if got := verdict(err); got != line.Verdict {
				t.Errorf("%s (%v), want %s", got, err, line.Verdict)
			}
		})
	}
}

var errDecode = errors.New("decode")

func verdict(err error) string {
	var refused *status.Error
	if errors.As(err, &refused) {
		return fmt.Sprint(uint16(refused.Code))
	}
	for name, e := range map[string]error{"magic": wire.ErrMagic, "version": wire.ErrVersion, "truncated": io.ErrUnexpectedEOF,
		"too_large": wire.ErrTooLarge, "seal": wire.ErrSeal, "deflate": wire.ErrDeflate, "decode": errDecode} {
		if errors.Is(err, e) {
			return name
		}
	}
	return fmt.Sprint(err)
}

// Bodies are copied out of the bytes that they were decoded from: a pooled buffer below them may go.
func TestDecodedBodiesDoNotAliasTheirInput(t *testing.T) {
	for _, line := range load[Body](t, "bodies") {
		input := bytes.Clone(line.Bytes)
		m := NewMessage(line.Message)
		if err := prutal.Unmarshal(input, m); err != nil {
			t.Fatal(err)
		}
		for i := range input {
			input[i] = 0xee
		}
		want := NewMessage(line.Message)
		if err := prutal.Unmarshal(line.Bytes, want); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(m, want) {
			t.Errorf("%s points into its input", line.Name)
		}
	}
}

// The files are plain JSON for readers in other languages: no number in them loses digits there.
func TestNumbersFitEveryReader(t *testing.T) {
	for _, line := range load[Body](t, "bodies") {
		text, err := json.Marshal(line.Fields)
		if err != nil {
			t.Fatal(err)
		}
		var walk func(v any)
		walk = func(v any) {
			switch v := v.(type) {
			case float64:
				if v != float64(int64(v)) || v > 1<<53 {
					t.Errorf("%s: %v", line.Name, v)
				}
			case map[string]any:
				for _, e := range v {
					walk(e)
				}
			case []any:
				for _, e := range v {
					walk(e)
				}
			}
		}
		var fields any
		if err := json.Unmarshal(text, &fields); err != nil {
			t.Fatal(err)
		}
		walk(fields)
	}
}

// The book explains each field and each command that client.proto has.
func TestTheBookNamesEachFieldAndCommand(t *testing.T) {
	grammar, err := os.ReadFile("../client.proto")
	if err != nil {
		t.Fatal(err)
	}
	book, err := os.ReadFile("../PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	fields := regexp.MustCompile(`(?m)^  (?:repeated )?\w+ (\w+) = (\d+);`).FindAllSubmatch(grammar, -1)
	if len(fields) < 50 {
		t.Fatalf("%d fields found", len(fields))
	}
	for _, f := range fields {
		if !bytes.Contains(book, fmt.Appendf(nil, "%s %s", f[2], f[1])) {
			t.Errorf("PROTOCOL.md does not explain %q", f[0])
		}
	}
	for number, name := range clientpb.Cmd_name {
		if short := strings.TrimPrefix(name, "CMD_"); number != 0 && !bytes.Contains(book, fmt.Appendf(nil, "0x%04x %s", number, short)) &&
			!bytes.Contains(book, fmt.Appendf(nil, "%s (0x%04x", short, number)) {
			t.Errorf("PROTOCOL.md does not name %s", name)
		}
	}
}
