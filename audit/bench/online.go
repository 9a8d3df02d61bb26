package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/gatepost/gatepost/audit"
	"github.com/gatepost/gatepost/idl/gen/clientpb"
)

// OnlineApp is an app-server that pushes to those who are online. It is safe for concurrent use.
type OnlineApp interface {
	// PushOnline pushes content to users; the outcomes are in their order. An error means that nothing is known.
	PushOnline(ctx context.Context, id [16]byte, users []string, content []byte) ([]audit.OnlineOutcome, error)
}

// Online is the load of online-only pushes: users are connected, an app-server pushes to lists of them. What is counted are messages shown,
// and each is recognised by its content: none that was answered sent may be missing, none may come twice or to somebody else.
type Online struct {
	Load            // Window and Rate are not looked at
	App   OnlineApp // required
	Users int       // default 1,000
	List  int       // users of one push; default 1,000
	Open  int       // pushes under way; default 4
}

// Run runs the load, measures it and judges it.
func (b Online) Run(ctx context.Context) (*Result, error) {
	if b.Users == 0 {
		b.Users = 1000
	}
	if b.List == 0 {
		b.List = 1000
	}
	if b.Open == 0 {
		b.Open = 4
	}
	b.List, b.Size = min(b.List, b.Users), max(b.Size, onlineHeader)
	if err := b.defaults(); err != nil {
		return nil, err
	}
	if b.Users < 1 || b.List < 1 || b.Open < 1 || b.App == nil {
		return nil, errors.New("bench: users, lists, open pushes and an app-server are needed")
	}
	if b.Settle == 0 {
		b.Settle = time.Minute
	}
	o := &online{Online: b, run: rand.Uint64(), begin: time.Now(), delivery: newHistogram(), ack: newHistogram(), clients: make([]audit.Client, b.Users)}
	o.phase.Store(audit.Connecting)
	defer o.close()
	stop := ticking(b.Progress, func() audit.Progress {
		return audit.Progress{Phase: o.phase.Load().(audit.Phase), Elapsed: time.Since(o.begin), Sent: o.targets.Load(), Accepted: o.sent.Load(), Refused: o.refused.Load(), Shown: o.shown.Load()}
	})
	defer stop()
	if err := o.connect(ctx); err != nil {
		return nil, fmt.Errorf("bench: connect: %w", err)
	}
	return o.load(ctx)
}

// online is one run.
type online struct {
	Online
	run     uint64
	begin   time.Time
	users   []string
	clients []audit.Client
	phase   atomic.Value // audit.Phase

	window        window
	delivery, ack *histogram

	targets, sent, refused, shown, strange, astray atomic.Uint64

	mu     sync.RWMutex
	pushes []*pushed
}

// pushed is one push.
type pushed struct {
	sentNS   int64
	answered bool
	outcomes []audit.OnlineOutcome // valid when answered
	shown    []atomic.Uint32       // by place in the list: how often
}

// Content of an online-only push: magic:4 "gpO1"  crc32:4 of all that follows  run:8  push:4  sent:8 (nanoseconds since the run began)  filler
const (
	onlineMagic  = "gpO1"
	onlineHeader = 28
)

