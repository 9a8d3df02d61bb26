package memory

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/gatepost/gatepost/store"
)

// maxExact is the largest session number; the twin in Redis counts in Lua's numbers.
const maxExact = 1<<53 - 1

// Config of the presence table. Start from Default.
type Config struct {
	TombstoneTTL time.Duration    // longer than a gate's walk takes
	Now          func() time.Time // nil: time.Now
}

// Default is the Config of a table of its own.
func Default() Config { return Config{TombstoneTTL: 2 * time.Hour} }

// field is a session or, when until is not zero, the tombstone of one.
type field struct {
	route  store.Route
	until  time.Time // when a tombstone is forgotten
	former []holder  // the installations that held the class before, latest first
}

// holder is an installation and the login counter under which it held the class.
type holder struct {
	installation [16]byte
	counter      uint64
}

// maxFormer is how many former installations are remembered. By them a login that was overtaken on its way is known, whoever has
// logged in since.
const maxFormer = 3

// counter is the highest login counter known of an installation; false: it is not known.
func (f *field) counter(installation [16]byte) (uint64, bool) {
	if f.route.Installation == installation {
		return f.route.LoginCounter, true
	}
	for _, h := range f.former {
		if h.installation == installation {
			return h.counter, true
		}
	}
	return 0, false
}

// formerAfter is what former is when installation follows on f, which may be nil.
func (f *field) formerAfter(installation [16]byte) []holder {
	if f == nil {
		return nil
	}
	if f.route.Installation == installation {
		return f.former
	}
	var list []holder
	if f.route.Installation != ([16]byte{}) {
		list = append(list, holder{f.route.Installation, f.route.LoginCounter})
	}
	for _, h := range f.former {
		if h.installation != installation && h.installation != f.route.Installation && len(list) < maxFormer {
			list = append(list, h)
		}
	}
	return list
}

func (f *field) tomb() bool { return !f.until.IsZero() }

// grave remembers when a tombstone may be removed.
type grave struct {
	user  store.UserKey
	class store.DeviceClass
	until time.Time
}

// Presence implements logic's ports Presence and Leases. It is safe for concurrent use.
type Presence struct {
	cfg Config

	mu     sync.Mutex
	users  map[store.UserKey]map[store.DeviceClass]*field
	graves []grave // in the order of until: the time to live is always the same
	epoch  uint64
	gates  map[uint64]lease[store.Gate]
	nodes  map[uint64]lease[store.LogicNode]
}

// New makes an empty table.
func New(cfg Config) *Presence {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.TombstoneTTL <= 0 {
		cfg.TombstoneTTL = Default().TombstoneTTL
	}
	p := &Presence{cfg: cfg}
	p.Clear()
	return p
}

// Clear empties the table, leases and epoch too.
func (p *Presence) Clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.users = map[store.UserKey]map[store.DeviceClass]*field{}
	p.graves = nil
	p.epoch = 0
	p.gates = map[uint64]lease[store.Gate]{}
	p.nodes = map[uint64]lease[store.LogicNode]{}
}

