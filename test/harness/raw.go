package harness

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/cloudwego/prutal"

	"github.com/gatepost/gatepost/audit/platform"
	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/limits"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/idl/wire"
	gatepost "github.com/gatepost/gatepost/sdk/go"
)

// Raw is a client that speaks the wire and keeps no rule but those it is told to. It is not safe for concurrent use.
type Raw struct {
	Conn         net.Conn
	Session      uint64
	Installation [16]byte
	Counter      uint64
	Pushes       []Frame // that came while an answer was waited for
	open         wire.Opener
	seal         wire.Sealer
	seq          uint32
}

// Frame is what a gate sent, opened.
type Frame struct {
	wire.Header
	Body []byte
}

// DialRaw connects and says hello. An empty key asks for a clear connection.
func DialRaw(address, key string) (*Raw, error) {
	conn, err := net.DialTimeout("tcp", address, Patience)
	if err != nil {
		return nil, err
	}
	return HelloRaw(conn, key)
}

// HelloRaw says hello on a connection that is there, and closes it when that fails.
func HelloRaw(conn net.Conn, key string) (*Raw, error) {
	r := &Raw{Conn: conn}
	if _, err := rand.Read(r.Installation[:]); err != nil {
		return nil, err
	}
	if err := r.hello(key); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return r, nil
}

func (r *Raw) hello(key string) error {
	var pin *wire.PublicKey
	if key != "" {
		k, err := wire.ParsePublicKey(key)
		if err != nil {
			return err
		}
		pin = &k
	}
	initiator, body, err := wire.NewHello(pin, &clientpb.HelloOffer{Sdk: "raw"})
	if err != nil {
		return err
	}
	f, err := r.CallBody(uint16(clientpb.Cmd_CMD_HELLO), 0, body)
	if err != nil {
		return err
	}
	if err := f.Err(); err != nil {
		return err
	}
	_, r.open, r.seal, err = initiator.Finish(f.Body)
	return err
}

// Close closes the socket.
func (r *Raw) Close() { _ = r.Conn.Close() } // a test that is done with it does not care

// Err is the refusal that f carries, nil when its status is OK.
func (f Frame) Err() error {
	if f.Status == status.OK {
		return nil
	}
	var refusal clientpb.Refusal
	if err := prutal.Unmarshal(f.Body, &refusal); err != nil {
		return fmt.Errorf("%s, and the body is no refusal: %w", f.Status, err)
	}
	return &status.Error{Code: f.Status, Reason: refusal.Reason, RetryAfterMS: refusal.RetryAfterMs}
}

// Write sends one frame and returns its seq.
func (r *Raw) Write(cmd uint16, flags wire.Flags, body []byte) (uint32, error) {
	r.seq++
	frame := r.seal.AppendFrame(nil, wire.Header{Cmd: cmd, Flags: flags, Seq: r.seq}, body)
	if err := r.seal.Err(); err != nil {
		return 0, err
	}
	_, err := r.Conn.Write(frame)
	return r.seq, err
}

// Read reads the next frame.
func (r *Raw) Read() (Frame, error) {
	if err := r.Conn.SetReadDeadline(time.Now().Add(Patience)); err != nil {
		return Frame{}, err
	}
	h, buf, err := wire.ReadFrame(r.Conn, limits.BodyToClientBytes+64)
	if err != nil {
		return Frame{}, err
	}
	// HELLO's answer and a CLOSE in its place are clear [P-4.2]; the zero Opener takes them.
	if buf, err = r.open.Open(h, buf, limits.BodyToClientBytes); err != nil {
		return Frame{}, err
	}
	f := Frame{Header: h}
	if buf != nil {
		f.Body = append([]byte(nil), buf.Bytes()...)
		buf.Release()
	}
	return f, nil
}

// Answer reads until the answer to seq; pushes that come before it are kept. A CLOSE is an error with its code.
func (r *Raw) Answer(seq uint32) (Frame, error) {
	for {
		f, err := r.Read()
		switch {
		case err != nil:
			return f, err
		case f.Cmd == uint16(clientpb.Cmd_CMD_CLOSE):
			return f, f.Err()
		case f.IsResponse() && f.Seq == seq:
			return f, nil
		case f.IsResponse():
			return f, fmt.Errorf("an answer to %d came, to %d was waited for", f.Seq, seq)
		}
		r.Pushes = append(r.Pushes, f)
	}
}

