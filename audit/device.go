package audit

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// unrest is the life that a device leads.
type unrest uint8

const (
	steady unrest = iota
	goesAway
	restarts
	crashes
)

// device is one installation of a run, over all clients that it is in turn.
type device struct {
	e      *engine
	index  uint32
	spec   Spec
	unrest unrest
	rng    *rand.Rand // of its life

	appMu sync.Mutex // held over a callback: a crash falls before it or after it; taken before mu

	mu        sync.Mutex
	client    Client // nil while it is closed
	life      uint64 // a crashed life's hooks are deaf
	inFlight  [flows]int
	confirmed uint64 // by earlier clients

	// Tokens for the sending loops: client or inFlight have changed.
	changed [flows]chan struct{}

	handed atomic.Int64 // messages; without end when the device sends no more of them
}

// leash is how many windows the uplinks of a device run ahead of its messages at most: the faster kind does not become the whole load,
// and goes on for a while when the other one stands.
const leash = 20

func newDevice(e *engine, index uint32, draw float64) *device {
	own := e.j.devices[index]
	d := &device{e: e, index: index, rng: rand.New(rand.NewPCG(e.cfg.Seed, 1000+2*uint64(index)))}
	d.spec = Spec{UID: e.j.users[own.user], Class: e.cfg.Classes[own.place], Store: own.name}
	switch c := e.cfg; {
	case draw < c.Away:
		d.unrest = goesAway
	case draw < c.Away+c.Restart:
		d.unrest = restarts
	case draw < c.Away+c.Restart+c.Crash:
		d.unrest = crashes
	}
	for f := range d.changed {
		d.changed[f] = make(chan struct{}, 1)
	}
	if !e.sends(d) {
		d.handed.Store(math.MaxInt64)
	}
	return d
}

func (d *device) name() string { return d.e.j.devices[d.index].name }

// open makes the next client of this installation; it can send before it is online.
func (d *device) open() (Client, error) {
	d.mu.Lock()
	life := d.life
	d.mu.Unlock()
	c, err := d.e.cfg.Dial(d.spec, Hooks{
		Shown: func(s Shown) error { return d.onShown(life, s) },
		Sent:  func(s Sent) { d.onSent(life, s) },
	})
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	d.client = c
	d.wakeAll()
	d.mu.Unlock()
	return c, nil
}

// start opens the device, logs in, and registers its class by a first pull.
func (d *device) start(ctx context.Context) error {
	c, err := d.open()
	if err != nil {
		return err
	}
	if err := c.Login(ctx); err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	if err := c.Pull(ctx); err != nil {
		return fmt.Errorf("first pull: %w", err)
	}
	return nil
}

// take removes the client, so that nobody uses it while it closes.
func (d *device) take(crash bool) Client {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.client
	d.client = nil
	if crash {
		d.life++
		d.inFlight = [flows]int{}
	}
	d.wakeAll()
	return c
}

func (d *device) close() {
	c := d.take(false)
	if c == nil {
		return
	}
	if err := c.Close(); err != nil {
		d.e.cfg.Logger.Warn("close failed", "device", d.name(), "error", err)
	}
	d.retired(c)
}

// crash kills the client. From the mark on nothing that it does counts.
func (d *device) crash() {
	d.appMu.Lock()
	c := d.take(true)
	d.e.j.mark(d.index, markCrash)
	d.appMu.Unlock()
	if c == nil {
		return
	}
	if err := c.Crash(); err != nil {
		d.e.cfg.Logger.Warn("crash failed", "device", d.name(), "error", err)
	}
	d.retired(c)
}

func (d *device) retired(c Client) {
	n := c.Counters().Confirmed
	d.mu.Lock()
	d.confirmed += n
	d.mu.Unlock()
}

func (d *device) wake(f Flow) {
	select {
	case d.changed[f] <- struct{}{}:
	default:
	}
}

