package logic

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/gen/logicpb"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/mq"
	"github.com/gatepost/gatepost/store"
)

// hookFunc is a business hook of a test.
type hookFunc func(ctx context.Context, from, to store.UserKey, messageType string) (bool, string, error)

func (f hookFunc) Ask(ctx context.Context, from, to store.UserKey, messageType string) (bool, string, error) {
	return f(ctx, from, to, messageType)
}

// anyone is an authenticator that proves everybody.
var anyone = authFunc(func(context.Context, store.UserKey, []byte) error { return nil })

// withDomain makes d the domain of a test's users.
func withDomain(d *Domain) func(*world, *setup) {
	return func(_ *world, s *setup) {
		if d.Auth == nil {
			d.Auth = anyone
		}
		s.deps.Domains = Domains{ByName: map[string]*Domain{"d": d}}
	}
}

// across moves a frame of c2c to other domains.
func across(t *testing.T, from, uid, to, toUID string, n uint64) *logicpb.Frame {
	t.Helper()
	m := message(toUID, n)
	m.To.Domain = to
	f := frame(t, uid, n, clientpb.Cmd_CMD_C2C, m)
	f.Session.Domain = from
	return f
}

func TestReceiversDomainDecides(t *testing.T) {
	w := newWorld(t, func(_ *world, s *setup) {
		s.deps.Domains = Domains{ByName: map[string]*Domain{
			"open":   {Auth: anyone, AcceptFrom: []string{"*"}},
			"friend": {Auth: anyone, AcceptFrom: []string{"open"}},
			"shut":   {Auth: anyone},
			"void":   {},
		}}
	})
	wantCodes(t, w.handle(
		across(t, "shut", "ann", "open", "bob", 1),
		across(t, "open", "ann", "friend", "bob", 2),
		across(t, "shut", "ann", "friend", "bob", 3),
		across(t, "open", "ann", "shut", "bob", 4),
		across(t, "shut", "ann", "shut", "bob", 5),
		across(t, "open", "ann", "void", "bob", 6),
		across(t, "open", "ann", "nowhere", "bob", 7),
	), status.OK, status.OK, status.NotAllowed, status.NotAllowed, status.OK, status.UnknownReceiver, status.UnknownReceiver)
}

func TestTwoDomainsWithTheirOwnAuthenticators(t *testing.T) {
	takes := func(good string) Authenticator {
		return authFunc(func(_ context.Context, _ store.UserKey, token []byte) error {
			if string(token) != good {
				return status.New(status.BadToken, "bad token")
			}
			return nil
		})
	}
	w := newWorld(t, func(_ *world, s *setup) {
		s.deps.Domains = Domains{ByName: map[string]*Domain{"a": {Auth: takes("of a")}, "b": {Auth: takes("of b")}, "closed": {}}}
	})
	login := func(conn uint64, domain, token string) *logicpb.Answer {
		m := loginOf("ann", 1, conn)
		m.Domain, m.Token = domain, []byte(token)
		return w.handle(frame(t, "", conn, clientpb.Cmd_CMD_LOGIN, m))[0]
	}
	wantCodes(t, []*logicpb.Answer{login(1, "a", "of a"), login(2, "b", "of b"), login(3, "a", "of b"), login(4, "b", "of a"),
		login(5, "closed", "of a"), login(6, "c", "of a")},
		status.OK, status.OK, status.BadToken, status.BadToken, status.UnknownDomain, status.UnknownDomain)
	if err := w.node.SetDomains(Domains{Other: &Domain{Auth: takes("of c")}}); err != nil {
		t.Fatal(err)
	}
	wantCodes(t, []*logicpb.Answer{login(7, "c", "of c"), login(8, "a", "of a")}, status.OK, status.BadToken)
}

func TestHookSaysNo(t *testing.T) {
	var asked []string
	var mu sync.Mutex
	w := newWorld(t, withDomain(&Domain{AcceptFrom: []string{"*"}, MayWrite: hookFunc(func(_ context.Context, from, to store.UserKey, messageType string) (bool, string, error) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, fmt.Sprintf("%s/%s %s/%s %s", from.Domain, from.UID, to.Domain, to.UID, messageType))
		return from.UID != "ann", "blocked", nil
	})}))
	answers := w.handle(c2cFrame(t, "ann", 1, "bob", 1), c2cFrame(t, "ann", 1, "ann", 1), c2cFrame(t, "eve", 2, "bob", 1))
	wantCodes(t, answers, status.NotAllowed, status.OK, status.OK)
	if reason := decode[clientpb.Refusal](t, answers[0]).Reason; reason != "blocked" {
		t.Errorf("reason %q", reason)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(asked) != 2 || !strings.Contains(strings.Join(asked, "|"), "d/ann d/bob text") {
		t.Errorf("asked: %q", asked)
	}
}

