package bench

import (
	"context"
	"encoding/binary"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gatepost/gatepost/audit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a platform in memory. It delivers at once, except where a test says otherwise.
type fake struct {
	mu      sync.Mutex
	clients map[string]*fakeClient // by uid
	nextID  uint64
	count   int // of messages taken
	topic   []audit.TopicRecord

	lose, twice int           // the message that is lost, or shown twice; 0: none
	stallAt     int           // from this message on …
	stall       time.Duration // … nothing is answered for so long
	stalledTill time.Time
	away        map[string]bool // users who are not online
}

func newFake() *fake { return &fake{clients: map[string]*fakeClient{}, nextID: 1000} }

func (p *fake) dial(spec audit.Spec, hooks audit.Hooks) (audit.Client, error) {
	ctx, stop := context.WithCancel(context.Background())
	c := &fakeClient{p: p, uid: spec.UID, hooks: hooks, ctx: ctx, stop: stop, changed: make(chan struct{}, 1)}
	p.mu.Lock()
	p.clients[spec.UID] = c
	p.mu.Unlock()
	return c, nil
}

type fakeClient struct {
	p     *fake
	uid   string
	hooks audit.Hooks
	ctx   context.Context
	stop  context.CancelFunc
	wg    sync.WaitGroup

	mu        sync.Mutex
	waiting   []audit.Shown
	confirmed uint64
	changed   chan struct{}
}

func (c *fakeClient) Login(context.Context) error { c.wg.Go(c.receive); return nil }
func (c *fakeClient) Pull(context.Context) error  { return nil }

func (c *fakeClient) Counters() audit.Counters {
	c.mu.Lock()
	defer c.mu.Unlock()
	return audit.Counters{Confirmed: c.confirmed, Unconfirmed: len(c.waiting)}
}

func (c *fakeClient) Close() error {
	c.stop()
	c.wg.Wait()
	return nil
}

func (c *fakeClient) Crash() error { return c.Close() }

func (c *fakeClient) receive() {
	for {
		select {
		case <-c.changed:
		case <-c.ctx.Done():
			return
		}
		for {
			c.mu.Lock()
			if len(c.waiting) == 0 {
				c.mu.Unlock()
				break
			}
			s := c.waiting[0]
			c.mu.Unlock()
			_ = c.hooks.Shown(s) // only the client of a crashed life says no
			c.mu.Lock()
			c.waiting = c.waiting[1:]
			c.confirmed++
			c.mu.Unlock()
		}
	}
}

func (c *fakeClient) deliver(s audit.Shown) {
	c.mu.Lock()
	c.waiting = append(c.waiting, s)
	c.mu.Unlock()
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// take counts one message to uid and delivers it.
func (p *fake) take(uid string, content []byte, id uint64) {
	p.count++
	if p.count == p.stallAt {
		p.stalledTill = time.Now().Add(p.stall)
	}
	s := audit.Shown{MsgID: id, Content: append([]byte(nil), content...)}
	to := p.clients[uid]
	if to == nil || p.count == p.lose {
		return
	}
	to.deliver(s)
	if p.count == p.twice {
		to.deliver(s)
	}
}

func (c *fakeClient) Send(_ context.Context, to string, content []byte, _ time.Duration) ([16]byte, error) {
	p := c.p
	p.mu.Lock()
	defer p.mu.Unlock()
	p.nextID++
	var id [16]byte
	binary.BigEndian.PutUint64(id[:], p.nextID)
	p.take(to, content, p.nextID)
	c.answer(audit.Sent{ID: id, MsgID: p.nextID})
	return id, nil
}

func (c *fakeClient) Report(_ context.Context, content []byte, _ time.Duration) ([16]byte, error) {
	p := c.p
	p.mu.Lock()
	defer p.mu.Unlock()
	p.nextID++
	p.count++
	var id [16]byte
	binary.BigEndian.PutUint64(id[:], p.nextID)
	if p.count != p.lose {
		p.topic = append(p.topic, audit.TopicRecord{ID: id, UID: c.uid, Content: append([]byte(nil), content...)})
	}
	c.answer(audit.Sent{Flow: audit.Uplinks, ID: id})
	return id, nil
}

// answer tells an outcome when no stall is on. The caller holds p.mu.
func (c *fakeClient) answer(s audit.Sent) {
	till := c.p.stalledTill
	c.wg.Go(func() {
		if sleep(c.ctx, time.Until(till)) {
			c.hooks.Sent(s)
		}
	})
}

func (p *fake) Read(_ context.Context, each func(audit.TopicRecord)) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.topic {
		each(r)
	}
	return nil
}

func (p *fake) Push(_ context.Context, id [16]byte, users []string, content []byte) ([]audit.Sent, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]audit.Sent, len(users))
	for i, uid := range users {
		p.nextID++
		p.take(uid, content, p.nextID)
		out[i] = audit.Sent{ID: id, MsgID: p.nextID}
	}
	return out, nil
}

func (p *fake) PushOnline(_ context.Context, _ [16]byte, users []string, content []byte) ([]audit.OnlineOutcome, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]audit.OnlineOutcome, len(users))
	for i, uid := range users {
		if p.away[uid] || p.clients[uid] == nil {
			out[i] = audit.OnlineOutcome{NotOnline: true}
			continue
		}
		p.take(uid, content, 0)
	}
	return out, nil
}
