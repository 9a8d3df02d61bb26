package gatepost

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"time"

	"github.com/cloudwego/prutal"
	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/limits"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/idl/wire"
)

// sdkName is what hello tells of this package.
const sdkName = "gatepost-go/0.1"

// connect fetches a token and opens a secured connection to gate. A gate that does not know a key is offered the next one.
// It runs the app's Token function and the dialer, so it is never called on the loop.
func (cfg *Config) connect(ctx context.Context, gate string) (*conn, error) {
	tokenCtx, cancel := context.WithTimeout(ctx, cfg.Timing.Login)
	defer cancel()
	token, err := cfg.Token(tokenCtx)
	if err != nil {
		return nil, fmt.Errorf("fetch token: %w", err)
	}
	if len(token) > limits.TokenBytes {
		return nil, &Error{Code: status.BadToken, Reason: "token has more than 2,048 bytes"}
	}
	u, err := url.Parse(gate)
	if err != nil {
		return nil, fmt.Errorf("gate %q: %w", gate, err)
	}
	keys := make([]*Key, 0, len(cfg.Keys))
	for i := range cfg.Keys {
		keys = append(keys, &cfg.Keys[i])
	}
	if u.Scheme == "tls" {
		keys = []*Key{nil} // TLS protects the connection
	}
	for i, key := range keys {
		var c *conn
		if c, err = cfg.dial(ctx, u, key); err == nil {
			c.gate, c.token = gate, token
			return c, nil
		}
		if codeOf(err) != status.UnknownKey || i == len(keys)-1 {
			break
		}
	}
	return nil, err
}

// dial opens one connection and shakes hands; key nil says hello in clear.
func (cfg *Config) dial(ctx context.Context, u *url.URL, key *Key) (_ *conn, err error) {
	ctx, cancel := context.WithTimeout(ctx, cfg.Timing.Dial)
	defer cancel()
	nc, err := cfg.Dialer(ctx, "tcp", u.Host)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	defer func() {
		if !stop() && err == nil {
			err = ctx.Err()
		}
		if err != nil {
			nc.Close()
		}
	}()
	if u.Scheme == "tls" {
		if nc, err = cfg.startTLS(ctx, nc, u.Hostname()); err != nil {
			return nil, err
		}
	}
	return cfg.hello(nc, key)
}

func (cfg *Config) startTLS(ctx context.Context, nc net.Conn, host string) (net.Conn, error) {
	conf := &tls.Config{}
	if cfg.TLS != nil {
		conf = cfg.TLS.Clone()
	}
	if conf.ServerName == "" {
		conf.ServerName = host
	}
	conf.MinVersion = max(conf.MinVersion, tls.VersionTLS13)
	tc := tls.Client(nc, conf)
	if err := tc.HandshakeContext(ctx); err != nil {
		return nc, fmt.Errorf("tls handshake: %w", err)
	}
	return tc, nil
}

// hello is the first exchange [P-4.1]. The answer, or the gate's refusal, comes in clear.
func (cfg *Config) hello(nc net.Conn, key *Key) (*conn, error) {
	initiator, body, err := wire.NewHello(key, &clientpb.HelloOffer{
		Sdk:          cfg.SDK,
		Compressions: []clientpb.Compression{clientpb.Compression_COMPRESSION_DEFLATE},
		Dictionaries: []uint32{1},
	})
	if err != nil {
		return nil, fmt.Errorf("make hello: %w", err)
	}
	var clear wire.Sealer
	if _, err := nc.Write(clear.AppendFrame(nil, wire.Header{Cmd: uint16(clientpb.Cmd_CMD_HELLO), Seq: 1}, body)); err != nil {
		return nil, fmt.Errorf("send hello: %w", err)
	}
	h, answer, err := wire.ReadFrame(nc, limits.HelloBodyBytes)
	if err != nil {
		return nil, fmt.Errorf("read hello answer: %w", err)
	}
	defer answer.Release()
	switch {
	case h.Status != status.OK:
		return nil, refusal(h.Status, answer.Bytes())
	case h.Cmd != uint16(clientpb.Cmd_CMD_HELLO) || !h.IsResponse():
		return nil, fmt.Errorf("first frame is command %#x, not the answer to hello", h.Cmd)
	}
	settings, opener, sealer, err := initiator.Finish(answer.Bytes())
	if err != nil {
		return nil, fmt.Errorf("finish handshake: %w", err)
	}
	now := time.Now()
	return &conn{
		nc:           nc,
		settings:     settings,
		writeTimeout: cfg.Timing.Request,
		opener:       opener,
		sealer:       sealer,
		seq:          1,
		requests:     map[uint32]request{},
		lastSent:     now,
		began:        now,
	}, nil
}

// refusal makes an *Error of a status and its body.
func refusal(code status.Code, body []byte) *Error {
	var r clientpb.Refusal
	if prutal.Unmarshal(body, &r) != nil || r.Reason == "" {
		r.Reason = code.String()
	}
	return &Error{Code: code, Reason: string([]byte(r.Reason)), RetryAfter: time.Duration(r.RetryAfterMs) * time.Millisecond}
}
