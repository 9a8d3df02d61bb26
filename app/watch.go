package app

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/gatepost/gatepost/store"
)

// awayAfter is how many calls in a row must fail before the presence table counts as away: one that is slow is no event.
// A node makes several each second even when it has nothing to do.
const awayAfter = 3

// watched is a presence table that tells when it goes away and when it is back, once each. Its callers cope call by call.
type watched struct {
	presence
	logger    *slog.Logger
	addresses string

	mu     sync.Mutex
	failed int       // calls in a row
	since  time.Time // when it went away; zero: it is there
}

func watch(table presence, addresses []string, logger *slog.Logger) *watched {
	return &watched{presence: table, logger: logger, addresses: strings.Join(addresses, ",")}
}

// saw takes the outcome of a call. A call that its caller gave up says nothing.
func (w *watched) saw(err error) {
	away := errors.Is(err, store.ErrUnavailable)
	if err != nil && !away || errors.Is(err, context.Canceled) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if away {
		if w.failed++; w.failed >= awayAfter && w.since.IsZero() {
			w.since = time.Now()
			w.logger.Warn("Redis is away or not usable: delivery asks every gate, and a newer login is told to all gates, until it is back",
				slog.String("address", w.addresses), slog.Any("reason", err))
		}
		return
	}
	w.failed = 0
	if !w.since.IsZero() {
		w.logger.Info("Redis is back: the gates register their sessions again", slog.String("address", w.addresses), slog.Duration("away", time.Since(w.since)))
		w.since = time.Time{}
	}
}

// The calls below say what they saw; those that end leases are made at a stop, and say nothing.

func (w *watched) Login(ctx context.Context, user store.UserKey, r store.Route) (store.LoginResult, error) {
	res, err := w.presence.Login(ctx, user, r)
	w.saw(err)
	return res, err
}

func (w *watched) Unregister(ctx context.Context, user store.UserKey, class store.DeviceClass, session uint64) error {
	err := w.presence.Unregister(ctx, user, class, session)
	w.saw(err)
	return err
}

func (w *watched) Register(ctx context.Context, batch []store.Registration) ([]store.RegisterResult, error) {
	res, err := w.presence.Register(ctx, batch)
	w.saw(err)
	return res, err
}

func (w *watched) Lookup(ctx context.Context, users []store.UserKey) (store.Lookup, error) {
	res, err := w.presence.Lookup(ctx, users)
	w.saw(err)
	return res, err
}

func (w *watched) BeatGate(ctx context.Context, g store.Gate, ttl time.Duration) (uint64, error) {
	epoch, err := w.presence.BeatGate(ctx, g, ttl)
	w.saw(err)
	return epoch, err
}

func (w *watched) Gates(ctx context.Context) ([]store.Gate, error) {
	gates, err := w.presence.Gates(ctx)
	w.saw(err)
	return gates, err
}

func (w *watched) BeatLogic(ctx context.Context, n store.LogicNode, ttl time.Duration) error {
	err := w.presence.BeatLogic(ctx, n, ttl)
	w.saw(err)
	return err
}

func (w *watched) LogicNodes(ctx context.Context) ([]store.LogicNode, error) {
	nodes, err := w.presence.LogicNodes(ctx)
	w.saw(err)
	return nodes, err
}