// pushed hands a push of the domain's app-servers to admission and waits for its outcome.
func pushed(w *world, to string, n uint64) status.Code {
	m := message(to, n)
	row := store.Message{
		Owner: w.user(to), From: store.UserKey{Domain: "d"}, Kind: store.KindS2C, ClientMsgID: [16]byte(m.ClientMsgId), CreatedAt: w.now(),
		ExpiresAt: w.now().Add(time.Hour),
	}
	row.Digest = store.DigestOf(row.From, row.ClientMsgID, row.Kind, row.Owner)
	out := make(chan status.Code, 1)
	refusal := w.node.admit(&sending{row: row, done: func(_ store.AppendResult, refusal *status.Error) {
		if refusal != nil {
			out <- refusal.Code
			return
		}
		out <- status.OK
	}})
	if refusal != nil {
		return refusal.Code
	}
	return <-out
}

func TestPushesNeedNobodysLeave(t *testing.T) {
	w := newWorld(t, withDomain(&Domain{RefuseUnknown: true, MayWrite: hookFunc(func(context.Context, store.UserKey, store.UserKey, string) (bool, string, error) {
		return false, "", nil
	})}))
	w.devices.logins = []store.Device{{Owner: w.user("ann")}}
	if got := pushed(w, "ann", 1); got != status.OK {
		t.Errorf("to somebody known: %v", got)
	}
	if got := pushed(w, "bob", 1); got != status.UnknownReceiver {
		t.Errorf("to somebody unknown: %v", got)
	}
}

// blockingHook holds questions about messages to some users until they are let go.
type blockingHook struct {
	entered chan store.UserKey
	release chan struct{}
	blocks  func(from, to store.UserKey) bool
}

func (h *blockingHook) Ask(ctx context.Context, from, to store.UserKey, _ string) (bool, string, error) {
	if !h.blocks(from, to) {
		return true, "", nil
	}
	h.entered <- to
	select {
	case <-h.release:
		return true, "", nil
	case <-ctx.Done():
		return false, "", ctx.Err()
	}
}

func newBlockingHook(blocks func(from, to store.UserKey) bool) *blockingHook {
	return &blockingHook{entered: make(chan store.UserKey, 64), release: make(chan struct{}), blocks: blocks}
}

func TestSlowHookHoldsUpNobodyElse(t *testing.T) {
	hook := newBlockingHook(func(_, to store.UserKey) bool { return to.UID == "slow" })
	w := newWorld(t, func(_ *world, s *setup) {
		s.deps.Domains = Domains{ByName: map[string]*Domain{"d": {Auth: anyone, MayWrite: hook}, "e": {Auth: anyone, MayWrite: hook, AcceptFrom: []string{"d"}}}}
	})
	slow := make(chan []*logicpb.Answer)
	go func() { slow <- w.handle(c2cFrame(t, "ann", 1, "slow", 1)) }()
	<-hook.entered
	var others []*logicpb.Frame
	for i := range 50 {
		others = append(others, c2cFrame(t, "eve", 2, fmt.Sprintf("user%d", i), 1))
	}
	others = append(others, across(t, "d", "eve", "e", "slow-no-more", 3), c2cFrame(t, "ann", 3, "bob", 1))
	wantCodes(t, w.handle(others...), repeat(status.OK, len(others))...)
	select {
	case <-slow:
		t.Fatal("the slow one was not asked about")
	default:
	}
	close(hook.release)
	wantCodes(t, <-slow, status.OK)
}

// waiting is how many messages to users of a domain wait for answers.
func waiting(w *world, domain string) int {
	w.node.vet.mu.Lock()
	defer w.node.vet.mu.Unlock()
	return w.node.account(domain).vetting
}

