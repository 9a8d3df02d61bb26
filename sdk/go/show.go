package gatepost

import (
	"fmt"
	"runtime/debug"
	"sync"
	"time"
)

// appQueue runs the app's callbacks, one at a time, on a goroutine that is there only while there is something to run.
//
// Messages go in the order in which they were taken. One that the app refuses stops its sequence alone: it and those behind
// it wait until it is tried again, while others go on.
type appQueue struct {
	// fixed after init
	c    *Client
	wake chan struct{} // holds one token while the loop has something to take

	mu      sync.Mutex
	idle    sync.Cond // running became false
	started bool      // Login was called
	stopped bool
	running bool // the goroutine is there
	notices []notice
	items   []*item
	blocked map[MarkKey]*blockedLane
	shown   []*item  // results for the loop
	told    []notice // likewise
}

// notice is a callback that is not about a received message.
type notice struct {
	call   func()
	number uint64   // of the OutboxEntry that it tells of; 0: none
	kind   SendKind // of the OutboxEntry
}

type item struct {
	Received
	lane     MarkKey
	attempts int
	failed   bool // online only, and the app has refused it
}

// blockedLane is a sequence whose first item the app has refused.
type blockedLane struct {
	until time.Time
	items []*item
}

func (q *appQueue) init(c *Client) {
	q.c = c
	q.wake = make(chan struct{}, 1)
	q.idle.L = &q.mu
	q.blocked = map[MarkKey]*blockedLane{}
}

// start lets callbacks run.
func (q *appQueue) start() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.started = true
	q.runLocked()
}

// stop waits for the running callback; no other one runs after it.
func (q *appQueue) stop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stopped = true
	for q.running {
		q.idle.Wait()
	}
}

func (q *appQueue) notice(call func()) { q.tell(notice{call: call}) }

func (q *appQueue) tell(n notice) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.notices = append(q.notices, n)
	q.runLocked()
}

func (q *appQueue) show(r Received) {
	q.mu.Lock()
	defer q.mu.Unlock()
	lane := markKey(&r.Message)
	if r.Message.OnlineOnly {
		lane.Target = "online" // it is never refused, and does not wait behind what was
	}
	q.items = append(q.items, &item{Received: r, lane: lane})
	q.runLocked()
}

func (q *appQueue) runLocked() {
	if q.started && !q.stopped && !q.running && len(q.notices)+len(q.items) > 0 {
		q.running = true
		go q.run()
	}
}

// release lets the sequences go on whose wait is over, and returns when the next one's is.
func (q *appQueue) release(now time.Time) (next time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for lane, b := range q.blocked {
		if now.Before(b.until) {
			next = earliest(next, b.until)
			continue
		}
		delete(q.blocked, lane)
		q.items = append(b.items, q.items...)
	}
	q.runLocked()
	return next
}

// run calls until nothing is left.
func (q *appQueue) run() {
	for {
		q.mu.Lock()
		call := q.popLocked()
		if call == nil {
			q.running = false
			q.idle.Broadcast()
			q.mu.Unlock()
			return
		}
		q.mu.Unlock()
		call()
		poke(q.wake)
	}
}

// popLocked returns the next thing to do, nil when there is none.
func (q *appQueue) popLocked() func() {
	if q.stopped {
		return nil
	}
	if len(q.notices) > 0 {
		n := q.notices[0]
		q.notices = q.notices[1:]
		return func() { q.callNotice(n) }
	}
	for len(q.items) > 0 {
		it := q.items[0]
		q.items[0] = nil
		q.items = q.items[1:]
		if b := q.blocked[it.lane]; b != nil {
			b.items = append(b.items, it)
			continue
		}
		return func() { q.callMessage(it) }
	}
	return nil
}

func (q *appQueue) callNotice(n notice) {
	if err := guard(func() error { n.call(); return nil }); err != nil {
		q.c.log.Error("callback failed", "error", err)
	}
	if n.number != 0 {
		q.mu.Lock()
		q.told = append(q.told, n)
		q.mu.Unlock()
	}
}

func (q *appQueue) callMessage(it *item) {
	c := q.c
	err := guard(func() error { return c.present(&it.Message) })
	it.attempts++
	if err != nil && it.Message.OnlineOnly {
		c.log.Warn("online-only push failed", "from", it.Message.From.String(), "type", it.Message.Type, "error", err)
		it.failed, err = true, nil
	}
	if err != nil && c.ctx.Err() != nil {
		return // the Client closes: the message stays unshown
	}
	if err != nil && it.attempts < c.cfg.Limits.ShowAttempts {
		retry := backoff{base: c.cfg.Timing.ShowRetry, cap: c.cfg.Timing.ShowRetryCap, attempt: it.attempts - 1}
		q.mu.Lock()
		q.blocked[it.lane] = &blockedLane{until: time.Now().Add(retry.ceiling()), items: []*item{it}}
		q.mu.Unlock()
		return
	}
	if err != nil {
		c.log.Error("message parked", "msg", it.Message.MsgID, "attempts", it.attempts, "error", err)
		if c.cfg.OnParked != nil {
			q.callNotice(notice{call: func() { c.cfg.OnParked(it.Message, err) }})
		}
	}
	q.mu.Lock()
	q.shown = append(q.shown, it)
	q.mu.Unlock()
}

// present calls the callback that m is for. A receipt that an earlier process took and this one does not want counts as shown.
func (c *Client) present(m *Message) error {
	switch {
	case m.Kind != KindReceipt:
		return c.cfg.OnMessage(c.ctx, *m)
	case c.cfg.OnReceipt != nil:
		return c.cfg.OnReceipt(c.ctx, Receipt{
			ClientMsgID: m.ClientMsgID, By: m.From, ByDevice: m.FromDevice, At: m.CreatedAt, MaybeRepeated: m.MaybeRepeated,
		})
	}
	return nil
}

// guard turns a panic into an error, so that the app's mistake over one message does not end the process.
func guard(call func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic in callback: %v\n%s", r, debug.Stack())
		}
	}()
	return call()
}

// takeShown hears what the callbacks have done.
func (c *Client) takeShown() {
	q := &c.app
	q.mu.Lock()
	shown, told := q.shown, q.told
	q.shown, q.told = nil, nil
	q.mu.Unlock()
	for _, it := range shown {
		c.shown(it)
	}
	for _, n := range told {
		c.told(n)
	}
}
