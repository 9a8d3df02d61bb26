package gatepost

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/gatepost/gatepost/idl/limits"
)

// maxLifetime is the longest time that a message may be sent again, and the longest time to live [G2].
const maxLifetime = limits.ResendFor

// Client is one user on one device. Its methods are safe for concurrent use.
//
// One goroutine, the loop, owns all state and the store. Readers, dialers, callbacks and the app's calls hand it what they
// have, and never wait for each other: the loop runs neither the app's code nor anything that waits for the network.
type Client struct {
	// fixed after New
	cfg Config
	log *slog.Logger
	ctx context.Context // of callbacks and dialers; ends with Close
	end context.CancelFunc

	// any goroutine
	events   chan func()   // run on the loop, in order
	wake     chan struct{} // holds one token while the loop has something else to do
	quit     chan struct{} // closed by Close
	quitted  atomic.Bool
	done     chan struct{} // closed when the loop has ended
	err      error         // of closing; valid after done
	state    atomic.Uint32
	offset   atomic.Int64          // server's clock minus this device's, in nanoseconds
	lastLost atomic.Pointer[error] // what ended the last connection or attempt; nil: nothing yet
	sends    sendQueue
	app      appQueue

	// owned by the loop
	id        Identity
	changes   Changes  // what the next commit writes
	after     []func() // what happens when it has been written
	spare     []func() // memory for the next after
	link      link
	outbox    outbox
	inbox     inbox
	taken     results // memory for the next ones of app
	pull      pull
	confirms  confirms
	loginWait []chan error
	timeKnown bool  // the server's clock was heard by this process
	broken    error // the store's, once it has failed
}

// New makes a Client over cfg.Store and connects nothing yet. C2C works at once; what it keeps leaves after Login.
// A Client that was made must be closed.
func New(cfg Config) (*Client, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	cfg.Timing = cfg.Timing.withDefaults()
	cfg.Limits = cfg.Limits.withDefaults()
	cfg.Gates = slices.Clone(cfg.Gates)
	cfg.Keys = slices.Clone(cfg.Keys)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Dialer == nil {
		cfg.Dialer = (&net.Dialer{}).DialContext
	}
	if cfg.SDK == "" {
		cfg.SDK = sdkName
	}
	kept, err := cfg.Store.Load()
	if err != nil {
		return nil, fmt.Errorf("gatepost: load store: %w", err)
	}
	c := &Client{
		cfg:    cfg,
		log:    cfg.Logger.With("domain", cfg.User.Domain, "uid", cfg.User.UID, "device", cfg.Device.String()),
		events: make(chan func(), 16),
		wake:   make(chan struct{}, 1),
		quit:   make(chan struct{}),
		done:   make(chan struct{}),
	}
	c.ctx, c.end = context.WithCancel(context.Background())
	if err := c.restore(kept); err != nil {
		c.end()
		return nil, errors.Join(err, cfg.Store.Close())
	}
	go c.loop()
	return c, nil
}

// restore takes up where the last process ended.
func (c *Client) restore(kept *Snapshot) error {
	now := time.Now()
	c.app.init(c)
	c.sends.wake = c.wake
	c.link.init(c)
	c.id = kept.Identity
	switch {
	case c.id.Stream == 0:
		c.id = Identity{User: c.cfg.User, Device: c.cfg.Device}
		c.id.renew()
		c.saveIdentity()
	case c.id.User != c.cfg.User || c.id.Device != c.cfg.Device:
		return fmt.Errorf("%w: it belongs to %s on %s", ErrStoreUser, c.id.User, c.id.Device)
	case c.id.UplinkStream == 0: // kept by an SDK that knew no uplinks
		c.id.UplinkStream = newStream()
		c.saveIdentity()
	}
	c.restoreOutbox(kept, now)
	c.restoreInbox(kept, now)
	c.pull.init(c)
	return c.commit()
}

// renew makes i another installation with streams of its own.
func (i *Identity) renew() {
	rand.Read(i.Installation[:])
	i.LoginCounter = 0
	i.Stream = newStream()
	i.UplinkStream, i.UplinkSeq = newStream(), 0
}

