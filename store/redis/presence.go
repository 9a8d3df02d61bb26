package redis

import (
	"context"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/gatepost/gatepost/store"
)

//go:embed lua/*.lua
var lua embed.FS

var (
	loginScript      = script("login")
	unregisterScript = script("unregister")
	registerScript   = script("register")
	beatScript       = script("beat")
	listScript       = script("list")
	dropScript       = script("drop")
)

// script is common.lua and a file behind it; Redis keeps it under its hash.
func script(name string) *goredis.Script {
	common, err := lua.ReadFile("lua/common.lua")
	if err != nil {
		panic(err) // embedded
	}
	body, err := lua.ReadFile("lua/" + name + ".lua")
	if err != nil {
		panic(err) // embedded
	}
	return goredis.NewScript(string(common) + string(body))
}

// Config of the presence table. Start from Default.
type Config struct {
	Prefix       string        // begins every key: a word without braces
	RouteTTL     time.Duration // time to live of a user's routes; gates renew them in their walk, so it is a multiple of a walk
	TombstoneTTL time.Duration // how long the end of a session is remembered: longer than a gate's walk takes, shorter than RouteTTL
}

// Default is the Config of a table of its own.
func Default() Config {
	return Config{Prefix: "gatepost", RouteTTL: 24 * time.Hour, TombstoneTTL: 2 * time.Hour}
}

// Validate returns all faults, joined.
func (c Config) Validate() error {
	var faults []error
	if c.Prefix == "" || strings.ContainsAny(c.Prefix, "{} \n") {
		faults = append(faults, fmt.Errorf("redis prefix %q: it must be a word without braces", c.Prefix))
	}
	if c.TombstoneTTL < time.Millisecond || c.RouteTTL <= c.TombstoneTTL {
		faults = append(faults, fmt.Errorf("redis: the route ttl (%s) must be longer than the tombstone ttl (%s), which must be positive", c.RouteTTL, c.TombstoneTTL))
	}
	return errors.Join(faults...)
}

// Presence implements logic's ports Presence and Leases. It is safe for concurrent use.
type Presence struct {
	cfg    Config
	keys   keys
	client goredis.UniversalClient

	mu       sync.Mutex
	lookedAt time.Time // when the replication id was last looked at
}

// New keeps the table in client, which stays the caller's to close. NewClient makes one that gives up quickly.
func New(cfg Config, client goredis.UniversalClient) (*Presence, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Presence{cfg: cfg, keys: keys{cfg.Prefix}, client: client}, nil
}

// Login fences and replaces the session of the user's device class. r.Session is the caller's clock id, in microseconds:
// the session number becomes the larger of it and the stored one plus 1, tombstones counted.
// Inside one installation the higher login counter wins, between installations the later login.
func (p *Presence) Login(ctx context.Context, user store.UserKey, r store.Route) (store.LoginResult, error) {
	if err := checkRoute(r); err != nil {
		return store.LoginResult{}, err
	}
	args := append(routeArgs(r), p.cfg.RouteTTL.Milliseconds())
	answer, err := loginScript.Run(ctx, p.client, []string{p.keys.user(user)}, args...).Slice()
	if err != nil {
		return store.LoginResult{}, unavailable("login", err)
	}
	outcome, session, raw, err := parseLogin(answer)
	if err != nil {
		return store.LoginResult{}, unavailable("login", err)
	}
	res := store.LoginResult{Outcome: outcome, Session: session}
	if raw == "" {
		return res, nil
	}
	other, _, err := parseRoute(r.Class, raw)
	if err != nil {
		return store.LoginResult{}, unavailable("login", err)
	}
	switch outcome {
	case store.LoginMade:
		res.Previous = &other
	case store.LoginStale:
		res.Winner = other
	}
	return res, nil
}

func parseLogin(answer []any) (store.LoginOutcome, uint64, string, error) {
	if len(answer) == 3 {
		outcome, ok1 := answer[0].(int64)
		number, ok2 := answer[1].(string)
		raw, ok3 := answer[2].(string)
		if ok1 && ok2 && ok3 {
			session, err := strconv.ParseUint(number, 10, 64)
			return store.LoginOutcome(outcome), session, raw, err
		}
	}
	return 0, 0, "", fmt.Errorf("unexpected answer %v", answer)
}

// Unregister removes the route if it still is session number session, and leaves a tombstone (number, installation, counter).
func (p *Presence) Unregister(ctx context.Context, user store.UserKey, class store.DeviceClass, session uint64) error {
	if session > maxExact {
		return fmt.Errorf("unregister: session number %d is too large", session)
	}
	err := unregisterScript.Run(ctx, p.client, []string{p.keys.user(user)},
		int(class), session, p.cfg.TombstoneTTL.Milliseconds(), p.cfg.RouteTTL.Milliseconds()).Err()
	return unavailable("unregister", err)
}

