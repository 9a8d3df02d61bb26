package gatepost

import (
	"context"
	"time"
)

// maxLifetime is the longest time that a message may be sent again, and the longest time to live [G2].
const maxLifetime = 7 * 24 * time.Hour

// Client is one user on one device. Its methods are safe for concurrent use.
type Client struct {
	cfg Config
}

// New makes a Client over cfg.Store and connects nothing yet. C2C works at once; what it keeps leaves after Login.
// A Client that was made must be closed.
func New(cfg Config) (*Client, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	return &Client{cfg: cfg}, nil
}

// Login begins to connect, and goes on whenever the connection is lost until Logout, Close or a stay-away. It returns
// when the Client is online for the first time, with the *Error of a stay-away, or when ctx ends: the Client goes on then.
func (c *Client) Login(ctx context.Context) error { return ErrClosed }

// C2C keeps m in the durable outbox and returns; it is sent when its turn comes, now or after the next login, and again
// until it has an outcome. Messages to one user arrive in the order of the calls. Errors: ErrOutboxFull, ErrClosed, an
// *Error for what can never be sent, ctx's (nothing was kept then), the store's.
func (c *Client) C2C(ctx context.Context, to User, m Outgoing) (*Sending, error) {
	return nil, ErrClosed
}

// Sending is a message on its way.
type Sending struct {
	id     ClientMsgID
	done   chan struct{}
	result SendResult
}

// ID is the message's id.
func (s *Sending) ID() ClientMsgID { return s.id }

// Wait returns the final outcome, or ctx's error: the message is still on its way then. A refusal is in the result's Err
// and returned as error too.
func (s *Sending) Wait(ctx context.Context) (SendResult, error) {
	select {
	case <-s.done:
		return s.result, s.result.Err
	case <-ctx.Done():
		return SendResult{}, ctx.Err()
	}
}

// Pull reads the whole inbox: it returns when a pull that began after the call is complete to its last page. What it
// found is taken, and shown soon. ErrOffline when there is no session or it ends meanwhile.
func (c *Client) Pull(ctx context.Context) error { return ErrOffline }

// NetworkChanged tells the Client that the device has another network now: a connection that is there is tried at once
// and replaced when it is dead, a waiting reconnect does not wait.
func (c *Client) NetworkChanged() {}

// State is where the Client stands.
func (c *Client) State() State { return Offline }

// ServerTime is the server's time as far as known, the device's before the first login.
func (c *Client) ServerTime() time.Time { return time.Now() }

// Logout ends the session at the server as far as it can be reached until ctx ends, then closes. The store keeps the
// outbox; the server keeps nothing for this device class from then on until it logs in again.
func (c *Client) Logout(ctx context.Context) error { return c.Close() }

// Close ends the connection, waits for a running callback and closes the store. The inbox and the outbox stay.
func (c *Client) Close() error { return nil }
