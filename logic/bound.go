package logic

import (
	"container/list"
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/gatepost/gatepost/store"
)

// inboxBound keeps inboxes from growing without end, by an approximate count that costs the sender nothing: this node remembers how
// many rows it appended for a user since his inbox was last counted, and has it counted behind the scenes once that is a sixteenth
// of the bound. What is over the bound is refused until a later count finds room. Its memory is bounded: the user who was not
// written to for the longest time is forgotten.
type inboxBound struct {
	node *Node
	due  *lane[store.UserKey]

	mu    sync.Mutex
	users map[store.UserKey]*list.Element // of *inboxState
	order *list.List                      // the most recently used first
}

type inboxState struct {
	user     store.UserKey
	appended int // since the last count
	counting bool
	full     bool
	counted  time.Time
}

// recountFull is how often the inbox of a user who is refused messages is counted again, at most.
const recountFull = time.Second

func newInboxBound(n *Node) *inboxBound {
	return &inboxBound{
		node:  n,
		due:   newLane[store.UserKey](1024, 16, 0, nil, n.metrics.depth(laneCount)),
		users: make(map[store.UserKey]*list.Element),
		order: list.New(),
	}
}

// appended notes a row that this node committed for user.
func (b *inboxBound) appended(user store.UserKey) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.stateLocked(user)
	s.appended++
	if s.appended >= b.of(user)/16 {
		b.countLocked(s)
	}
}

// of is how many messages user may have.
func (b *inboxBound) of(user store.UserKey) int {
	if d := b.node.domain(user.Domain); d != nil && d.Limits.InboxBound != 0 {
		return d.Limits.InboxBound
	}
	return b.node.cfg.InboxBound
}

// isFull reports whether user is refused messages now, and has his inbox counted again from time to time while he is.
func (b *inboxBound) isFull(user store.UserKey) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.users[user]
	if e == nil {
		return false
	}
	s := e.Value.(*inboxState)
	if s.full && b.node.now().Sub(s.counted) >= recountFull {
		b.countLocked(s)
	}
	return s.full
}

func (b *inboxBound) stateLocked(user store.UserKey) *inboxState {
	if e := b.users[user]; e != nil {
		b.order.MoveToFront(e)
		return e.Value.(*inboxState)
	}
	if b.order.Len() >= b.node.cfg.InboxUsers {
		oldest := b.order.Back()
		b.order.Remove(oldest)
		delete(b.users, oldest.Value.(*inboxState).user)
	}
	user = ownKey(user)
	s := &inboxState{user: user}
	b.users[user] = b.order.PushFront(s)
	return s
}

func (b *inboxBound) countLocked(s *inboxState) {
	if !s.counting && b.due.put(s.user) {
		s.counting = true
	}
}

// lost lets users be counted again whom a panic left uncounted.
func (b *inboxBound) lost(users []store.UserKey) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, user := range users {
		if e := b.users[user]; e != nil {
			e.Value.(*inboxState).counting = false
		}
	}
}

// carry counts the inboxes that are due.
func (b *inboxBound) carry(ctx context.Context, users []store.UserKey) {
	for _, user := range users {
		full, err := b.measure(ctx, user)
		if err != nil {
			b.node.logger.Warn("an inbox could not be counted", slog.String("domain", user.Domain), slog.String("uid", user.UID), slog.Any("error", err))
		}
		b.mu.Lock()
		if e := b.users[user]; e != nil {
			s := e.Value.(*inboxState)
			s.counting = false
			if err == nil {
				s.appended, s.full, s.counted = 0, full, b.node.now()
			}
		}
		b.mu.Unlock()
	}
}

// measure counts an inbox. Over the bound it first stops owing messages to devices that are away, then counts again.
func (b *inboxBound) measure(ctx context.Context, user store.UserKey) (full bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, b.node.cfg.CommitTimeout)
	defer cancel()
	bound := b.of(user)
	over := func() (bool, error) {
		count, err := b.node.inbox.Count(ctx, user, bound)
		return count >= bound, err
	}
	if full, err = over(); err != nil || !full {
		return false, err
	}
	retired, err := b.retireAbsent(ctx, user)
	if err != nil || retired == 0 {
		return true, err
	}
	return over()
}

// retireAbsent retires user's device classes that have no live session, so that a device which nobody uses any more does not fill
// the inbox of those in use. One class always stays: when nobody is there, it is the one that was seen last.
func (b *inboxBound) retireAbsent(ctx context.Context, user store.UserKey) (retired int, err error) {
	n := b.node
	devices, err := n.devices.List(ctx, user)
	if err != nil || len(devices) < 2 {
		return 0, err
	}
	live, known := n.liveClasses(ctx, user)
	if !known {
		return 0, nil // who is there cannot be told now: nobody is retired
	}
	keep := -1
	for i, d := range devices {
		if live&d.Class.Bit() != 0 {
			keep = i
			break
		}
		if keep < 0 || d.SeenAt.After(devices[keep].SeenAt) {
			keep = i
		}
	}
	for i, d := range devices {
		if i == keep || live&d.Class.Bit() != 0 {
			continue
		}
		// d has the session number that was listed: a newer session that registers meanwhile keeps its class.
		if err := n.devices.Retire(ctx, d); err != nil {
			return retired, err
		}
		retired++
		n.metrics.retiredFull.Inc()
		n.logger.Info("a device class without a session was retired, because the inbox is full", slog.String("domain", user.Domain),
			slog.String("uid", user.UID), slog.Int("device", int(d.Class)))
	}
	return retired, nil
}

// ownKey copies a user's key for a map that lives long: the strings of a decoded body share the memory of their neighbours.
func ownKey(u store.UserKey) store.UserKey {
	return store.UserKey{Domain: strings.Clone(u.Domain), UID: strings.Clone(u.UID)}
}
