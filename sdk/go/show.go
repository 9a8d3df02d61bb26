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
	notices fifo[notice]
	items   fifo[*item]
	blocked map[MarkKey]*blockedLane
	results results
}

// results are what the callbacks have done, for the loop.
type results struct {
	shown []*item
	told  []notice
}

// notice is a callback that is not about a received message: call, or OnSent with the outcome of an OutboxEntry.
type notice struct {
	call   func()
	number uint64 // of the OutboxEntry; 0: none
	result SendResult
}

type item struct {
	Received
	attempts int
	failed   bool // online only, and the app has refused it
}

// lane is the sequence that waits while the app refuses the item.
func (it *item) lane() MarkKey {
	lane := markKey(&it.Message)
	if it.Message.OnlineOnly {
		lane.Target = "online" // it is never refused, and does not wait behind what was
	}
	return lane
}

// blockedLane is a sequence whose first item the app has refused.
type blockedLane struct {
	until time.Time
	items []*item
}

func (q *appQueue) init(c *Client) {
	q.c = c
	q.wake = c.wake
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
	q.notices.push(n)
	q.runLocked()
}

func (q *appQueue) show(it *item) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.items.push(it)
	q.runLocked()
}

func (q *appQueue) runLocked() {
	if q.started && !q.stopped && !q.running && q.notices.len()+q.items.len() > 0 {
		q.running = true
		go q.run()
	}
}

// release lets the sequences go on whose wait is over, and returns when the next one's is.
func (q *appQueue) release(now time.Time) (next time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.blocked) == 0 {
		return next
	}
	for lane, b := range q.blocked {
		if now.Before(b.until) {
			next = earliest(next, b.until)
			continue
		}
		delete(q.blocked, lane)
		q.items = fifo[*item]{list: append(b.items, q.items.all()...)}
	}
	q.runLocked()
	return next
}

// run calls until nothing is left.
func (q *appQueue) run() {
	q.mu.Lock()
	for !q.stopped {
		if q.notices.len() > 0 {
			n := q.notices.pop()
			q.mu.Unlock()
			q.callNotice(&n)
			q.mu.Lock()
			if n.number != 0 {
				q.pokeLocked()
				q.results.told = append(q.results.told, n)
			}
			continue
		}
		it := q.popLocked()
		if it == nil {
			break
		}
		q.mu.Unlock()
		again, shown := q.callMessage(it)
		q.mu.Lock()
		if shown {
			q.pokeLocked()
			q.results.shown = append(q.results.shown, it)
		} else if !again.IsZero() {
			q.blocked[it.lane()] = &blockedLane{until: again, items: []*item{it}}
			poke(q.wake) // it has to know until when
		}
	}
	q.running = false
	q.idle.Broadcast()
	q.mu.Unlock()
}

// pokeLocked is called before a result is added: the loop takes them all, so the first one wakes it.
func (q *appQueue) pokeLocked() {
	if len(q.results.shown)+len(q.results.told) == 0 {
		poke(q.wake)
	}
}

// popLocked returns the next item whose sequence is not blocked, nil when there is none.
func (q *appQueue) popLocked() *item {
	for q.items.len() > 0 {
		it := q.items.pop()
		if len(q.blocked) > 0 {
			if b := q.blocked[it.lane()]; b != nil {
				b.items = append(b.items, it)
				continue
			}
		}
		return it
	}
	return nil
}

func (q *appQueue) callNotice(n *notice) {
	call := n.call
	if call == nil {
		if q.c.cfg.OnSent == nil {
			return
		}
		call = func() { q.c.cfg.OnSent(n.result) }
	}
	if err := guard(func() error { call(); return nil }); err != nil {
		q.c.log.Error("callback failed", "error", err)
	}
}

// callMessage shows the item. It returns when to try it again, zero: never, and whether it was shown or parked.
func (q *appQueue) callMessage(it *item) (again time.Time, shown bool) {
	c := q.c
	err := guard(func() error { return c.present(&it.Message) })
	it.attempts++
	if err != nil && it.Message.OnlineOnly {
		c.log.Warn("online-only push failed", "from", it.Message.From.String(), "type", it.Message.Type, "error", err)
		it.failed, err = true, nil
	}
	if err != nil && c.ctx.Err() != nil {
		return again, false // the Client closes: the message stays unshown
	}
	if err != nil && it.attempts < c.cfg.Limits.ShowAttempts {
		retry := backoff{base: c.cfg.Timing.ShowRetry, cap: c.cfg.Timing.ShowRetryCap, attempt: it.attempts - 1}
		return time.Now().Add(retry.ceiling()), false
	}
	if err != nil {
		c.log.Error("message parked", "msg", it.Message.MsgID, "attempts", it.attempts, "error", err)
		if c.cfg.OnParked != nil {
			q.callNotice(&notice{call: func() { c.cfg.OnParked(it.Message, err) }})
		}
	}
	return again, true
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
	r := q.results
	q.results = c.taken
	q.mu.Unlock()
	for _, it := range r.shown {
		c.shown(it)
	}
	for _, n := range r.told {
		c.told(n)
	}
	c.taken = results{emptied(r.shown), emptied(r.told)}
}

// fifo is a queue that uses its memory again.
type fifo[E any] struct {
	list []E
	head int // list[:head] has gone
}

func (f *fifo[E]) len() int { return len(f.list) - f.head }

func (f *fifo[E]) all() []E { return f.list[f.head:] }

func (f *fifo[E]) push(e E) {
	if len(f.list) == cap(f.list) && f.head > len(f.list)/2 {
		rest := copy(f.list, f.all())
		clear(f.list[rest:])
		f.list, f.head = f.list[:rest], 0
	}
	f.list = append(f.list, e)
}

func (f *fifo[E]) pop() (e E) {
	e, f.list[f.head] = f.list[f.head], e
	f.head++
	if f.head == len(f.list) {
		f.list, f.head = emptied(f.list), 0
	}
	return e
}
