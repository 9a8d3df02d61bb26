package app

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatepost/gatepost/gate"
	"github.com/gatepost/gatepost/idl/gen/logicpb"
	"github.com/gatepost/gatepost/idl/wire"
	"github.com/gatepost/gatepost/logic"
	gatepost "github.com/gatepost/gatepost/sdk/go"
	"github.com/gatepost/gatepost/sdk/go/memstore"
	"github.com/gatepost/gatepost/store"
	"github.com/gatepost/gatepost/store/memory"
	"github.com/gatepost/gatepost/store/sql"
)

// twoNodes is a gate over two logic nodes whose clocks are as far apart as they may be. They share a database and the table of
// sessions, and calls go to them by turns, so that what one device pipelines is taken by both.
type twoNodes struct {
	t    *testing.T
	gate *gate.Gate
	key  gatepost.Key
}

// byTurns is a logic node whose calls with frames are taken by all nodes in turn.
type byTurns struct {
	gate.Logic
	all  []gate.Logic
	turn *atomic.Uint64
}

func (b byTurns) Handle(ctx context.Context, req *logicpb.HandleRequest) (*logicpb.HandleResponse, error) {
	return b.all[b.turn.Add(1)%uint64(len(b.all))].Handle(ctx, req)
}

type anybody struct{}

func (anybody) Authenticate(context.Context, store.UserKey, store.DeviceClass, []byte) error {
	return nil
}

func startTwoNodes(t *testing.T) *twoNodes {
	t.Helper()
	cfg := sql.Default()
	cfg.Path, cfg.AutoMigrate = filepath.Join(t.TempDir(), "gatepost.db"), true
	db, err := sql.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	table, here := memory.New(memory.Default()), &gateHere{}
	var nodes []gate.Logic
	for _, skew := range []time.Duration{1500 * time.Millisecond, -1500 * time.Millisecond} {
		node, err := logic.New(logic.Default(), logic.Deps{
			Inbox: db, Devices: db, Nodes: db, Sweeper: db, Presence: table, Leases: table, Gates: here, Domains: logic.Domains{Other: &logic.Domain{Auth: anybody{}}},
			Now: func() time.Time { return time.Now().Add(skew) },
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := node.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { node.Stop(context.Background()) })
		if !node.Ready() {
			t.Fatalf("a clock that differs by %s is too much", skew)
		}
		nodes = append(nodes, node)
	}
	key, err := wire.GenerateKey(1)
	if err != nil {
		t.Fatal(err)
	}
	gcfg := gate.Default()
	gcfg.ListenTCP, gcfg.Logic, gcfg.DrainTime, gcfg.CloseTimeout = "127.0.0.1:0", []string{"0", "1"}, 0, 100*time.Millisecond
	turn := &atomic.Uint64{}
	g, err := gate.New(gcfg, gate.Deps{Keys: []wire.PrivateKey{key}, Dial: func(address string) (gate.Logic, error) {
		i, err := strconv.Atoi(address)
		return byTurns{nodes[i], nodes, turn}, err
	}})
	if err != nil {
		t.Fatal(err)
	}
	here.gate = g
	g.SetRPCAddress("here")
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	return &twoNodes{t, g, key.PublicKey()}
}

func (n *twoNodes) client(uid string, d gatepost.Device, s gatepost.Store, show func(gatepost.Message)) *gatepost.Client {
	n.t.Helper()
	c, err := gatepost.New(gatepost.Config{
		Gates: n.gate.Addrs(), Keys: []gatepost.Key{n.key}, Device: d, Store: s, User: gatepost.User{Domain: "d", UID: uid},
		Token:     func(context.Context) (string, error) { return "any", nil },
		OnMessage: func(_ context.Context, m gatepost.Message) error { show(m); return nil },
		Timing:    gatepost.Timing{BackoffBase: 10 * time.Millisecond, JumpPullEvery: 50 * time.Millisecond},
	})
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { c.Close() })
	ctx, cancel := context.WithTimeout(n.t.Context(), 20*time.Second)
	defer cancel()
	if err := c.Login(ctx); err != nil {
		n.t.Fatal(err)
	}
	return c
}

// shownTo gathers what a device was shown.
type shownTo struct {
	mu  sync.Mutex
	all []gatepost.Message
}

func (s *shownTo) show(m gatepost.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, m)
}

func (s *shownTo) texts() (texts []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.all {
		texts = append(texts, string(m.Content))
	}
	return texts
}

// What one device pipelines to two nodes whose clocks differ is shown in its order, live and from the inbox, though the ids of its
// messages are not in that order (G3).
func TestOrderOverNodesWhoseClocksDiffer(t *testing.T) {
	n := startTwoNodes(t)
	alice := n.client("alice", gatepost.Android, memstore.New(), func(gatepost.Message) {})
	bobs, bob := memstore.New(), &shownTo{}
	var want []string
	var ids []uint64
	send := func(count int) {
		t.Helper()
		var sent []*gatepost.Sending
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		for range count {
			want = append(want, fmt.Sprint(len(want)))
			s, err := alice.C2C(ctx, gatepost.User{Domain: "d", UID: "bob"}, gatepost.Outgoing{Content: []byte(want[len(want)-1])})
			if err != nil {
				t.Fatal(err)
			}
			sent = append(sent, s)
		}
		for _, s := range sent {
			r, err := s.Wait(ctx)
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, r.MsgID)
		}
	}
	wants := func() {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			got := bob.texts()
			if slices.Equal(got, want) {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("shown %q", got)
			}
		}
	}
	c := n.client("bob", gatepost.Android, bobs, bob.show)
	send(200)
	wants()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	send(300)
	n.client("bob", gatepost.Android, bobs.Copy(), bob.show)
	send(100)
	wants()
	for _, m := range bob.all {
		if m.Late || m.MaybeRepeated {
			t.Errorf("flagged: %+v", m)
		}
	}
	if slices.IsSorted(ids) {
		t.Error("the ids are in order: this proves nothing")
	}
}

// A second device class registers at some moment of a stream of messages that the first one is shown and confirms at once:
// what is sent once it is online is shown on both (G2).
func TestClassRegistersDuringSends(t *testing.T) {
	n := startTwoNodes(t)
	alice := n.client("alice", gatepost.Android, memstore.New(), func(gatepost.Message) {})
	for round := range 8 {
		uid := fmt.Sprint("bob", round)
		phone, desktop := &shownTo{}, &shownTo{}
		n.client(uid, gatepost.Android, memstore.New(), phone.show)
		var online atomic.Bool
		var owed, all []string
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := 0; len(owed) < 10 && i < 20_000; i++ {
				text, late := fmt.Sprint(i), online.Load()
				s, err := alice.C2C(t.Context(), gatepost.User{Domain: "d", UID: uid}, gatepost.Outgoing{Content: []byte(text)})
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := s.Wait(t.Context()); err != nil {
					t.Error(err)
					return
				}
				if all = append(all, text); late {
					owed = append(owed, text)
				}
			}
		}()
		time.Sleep(rand.N(5 * time.Millisecond))
		n.client(uid, gatepost.Desktop, memstore.New(), desktop.show)
		online.Store(true)
		<-done
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			got := desktop.texts()
			missing := slices.DeleteFunc(slices.Clone(owed), func(text string) bool { return slices.Contains(got, text) })
			if len(missing) == 0 && slices.Equal(phone.texts(), all) {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("round %d: the desktop misses %q, the phone was shown %d of %d", round, missing, len(phone.texts()), len(all))
			}
		}
	}
}
