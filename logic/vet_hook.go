package logic

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/store"
)

// vetAtOnce is how many messages to one receiver the hook is asked about at once.
const vetAtOnce = 16

var (
	errHookQueue = status.New(status.HookAway, "too many messages to users of the receiver's domain wait for its answer")
	errHookLate  = errors.New("the hook was not asked in time")
)

// abroad reports whether s goes to another domain than its sender's.
func (s *sending) abroad() bool { return s.row.From.Domain != s.row.Owner.Domain }

// hookPatience is how long a message waits for its hook, queue included: who sent it is told before his call ends with an unknown
// outcome, which would close his stream and have him ask again.
func (v *vetter) hookPatience() time.Duration { return v.node.cfg.HandleTimeout / 4 * 3 }

// question is what the answer of a hook depends on, for messages to one user.
type question struct {
	to          *account
	from        store.UserKey
	messageType string
}

// askHooks asks the hooks about a batch, several at once and the same question only once, and returns the refusals in the order of
// batch; nil: the message may go. All answers are there before the patience with the oldest message ends, or count as missing; a message
// that has waited for half of it is not asked about, so that those behind it have time. elsewhere is what was spent on other
// look-ups meanwhile, which is not the hook's fault and not counted.
func (v *vetter) askHooks(ctx context.Context, batch []vetted, elsewhere time.Duration) []*status.Error {
	out := make([]*status.Error, len(batch))
	late := make([]bool, len(batch))
	now := time.Now()
	end := now.Add(v.hookPatience())
	for i, s := range batch {
		came := s.came.Add(elsewhere)
		if !asksHook(s.sending, s.to) {
			continue
		}
		if late[i] = now.Sub(came) > v.hookPatience()/2; late[i] {
			out[i] = v.unanswered(question{s.to, s.row.From, s.row.Type}, s.row.Owner, errHookLate)
		} else if own := came.Add(v.hookPatience()); own.Before(end) {
			end = own
		}
	}
	ctx, cancel := context.WithDeadline(ctx, end)
	defer cancel()

	answers := make(map[question]*status.Error, len(batch))
	var mu sync.Mutex // over answers
	var group errgroup.Group
	group.SetLimit(vetAtOnce)
	asked := make(map[question]bool, len(batch))
	for i, s := range batch {
		q := question{s.to, s.row.From, s.row.Type}
		if late[i] || !asksHook(s.sending, s.to) || asked[q] || s.guard != nil && s.guard.isClosed() {
			continue
		}
		asked[q] = true
		group.Go(func() error {
			refusal := v.askHook(ctx, q, s.row.Owner)
			mu.Lock()
			answers[q] = refusal
			mu.Unlock()
			return nil
		})
	}
	_ = group.Wait() // its functions return no error
	for i, s := range batch {
		if !late[i] && asksHook(s.sending, s.to) {
			out[i] = answers[question{s.to, s.row.From, s.row.Type}]
		}
	}
	return out
}

// askHook asks one question.
func (v *vetter) askHook(ctx context.Context, q question, to store.UserKey) *status.Error {
	allowed, reason, err := v.mayWrite(ctx, q, to)
	switch {
	case err == nil && allowed:
		return nil
	case err == nil:
		if reason == "" {
			reason = "the receiver's domain does not allow it"
		}
		return status.New(status.NotAllowed, "%s", reason)
	}
	return v.unanswered(q, to, err)
}

// unanswered says what holds while a hook gives no answer; nil: the message may go.
//
// To try again later costs a sender more than this message: all that his device sends waits behind it, to whomever, for the sake of
// order. Only his own domain may ask that of him; another one's trouble is refused for good, and holds up nothing.
func (v *vetter) unanswered(q question, to store.UserKey, err error) *status.Error {
	v.node.metrics.hookAway.Inc()
	v.node.logger.Debug("a hook gave no answer", slog.String("domain", to.Domain), slog.Any("error", err))
	switch {
	case q.to.HookAway == HookAwayAllow:
		return nil
	case q.to.HookAway == HookAwayRetry && q.from.Domain == to.Domain:
		return status.Wrap(status.Unavailable, err, "the receiver's domain could not be asked now")
	}
	return status.Wrap(status.HookAway, err, "the receiver's domain could not be asked; the message was not stored")
}

// mayWrite calls the hook. A panic there counts as no answer.
func (v *vetter) mayWrite(ctx context.Context, q question, to store.UserKey) (allowed bool, reason string, err error) {
	defer func() {
		if p := recover(); p != nil {
			v.node.metrics.panics.Inc()
			v.node.logger.Error("panic in a hook", slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
			allowed, err = false, fmt.Errorf("ask the hook: panic: %v", p)
		}
	}()
	return q.to.MayWrite.Ask(ctx, q.from, to, q.messageType)
}

// spareRepeats takes the refusal from those messages that were to be refused for good because their hook is away, but lie in the
// inbox already: they were accepted, and their sender had not heard so.
func (v *vetter) spareRepeats(ctx context.Context, batch []vetted, refusals []*status.Error) {
	var digests []store.Digest
	var at []int
	for i, s := range batch {
		if r := refusals[i]; r != nil && r.Code == status.HookAway {
			digests, at = append(digests, s.row.Digest), append(at, i)
		}
	}
	if len(at) == 0 {
		return
	}
	ids, err := v.repeats.ask(ctx, digests)
	for k, i := range at {
		switch {
		case err != nil:
			refusals[i] = status.Wrap(status.Unavailable, err, "whether the message is stored already cannot be told now")
		case ids[k] != 0:
			refusals[i] = nil
		}
	}
}
