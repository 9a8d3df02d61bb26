//go:build e2e

package e2e

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"

	"github.com/cloudwego/prutal"

	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/idl/wire"
	gatepost "github.com/gatepost/gatepost/sdk/go"
	"github.com/gatepost/gatepost/test/harness"
)

const restartFlag = wire.FlagRestart

func TestForeignReplayedAndForgedConfirmations(t *testing.T) {
	b, thief := harness.UID(t, "b"), rawAs(t, 1, harness.UID(t, "thief"))
	receiver := rawAs(t, 0, b)
	sender := rawAs(t, 0, harness.UID(t, "a"))
	var ids []uint64
	for i := range 3 {
		var answer clientpb.C2CAnswer
		if err := sender.Call(clientpb.Cmd_CMD_C2C, restartFlag, harness.C2C(b, "mine", 1, uint64(i)+1), &answer); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, answer.MsgId)
	}
	// Somebody else's ids are passed over in silence: who asks learns nothing of them.
	if err := thief.Confirm(ids...); err != nil {
		t.Fatal(err)
	}
	if err := sender.Confirm(ids...); err != nil {
		t.Fatal(err)
	}
	// Ids that nobody has, and none at all.
	if err := receiver.Confirm(1, 1<<63, ^uint64(0)); err != nil {
		t.Fatal(err)
	}
	if err := receiver.Confirm(); harness.Code(err) != status.BadRequest {
		t.Errorf("an empty confirmation: %v", err)
	}
	many := make([]uint64, 501)
	for i := range many {
		many[i] = ids[0]
	}
	if err := receiver.Confirm(many...); harness.Code(err) != status.BadRequest {
		t.Errorf("501 ids: %v", err)
	}
	// A class that was never registered confirms for itself only.
	web := raw(t, 0)
	ctx, cancel := withPatience()
	defer cancel()
	token, err := p.Token(ctx, b)
	if err != nil {
		t.Fatal(err)
	}
	web.Counter = 1
	if err := web.Login(b, token, gatepost.Web); err != nil {
		t.Fatal(err)
	}
	if err := web.Confirm(ids...); err != nil {
		t.Fatal(err)
	}
	page, err := receiver.Pull(0, 0)
	if err != nil {
		t.Fatal(err)
	}
	if len(page.Messages) != 3 {
		t.Fatalf("%d of 3 messages are left after foreign confirmations", len(page.Messages))
	}
	// The owner's own, and replayed.
	for range 3 {
		if err := receiver.Confirm(ids[0], ids[0], ids[2]); err != nil {
			t.Fatal(err)
		}
	}
	if page, err = receiver.Pull(0, 0); err != nil || len(page.Messages) != 1 || page.Messages[0].MsgId != ids[1] {
		t.Fatalf("%+v %v", page, err)
	}
}

// Refusals that concern one message are final, close nothing, and the good ones around them arrive in order.
func TestRefusalsInTheMiddleOfAPipeline(t *testing.T) {
	b := person(t, "b").Login()
	r := rawAs(t, 1, harness.UID(t, "a"))
	const stream = 4711
	seq := uint64(0)
	good := func(text string) *clientpb.C2C { seq++; return harness.C2C(b.UID, text, stream, seq) }
	type step struct {
		body []byte
		want status.Code
	}
	encode := func(m *clientpb.C2C) []byte {
		body, err := prutal.MarshalAppend(nil, m)
		if err != nil {
			t.Fatal(err)
		}
		return body
	}
	bad := func(change func(*clientpb.C2C)) []byte {
		m := harness.C2C(b.UID, "bad", stream+1, 1)
		change(m)
		return encode(m)
	}
	steps := []step{
		{encode(good("1")), status.OK},
		{bad(func(m *clientpb.C2C) { m.Content = make([]byte, 32<<10+1) }), status.TooLarge},
		{encode(good("2")), status.OK},
		{bad(func(m *clientpb.C2C) { m.AgeMs, m.TtlMs = 5000, 1000 }), status.Expired},
		{bad(func(m *clientpb.C2C) { m.AgeMs = 8 * 24 * 3600 * 1000 }), status.Expired},
		{encode(good("3")), status.OK},
		{bad(func(m *clientpb.C2C) { m.To.Uid = "" }), status.BadRequest},
		{bad(func(m *clientpb.C2C) { m.To = nil }), status.BadRequest},
		{bad(func(m *clientpb.C2C) { m.ClientMsgId = m.ClientMsgId[:15] }), status.BadRequest},
		{bad(func(m *clientpb.C2C) { m.Stream = 0 }), status.BadRequest},
		{[]byte{0xff, 0xff, 0xff, 0xff}, status.BadRequest},
		{encode(good("4")), status.OK},
		{encode(good("5")), status.OK},
	}
	var seqs []uint32
	for i, s := range steps {
		flags := wire.Flags(0)
		if i == 0 {
			flags = wire.FlagRestart
		}
		n, err := r.Write(uint16(clientpb.Cmd_CMD_C2C), flags, s.body)
		if err != nil {
			t.Fatal(err)
		}
		seqs = append(seqs, n)
		if i == 0 { // the restart frame alone until its outcome is final
			if f, err := r.Answer(n); err != nil || f.Status != s.want {
				t.Fatalf("step 0: %s %v", f.Status, err)
			}
		}
	}
	for i, s := range steps[1:] {
		f, err := r.Answer(seqs[i+1])
		if err != nil {
			t.Fatal(err)
		}
		if f.Status != s.want {
			t.Errorf("step %d is answered %s, want %s", i+1, f.Status, s.want)
		}
	}
	b.Wants("1", "2", "3", "4", "5")
}