func (d *device) wakeAll() {
	for f := range flows {
		d.wake(f)
	}
}

func (d *device) counters() Counters {
	d.mu.Lock()
	c, before := d.client, d.confirmed
	d.mu.Unlock()
	if c == nil {
		return Counters{Confirmed: before}
	}
	n := c.Counters()
	n.Confirmed += before
	return n
}

// pull pulls to the last page, again when the connection is lost meanwhile.
func (d *device) pull(ctx context.Context) error {
	d.mu.Lock()
	c := d.client
	d.mu.Unlock()
	if c == nil {
		return nil
	}
	for {
		err := c.Pull(ctx)
		if err == nil || !sleep(ctx, 20*time.Millisecond) {
			return err
		}
	}
}

// live is the restless life: until unrest ends; then the device is opened for the last time and stays.
func (d *device) live(ctx, unrest context.Context) error {
	for {
		if !sleep(unrest, d.draw()) {
			return nil
		}
		switch d.unrest {
		case goesAway:
			d.e.j.mark(d.index, markRestart)
			d.close()
			sleep(unrest, d.draw())
		case restarts:
			d.e.j.mark(d.index, markRestart)
			d.close()
		case crashes:
			d.crash()
		}
		c, err := d.open()
		if err != nil {
			return fmt.Errorf("%s: open again: %w", d.name(), err)
		}
		if err := c.Login(ctx); err != nil {
			return fmt.Errorf("%s: log in again: %w", d.name(), err)
		}
	}
}

// draw is a time between a tenth of Steady and Steady.
func (d *device) draw() time.Duration {
	return time.Duration((0.1 + 0.9*d.rng.Float64()) * float64(d.e.cfg.Steady))
}

// send is the sending loop of the device in one flow; meant is its schedule, nil without one.
func (d *device) send(ctx context.Context, f Flow, meant *schedule) {
	cfg, j := d.e.cfg, d.e.j
	rng := rand.New(rand.NewPCG(cfg.Seed, 1001+2*uint64(d.index)+uint64(f)<<32))
	self := j.devices[d.index].user
	content := make([]byte, 0, cfg.SizeMax)
	if f == Messages {
		defer d.handed.Store(math.MaxInt64)
	}
	for n := 0; cfg.Messages == 0 || n < cfg.Messages; n++ {
		to := self
		if f == Messages {
			to = d.receiver(rng, self)
		}
		if int(to) >= len(j.users) {
			return // an odd user without a peer
		}
		size := cfg.Size + rng.IntN(cfg.SizeMax-cfg.Size+1)
		if meant != nil {
			var due bool
			if ctx, due = meant.wait(ctx, n); !due {
				return
			}
		}
		for f == Uplinks && int64(n-leash*cfg.Window) > d.handed.Load() {
			if !sleep(ctx, 5*time.Millisecond) {
				return
			}
		}
		c, life := d.admit(ctx, f)
		if c == nil {
			return
		}
		number := j.attempt(d.index, f, to)
		sentNS := j.sinceNS()
		if meant != nil {
			at := meant.at(n)
			if hook := cfg.OnSend; hook != nil {
				hook(at, sentNS)
			}
			sentNS = at
		}
		content = appendContent(content[:0], label{run: j.run, flow: f, sender: d.index, to: to, number: number, sentNS: sentNS}, size)
		id, err := d.hand(ctx, c, f, to, content)
		if err != nil {
			d.release(life, f)
			if ctx.Err() != nil {
				return
			}
			cfg.Logger.Debug("send failed", "device", d.name(), "flow", f, "error", err)
			n--
			if !sleep(ctx, time.Millisecond) { // most likely the client was closed between admit and here
				return
			}
			continue
		}
		d.e.sent.Add(1)
		if f == Messages {
			d.handed.Add(1)
		}
		if open, s := j.kept(d.index, f, number, id, sentNS); !open {
			d.finished(life, s, sentNS)
		}
		if cfg.Pause > 0 && !sleep(ctx, cfg.Pause) {
			return
		}
	}
}

