package audit

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// fakePlatform is a platform in memory that keeps every promise, except where its plant breaks one.
type fakePlatform struct {
	plant plant

	mu      sync.Mutex
	changed chan struct{} // closed when an inbox changes
	boxes   map[string][]fakeMessage
	nextID  uint64
	count   int // of messages taken
	held    *fakeMessage
	stores  map[string]*fakeStore
	peers   map[string]string // some other user, for messages that go astray

	topic   []TopicRecord
	heldUp  *TopicRecord
	reports int
	pushes  int
	pushed  map[string]uint64 // id of the push and uid → msg_id
	twins   int               // pushes that came again
	planted bool              // among the pushes
}

// plant names the promise that is broken, and at which message.
type plant struct {
	what string
	at   int
}

type fakeMessage struct {
	id      uint64
	from    string
	content []byte
	late    bool
	again   bool // shown although it had been shown
	flagged bool // maybe repeated
}

// fakeStore is what an installation keeps.
type fakeStore struct {
	callback map[uint64]bool // ids whose callback has begun
	ids      uint64
}

func newFakePlatform(p plant) *fakePlatform {
	return &fakePlatform{plant: p, changed: make(chan struct{}), boxes: map[string][]fakeMessage{}, nextID: 1000,
		stores: map[string]*fakeStore{}, peers: map[string]string{}, pushed: map[string]uint64{}}
}

func (p *fakePlatform) wakeLocked() {
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *fakePlatform) dial(spec Spec, hooks Hooks) (Client, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	st := &fakeStore{callback: map[uint64]bool{}}
	if !spec.Fresh {
		if kept, ok := p.stores[spec.Store]; ok {
			st = kept
		}
		p.stores[spec.Store] = st
	}
	ctx, stop := context.WithCancel(context.Background())
	return &fakeClient{p: p, spec: spec, hooks: hooks, store: st, ctx: ctx, stop: stop}, nil
}

type fakeClient struct {
	p         *fakePlatform
	spec      Spec
	hooks     Hooks
	store     *fakeStore
	ctx       context.Context
	stop      context.CancelFunc
	wg        sync.WaitGroup
	killed    atomic.Bool
	confirmed uint64
}

func (c *fakeClient) Login(context.Context) error {
	c.p.mu.Lock()
	if _, ok := c.p.boxes[c.spec.UID]; !ok {
		c.p.boxes[c.spec.UID] = []fakeMessage{}
	}
	c.p.mu.Unlock()
	c.wg.Go(c.receive)
	return nil
}