// A stream begins closed: without the restart flag nothing is taken, and the refusal says why.
func TestStreamsBeginClosed(t *testing.T) {
	b := harness.UID(t, "b")
	r := rawAs(t, 0, harness.UID(t, "a"))
	for range 3 {
		if err := r.Call(clientpb.Cmd_CMD_C2C, 0, harness.C2C(b, "x", 1, 1), &clientpb.C2CAnswer{}); harness.Code(err) != status.StreamClosed {
			t.Fatalf("without restart: %v", err)
		}
	}
	var first, second clientpb.C2CAnswer
	m := harness.C2C(b, "x", 1, 1)
	if err := r.Call(clientpb.Cmd_CMD_C2C, restartFlag, m, &first); err != nil {
		t.Fatal(err)
	}
	if err := r.Call(clientpb.Cmd_CMD_C2C, 0, m, &second); err != nil {
		t.Fatal(err)
	}
	if !second.Duplicate || second.MsgId != first.MsgId || first.MsgId == 0 {
		t.Errorf("a resend: %+v after %+v", second, first)
	}
}

func TestCommandsBeforeTheLogin(t *testing.T) {
	r := raw(t, 0)
	for cmd, request := range map[clientpb.Cmd]any{
		clientpb.Cmd_CMD_C2C: harness.C2C("b", "x", 1, 1), clientpb.Cmd_CMD_PULL: &clientpb.Pull{}, clientpb.Cmd_CMD_CONFIRM: &clientpb.Confirm{MsgIds: []uint64{1}},
		clientpb.Cmd_CMD_LOGOUT: &clientpb.Logout{},
	} {
		if err := r.Call(cmd, restartFlag, request, &clientpb.Logout{}); harness.Code(err) != status.NotLoggedIn {
			t.Errorf("command %#x before the login: %v", cmd, err)
		}
	}
	if err := r.LoginAs(t, p, harness.UID(t, "u"), gatepost.Android); err != nil {
		t.Error(err)
	}
}