// Register puts sessions back that a gate holds, unless a newer login or a tombstone of that number stands there. Each user's slot decides alone.
func (p *Presence) Register(ctx context.Context, batch []store.Registration) ([]store.RegisterResult, error) {
	if len(batch) == 0 {
		return nil, nil
	}
	for _, r := range batch {
		if err := checkRoute(r.Route); err != nil {
			return nil, err
		}
	}
	cmds := make([]*goredis.Cmd, len(batch))
	pending := make([]int, len(batch))
	for i := range batch {
		pending[i] = i
	}
	// By hash first; whoever has forgotten the script is sent the whole of it.
	for _, run := range []func(context.Context, goredis.Scripter, []string, ...any) *goredis.Cmd{registerScript.EvalSha, registerScript.Eval} {
		pipe := p.client.Pipeline()
		for _, i := range pending {
			cmds[i] = run(ctx, pipe, []string{p.keys.user(batch[i].User)}, append(routeArgs(batch[i].Route), p.cfg.RouteTTL.Milliseconds())...)
		}
		_, err := pipe.Exec(ctx)
		forgotten := pending[:0]
		for _, i := range pending {
			if e := cmds[i].Err(); goredis.HasErrorPrefix(e, "NOSCRIPT") {
				forgotten = append(forgotten, i)
			} else if e != nil {
				return nil, unavailable("register sessions", e)
			}
		}
		if pending = forgotten; len(pending) == 0 {
			break
		} else if err == nil {
			return nil, unavailable("register sessions", errors.New("a script was refused without an error"))
		}
	}
	results := make([]store.RegisterResult, len(batch))
	for i, cmd := range cmds {
		answer, err := cmd.Slice()
		if err != nil {
			return nil, unavailable("register sessions", err)
		}
		if results[i], err = parseRegister(batch[i].Route.Class, answer); err != nil {
			return nil, unavailable("register sessions", err)
		}
	}
	return results, nil
}

func parseRegister(class store.DeviceClass, answer []any) (store.RegisterResult, error) {
	var res store.RegisterResult
	if len(answer) == 2 {
		outcome, ok1 := answer[0].(int64)
		raw, ok2 := answer[1].(string)
		if ok1 && ok2 {
			res.Outcome = store.RegisterOutcome(outcome)
			if raw == "" {
				return res, nil
			}
			var err error
			res.Winner, _, err = parseRoute(class, raw)
			return res, err
		}
	}
	return res, fmt.Errorf("unexpected answer %v", answer)
}

// Lookup returns the routes of users, in one round trip to each server that holds some.
func (p *Presence) Lookup(ctx context.Context, users []store.UserKey) (store.Lookup, error) {
	pipe := p.client.Pipeline()
	epoch := pipe.HGet(ctx, p.keys.epoch(), "epoch")
	cmds := make([]*goredis.MapStringStringCmd, len(users))
	for i, u := range users {
		cmds[i] = pipe.HGetAll(ctx, p.keys.user(u))
	}
	if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, goredis.Nil) {
		return store.Lookup{}, unavailable("look up routes", err)
	}
	res := store.Lookup{Routes: make([][]store.Route, len(users)), Ended: make([][]store.Ended, len(users))}
	switch n, err := epoch.Uint64(); {
	case err == nil:
		res.Epoch = n
	case !errors.Is(err, goredis.Nil):
		return store.Lookup{}, unavailable("look up routes", err)
	}
	for i, cmd := range cmds {
		fields, err := cmd.Result()
		if err != nil {
			return store.Lookup{}, unavailable("look up routes", err)
		}
		for field, raw := range fields {
			class, err := strconv.ParseUint(field, 10, 8)
			if err != nil {
				return store.Lookup{}, unavailable("look up routes", err)
			}
			r, tomb, err := parseRoute(store.DeviceClass(class), raw)
			if err != nil {
				return store.Lookup{}, unavailable("look up routes", err)
			}
			if tomb {
				res.Ended[i] = append(res.Ended[i], store.Ended{Class: r.Class, Session: r.Session})
			} else {
				res.Routes[i] = append(res.Routes[i], r)
			}
		}
	}
	return res, nil
}

// maxExact is the largest number that Lua holds exactly.
const maxExact = 1<<53 - 1

func checkRoute(r store.Route) error {
	if r.Session > maxExact-1 {
		return fmt.Errorf("session number %d is too large", r.Session)
	}
	return nil
}

// routeArgs are class, session, gate epoch, conn, installation and counter, as the scripts take them.
func routeArgs(r store.Route) []any {
	return append(make([]any, 0, 7), int(r.Class), r.Session, strconv.FormatUint(r.GateEpoch, 10), strconv.FormatUint(r.ConnID, 10),
		hex.EncodeToString(r.Installation[:]), fmt.Sprintf("%020d", r.LoginCounter))
}

// parseRoute reads a field, all but its former installations; tomb: it is a tombstone.
func parseRoute(class store.DeviceClass, raw string) (r store.Route, tomb bool, err error) {
	bad := func(err error) (store.Route, bool, error) {
		return store.Route{}, false, fmt.Errorf("field of class %d is damaged: %w", class, err)
	}
	part := strings.Split(raw, " ")
	if len(part) != 7 {
		return bad(fmt.Errorf("%d parts", len(part)))
	}
	var n [6]uint64
	for _, i := range []int{0, 1, 2, 4, 5} {
		if n[i], err = strconv.ParseUint(part[i], 10, 64); err != nil {
			return bad(err)
		}
	}
	installation, err := hex.DecodeString(part[3])
	if err != nil || len(installation) != len(r.Installation) {
		return bad(errors.New("installation"))
	}
	r = store.Route{Class: class, Session: n[0], GateEpoch: n[1], ConnID: n[2], LoginCounter: n[4]}
	copy(r.Installation[:], installation)
	return r, n[5] != 0, nil
}

func unavailable(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w: %w", what, store.ErrUnavailable, err)
}