// A hook's answers come in any order, the messages of one sender to one receiver stay in theirs; also when the hook is taken away
// while the first ones wait for it.
func TestOrderThroughTheHook(t *testing.T) {
	hook := newBlockingHook(func(from, _ store.UserKey) bool { return from.UID == "ann" })
	w := newWorld(t, withDomain(&Domain{MayWrite: hook}))
	var wg sync.WaitGroup
	var first, second []*logicpb.Answer
	wg.Go(func() {
		first = w.handle(c2cFrame(t, "ann", 1, "bob", 1), c2cFrame(t, "eve", 2, "bob", 1), c2cFrame(t, "ann", 1, "bob", 2), c2cFrame(t, "ann", 1, "bob", 3))
	})
	<-hook.entered
	eventually(t, "all of the first call wait", func() bool { return waiting(w, "d") == 4 })
	if err := w.node.SetDomains(Domains{Other: &Domain{Auth: anyone}}); err != nil {
		t.Fatal(err)
	}
	wg.Go(func() { second = w.handle(c2cFrame(t, "ann", 1, "bob", 4), c2cFrame(t, "ann", 1, "bob", 5)) })
	eventually(t, "the later ones wait behind the first", func() bool {
		w.node.vet.mu.Lock()
		defer w.node.vet.mu.Unlock()
		q := w.node.vet.queues[w.user("bob")]
		return q != nil && len(q.items) > 0
	})
	wantCodes(t, w.handle(c2cFrame(t, "ann", 3, "dan", 1)), status.OK)
	close(hook.release)
	wg.Wait()
	wantCodes(t, first, repeat(status.OK, 4)...)
	wantCodes(t, second, repeat(status.OK, 2)...)
	var seen []uint64
	for _, m := range w.inbox.rows(w.user("bob")) {
		if m.From.UID == "ann" {
			seen = append(seen, m.TargetSeq)
		}
	}
	if fmt.Sprint(seen) != "[1 2 3 4 5]" {
		t.Errorf("order: %v", seen)
	}
	eventually(t, "nothing is left behind", func() bool { return w.node.vet.busy.Load() == 0 })
	if n := waiting(w, "d"); n != 0 {
		t.Errorf("%d are still counted", n)
	}
}

// answered is how many frames have been answered with code, by the metrics.
func answered(t *testing.T, registry *prometheus.Registry, code status.Code) (n int) {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			if f.GetName() == "gatepost_logic_answers_total" && m.Label[0].GetValue() == code.String() {
				n += int(m.GetCounter().GetValue())
			}
		}
	}
	return n
}

// A message that waits for the hook is not committed when an earlier one of its stream has failed meanwhile.
func TestStreamClosesWhileTheHookIsAsked(t *testing.T) {
	hook := newBlockingHook(func(_, to store.UserKey) bool { return to.UID == "slow" })
	registry := prometheus.NewRegistry()
	asked := make(chan struct{})
	w := newWorld(t, func(w *world, s *setup) {
		withDomain(&Domain{MayWrite: hook})(w, s)
		w.inbox.onAppend = func([]store.Message) error { <-asked; return store.ErrUnavailable }
		s.deps.Metrics = registry
	})
	done := make(chan []*logicpb.Answer)
	go func() { done <- w.handle(c2cFrame(t, "ann", 1, "bob", 1), c2cFrame(t, "ann", 1, "slow", 1)) }()
	<-hook.entered
	close(asked)
	eventually(t, "the first one is answered", func() bool { return answered(t, registry, status.Unavailable) == 1 })
	close(hook.release)
	wantCodes(t, <-done, status.Unavailable, status.StreamClosed)
	if n := len(w.inbox.appends()); n != 1 {
		t.Errorf("%d appends", n)
	}
}

func TestUnknownReceivers(t *testing.T) {
	w := newWorld(t, withDomain(&Domain{RefuseUnknown: true}))
	w.devices.mu.Lock()
	w.devices.logins = []store.Device{{Owner: w.user("bob")}}
	w.devices.mu.Unlock()
	wantCodes(t, w.handle(c2cFrame(t, "ann", 1, "bob", 1), c2cFrame(t, "ann", 1, "dan", 1), c2cFrame(t, "ann", 1, "bob", 2), c2cFrame(t, "ann", 1, "ann", 1)),
		status.OK, status.UnknownReceiver, status.OK, status.OK)
	w.devices.mu.Lock()
	w.devices.err = store.ErrUnavailable
	w.devices.mu.Unlock()
	wantCodes(t, w.handle(c2cFrame(t, "ann", 1, "bob", 3), c2cFrame(t, "ann", 1, "dan", 2)), status.OK, status.Unavailable) // who was known is remembered
	w.devices.mu.Lock()
	w.devices.err, w.devices.logins = nil, []store.Device{{Owner: w.user("dan")}}
	w.devices.mu.Unlock()
	wantCodes(t, w.handle(c2cFrame(t, "ann", 1, "dan", 2)), status.OK) // who was not known is asked for again
}