// What a newer client may say never harms: unknown commands get a status, unknown flags and fields are passed over.
func TestUnknownCommandsFlagsAndFields(t *testing.T) {
	uid, b := harness.UID(t, "u"), person(t, "b").Login()
	r := rawAs(t, 0, uid)
	for _, cmd := range []uint16{0x0009, 0x00ff, 0x01ff, 0x02ff, 0x0399, 0x0401, 0x0499, 0x0501, 0x7777, 0xffff} {
		f, err := r.CallBody(cmd, wire.FlagRestart, []byte{1, 2, 3})
		if err != nil {
			t.Fatalf("command %#x: %v", cmd, err)
		}
		if f.Status != status.UnknownCommand || f.Cmd != cmd {
			t.Errorf("command %#x is answered %#x %s", cmd, f.Cmd, f.Status)
		}
	}
	for _, cmd := range []clientpb.Cmd{clientpb.Cmd_CMD_C2G, clientpb.Cmd_CMD_PRESENCE, clientpb.Cmd_CMD_GROUP} { // reserved
		if f, err := r.CallBody(uint16(cmd), wire.FlagRestart, nil); err != nil || f.Status != status.UnknownCommand {
			t.Errorf("reserved command %#x: %s %v", cmd, f.Status, err)
		}
	}
	m := harness.C2C(b.UID, "with a field of tomorrow", 1, 1)
	body, err := prutal.MarshalAppend(nil, m)
	if err != nil {
		t.Fatal(err)
	}
	body = append(body, 0xfa, 0x3f, 3, 'n', 'e', 'w') // field 1023, bytes
	if f, err := r.CallBody(uint16(clientpb.Cmd_CMD_C2C), wire.FlagRestart, body); err != nil || f.Status != status.OK {
		t.Fatalf("unknown field: %s %v", f.Status, err)
	}
	b.Wants("with a field of tomorrow")

	// Unknown flags, on a clear connection inside TLS, where the test writes the header itself.
	conn := dialTLS(t)
	clear, err := harness.HelloRaw(conn, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(clear.Close)
	frame := wire.Header{Cmd: uint16(clientpb.Cmd_CMD_KEEPALIVE), Flags: 0xf0, Seq: 99}.Append(nil)
	if _, err := conn.Write(frame); err != nil {
		t.Fatal(err)
	}
	if f, err := clear.Answer(99); err != nil || f.Status != status.OK {
		t.Errorf("unknown flags: %s %v", f.Status, err)
	}
	if err := clear.LoginAs(t, p, harness.UID(t, "clear"), gatepost.Android); err != nil {
		t.Error(err)
	}
}

func dialTLS(t *testing.T) net.Conn {
	t.Helper()
	conn, err := tls.Dial("tcp", p.Gates[0].Ready("tls"), trust(t))
	if err != nil {
		t.Fatal(err)
	}
	if v := conn.ConnectionState().Version; v != tls.VersionTLS13 {
		t.Errorf("TLS version %#x", v)
	}
	return conn
}

// Bytes that are no frames close the connection, with a code where one can still be said; the gate goes on serving others.
func TestMalformedFrames(t *testing.T) {
	header := func(change func([]byte)) []byte {
		b := wire.Header{Cmd: uint16(clientpb.Cmd_CMD_HELLO), Seq: 1}.Append(nil)
		change(b)
		return b
	}
	hello := func(body []byte) []byte {
		return append(wire.Header{Cmd: uint16(clientpb.Cmd_CMD_HELLO), Seq: 1, Length: uint32(len(body))}.Append(nil), body...)
	}
	first := map[string][]byte{
		"HTTP":            []byte("GET / HTTP/1.1\r\nHost: gatepost\r\n\r\n"),
		"zeros":           make([]byte, 64),
		"magic":           header(func(b []byte) { b[0] = 'X' }),
		"version":         header(func(b []byte) { b[2] = 9 }),
		"length":          header(func(b []byte) { binary.BigEndian.PutUint32(b[12:], 1<<31) }),
		"hello too large": hello(make([]byte, 1025)),
		"hello garbage":   hello([]byte{0xff, 0xff, 0xff}),
		"hello empty":     hello(nil),
		"login first":     wire.Header{Cmd: uint16(clientpb.Cmd_CMD_LOGIN), Seq: 1}.Append(nil),
		"second protocol": hello([]byte{0x08, 0x63, 0x10, 0x01}), // protocol_version 99
	}
	for name, b := range first {
		t.Run("first/"+name, func(t *testing.T) {
			conn, err := net.Dial("tcp", address(0))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := conn.Write(b); err != nil {
				t.Fatal(err)
			}
			code := closeCodeOrRefusal(t, &harness.Raw{Conn: conn})
			t.Logf("closed with %q", code)
			if code == status.OK {
				t.Error("closed without a code")
			}
		})
	}
	// Sealed connections: a frame that was changed on its way, one that was sent twice, one in clear, one that is cut.
	later := map[string]func(*harness.Raw) error{
		"clear frame": func(r *harness.Raw) error {
			_, err := r.Conn.Write(append(wire.Header{Cmd: uint16(clientpb.Cmd_CMD_KEEPALIVE), Seq: 5, Length: 3}.Append(nil), 1, 2, 3))
			return err
		},
		"clear empty frame": func(r *harness.Raw) error {
			_, err := r.Conn.Write(wire.Header{Cmd: uint16(clientpb.Cmd_CMD_KEEPALIVE), Seq: 5}.Append(nil))
			return err
		},
		"forged seal": func(r *harness.Raw) error {
			_, err := r.Conn.Write(append(wire.Header{Cmd: uint16(clientpb.Cmd_CMD_KEEPALIVE), Flags: wire.FlagSealed, Seq: 5, Length: 40}.Append(nil), make([]byte, 40)...))
			return err
		},
		"too large": func(r *harness.Raw) error {
			_, err := r.Conn.Write(wire.Header{Cmd: uint16(clientpb.Cmd_CMD_C2C), Flags: wire.FlagSealed, Seq: 5, Length: 1 << 30}.Append(nil))
			return err
		},
		"large before login": func(r *harness.Raw) error {
			_, err := r.Write(uint16(clientpb.Cmd_CMD_LOGIN), 0, bytes.Repeat([]byte{7, 1, 99, 3}, 1500))
			return err
		},
		"magic": func(r *harness.Raw) error {
			_, err := r.Conn.Write(make([]byte, 16))
			return err
		},
		"hello again": func(r *harness.Raw) error {
			_, err := r.Write(uint16(clientpb.Cmd_CMD_HELLO), 0, []byte{8, 1})
			return err
		},
	}
	for name, harm := range later {
		t.Run("later/"+name, func(t *testing.T) {
			r := raw(t, 0)
			if err := harm(r); err != nil {
				t.Fatal(err)
			}
			if code := closeCodeOrRefusal(t, r); code == status.OK {
				t.Error("closed without a code")
			}
		})
	}
	t.Run("cut", func(t *testing.T) { // and nobody waits for the rest of a frame for ever: the client is gone
		r := raw(t, 0)
		if _, err := r.Conn.Write([]byte("GP\x01")); err != nil {
			t.Fatal(err)
		}
		if err := r.Conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, r.Conn); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Logf("closed with %v", err)
		}
	})
	a, b := person(t, "a").Login(), person(t, "b").Login()
	a.Accepted(b.UID, "the gate serves")
	b.Wants("the gate serves")
}