// receiver draws the user that the next message is for.
func (d *device) receiver(rng *rand.Rand, self uint32) uint32 {
	if d.e.cfg.Traffic != Mixed {
		return self ^ 1
	}
	to := uint32(rng.IntN(len(d.e.j.users) - 1))
	if to >= self {
		to++
	}
	return to
}

func (d *device) hand(ctx context.Context, c Client, f Flow, to uint32, content []byte) ([16]byte, error) {
	if f == Uplinks {
		return c.Report(ctx, content, d.e.cfg.TTL)
	}
	return c.Send(ctx, d.e.j.users[to], content, d.e.cfg.TTL)
}

// admit waits for a client and for room in the window. It returns nil when ctx ended.
func (d *device) admit(ctx context.Context, f Flow) (Client, uint64) {
	for {
		d.mu.Lock()
		if d.client != nil && d.inFlight[f] < d.e.cfg.Window {
			if ctx.Err() != nil {
				d.mu.Unlock()
				return nil, 0
			}
			d.inFlight[f]++
			c, life := d.client, d.life
			d.mu.Unlock()
			return c, life
		}
		d.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil, 0
		case <-d.changed[f]:
		}
	}
}

// release gives a place in the window back, unless a crash emptied it.
func (d *device) release(life uint64, f Flow) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.life == life {
		d.inFlight[f]--
		d.wake(f)
	}
}

func (d *device) finished(life uint64, s Sent, sentNS int64) {
	if s.Err != nil {
		d.e.refused.Add(1)
	} else {
		d.e.accept()
		if f := d.e.cfg.OnAccepted; f != nil {
			f(s.Flow, sentNS, d.e.j.sinceNS())
		}
	}
	d.release(life, s.Flow)
}

// errDied is what the app of a crashed client answers to the goroutines that it left.
var errDied = errors.New("the process has died")

// deaf reports whether life ended in a crash.
func (d *device) deaf(life uint64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.life != life
}

func (d *device) onSent(life uint64, s Sent) {
	if d.deaf(life) {
		return
	}
	w, known, sameLife := d.e.j.done(d.index, s)
	if !known {
		return // Send has not returned yet; kept finds it
	}
	if !sameLife {
		life-- // it was sent before a crash that emptied the window
	}
	d.finished(life, s, w.sentNS)
}

// onShown is the app of the device.
func (d *device) onShown(life uint64, s Shown) error {
	d.appMu.Lock()
	defer d.appMu.Unlock()
	if d.deaf(life) {
		return errDied
	}
	l, first, err := d.e.j.show(d.index, s)
	if err == nil && first {
		d.e.shown.Add(1)
		if f := d.e.cfg.OnShown; f != nil {
			f(l.sentNS, d.e.j.sinceNS())
		}
	}
	return nil
}

// checkInbox logs in as an installation that was never there, pulls, and writes down what it finds.
func (d *device) checkInbox(ctx context.Context) error {
	spec := d.spec
	spec.Store, spec.Fresh = "", true
	c, err := d.e.cfg.Dial(spec, Hooks{
		Shown: func(s Shown) error { d.e.j.leftover(d.index, s); return nil },
		Sent:  func(Sent) {},
	})
	if err != nil {
		return err
	}
	defer func() {
		if err := c.Close(); err != nil {
			d.e.cfg.Logger.Warn("close failed", "device", d.name(), "error", err)
		}
	}()
	if err := c.Login(ctx); err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	if err := c.Pull(ctx); err != nil {
		return fmt.Errorf("pull: %w", err)
	}
	for c.Counters().Unconfirmed > 0 { // what was found is shown before it is confirmed
		if !sleep(ctx, 10*time.Millisecond) {
			return ctx.Err()
		}
	}
	return nil
}