func (o *online) content(number uint32, sentNS int64) []byte {
	b := append(make([]byte, 0, o.Size), onlineMagic...)
	b = append(b, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint64(b, o.run)
	b = binary.BigEndian.AppendUint32(b, number)
	b = binary.BigEndian.AppendUint64(b, uint64(sentNS))
	b = audit.AppendFiller(b, number, o.Size-onlineHeader)
	binary.BigEndian.PutUint32(b[4:], crc32.ChecksumIEEE(b[8:]))
	return b
}

// number reads the push back; false: this is no message of this run.
func (o *online) number(b []byte) (number uint32, sentNS int64, ok bool) {
	if len(b) != o.Size || string(b[:4]) != onlineMagic || binary.BigEndian.Uint32(b[4:]) != crc32.ChecksumIEEE(b[8:]) || binary.BigEndian.Uint64(b[8:]) != o.run {
		return 0, 0, false
	}
	return binary.BigEndian.Uint32(b[16:]), int64(binary.BigEndian.Uint64(b[20:])), true
}

func (o *online) sinceNS() int64 { return int64(time.Since(o.begin)) }

func (o *online) connect(ctx context.Context) error {
	for u := range o.Users {
		o.users = append(o.users, fmt.Sprintf("online-%x-%d", o.run, u))
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(32)
	for u := range o.users {
		group.Go(func() error {
			c, err := o.Dial(audit.Spec{UID: o.users[u], Class: clientpb.DeviceClass_DEVICE_CLASS_ANDROID, Store: o.users[u]}, audit.Hooks{
				Shown: func(s audit.Shown) error { o.show(u, s.Content); return nil },
				Sent:  func(audit.Sent) {},
			})
			if err != nil {
				return err
			}
			o.clients[u] = c
			return c.Login(ctx)
		})
	}
	return group.Wait()
}

func (o *online) close() {
	var all sync.WaitGroup
	for _, c := range o.clients {
		if c != nil {
			all.Go(func() { _ = c.Close() }) // the run is over; nothing was sent that could be lost by it
		}
	}
	all.Wait()
}

// show is the app of user u.
func (o *online) show(u int, content []byte) {
	number, sentNS, ok := o.number(content)
	if !ok {
		o.strange.Add(1)
		return
	}
	o.mu.RLock()
	var p *pushed
	if int(number) < len(o.pushes) {
		p = o.pushes[number]
	}
	o.mu.RUnlock()
	place := o.place(int(number), u)
	switch {
	case p == nil:
		o.strange.Add(1)
	case place >= o.List:
		o.astray.Add(1)
	case p.shown[place].Add(1) == 1:
		o.shown.Add(1)
		if o.window.holds(sentNS) {
			o.delivery.record(time.Duration(o.sinceNS() - sentNS))
		}
	}
}

// place is where user u stands in the list of push number; List and above: not in it. The lists go through the users in turn.
func (o *online) place(number, u int) int {
	return ((u-number*o.List)%o.Users + o.Users) % o.Users
}

func (o *online) load(ctx context.Context) (*Result, error) {
	o.phase.Store(audit.Loading)
	load, stop := context.WithCancel(ctx)
	defer stop()
	var pushers sync.WaitGroup
	for range o.Open {
		pushers.Go(func() {
			for load.Err() == nil {
				o.push(ctx)
			}
		})
	}
	s, ok, err := measured(ctx, o.Warmup, o.Duration, o.Servers, &o.window, func() audit.Totals {
		return audit.Totals{NowNS: o.sinceNS(), Accepted: o.sent.Load(), Shown: o.shown.Load()}
	})
	stop()
	pushers.Wait()
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	if !ok {
		return nil, context.Cause(ctx)
	}
	o.phase.Store(audit.Settling)
	for deadline := time.Now().Add(o.Settle); o.missing() > 0 && time.Now().Before(deadline); {
		if !sleep(ctx, 20*time.Millisecond) {
			return nil, context.Cause(ctx)
		}
	}
	sleep(ctx, 200*time.Millisecond) // for repeats that come behind
	shown := s.end.totals.Shown - s.begin.totals.Shown
	r := &Result{
		Bench: "s2c", OnlineOnly: true, Users: o.Users, List: o.List, Window: o.Open, SizeBytes: o.Size, Seconds: s.seconds(),
		SentPerS: s.perS(s.end.totals.Accepted - s.begin.totals.Accepted), DeliveredPerS: s.perS(shown),
		Ack: o.ack.latency(), Delivery: o.delivery.latency(),
	}
	s.cpu(r, o.Servers, shown)
	r.judged(o.judge())
	r.OutOfOrder = nil // nothing is promised of the order of pushes
	return r, nil
}

// push makes one push and writes down its outcomes.
func (o *online) push(ctx context.Context) {
	p := &pushed{shown: make([]atomic.Uint32, o.List), sentNS: o.sinceNS()}
	o.mu.Lock()
	number := len(o.pushes)
	o.pushes = append(o.pushes, p)
	o.mu.Unlock()
	names := make([]string, o.List)
	for i := range names {
		names[i] = o.users[(number*o.List+i)%o.Users]
	}
	o.targets.Add(uint64(len(names)))
	outcomes, err := o.App.PushOnline(ctx, uuid.Must(uuid.NewV7()), names, o.content(uint32(number), p.sentNS))
	if err != nil || len(outcomes) != len(names) {
		sleep(ctx, 50*time.Millisecond)
		return // nothing is known: the judge finds it without an answer
	}
	if o.window.holds(p.sentNS) {
		o.ack.record(time.Duration(o.sinceNS() - p.sentNS))
	}
	for _, out := range outcomes {
		if out.NotOnline || out.Err != nil {
			o.refused.Add(1)
		} else {
			o.sent.Add(1)
		}
	}
	o.mu.Lock()
	p.outcomes, p.answered = outcomes, true
	o.mu.Unlock()
}

// missing counts what was answered sent and was not shown.
func (o *online) missing() (n int) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	for _, p := range o.pushes {
		for i, out := range p.outcomes {
			if !out.NotOnline && out.Err == nil && p.shown[i].Load() == 0 {
				n++
			}
		}
	}
	return n
}

// judge reads what was pushed and shown when nothing is under way any more.
func (o *online) judge() audit.Verdict {
	v := audit.Verdict{Phantoms: int(o.strange.Load()), WrongReceivers: int(o.astray.Load()), Refusals: map[string]int{}}
	blame := func(kind audit.Kind, number, place int, history string) {
		if len(v.Violations) < 100 {
			v.Violations = append(v.Violations, audit.Violation{Kind: kind, History: history,
				Message: fmt.Sprintf("push %d → %s", number, o.users[(number*o.List+place)%o.Users])})
		}
	}
	o.mu.RLock()
	defer o.mu.RUnlock()
	for number, p := range o.pushes {
		v.Sent += o.List
		if !p.answered {
			v.NoOutcome += o.List
			blame(audit.NoOutcome, number, 0, "the call failed for the whole list")
			continue
		}
		for place, out := range p.outcomes {
			shown := int(p.shown[place].Load())
			v.Shown += min(shown, 1)
			if shown > 1 {
				v.Duplicates += shown - 1
				blame(audit.Repeated, number, place, fmt.Sprintf("shown %d times", shown))
			}
			switch {
			case out.NotOnline || out.Err != nil:
				v.Refused++
				name := "not online"
				if out.Err != nil {
					name = out.Err.Error()
				}
				v.Refusals[name]++
				if shown > 0 {
					v.RefusedShown++
				}
			default:
				v.Accepted++
				if shown == 0 {
					v.Lost++
					blame(audit.Lost, number, place, fmt.Sprintf("answered sent, pushed at %d ms", p.sentNS/1e6))
				}
			}
		}
	}
	v.PushesAccepted = v.Accepted
	v.Pass = v.Accepted > 0 && v.Lost+v.Duplicates+v.Phantoms+v.WrongReceivers+v.NoOutcome == 0
	return v
}