func TestKnownUsersAreBounded(t *testing.T) {
	w := newWorld(t, func(_ *world, s *setup) { s.cfg.InboxUsers = 2 })
	k := w.node.vet.known
	k.remember(w.user("a"))
	k.remember(w.user("b"))
	if !k.has(w.user("a")) {
		t.Fatal("a is forgotten")
	}
	k.remember(w.user("c"))
	if !k.has(w.user("a")) || k.has(w.user("b")) || !k.has(w.user("c")) || len(k.users) != 2 || k.order.Len() != 2 {
		t.Errorf("%v", k.users)
	}
}

func TestInboxBoundOfTheDomain(t *testing.T) {
	w := newWorld(t, withDomain(&Domain{Limits: DomainLimits{InboxBound: 16}}))
	n := uint64(0)
	eventually(t, "the inbox is full", func() bool {
		n++
		return status.Code(w.handle(c2cFrame(t, "ann", 1, "bob", n))[0].Status) == status.InboxFull
	})
	if rows := len(w.inbox.rows(w.user("bob"))); rows < 16 {
		t.Errorf("full with %d rows", rows)
	}
}

func TestRatesOfTheDomain(t *testing.T) {
	d := &Domain{Auth: anyone, Limits: DomainLimits{Messages: 3, Logins: 1}}
	w := newWorld(t, withDomain(d))
	frozen := time.Now()
	w.node.now = func() time.Time { return frozen }
	answers := w.handle(c2cFrame(t, "ann", 1, "bob", 1), c2cFrame(t, "ann", 1, "bob", 2), c2cFrame(t, "ann", 1, "bob", 3), c2cFrame(t, "ann", 1, "bob", 4))
	wantCodes(t, answers, status.OK, status.OK, status.OK, status.Overloaded) // what came before it is not held back
	if r := decode[clientpb.Refusal](t, answers[3]); r.RetryAfterMs == 0 {
		t.Errorf("%+v", r)
	}
	wantCodes(t, []*logicpb.Answer{w.login(5, loginOf("ann", 1, 1)), w.login(6, loginOf("ann", 1, 2))}, status.OK, status.Overloaded)
	d.Limits.InboxBound = 100 // a reload gives nothing back
	if err := w.node.SetDomains(Domains{ByName: map[string]*Domain{"d": d}}); err != nil {
		t.Fatal(err)
	}
	wantCodes(t, w.handle(c2cFrame(t, "eve", 2, "bob", 1)), status.Overloaded)
	frozen = frozen.Add(time.Second)
	wantCodes(t, w.handle(c2cFrame(t, "eve", 2, "bob", 1)), status.OK)
	d.Limits.Messages = 0
	if err := w.node.SetDomains(Domains{ByName: map[string]*Domain{"d": d}}); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		wantCodes(t, w.handle(c2cFrame(t, "eve", 2, "bob", uint64(2+i))), status.OK)
	}
	d.Limits.Pushes = 10
	if err := w.node.SetDomains(Domains{ByName: map[string]*Domain{"d": d}}); err != nil {
		t.Fatal(err)
	}
	if e := w.node.spend("d", ratePushes, maxSpend); e != nil {
		t.Errorf("a large push: %v", e)
	}
	if e := w.node.spend("d", ratePushes, 1); e == nil || e.RetryAfterMS == 0 {
		t.Errorf("the next one: %v", e)
	}
}