// newStream is a random number other than 0.
func newStream() uint64 {
	var b [8]byte
	for {
		rand.Read(b[:])
		if n := binary.BigEndian.Uint64(b[:]); n != 0 {
			return n
		}
	}
}

// post runs f on the loop after what was posted before. It reports false when the Client closes: f does not run then.
func (c *Client) post(f func()) bool {
	if c.quitted.Load() {
		return false
	}
	select {
	case c.events <- f: // by far the cheapest, and there is room nearly always
		return true
	default:
	}
	select {
	case c.events <- f:
		return true
	case <-c.quit:
		return false
	}
}

// burst is how many events are handled between two commits at most.
const burst = 64

func (c *Client) loop() {
	defer close(c.done)
	timer := time.AfterFunc(0, func() { poke(c.wake) }) // each channel that the loop waits for costs at each turn
	defer timer.Stop()
	var armed time.Time // when timer fires, or has fired
	for {
		select {
		case f := <-c.events:
			f()
		case <-c.wake:
		}
		if c.quitted.Load() {
			c.err = c.shutDown(ErrClosed)
			return
		}
		c.drainEvents()
		next, err := c.settle()
		if err != nil {
			c.storeFailed(err)
			c.err = errors.Join(err, c.shutDown(err))
			return
		}
		// What is put off lets the timer be: it fires once in vain.
		if next.IsZero() {
			continue
		}
		if now := time.Now(); next.Before(armed) || !now.Before(armed) {
			timer.Reset(next.Sub(now))
			armed = next
		}
	}
}

func (c *Client) drainEvents() {
	for range burst {
		select {
		case f := <-c.events:
			f()
		default:
			return
		}
	}
}

// settle writes what the last events changed, does what follows from it and tells when it wants to be called again at the
// latest; a zero time means: when something happens.
func (c *Client) settle() (next time.Time, err error) {
	for {
		now := time.Now()
		c.takeShown()
		if err := c.takeSends(); err != nil {
			return next, err
		}
		if err := c.commit(); err != nil {
			return next, err
		}
		next = earliest(c.pumpPull(now), c.pumpConfirms(now), c.pumpOutbox(now), c.pumpLink(now), c.app.release(now))
		if c.changes.empty() && len(c.after) == 0 {
			return next, nil
		}
	}
}

// commit writes the gathered changes and runs what waited for them.
func (c *Client) commit() error {
	if !c.changes.empty() {
		err := c.cfg.Store.Commit(&c.changes)
		c.changes.clear()
		if err != nil {
			return fmt.Errorf("gatepost: commit to store: %w", err)
		}
	}
	after := c.after
	c.after = c.spare
	for _, f := range after {
		f()
	}
	c.spare = emptied(after)
	return nil
}

// storeFailed ends the session for good and waits for Close: what is in memory is ahead of what is kept, so nothing may be
// promised any more.
func (c *Client) storeFailed(err error) {
	c.log.Error("store failed, client stops", "error", err)
	c.broken = err
	c.changes, c.after = Changes{}, nil
	c.sends.close(err)
	c.closeLink()
	c.link.wanted = false
	c.setState(StateChange{State: Closed, Err: err})
	c.finishLogins(err)
	c.pull.fail(err)
	for {
		select {
		case f := <-c.events:
			f()
		case <-c.quit:
			return
		}
	}
}

// shutDown is the end of the loop: what the last callback did is still written, then the store is closed.
func (c *Client) shutDown(cause error) error {
	c.end()
	c.closeLink()
	c.sends.close(cause)
	c.finishLogins(cause)
	c.pull.fail(cause)
	c.app.stop()
	c.state.Store(uint32(Closed))
	var err error
	if cause == ErrClosed {
		c.takeShown()
		err = c.commit()
	}
	return errors.Join(err, c.cfg.Store.Close())
}

