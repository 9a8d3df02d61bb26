package logic

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/gatepost/gatepost/store"
)

// knownUsers tells who has ever registered a device. Who has, has for ever, so those are remembered; the others are looked up each
// time, many at once. Its memory is bounded: the user who was not asked for for the longest time is forgotten.
type knownUsers struct {
	node *Node
	asks *lane[*knownAsk]

	mu    sync.Mutex
	users map[store.UserKey]*list.Element // of store.UserKey
	order *list.List                      // the most recently used first
}

// knownAsk is one look-up. answer has room for its one answer.
type knownAsk struct {
	user   store.UserKey
	answer chan knownAnswer
}

type knownAnswer struct {
	known bool
	err   error
}

var (
	errKnownBusy = errors.New("too many receivers wait to be looked up")
	errKnownLost = errors.New("the look-up of receivers failed")
)

func newKnownUsers(n *Node) *knownUsers {
	return &knownUsers{
		node:  n,
		asks:  newLane[*knownAsk](n.cfg.CommitQueue, n.cfg.CommitRows, 0, nil, n.metrics.depth(laneKnown)),
		users: make(map[store.UserKey]*list.Element),
		order: list.New(),
	}
}

// has reports whether user is remembered as known.
func (k *knownUsers) has(user store.UserKey) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	e := k.users[user]
	if e != nil {
		k.order.MoveToFront(e)
	}
	return e != nil
}

func (k *knownUsers) remember(user store.UserKey) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.users[user] != nil {
		return
	}
	if k.order.Len() >= k.node.cfg.InboxUsers {
		delete(k.users, k.order.Remove(k.order.Back()).(store.UserKey))
	}
	user = ownKey(user)
	k.users[user] = k.order.PushFront(user)
}

// ask looks user up, unless he is remembered, and waits for the answer until ctx ends.
func (k *knownUsers) ask(ctx context.Context, user store.UserKey) (bool, error) {
	if k.has(user) {
		return true, nil
	}
	a := &knownAsk{user: user, answer: make(chan knownAnswer, 1)}
	if !k.asks.put(a) {
		return false, errKnownBusy
	}
	select {
	case r := <-a.answer:
		return r.known, r.err
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

// lost answers what a panic left.
func (k *knownUsers) lost(asks []*knownAsk) {
	for _, a := range asks {
		select {
		case a.answer <- knownAnswer{err: errKnownLost}:
		default: // it has its answer
		}
	}
}

// carry looks a batch of users up.
func (k *knownUsers) carry(ctx context.Context, asks []*knownAsk) {
	ctx, cancel := context.WithTimeout(ctx, k.node.cfg.CommitTimeout)
	defer cancel()
	users := make([]store.UserKey, len(asks))
	for i, a := range asks {
		users[i] = a.user
	}
	known, err := k.node.devices.Known(ctx, users)
	if err == nil && len(known) != len(users) {
		err = fmt.Errorf("look up %d users: %d answers", len(users), len(known))
	}
	for i, a := range asks {
		if err != nil {
			a.answer <- knownAnswer{err: err}
			continue
		}
		if known[i] {
			k.remember(a.user)
		}
		a.answer <- knownAnswer{known: known[i]}
	}
}