func TestSetDomainsRefusesFaults(t *testing.T) {
	w := newWorld(t, nil)
	err := w.node.SetDomains(Domains{
		ByName: map[string]*Domain{"": {}, "nil": nil, "bad": {
			AcceptFrom: []string{""}, HookAway: 9, Events: DomainEvents{Presence: true}, Topics: mq.TopicMap{Default: "a topic"},
			Limits: DomainLimits{ContentBytes: maxContentBytes + 1, Life: maxLife + 1, InboxBound: 3, Messages: -1},
		}},
		Other: &Domain{Events: DomainEvents{Topic: ".."}},
	})
	if err == nil {
		t.Fatal("taken")
	}
	for _, want := range []string{`""`, `"nil"`, "accept_from", "hook_away", "no topic for them", "content_bytes", "life", "inbox_bound", "messages", "uplinks", `"*": events`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
	if w.node.domain("d") == nil {
		t.Error("the old table is gone")
	}
}

func TestSetDomainsUnderLoad(t *testing.T) {
	var asked, swaps atomic.Int64
	hook := hookFunc(func(context.Context, store.UserKey, store.UserKey, string) (bool, string, error) {
		asked.Add(1)
		return true, "", nil
	})
	tables := []Domains{
		{ByName: map[string]*Domain{"d": {Auth: anyone}}},
		{ByName: map[string]*Domain{"d": {Auth: anyone, MayWrite: hook, Limits: DomainLimits{Messages: 1 << 20}}}},
		{Other: &Domain{Auth: anyone, RefuseUnknown: true, MayWrite: hook}},
		{Other: &Domain{Auth: anyone, RefuseUnknown: true, Limits: DomainLimits{InboxBound: 1 << 20}}},
	}
	w := newWorld(t, func(_ *world, s *setup) { s.deps.Domains = tables[0] })
	w.devices.logins = []store.Device{{Owner: w.user("bob")}, {Owner: w.user("dan")}}
	const least, most = 150, 2000 // messages of each sender: until enough has happened
	var wg sync.WaitGroup
	stop := make(chan struct{})
	changed := make(chan struct{})
	go func() {
		defer close(changed)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if err := w.node.SetDomains(tables[i%len(tables)]); err != nil {
				t.Error(err)
				return
			}
			swaps.Add(1)
		}
	}()
	for s := range 4 {
		wg.Go(func() {
			for n := uint64(1); n <= least || n <= most && (swaps.Load() < 100 || asked.Load() == 0); n += 3 {
				uid, conn := fmt.Sprintf("sender%d", s), uint64(s+1)
				got := w.handle(c2cFrame(t, uid, conn, "bob", n), c2cFrame(t, uid, conn, "bob", n+1), c2cFrame(t, uid, conn, "bob", n+2), c2cFrame(t, uid, conn, "dan", n))
				for _, c := range codes(got) {
					if c != status.OK {
						t.Errorf("message %d: %v", n, codes(got))
						return
					}
				}
			}
		})
	}
	wg.Wait()
	close(stop)
	<-changed
	next := make(map[store.UserKey]uint64)
	for _, m := range w.inbox.rows(w.user("bob")) {
		if m.TargetSeq != next[m.From]+1 {
			t.Fatalf("%v: %d after %d", m.From, m.TargetSeq, next[m.From])
		}
		next[m.From] = m.TargetSeq
	}
	if len(next) != 4 || asked.Load() == 0 {
		t.Errorf("%v, %d questions", next, asked.Load())
	}
}

func TestStreamClosesBehindTheFrameThatFailed(t *testing.T) {
	var g guards
	place := func() *streamGuard { return g.of(1, clientpb.Cmd_CMD_C2C, false) }
	first, second, third := place(), place(), place()
	second.close()
	third.close()
	if first.isClosed() || !second.isClosed() || !third.isClosed() || !place().isClosed() {
		t.Error("the second frame did not close the stream from itself on")
	}
	first.close()
	if !first.isClosed() || !place().isClosed() {
		t.Error("the first frame did not close the stream")
	}
}

func TestCopiesCountForTheSendersInbox(t *testing.T) {
	w := newWorld(t, nil)
	b := w.node.bound
	b.mu.Lock()
	s := b.stateLocked(w.user("ann"))
	s.full, s.counted = true, w.now().Add(time.Hour)
	b.mu.Unlock()
	m := message("bob", 1)
	m.Copy = &clientpb.CopyNumber{Stream: 77, TargetSeq: 1}
	wantCodes(t, w.handle(frame(t, "ann", 1, clientpb.Cmd_CMD_C2C, m), c2cFrame(t, "ann", 1, "bob", 2)), status.InboxFull, status.OK)
}
