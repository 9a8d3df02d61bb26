package logic

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/gatepost/gatepost/idl/gen/appserverpb"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/store"
)

// Bounds of all pushes in flight on this node. A push counts until each of its targets has an outcome, also after its caller has
// been answered; together they fill less than one queue of the commit.
const (
	maxPushTargets = 8192
	maxPushBytes   = 64 << 20
	targetOverhead = 512 // of a target beside the content: row, uid, result
)

// Push sends one message to up to 1,000 users. Errors are *AppError: the call failed as a whole, and whether targets were reached
// is not known. A repeated call with the same client_msg_id stores nothing twice, whichever app-server of the domain makes it.
// Nothing of req is read after Push has returned, but content stays: it is not changed by the caller.
func (n *Node) Push(ctx context.Context, key string, req *appserverpb.PushRequest) (*appserverpb.PushResponse, error) {
	c, leave, refusal := n.enterApp(ctx, key, RightPush, req.Domain)
	if refusal != nil {
		return appResult[appserverpb.PushResponse](n, appPush, c, nil, refusal)
	}
	defer leave()
	res, refusal := n.push(ctx, c.domain, req)
	return appResult(n, appPush, c, res, refusal)
}

func (n *Node) push(ctx context.Context, domain string, req *appserverpb.PushRequest) (*appserverpb.PushResponse, *AppError) {
	p, refusal := n.checkPush(domain, req)
	if refusal != nil {
		return nil, refusal
	}
	if e := n.spend(domain, ratePushes, len(p.users)); e != nil {
		return nil, appErrorf(AppExhausted, "%s", e.Reason)
	}
	if !n.pushes.acquire(p) {
		return nil, appErrorf(AppExhausted, "too many pushes are on their way")
	}
	n.hand(ctx, p, req.OnlineOnly)
	res := &appserverpb.PushResponse{Results: p.await(ctx, n.cfg.HandleTimeout)}
	for _, r := range res.Results {
		n.metrics.pushTargets.WithLabelValues(pushLabel(r)).Inc()
	}
	return res, nil
}

// hand hands the targets of p out.
func (n *Node) hand(ctx context.Context, p *pushing, onlineOnly bool) {
	defer p.handed()
	if onlineOnly {
		n.pushOnline(ctx, p)
	} else {
		n.pushDurable(p)
	}
}

// pushLabel labels metrics.
func pushLabel(r *appserverpb.PushResult) string {
	switch r.Outcome {
	case appserverpb.PushOutcome_PUSH_ACCEPTED:
		return "accepted"
	case appserverpb.PushOutcome_PUSH_SENT:
		return "sent"
	case appserverpb.PushOutcome_PUSH_NOT_ONLINE:
		return "not online"
	default:
		return status.Code(r.Status).String()
	}
}

// pushing is one push on its way: a place for each target's outcome.
type pushing struct {
	domain  string
	id      [16]byte
	kind    string
	content []byte // shared by all rows
	life    time.Duration
	users   []store.UserKey
	release func() // called when each target has its outcome
	next    int    // the first target that was not handed out; owned by who hands them out

	mu       sync.Mutex
	results  []*appserverpb.PushResult
	settled  []bool
	open     int
	answered bool
	done     chan struct{} // closed when open is 0
}

// checkPush checks everything that all targets share. Targets with a bad uid are settled.
func (n *Node) checkPush(domain string, req *appserverpb.PushRequest) (*pushing, *AppError) {
	id, err := uuid.Parse(req.ClientMsgId)
	if err != nil || len(req.ClientMsgId) != 36 || id == uuid.Nil {
		return nil, appErrorf(AppInvalid, "client_msg_id is a UUID in its text form of 36 characters, not all of them zero")
	}
	life, wrong := checkSent(n.domain(domain), id[:], req.Type, req.Content, 0, req.TtlMs)
	if wrong != nil {
		return nil, appErrorf(AppInvalid, "%s", wrong.Reason)
	}
	if req.OnlineOnly && req.TtlMs != 0 {
		return nil, appErrorf(AppInvalid, "what is only for who is online now has no time to live")
	}
	users, bad, refusal := appUsers(domain, req.Uids)
	if refusal != nil {
		return nil, refusal
	}
	p := &pushing{
		domain: domain, id: id, kind: req.Type, content: req.Content, life: life, users: users,
		results: make([]*appserverpb.PushResult, len(users)), settled: make([]bool, len(users)),
		open: len(users) + 1, // one for who hands the targets out
		done: make(chan struct{}),
	}
	for i, uid := range req.Uids {
		p.results[i] = &appserverpb.PushResult{Uid: strings.Clone(uid)}
		if bad[i] != nil {
			p.refuse(i, bad[i])
		}
	}
	return p, nil
}

