package bench

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	"github.com/cloudwego/prutal"

	"github.com/gatepost/gatepost/audit"
	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/limits"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/idl/wire"
)

// answerTime bounds the time that a gate may take for one answer.
const answerTime = 30 * time.Second

// dialer opens bare connections: what the SDK does on the wire, without its store, its goroutines and its queues. It costs the load a tenth
// of an SDK client, and the servers the same.
type dialer struct {
	target audit.Target
	gates  []*url.URL
	keys   []wire.PublicKey
}

func newDialer(t audit.Target) (*dialer, error) {
	d := &dialer{target: t}
	for _, text := range t.Gates {
		u, err := url.Parse(text)
		if err != nil {
			return nil, fmt.Errorf("gate %q: %w", text, err)
		}
		d.gates = append(d.gates, u)
	}
	for _, text := range t.Keys {
		key, err := wire.ParsePublicKey(text)
		if err != nil {
			return nil, fmt.Errorf("key %q: %w", text, err)
		}
		d.keys = append(d.keys, key)
	}
	if len(d.gates) == 0 {
		return nil, errors.New("no gate is named")
	}
	return d, nil
}

// person is an installation that logs in.
type person struct {
	uid          string
	token        string
	installation [16]byte
	counter      uint64 // of the last login
}

func (d *dialer) newPerson(ctx context.Context, uid string) (*person, error) {
	token, err := d.target.Token(ctx, uid)
	if err != nil {
		return nil, fmt.Errorf("token for %s: %w", uid, err)
	}
	p := &person{uid: uid, token: token}
	_, _ = rand.Read(p.installation[:]) // never fails
	return p, nil
}

// conn is a bare connection. One goroutine uses it at a time.
type conn struct {
	nc        net.Conn
	opener    wire.Opener
	sealer    wire.Sealer
	seq       uint32
	scratch   [wire.HeaderLen]byte
	out       []byte
	keepalive time.Duration // as the gate says; 0: it does not
}

// open connects to the n-th gate, in turn, and shakes hands.
func (d *dialer) open(ctx context.Context, n int) (*conn, error) {
	gate := d.gates[n%len(d.gates)]
	dial := d.target.Dialer
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	nc, err := dial(ctx, "tcp", gate.Host)
	if err != nil {
		return nil, err
	}
	var key *wire.PublicKey
	if gate.Scheme == "tls" {
		conf := &tls.Config{}
		if d.target.TLS != nil {
			conf = d.target.TLS.Clone()
		}
		if conf.ServerName == "" {
			conf.ServerName = gate.Hostname()
		}
		conf.MinVersion = max(conf.MinVersion, tls.VersionTLS13)
		nc = tls.Client(nc, conf)
	} else if len(d.keys) > 0 {
		key = &d.keys[0]
	}
	c := &conn{nc: nc}
	if err := c.hello(key); err != nil {
		return nil, errors.Join(err, nc.Close())
	}
	return c, nil
}

func (c *conn) hello(key *wire.PublicKey) error {
	initiator, body, err := wire.NewHello(key, &clientpb.HelloOffer{
		Sdk: "gatepost-bench", Compressions: []clientpb.Compression{clientpb.Compression_COMPRESSION_DEFLATE}, Dictionaries: []uint32{wire.DictionaryID},
	})
	if err != nil {
		return fmt.Errorf("make hello: %w", err)
	}
	code, answer, err := c.request(clientpb.Cmd_CMD_HELLO, body, limits.HelloBodyBytes)
	if err != nil {
		return fmt.Errorf("hello: %w", err)
	}
	defer answer.Release()
	if code != status.OK {
		return fmt.Errorf("hello was refused: %s", code)
	}
	settings, opener, sealer, err := initiator.Finish(answer.Bytes())
	if err != nil {
		return err
	}
	c.opener, c.sealer = opener, sealer
	c.keepalive = time.Duration(settings.KeepaliveIntervalMs) * time.Millisecond
	return nil
}

// request sends one frame and waits for its answer; what the gate pushes meanwhile is passed over. The caller releases the answer.
func (c *conn) request(cmd clientpb.Cmd, body []byte, limit int) (status.Code, *wire.Buffer, error) {
	c.seq++
	c.out = c.sealer.AppendFrame(c.out[:0], wire.Header{Cmd: uint16(cmd), Seq: c.seq}, body)
	if err := c.nc.SetDeadline(time.Now().Add(answerTime)); err != nil {
		return 0, nil, err
	}
	if _, err := c.nc.Write(c.out); err != nil {
		return 0, nil, err
	}
	c.out = nil // an idle connection keeps no buffer
	for {
		h, err := wire.ReadHeader(c.nc, &c.scratch)
		if err != nil {
			return 0, nil, err
		}
		b, err := wire.ReadBody(c.nc, h, limit+wire.SealOverhead)
		if err != nil {
			return 0, nil, err
		}
		if b, err = c.opener.Open(h, b, limit); err != nil {
			return 0, nil, err
		}
		switch {
		case h.IsResponse() && h.Seq == c.seq:
			return h.Status, b, nil
		case h.Cmd == uint16(clientpb.Cmd_CMD_CLOSE):
			b.Release()
			return 0, nil, fmt.Errorf("the gate closed: %s", h.Status)
		}
		b.Release()
	}
}

// ask sends a request whose answer must be OK, and reads it into answer; nil: nobody looks at it.
func (c *conn) ask(cmd clientpb.Cmd, body, answer any) error {
	var text []byte
	if body != nil {
		var err error
		if text, err = prutal.MarshalAppend(nil, body); err != nil {
			return fmt.Errorf("encode: %w", err)
		}
	}
	code, b, err := c.request(cmd, text, limits.BodyToClientBytes)
	if err != nil {
		return err
	}
	defer b.Release()
	if code != status.OK {
		return fmt.Errorf("refused: %s", code)
	}
	if answer == nil {
		return nil
	}
	return prutal.Unmarshal(b.Bytes(), answer)
}

// login logs p in on a connection that was just opened.
func (c *conn) login(domain string, p *person) error {
	p.counter++
	var answer clientpb.LoginAnswer
	err := c.ask(clientpb.Cmd_CMD_LOGIN, &clientpb.Login{
		Domain: domain, Uid: p.uid, Token: []byte(p.token), DeviceClass: clientpb.DeviceClass_DEVICE_CLASS_ANDROID,
		Installation: p.installation[:], LoginCounter: p.counter,
	}, &answer)
	if err == nil && answer.Session == 0 {
		err = errors.New("the answer names no session")
	}
	if err != nil {
		return fmt.Errorf("log in as %s: %w", p.uid, err)
	}
	return nil
}

// register makes the first pull, which registers the device, and returns how many messages it brought.
func (c *conn) register() (int, error) {
	var answer clientpb.PullAnswer
	if err := c.ask(clientpb.Cmd_CMD_PULL, &clientpb.Pull{Register: true}, &answer); err != nil {
		return 0, fmt.Errorf("first pull: %w", err)
	}
	return len(answer.Messages), nil
}

// close says goodbye and ends the connection.
func (c *conn) close() error {
	c.seq++
	frame := c.sealer.AppendFrame(nil, wire.Header{Cmd: uint16(clientpb.Cmd_CMD_CLOSE), Seq: c.seq}, nil)
	_, err := c.nc.Write(frame)
	return errors.Join(err, c.nc.Close())
}