// Login fences and replaces the session of the user's device class. r.Session is the caller's clock id, in microseconds:
// the session number becomes the larger of it and the stored one plus 1, tombstones counted.
// Inside one installation the higher login counter wins, between installations the later login.
func (p *Presence) Login(ctx context.Context, user store.UserKey, r store.Route) (store.LoginResult, error) {
	if err := check(ctx, "login"); err != nil {
		return store.LoginResult{}, err
	}
	if err := checkRoute(r); err != nil {
		return store.LoginResult{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.cfg.Now()
	p.buryLocked(now)
	var previous *store.Route
	old := p.users[user][r.Class]
	if old != nil {
		if !old.tomb() && old.route.GateEpoch == r.GateEpoch && old.route.ConnID == r.ConnID {
			return store.LoginResult{Outcome: store.LoginRepeated, Session: old.route.Session}, nil
		}
		forgotten := old.tomb() && !now.Before(old.until)
		if counter, known := old.counter(r.Installation); !forgotten && known && counter >= r.LoginCounter {
			return store.LoginResult{Outcome: store.LoginStale, Winner: old.route}, nil
		}
		r.Session = max(r.Session, old.route.Session+1)
		if !old.tomb() {
			previous = &old.route
		}
	}
	p.putLocked(user, &field{route: r, former: old.formerAfter(r.Installation)})
	return store.LoginResult{Outcome: store.LoginMade, Session: r.Session, Previous: previous}, nil
}

// Unregister removes the route if it still is session number session, and leaves a tombstone (number, installation, counter).
// Where nothing stands the number alone is remembered.
func (p *Presence) Unregister(ctx context.Context, user store.UserKey, class store.DeviceClass, session uint64) error {
	if err := check(ctx, "unregister"); err != nil {
		return err
	}
	if session > maxExact {
		return fmt.Errorf("unregister: session number %d is too large", session)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.cfg.Now()
	p.buryLocked(now)
	tomb := &field{route: store.Route{Class: class, Session: session}, until: now.Add(p.cfg.TombstoneTTL)}
	if old := p.users[user][class]; old != nil {
		if !old.tomb() && old.route.Session != session || old.tomb() && old.route.Session >= session {
			return nil
		}
		tomb.route.Installation, tomb.route.LoginCounter, tomb.former = old.route.Installation, old.route.LoginCounter, old.former
	}
	p.putLocked(user, tomb)
	p.graves = append(p.graves, grave{user, class, tomb.until})
	return nil
}

// Register puts sessions back that a gate holds, unless a newer login or a tombstone of that number stands there.
func (p *Presence) Register(ctx context.Context, batch []store.Registration) ([]store.RegisterResult, error) {
	if err := check(ctx, "register sessions"); err != nil {
		return nil, err
	}
	for _, r := range batch {
		if err := checkRoute(r.Route); err != nil {
			return nil, err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.cfg.Now()
	p.buryLocked(now)
	results := make([]store.RegisterResult, len(batch))
	for i, r := range batch {
		results[i] = p.registerLocked(now, r.User, r.Route)
	}
	return results, nil
}

func (p *Presence) registerLocked(now time.Time, user store.UserKey, r store.Route) store.RegisterResult {
	old := p.users[user][r.Class]
	if old != nil && old.tomb() && !now.Before(old.until) {
		old = nil
	}
	if old != nil {
		if !old.tomb() && old.route.Session == r.Session && old.route.GateEpoch == r.GateEpoch && old.route.ConnID == r.ConnID {
			return store.RegisterResult{Outcome: store.RegisterKept}
		}
		newer := old.route.Session >= r.Session
		if old.route.Installation == r.Installation && old.route.LoginCounter != r.LoginCounter {
			newer = old.route.LoginCounter > r.LoginCounter
		}
		if newer {
			res := store.RegisterResult{Outcome: store.RegisterRefused}
			if !old.tomb() || old.route.Session != r.Session {
				res.Winner = old.route
			}
			return res
		}
	}
	p.putLocked(user, &field{route: r, former: old.formerAfter(r.Installation)})
	return store.RegisterResult{Outcome: store.RegisterMade}
}

// Lookup returns the routes of users.
func (p *Presence) Lookup(ctx context.Context, users []store.UserKey) (store.Lookup, error) {
	if err := check(ctx, "look up routes"); err != nil {
		return store.Lookup{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	res := store.Lookup{Epoch: p.epoch, Routes: make([][]store.Route, len(users)), Ended: make([][]store.Ended, len(users))}
	for i, u := range users {
		for _, f := range p.users[u] {
			if f.tomb() {
				res.Ended[i] = append(res.Ended[i], store.Ended{Class: f.route.Class, Session: f.route.Session})
			} else {
				res.Routes[i] = append(res.Routes[i], f.route)
			}
		}
	}
	return res, nil
}

func (p *Presence) putLocked(user store.UserKey, f *field) {
	classes := p.users[user]
	if classes == nil {
		classes = make(map[store.DeviceClass]*field, 1)
		p.users[user] = classes
	}
	classes[f.route.Class] = f
}

// buryLocked removes the tombstones whose time has come. Redis keeps the number of a forgotten tombstone for a while longer;
// a number that is the clock's is higher all the same.
func (p *Presence) buryLocked(now time.Time) {
	n := 0
	for ; n < len(p.graves) && !now.Before(p.graves[n].until); n++ {
		g := p.graves[n]
		if f := p.users[g.user][g.class]; f != nil && f.tomb() && f.until.Equal(g.until) {
			delete(p.users[g.user], g.class)
			if len(p.users[g.user]) == 0 {
				delete(p.users, g.user)
			}
		}
	}
	p.graves = p.graves[n:]
}

func (p *Presence) newEpochLocked() { p.epoch = 1 + rand.Uint64N(maxExact) }

func checkRoute(r store.Route) error {
	if r.Session > maxExact-1 {
		return fmt.Errorf("session number %d is too large", r.Session)
	}
	return nil
}

// check answers a context that is done as a store that is away.
func check(ctx context.Context, what string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w: %w", what, store.ErrUnavailable, err)
	}
	return nil
}