// closeCodeOrRefusal reads until the connection ends, and returns the last code that is not OK.
func closeCodeOrRefusal(t *testing.T, r *harness.Raw) status.Code {
	t.Helper()
	code := status.OK
	for {
		f, err := r.Read()
		if err != nil {
			if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
				t.Fatal("the connection stays open")
			}
			return code
		}
		if f.Status != status.OK {
			code = f.Status
		}
	}
}

// A stream id is the sender's own: somebody who has seen it and uses it harms nobody.
func TestSomebodyElsesStreamID(t *testing.T) {
	b := person(t, "b").Login()
	a, x := rawAs(t, 0, harness.UID(t, "a")), rawAs(t, 1, harness.UID(t, "x"))
	const stream = 0xabcdef
	send := func(r *harness.Raw, text string, seq uint64) {
		t.Helper()
		if err := r.Call(clientpb.Cmd_CMD_C2C, restartFlag, harness.C2C(b.UID, text, stream, seq), &clientpb.C2CAnswer{}); err != nil {
			t.Fatal(err)
		}
	}
	send(a, "a1", 1)
	b.Wants("a1")
	send(x, "x1", 1)
	send(x, "x2", 2)
	b.Wants("a1", "x1", "x2")
	send(a, "a2", 2)
	b.Wants("a1", "x1", "x2", "a2")
}

// A jump that no pull can fill is passed, and what comes later after all is shown flagged late. Others are not held up.
func TestForgedJumps(t *testing.T) {
	b := person(t, "b").Login()
	a := rawAs(t, 0, harness.UID(t, "a"))
	other := person(t, "other").Login()
	send := func(text string, seq uint64) {
		t.Helper()
		if err := a.Call(clientpb.Cmd_CMD_C2C, restartFlag, harness.C2C(b.UID, text, 7, seq), &clientpb.C2CAnswer{}); err != nil {
			t.Fatal(err)
		}
	}
	send("1", 1)
	b.Wants("1")
	send("1000", 1000)
	other.Accepted(b.UID, "meanwhile")
	harness.Eventually(t, harness.Patience, func() error { return shown(b, "1", "1000", "meanwhile") })
	send("2", 2)
	harness.Eventually(t, harness.Patience, func() error { return shown(b, "1", "1000", "meanwhile", "2") })
	for _, m := range b.Got() {
		if m.Late != (string(m.Content) == "2") {
			t.Errorf("%s: late is %t", m.Content, m.Late)
		}
	}
}

// A resend whose row is gone, because the receiver has confirmed it, is accepted again and not shown again.
func TestResendAfterTheRowIsGone(t *testing.T) {
	b := person(t, "b").Login()
	a := rawAs(t, 0, harness.UID(t, "a"))
	m := harness.C2C(b.UID, "once", 77, 1)
	var answer clientpb.C2CAnswer
	for range 3 {
		if err := a.Call(clientpb.Cmd_CMD_C2C, restartFlag, m, &answer); err != nil {
			t.Fatal(err)
		}
		b.Wants("once")
		b.Pull()
	}
	if err := a.Call(clientpb.Cmd_CMD_C2C, restartFlag, harness.C2C(b.UID, "next", 77, 2), &answer); err != nil {
		t.Fatal(err)
	}
	b.Wants("once", "next")
	b.Leave()
}