// CallBody sends a frame and reads its answer.
func (r *Raw) CallBody(cmd uint16, flags wire.Flags, body []byte) (Frame, error) {
	seq, err := r.Write(cmd, flags, body)
	if err != nil {
		return Frame{}, err
	}
	return r.Answer(seq)
}

// Call sends request and reads answer from what comes back; a refusal is an error with its code.
func (r *Raw) Call(cmd clientpb.Cmd, flags wire.Flags, request, answer any) error {
	body, err := prutal.MarshalAppend(nil, request)
	if err != nil {
		return err
	}
	f, err := r.CallBody(uint16(cmd), flags, body)
	if err != nil {
		return err
	}
	if err := f.Err(); err != nil {
		return err
	}
	return prutal.Unmarshal(f.Body, answer)
}

// Login logs in with what r.Installation and r.Counter say.
func (r *Raw) Login(uid, token string, d gatepost.Device) error {
	var answer clientpb.LoginAnswer
	err := r.Call(clientpb.Cmd_CMD_LOGIN, 0, &clientpb.Login{Domain: platform.Domain, Uid: uid, Token: []byte(token),
		DeviceClass: clientpb.DeviceClass(d), Installation: r.Installation[:], LoginCounter: r.Counter}, &answer)
	r.Session = answer.Session
	return err
}

// LoginAs logs in with a token of p, a counter that is one higher, and registers by a first pull that reads nothing else.
func (r *Raw) LoginAs(t testing.TB, p *platform.Platform, uid string, d gatepost.Device) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	token, err := p.Token(ctx, uid)
	if err != nil {
		return err
	}
	r.Counter++
	if err := r.Login(uid, token, d); err != nil {
		return fmt.Errorf("raw login of %s: %w", uid, err)
	}
	var page clientpb.PullAnswer
	return r.Call(clientpb.Cmd_CMD_PULL, 0, &clientpb.Pull{Register: true, Limit: 1}, &page)
}

// Pull reads one page.
func (r *Raw) Pull(after, upto uint64) (*clientpb.PullAnswer, error) {
	var page clientpb.PullAnswer
	if err := r.Call(clientpb.Cmd_CMD_PULL, 0, &clientpb.Pull{After: after, Upto: upto, Limit: limits.PullRows}, &page); err != nil {
		return nil, err
	}
	return &page, nil
}

// NextPushed waits for the next DELIVER, or for a SYNC and what a pull then finds.
func (r *Raw) NextPushed() ([]*clientpb.Message, error) {
	for {
		var f Frame
		var err error
		if len(r.Pushes) > 0 {
			f, r.Pushes = r.Pushes[0], r.Pushes[1:]
		} else if f, err = r.Read(); err != nil {
			return nil, err
		}
		switch clientpb.Cmd(f.Cmd) {
		case clientpb.Cmd_CMD_DELIVER:
			var d clientpb.Deliver
			err := prutal.Unmarshal(f.Body, &d)
			return d.Messages, err
		case clientpb.Cmd_CMD_SYNC:
			page, err := r.Pull(0, 0)
			if err != nil {
				return nil, err
			}
			return page.Messages, nil
		case clientpb.Cmd_CMD_CLOSE:
			return nil, f.Err()
		}
	}
}

// Confirm confirms ids.
func (r *Raw) Confirm(ids ...uint64) error {
	return r.Call(clientpb.Cmd_CMD_CONFIRM, 0, &clientpb.Confirm{MsgIds: ids}, &clientpb.ConfirmAnswer{})
}

// C2C is a message from a stream of the test's own.
func C2C(to, text string, stream, seq uint64) *clientpb.C2C {
	m := &clientpb.C2C{ClientMsgId: make([]byte, 16), To: &clientpb.User{Domain: platform.Domain, Uid: to}, Stream: stream, TargetSeq: seq,
		Type: "text", Content: []byte(text)}
	_, _ = rand.Read(m.ClientMsgId) // never fails
	return m
}

// Code is the status in err's chain; OK when there is none.
func Code(err error) status.Code {
	var s *status.Error
	if errors.As(err, &s) {
		return s.Code
	}
	var g *gatepost.Error
	if errors.As(err, &g) {
		return g.Code
	}
	return status.OK
}