func (c *fakeClient) Pull(context.Context) error {
	for {
		c.p.mu.Lock()
		n := len(c.p.boxes[c.spec.UID])
		c.p.mu.Unlock()
		if n == 0 || c.spec.Fresh || c.ctx.Err() != nil {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
}

func (c *fakeClient) Counters() Counters {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	return Counters{Confirmed: c.confirmed, Unconfirmed: len(c.p.boxes[c.spec.UID])}
}

func (c *fakeClient) Close() error {
	c.p.mu.Lock() // Send looks under it, so nothing begins after the end
	c.stop()
	c.p.mu.Unlock()
	c.wg.Wait()
	return nil
}

func (c *fakeClient) Crash() error {
	c.killed.Store(true)
	return c.Close()
}

// receive shows the head of the inbox and then removes it, as long as the client lives.
func (c *fakeClient) receive() {
	p := c.p
	for c.ctx.Err() == nil {
		p.mu.Lock()
		box, changed := p.boxes[c.spec.UID], p.changed
		if len(box) == 0 {
			p.mu.Unlock()
			select {
			case <-c.ctx.Done():
			case <-changed:
			}
			continue
		}
		m := box[0]
		unsure := c.store.callback[m.id]
		c.store.callback[m.id] = true
		p.mu.Unlock()
		flagged := m.flagged || unsure && !m.again && p.plant.what != "unflagged repeat"
		if err := c.hooks.Shown(Shown{MsgID: m.id, Content: m.content, Late: m.late, MaybeRepeated: flagged}); err != nil {
			return
		}
		if c.killed.Load() {
			return // killed between the callback and the note of it
		}
		p.mu.Lock()
		if box := p.boxes[c.spec.UID]; len(box) > 0 && box[0].id == m.id {
			p.boxes[c.spec.UID] = box[1:]
			c.confirmed++
		}
		p.mu.Unlock()
	}
}

func (c *fakeClient) Send(_ context.Context, to string, content []byte, _ time.Duration) ([16]byte, error) {
	p := c.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.ctx.Err() != nil {
		return [16]byte{}, errors.New("closed")
	}
	c.store.ids++
	var id [16]byte
	copy(id[8:], c.spec.UID[len(c.spec.UID)-1:])
	binary.BigEndian.PutUint64(id[:], c.store.ids)
	p.nextID++
	p.count++
	m := fakeMessage{id: p.nextID, from: c.spec.UID, content: append([]byte(nil), content...)}
	outcome := Sent{ID: id, MsgID: m.id}
	deliver := []fakeMessage{m}
	if p.held != nil && p.held.from == c.spec.UID {
		deliver = append(deliver, *p.held)
		p.held = nil
	}
	if p.count == p.plant.at {
		switch p.plant.what {
		case "lost":
			deliver = nil
		case "refused":
			deliver = nil
			outcome = Sent{ID: id, Code: 1007, Err: errors.New("inbox full")}
		case "duplicate":
			m.again = true
			deliver = append(deliver, m)
		case "flag without crash":
			m.again, m.flagged = true, true
			deliver = append(deliver, m)
		case "reordered", "late":
			m.late = p.plant.what == "late"
			p.held = &m
			deliver = nil
		case "foreign content":
			deliver = append(deliver, fakeMessage{id: 1, content: []byte("what is this")})
		case "cut content":
			deliver[0].content = m.content[:len(m.content)-1]
		case "phantom":
			l, _ := parseContent(m.content, binary.BigEndian.Uint64(m.content[8:]))
			l.number += 1_000_000
			deliver = append(deliver, fakeMessage{id: 2, content: appendContent(nil, l, 100)})
		case "wrong receiver":
			p.boxes[p.someoneElse(c.spec.UID, to)] = []fakeMessage{m}
			deliver = nil
		case "no id":
			outcome.MsgID = 0
		case "same id":
			outcome.MsgID--
		case "no outcome":
			p.boxes[to] = append(p.boxes[to], deliver...)
			p.wakeLocked()
			return id, nil
		}
	}
	p.boxes[to] = append(p.boxes[to], deliver...)
	p.wakeLocked()
	c.wg.Go(func() { c.hooks.Sent(outcome) })
	return id, nil
}

func (p *fakePlatform) someoneElse(a, b string) string {
	for uid := range p.boxes {
		if uid != a && uid != b {
			return uid
		}
	}
	return a
}

// Report writes every seventh uplink twice, as resends do.
func (c *fakeClient) Report(_ context.Context, content []byte, _ time.Duration) ([16]byte, error) {
	p := c.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.ctx.Err() != nil {
		return [16]byte{}, errors.New("closed")
	}
	c.store.ids++
	var id [16]byte
	id[0] = 0xff
	copy(id[8:], c.spec.UID[len(c.spec.UID)-1:])
	binary.BigEndian.PutUint64(id[:], c.store.ids)
	p.reports++
	r := TopicRecord{ID: id, UID: c.spec.UID, Content: append([]byte(nil), content...)}
	write := []TopicRecord{r}
	if p.heldUp != nil && p.heldUp.UID == r.UID {
		write = append(write, *p.heldUp)
		p.heldUp = nil
	}
	if p.reports%7 == 0 {
		write = append(write, r)
	}
	silent := false
	if p.reports == p.plant.at {
		switch p.plant.what {
		case "uplink lost":
			write = nil
		case "uplink reordered":
			p.heldUp, write = &r, nil
		case "uplink of another user":
			write[0].UID = p.someoneElse(c.spec.UID, "")
		case "uplink with another id":
			write[0].ID[15]++
		case "uplink phantom":
			l, _ := parseContent(content, binary.BigEndian.Uint64(content[8:]))
			l.number += 1_000_000
			write = append(write, TopicRecord{UID: r.UID, Content: appendContent(nil, l, 100)})
		case "uplink no outcome":
			silent = true
		}
	}
	p.topic = append(p.topic, write...)
	if !silent {
		c.wg.Go(func() { c.hooks.Sent(Sent{Flow: Uplinks, ID: id}) })
	}
	return id, nil
}

func (p *fakePlatform) Read(_ context.Context, each func(TopicRecord)) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	each(TopicRecord{UID: "somebody", Content: []byte("of another run")})
	for _, r := range p.topic {
		each(r)
	}
	return nil
}

// Push fails now and then although it has pushed.
func (p *fakePlatform) Push(_ context.Context, id [16]byte, users []string, content []byte) ([]Sent, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pushes++
	out := make([]Sent, len(users))
	for i, uid := range users {
		key := string(id[:]) + uid
		if known, ok := p.pushed[key]; ok {
			p.twins++
			out[i] = Sent{ID: id, MsgID: known}
			continue
		}
		p.nextID++
		p.pushed[key] = p.nextID
		out[i] = Sent{ID: id, MsgID: p.nextID}
		m := fakeMessage{id: p.nextID, from: "app", content: append([]byte(nil), content...)}
		deliver, to := []fakeMessage{m}, uid
		if p.pushes >= p.plant.at && !p.planted { // the push of that number may be one that was made before
			p.planted = true
			switch p.plant.what {
			case "push lost":
				deliver = nil
			case "push twice":
				m.again = true
				deliver = append(deliver, m)
			case "push astray":
				for other := range p.boxes {
					if !slices.Contains(users, other) {
						to = other
					}
				}
			}
		}
		p.boxes[to] = append(p.boxes[to], deliver...)
	}
	p.wakeLocked()
	if p.pushes%5 == 0 {
		return nil, errors.New("the answer was lost")
	}
	return out, nil
}
