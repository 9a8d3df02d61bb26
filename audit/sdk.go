package audit

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	gatepost "github.com/gatepost/gatepost/sdk/go"
	"github.com/gatepost/gatepost/sdk/go/memstore"
	"github.com/gatepost/gatepost/sdk/go/sqlitestore"
)

// Target is a platform as clients see it.
type Target struct {
	Gates  []string // tcp://host:port or tls://host:port
	Keys   []string // pinned public keys of the gates
	Domain string
	Token  func(ctx context.Context, uid string) (string, error)
	// StoreDir is where installations keep their stores, a SQLite file each. Empty: in memory, kept as long as the Dial lives.
	StoreDir string
	Window   int // of the SDK; 0: the SDK's default
	Timing   gatepost.Timing
	Dialer   func(ctx context.Context, network, address string) (net.Conn, error) // nil: net.Dialer
	TLS      *tls.Config
	Logger   *slog.Logger // of the clients; nil: silent
}

// Dial makes clients of the Go SDK for t.
func (t Target) Dial() (Dial, error) {
	s := &sdk{target: t, memory: map[string]*memstore.Store{}}
	for _, text := range t.Keys {
		key, err := gatepost.ParseKey(text)
		if err != nil {
			return nil, fmt.Errorf("audit: key %q: %w", text, err)
		}
		s.keys = append(s.keys, key)
	}
	if t.StoreDir != "" {
		if err := os.MkdirAll(t.StoreDir, 0o700); err != nil {
			return nil, fmt.Errorf("audit: directory of the stores: %w", err)
		}
	}
	return s.dial, nil
}

// sdk makes clients and keeps the stores of their installations.
type sdk struct {
	target Target
	keys   []gatepost.Key

	mu     sync.Mutex
	memory map[string]*memstore.Store
}

func (s *sdk) store(spec Spec) (gatepost.Store, error) {
	switch {
	case spec.Fresh:
		return memstore.New(), nil
	case s.target.StoreDir != "":
		return sqlitestore.Open(filepath.Join(s.target.StoreDir, strings.ReplaceAll(spec.Store, "/", "-")+".db"))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st, ok := s.memory[spec.Store]
	if !ok {
		st = memstore.New()
		s.memory[spec.Store] = st
	}
	return st, nil
}

func (s *sdk) dial(spec Spec, hooks Hooks) (Client, error) {
	inner, err := s.store(spec)
	if err != nil {
		return nil, fmt.Errorf("open the store of %s: %w", spec.UID, err)
	}
	st := &watchedStore{Store: inner, open: map[uint64]struct{}{}}
	t := s.target
	c, err := gatepost.New(gatepost.Config{
		Gates: t.Gates, Keys: s.keys, User: gatepost.User{Domain: t.Domain, UID: spec.UID}, Device: gatepost.Device(spec.Class),
		Token: func(ctx context.Context) (string, error) { return t.Token(ctx, spec.UID) },
		Store: st,
		OnMessage: func(_ context.Context, m gatepost.Message) error {
			return hooks.Shown(Shown{MsgID: m.MsgID, Content: m.Content, Late: m.Late, MaybeRepeated: m.MaybeRepeated})
		},
		OnSent: func(r gatepost.SendResult) {
			sent := Sent{Flow: flowOf(r.Kind), ID: r.ClientMsgID, MsgID: r.MsgID, Err: r.Err}
			var refusal *gatepost.Error
			if errors.As(r.Err, &refusal) {
				sent.Code = uint16(refusal.Code)
			}
			hooks.Sent(sent)
		},
		Logger: t.Logger, Dialer: t.Dialer, TLS: t.TLS, SDK: "gatepost-audit", Timing: t.Timing,
		Limits: gatepost.Limits{Window: t.Window, UplinkWindow: t.Window},
	})
	if err != nil {
		return nil, errors.Join(err, inner.Close())
	}
	return &sdkClient{c: c, store: st, domain: t.Domain}, nil
}

// sdkClient is a Client of the Go SDK.
type sdkClient struct {
	c      *gatepost.Client
	store  *watchedStore
	domain string
}

func (c *sdkClient) Login(ctx context.Context) error { return c.c.Login(ctx) }
func (c *sdkClient) Pull(ctx context.Context) error  { return c.c.Pull(ctx) }
func (c *sdkClient) Counters() Counters              { return c.store.counters() }
func (c *sdkClient) Close() error                    { return c.c.Close() }

func (c *sdkClient) Crash() error {
	c.store.die()
	if err := c.c.Close(); err != nil && !errors.Is(err, errDied) {
		return err
	}
	return nil
}

func (c *sdkClient) Send(ctx context.Context, to string, content []byte, ttl time.Duration) ([16]byte, error) {
	sending, err := c.c.C2C(ctx, gatepost.User{Domain: c.domain, UID: to}, gatepost.Outgoing{
		Type: "audit", Content: append([]byte(nil), content...), TTL: ttl, // the SDK keeps the slice, the caller uses it again
	})
	if err != nil {
		return [16]byte{}, err
	}
	return sending.ID(), nil
}

func (c *sdkClient) Report(ctx context.Context, content []byte, ttl time.Duration) ([16]byte, error) {
	sending, err := c.c.C2S(ctx, gatepost.Report{Type: "audit", Content: append([]byte(nil), content...), TTL: ttl})
	if err != nil {
		return [16]byte{}, err
	}
	return sending.ID(), nil
}

func flowOf(k gatepost.SendKind) Flow {
	if k == gatepost.SendUplink {
		return Uplinks
	}
	return Messages
}

// watchedStore counts what is confirmed, and can die: from then on it takes nothing, as the store of a killed process.
// A received message leaves the store when its confirmation was answered.
type watchedStore struct {
	gatepost.Store

	mu        sync.Mutex
	dead      bool
	open      map[uint64]struct{} // numbers of received messages that are not confirmed
	confirmed uint64
}

func (s *watchedStore) Load() (*gatepost.Snapshot, error) {
	snap, err := s.Store.Load()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range snap.Received {
		s.open[r.Number] = struct{}{}
	}
	return snap, nil
}

func (s *watchedStore) Commit(c *gatepost.Changes) error {
	s.mu.Lock()
	defer s.mu.Unlock() // over the commit: a crash falls before it or after it
	if s.dead {
		return errDied
	}
	if err := s.Store.Commit(c); err != nil {
		return err
	}
	for i := range c.PutReceived {
		s.open[c.PutReceived[i].Number] = struct{}{}
	}
	for _, n := range c.DeleteReceived {
		if _, ok := s.open[n]; ok {
			delete(s.open, n)
			s.confirmed++
		}
	}
	return nil
}

func (s *watchedStore) die() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dead = true
}

func (s *watchedStore) counters() Counters {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Counters{Confirmed: s.confirmed, Unconfirmed: len(s.open)}
}
