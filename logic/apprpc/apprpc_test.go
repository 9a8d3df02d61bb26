package apprpc_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cloudwego/prutal"
	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/gen/gatepb"
	"github.com/gatepost/gatepost/idl/gen/logicpb"
	"github.com/gatepost/gatepost/logic"
	"github.com/gatepost/gatepost/logic/apprpc"
	"github.com/gatepost/gatepost/logic/auth"
	"github.com/gatepost/gatepost/store"
	"github.com/gatepost/gatepost/store/memory"
	"github.com/gatepost/gatepost/store/sql"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// Netpoll and Kitex's clients keep a few goroutines for the whole process.
		goleak.IgnoreAnyFunction("github.com/cloudwego/netpoll.(*defaultPoll).Wait"),
		goleak.IgnoreAnyFunction("github.com/cloudwego/kitex/client.(*timeoutPool).createWorker.func1"),
		goleak.IgnoreAnyFunction("github.com/cloudwego/kitex/client.(*timeoutPool).createTicker.func1"),
		goleak.IgnoreAnyFunction("github.com/cloudwego/kitex/pkg/utils.(*SharedTicker).Tick"),
		goleak.IgnoreAnyFunction("github.com/cloudwego/kitex/pkg/loadbalance/lbcache.(*BalancerFactory).watcher"),
	)
}

const (
	gateEpoch   = 77
	gateAddress = "gate-1"
)

// gate takes what a node delivers and kicks.
type gate struct {
	mu       sync.Mutex
	calls    []*gatepb.DeliverRequest
	messages []*clientpb.Message
	kicks    []*gatepb.KickItem
}

func (g *gate) Deliver(_ context.Context, _ string, req *gatepb.DeliverRequest) (*gatepb.DeliverResponse, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calls = append(g.calls, req)
	res := &gatepb.DeliverResponse{GateEpoch: req.GateEpoch}
	for _, it := range req.Items {
		var d clientpb.Deliver
		if err := prutal.Unmarshal(req.Payloads[it.Payload].Body, &d); err != nil {
			return nil, err
		}
		g.messages = append(g.messages, d.Messages...)
		res.Outcomes = append(res.Outcomes, gatepb.DeliverOutcome_DELIVER_QUEUED)
	}
	return res, nil
}

func (g *gate) Kick(_ context.Context, _ string, req *gatepb.KickRequest) (*gatepb.KickResponse, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.kicks = append(g.kicks, req.Items...)
	return &gatepb.KickResponse{Kicked: uint32(len(req.Items))}, nil
}

// seen are the messages that the gate was handed.
func (g *gate) seen() []*clientpb.Message {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.messages)
}

func (g *gate) kicked() []*gatepb.KickItem {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.kicks)
}

// keys are the app keys of a database that can be taken away.
type keys struct {
	*sql.AppKeys
	mu   sync.Mutex
	away bool
}

func (k *keys) Get(ctx context.Context, id string) (store.AppKey, error) {
	k.mu.Lock()
	away := k.away
	k.mu.Unlock()
	if away {
		return store.AppKey{}, fmt.Errorf("app keys: %w", store.ErrUnavailable)
	}
	return k.AppKeys.Get(ctx, id)
}

// inbox is that of the database, which can be taken away.
type inbox struct {
	*sql.DB
	keys *keys
}

func (i *inbox) Append(ctx context.Context, batch []store.Message) ([]store.AppendResult, error) {
	i.keys.mu.Lock()
	away := i.keys.away
	i.keys.mu.Unlock()
	if away {
		return nil, fmt.Errorf("append: %w", store.ErrUnavailable)
	}
	return i.DB.Append(ctx, batch)
}

// world is a node over SQLite and presence in memory, one gate, and its service.
type world struct {
	t        testing.TB
	db       *sql.DB
	keys     *keys
	presence *memory.Presence
	gate     *gate
	address  string
}

func newWorld(t testing.TB) *world {
	t.Helper()
	cfg := sql.Default()
	cfg.Path = filepath.Join(t.TempDir(), "gatepost.db")
	cfg.AutoMigrate = true
	db, err := sql.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ring, err := auth.NewRing(auth.Key{ID: "k", Secret: make([]byte, auth.MinSecretBytes)})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, db: db, keys: &keys{AppKeys: db.AppKeys()}, presence: memory.New(memory.Default()), gate: &gate{}}
	nodeCfg := logic.Default()
	nodeCfg.StopGrace, nodeCfg.SweepEvery = 0, 0
	authenticator := auth.NewAuthenticator(ring, nil)
	n, err := logic.New(nodeCfg, logic.Deps{
		Inbox: &inbox{db, w.keys}, Devices: db, Nodes: db, Sweeper: db, Presence: w.presence, Leases: w.presence, Gates: w.gate,
		AppKeys: w.keys,
		Domains: logic.Domains{ByName: map[string]*logic.Domain{
			"d": {Auth: authenticator, Mint: ring},
			"e": {Auth: authenticator},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	s, err := apprpc.NewServer("127.0.0.1:0", n, nil)
	if err != nil {
		t.Fatal(err)
	}
	w.address = s.Addr().String()
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := errors.Join(s.Stop(ctx), <-served, n.Stop(ctx), db.Close()); err != nil {
			t.Error(err)
		}
	})
	beat := &logicpb.BeatRequest{GateEpoch: gateEpoch, Name: "g", RpcAddress: gateAddress}
	res, err := n.Beat(context.Background(), beat)
	if err != nil {
		t.Fatal(err)
	}
	beat.PresenceEpoch = res.PresenceEpoch
	if _, err := n.Beat(context.Background(), beat); err != nil {
		t.Fatal(err)
	}
	return w
}

// key makes an app key.
func (w *world) key(domain string, rights ...string) (text, id string) {
	w.t.Helper()
	text, k, err := logic.NewAppKey(domain, rights)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.keys.Create(context.Background(), k); err != nil {
		w.t.Fatal(err)
	}
	return text, k.ID
}

// online puts a route of uid into the table.
func (w *world) online(uid string, class store.DeviceClass, conn uint64) {
	w.t.Helper()
	_, err := w.presence.Login(context.Background(), store.UserKey{Domain: "d", UID: uid},
		store.Route{Class: class, GateEpoch: gateEpoch, ConnID: conn, Session: conn, Installation: [16]byte{1}, LoginCounter: conn})
	if err != nil {
		w.t.Fatal(err)
	}
}

// rows is how many messages lie in the inbox of uid.
func (w *world) rows(uid string) int {
	w.t.Helper()
	count, err := w.db.Count(context.Background(), store.UserKey{Domain: "d", UID: uid}, 100)
	if err != nil {
		w.t.Fatal(err)
	}
	return count
}

func (w *world) takeAway(away bool) {
	w.keys.mu.Lock()
	w.keys.away = away
	w.keys.mu.Unlock()
}

func newID(t testing.TB) string {
	t.Helper()
	id, err := uuid.NewV7()
	if err != nil {
		t.Fatal(err)
	}
	return id.String()
}