// each calls hand for every target that has no outcome yet. It is called once.
func (p *pushing) each(hand func(i int, user store.UserKey)) {
	for i, user := range p.users {
		if user != (store.UserKey{}) {
			hand(i, user)
		}
		p.next = i + 1
	}
}

// handed ends the handing out. What a panic kept from being handed out gets its outcome here: else p would count for ever.
func (p *pushing) handed() {
	for i := p.next; i < len(p.users); i++ {
		p.refuse(i, errPushTimeout)
	}
	p.one()
}

// settle gives target i its outcome; the first one counts, and none after the caller was answered.
func (p *pushing) settle(i int, set func(r *appserverpb.PushResult)) {
	p.mu.Lock()
	if p.settled[i] {
		p.mu.Unlock()
		return
	}
	p.settled[i] = true
	if !p.answered {
		set(p.results[i])
	}
	p.mu.Unlock()
	p.one()
}

func (p *pushing) one() {
	p.mu.Lock()
	p.open--
	last := p.open == 0
	p.mu.Unlock()
	if last {
		if p.release != nil {
			p.release()
		}
		close(p.done)
	}
}

func (p *pushing) refuse(i int, e *status.Error) {
	p.settle(i, func(r *appserverpb.PushResult) { refusePush(r, e) })
}

func refusePush(r *appserverpb.PushResult, e *status.Error) {
	r.Outcome, r.Status, r.Reason, r.RetryAfterMs = appserverpb.PushOutcome_PUSH_REFUSED, uint32(e.Code), e.Reason, e.RetryAfterMS
}

var errPushTimeout = status.New(status.Timeout, "the outcome is not known yet")

// await returns the results, after limit at the latest: what has no outcome then may still get one, which the same push will tell.
func (p *pushing) await(ctx context.Context, limit time.Duration) []*appserverpb.PushResult {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-ctx.Done():
	case <-timer.C:
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answered = true
	for i, settled := range p.settled {
		if !settled {
			refusePush(p.results[i], errPushTimeout)
		}
	}
	return p.results
}

// pushDurable queues a row for each target. They are idempotent by their digest: of the domain, the client_msg_id and the target.
func (n *Node) pushDurable(p *pushing) {
	from := store.UserKey{Domain: p.domain}
	now := n.now().Truncate(time.Millisecond)
	p.each(func(i int, user store.UserKey) {
		s := &sending{
			row: store.Message{
				Owner: user, From: from, Kind: store.KindS2C, ClientMsgID: p.id, Type: p.kind, Content: p.content,
				CreatedAt: now, ExpiresAt: now.Add(p.life), Digest: store.DigestOf(from, p.id, store.KindS2C, user),
			},
			done: func(r store.AppendResult, refusal *status.Error) {
				if refusal != nil {
					p.refuse(i, refusal)
					return
				}
				p.settle(i, func(to *appserverpb.PushResult) {
					to.Outcome, to.MsgId, to.Duplicate = appserverpb.PushOutcome_PUSH_ACCEPTED, uint64(r.ID), r.Outcome == store.Duplicate
				})
			},
		}
		if refusal := n.admit(s); refusal != nil {
			p.refuse(i, refusal)
		}
	})
}

// pushBudget bounds the pushes in flight, so that their memory is bounded. The zero value is empty.
type pushBudget struct {
	mu      sync.Mutex
	targets int
	bytes   int
}

// acquire takes room for p, which gives it back by itself; false: there is none.
func (b *pushBudget) acquire(p *pushing) bool {
	targets, bytes := len(p.users), len(p.content)+len(p.users)*targetOverhead
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.targets+targets > maxPushTargets || b.bytes+bytes > maxPushBytes {
		return false
	}
	b.targets += targets
	b.bytes += bytes
	p.release = func() {
		b.mu.Lock()
		b.targets -= targets
		b.bytes -= bytes
		b.mu.Unlock()
	}
	return true
}
