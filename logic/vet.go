package logic

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/store"
)

// vetter asks outside whether messages may go to their receivers, before they go to the commit: the receiver's domain may have a
// hook, and may refuse users who never logged in; and a full inbox takes only what it has already. Each receiver with messages that wait for answers has a queue of his own, so
// that the messages of one sender to him keep their order (G3), and a slow answer holds up messages to him alone. The messages
// under way are bounded for each domain.
type vetter struct {
	node    *Node
	known   *knownUsers
	repeats *repeats
	busy    atomic.Int64 // len(queues)

	mu     sync.Mutex
	queues map[store.UserKey]*vetQueue // never empty: who takes the last message out removes the queue
	closed bool
	wg     sync.WaitGroup // a goroutine for each queue
}

// vetQueue holds the messages to one receiver in the order in which they were checked.
type vetQueue struct{ items []vetted }

// vetted is a message with the receiver's domain as it stood when the message came.
type vetted struct {
	*sending
	to       *account
	full     fullness
	repeated bool // it lies in the inbox: nobody is asked about it again
	came     time.Time
}

// vetBatch is how many messages to one receiver are asked for together.
const vetBatch = 64

func newVetter(n *Node) *vetter {
	return &vetter{node: n, known: newKnownUsers(n), repeats: newRepeats(n), queues: make(map[store.UserKey]*vetQueue)}
}

// needed reports whether somebody has to be asked about s.
func (v *vetter) needed(s *sending, to *account) bool {
	if s.row.From == s.row.Owner {
		return false
	}
	return asksHook(s, to) || to.RefuseUnknown && !v.known.has(s.row.Owner)
}

// asksHook reports whether the receiver's domain wants to be asked about s. App-servers of the domain are not asked about.
func asksHook(s *sending, to *account) bool {
	return to.MayWrite != nil && s.row.Kind != store.KindS2C && s.row.From != s.row.Owner
}

// put queues s if it found no room, if it needs an answer, or if an earlier message to its receiver waits for one. taken: s finds its outcome there, or
// with the refusal. Else s goes on its way. It does not block.
func (v *vetter) put(s *sending, to *account, full fullness) (taken bool, refusal *status.Error) {
	needed := full.any() || v.needed(s, to)
	if !needed && v.busy.Load() == 0 {
		return false, nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	q := v.queues[s.row.Owner]
	if q == nil && !needed {
		return false, nil
	}
	if v.closed {
		return true, status.New(status.Stopping, "this node is stopping")
	}
	if to.vetting >= v.node.cfg.CommitQueue {
		if asksHook(s, to) && s.abroad() {
			return true, errHookQueue
		}
		return true, status.New(status.Overloaded, "too many messages to users of the receiver's domain wait for its answer")
	}
	to.vetting++
	item := vetted{sending: s, to: to, full: full, came: time.Now()}
	if q != nil {
		q.items = append(q.items, item)
		return true, nil
	}
	q = &vetQueue{items: []vetted{item}}
	user := ownKey(s.row.Owner)
	v.queues[user] = q
	v.busy.Add(1)
	v.wg.Add(1)
	v.node.spawn(func(ctx context.Context) {
		defer v.wg.Done()
		v.run(ctx, user, q)
	})
	return true, nil
}

// run carries the messages to one user until none is left.
func (v *vetter) run(ctx context.Context, user store.UserKey, q *vetQueue) {
	var batch []vetted
	carry := guarded(v.node, func(ctx context.Context, batch []vetted) { v.carry(ctx, user, batch) }, v.lost)
	for {
		v.mu.Lock()
		for _, s := range batch { // the messages are in the commit lane, or refused
			s.to.vetting--
		}
		batch = append(batch[:0], q.items[:min(len(q.items), vetBatch)]...)
		q.items = append(q.items[:0:0], q.items[len(batch):]...)
		if len(batch) == 0 {
			delete(v.queues, user)
			v.busy.Add(-1)
		}
		v.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		carry(ctx, batch)
	}
}

// drain waits until all that was put has its answer; nothing more is taken.
func (v *vetter) drain() {
	v.mu.Lock()
	v.closed = true
	v.mu.Unlock()
	v.wg.Wait()
	v.known.asks.close()
	v.repeats.asks.close()
}

// carry finds the answers to a batch of messages to one user, and hands on or refuses each, in their order.
func (v *vetter) carry(ctx context.Context, user store.UserKey, batch []vetted) {
	begun := time.Now()
	bounded, cancel := context.WithTimeout(ctx, v.node.cfg.HandleTimeout) // after it nobody waits for an outcome
	defer cancel()
	refusals := v.checkFull(bounded, batch)
	open := make([]vetted, 0, len(batch)) // who has to be asked about
	for i, s := range batch {
		if refusals[i] == nil && !s.repeated {
			open = append(open, s)
		}
	}
	known := v.checkKnown(bounded, user, open)
	hooks := v.askHooks(bounded, open, time.Since(begun))
	for i, s := range batch {
		if refusals[i] != nil || s.repeated {
			continue
		}
		refusals[i], hooks = hooks[0], hooks[1:]
		if known != nil && s.to.RefuseUnknown && s.row.From != s.row.Owner {
			refusals[i] = known
		}
	}
	if ctx.Err() == nil {
		v.spareRepeats(bounded, batch, refusals)
	}
	for i, s := range batch {
		refusal := refusals[i]
		switch {
		case s.guard != nil && s.guard.isClosed():
			refusal = errStreamClosed
		case refusal != nil && refusal.Code == status.HookAway && ctx.Err() != nil:
			refusal = errVetCut
		}
		if refusal == nil {
			refusal = v.node.take(s.sending)
		}
		if refusal != nil {
			s.refuse(refusal)
		}
		batch[i].sending = nil // it has its outcome, or is the commit's
	}
}

// errVetCut: the node was told to stop at once while it asked. No hook is to blame, and another node will ask.
var errVetCut = status.New(status.Stopping, "this node is stopping")

// lost answers what a panic left.
func (v *vetter) lost(batch []vetted) {
	for _, s := range batch {
		if s.sending != nil {
			s.refuse(errOutcomeUnknown)
		}
	}
}

// checkKnown says why the messages of batch whose domain refuses unknown users are refused, or nil.
func (v *vetter) checkKnown(ctx context.Context, user store.UserKey, batch []vetted) *status.Error {
	for _, s := range batch {
		if !s.to.RefuseUnknown || s.row.From == s.row.Owner {
			continue
		}
		known, err := v.known.ask(ctx, user)
		switch {
		case err != nil:
			return status.Wrap(status.Unavailable, err, "whether the receiver is known cannot be told now")
		case !known:
			return status.New(status.UnknownReceiver, "the receiver has never logged in")
		}
		return nil
	}
	return nil
}