// earliest is the first of times that is not zero.
func earliest(times ...time.Time) (first time.Time) {
	for _, t := range times {
		if !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	return first
}

// Login begins to connect, and goes on whenever the connection is lost until Logout, Close or a stay-away. It returns
// when the Client is online for the first time, with the *Error of a stay-away, or when ctx ends: the Client goes on then,
// and the error wraps what ended the last attempt too.
func (c *Client) Login(ctx context.Context) error {
	result := make(chan error, 1)
	if !c.post(func() { c.startLogin(result) }) {
		return ErrClosed
	}
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		if last := c.lastLost.Load(); last != nil {
			return fmt.Errorf("gatepost: login: %w; last attempt: %w", ctx.Err(), *last)
		}
		return ctx.Err()
	case <-c.quit:
		return ErrClosed
	}
}

func (c *Client) startLogin(result chan error) {
	if c.broken != nil {
		result <- c.broken
		return
	}
	c.app.start()
	if State(c.state.Load()) == Online {
		result <- nil
		return
	}
	c.loginWait = append(c.loginWait, result)
	if !c.link.wanted {
		c.link.start()
	}
}

func (c *Client) finishLogins(err error) {
	for _, result := range c.loginWait {
		result <- err
	}
	c.loginWait = nil
}

// Pull reads the whole inbox: it returns when a pull that began after the call is complete to its last page. What it
// found is taken, and shown soon. ErrOffline when there is no session or it ends meanwhile.
func (c *Client) Pull(ctx context.Context) error {
	result := make(chan error, 1)
	if !c.post(func() { c.pull.ask(result) }) {
		return ErrClosed
	}
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-c.quit:
		return ErrClosed
	}
}

// NetworkChanged tells the Client that the device has another network now: a connection that is there is tried at once
// and replaced when it is dead, a waiting reconnect does not wait.
func (c *Client) NetworkChanged() { c.post(c.networkChanged) }

// State is where the Client stands.
func (c *Client) State() State { return State(c.state.Load()) }

// ServerTime is the server's time as far as known, the device's before the first login.
func (c *Client) ServerTime() time.Time { return c.serverTime(time.Now()) }

func (c *Client) serverTime(now time.Time) time.Time {
	return now.Add(time.Duration(c.offset.Load())).Round(0)
}

// setServerTime learns the server's clock from an answer that arrived now.
func (c *Client) setServerTime(ms int64) {
	if ms > 0 {
		if !c.timeKnown {
			c.timeKnown = true
			c.outbox.uplinks.expireAt = time.Now() // what an earlier process left can be judged now
		}
		c.offset.Store(int64(time.UnixMilli(ms).Sub(time.Now().Round(0))))
	}
}

// setState tells the app, if this is news.
func (c *Client) setState(s StateChange) {
	if old := State(c.state.Swap(uint32(s.State))); old == s.State && s.State != Closed && !s.Retired {
		return
	}
	c.log.Debug("state changed", "state", s.State.String(), "error", s.Err)
	if c.cfg.OnState != nil {
		c.app.notice(func() { c.cfg.OnState(s) })
	}
}

// Logout ends the session at the server as far as it can be reached until ctx ends, then closes. The store keeps the
// outbox; the server keeps nothing for this device class from then on until it logs in again.
func (c *Client) Logout(ctx context.Context) error {
	answered := make(chan error, 1)
	if !c.post(func() { c.sendLogout(answered) }) {
		return ErrClosed
	}
	var err error
	select {
	case err = <-answered:
	case <-ctx.Done():
		err = ctx.Err()
	case <-c.quit:
	}
	return errors.Join(err, c.Close())
}

// Close ends the connection, waits for a running callback and closes the store. The inbox and the outbox stay. What was shown in the
// last moments (Timing.ConfirmPause) may be unconfirmed, see Stats: a store that lasts confirms it at the next start, to others it is shown again.
func (c *Client) Close() error {
	if c.quitted.CompareAndSwap(false, true) {
		close(c.quit)
		poke(c.wake)
	}
	<-c.done
	return c.err
}
