package gate

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gatepost/gatepost/idl/gen/logicpb"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/idl/wire"
)

// Deps is what a gate is given.
type Deps struct {
	Logger  *slog.Logger          // nil: none
	Metrics prometheus.Registerer // nil: none
	// Keys are the static Noise keys; the newest and those that older clients have pinned. Needed unless clear is allowed everywhere.
	Keys []wire.PrivateKey
	// TLS serves Config.ListenTLS. It needs a certificate; TLS 1.3 is the least version whatever it says.
	TLS *tls.Config
	// Dial makes the client of a logic node. It need not connect yet. What it returns is closed if it is an io.Closer.
	Dial func(address string) (Logic, error)
}

// Gate is one run of a gate: built by New, started once, stopped by Drain and Close. It implements gatepb.GateService.
type Gate struct {
	cfg     Config
	deps    Deps
	log     *slog.Logger
	metrics *metrics
	tls     *tls.Config
	epoch   uint64 // names this run

	table     *table
	lanes     *lanes
	turns     turns
	nodes     *nodes
	presence  presence
	registrar registrar
	reporter  reporter
	spreader  spreader

	listeners   []*listener
	handshakes  chan struct{} // a place for each handshake in progress
	rates       *rates
	connections atomic.Int64
	sessions    atomic.Int64
	lastConn    atomic.Uint64
	turn        atomic.Uint64
	draining    atomic.Bool

	ctx      context.Context // ends when the gate closes
	cancel   context.CancelFunc
	wg       sync.WaitGroup  // connections, their writers, lanes
	beats    context.Context // outlives connections: their end is still reported
	stopBeat context.CancelFunc
	beatsWG  sync.WaitGroup // beats, registrar, reporter, spreader
	acceptWG sync.WaitGroup

	mu         sync.Mutex
	started    bool
	rpcAddress string
}

// New builds a gate; nothing runs yet.
func New(cfg Config, deps Deps) (*Gate, error) {
	err := cfg.Validate()
	if deps.Dial == nil {
		err = errors.Join(err, errors.New("gate: no way to reach logic nodes"))
	}
	if cfg.ListenTLS != "" && (deps.TLS == nil || len(deps.TLS.Certificates) == 0 && deps.TLS.GetCertificate == nil) {
		err = errors.Join(err, errors.New("gate: listen_tls without a certificate"))
	}
	if cfg.ListenTCP != "" && !cfg.AllowClear && len(deps.Keys) == 0 {
		err = errors.Join(err, errors.New("gate: listen_tcp without a Noise key"))
	}
	if err != nil {
		return nil, err
	}
	g := &Gate{
		cfg: cfg, deps: deps, log: deps.Logger, metrics: newMetrics(deps.Metrics), epoch: rand.Uint64() | 1,
		table: newTable(), handshakes: make(chan struct{}, cfg.MaxHandshakes),
		rates: newRates(cfg.HandshakeRate, cfg.HandshakeBurst), rpcAddress: cfg.RPCAddress,
	}
	if g.log == nil {
		g.log = slog.New(slog.DiscardHandler)
	}
	if deps.TLS != nil {
		g.tls = deps.TLS.Clone()
		g.tls.MinVersion = tls.VersionTLS13
	}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	g.beats, g.stopBeat = context.WithCancel(context.Background())
	g.lanes = newLanes(g)
	g.turns = turns{g: g, next: make(chan *conn)}
	g.nodes = newNodes(g)
	g.registrar = registrar{g: g, wake: make(chan struct{}, 1)}
	g.reporter = reporter{g: g, wake: make(chan struct{}, 1)}
	g.spreader = spreader{g: g, wake: make(chan struct{}, 1)}
	return g, nil
}

// Start binds the listeners and begins to beat. Ready tells when a logic node has answered. ctx bounds the start alone.
// When it fails nothing is left behind.
func (g *Gate) Start(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.started || g.ctx.Err() != nil {
		return errors.New("gate: started before, or closed")
	}
	if err := g.listen(ctx); err != nil {
		g.closeListeners()
		return err
	}
	g.started = true
	g.nodes.learn(g.cfg.Logic, true)
	g.beatsWG.Go(func() { g.registrar.run(g.beats) })
	g.beatsWG.Go(func() { g.reporter.run(g.beats) })
	g.beatsWG.Go(func() { g.spreader.run(g.beats) })
	for _, l := range g.listeners {
		g.acceptWG.Go(func() { g.accept(l) })
	}
	g.log.Info("gate started", "addresses", g.Addrs(), "epoch", g.epoch)
	return nil
}

// Addrs are the bound addresses, as tcp://host:port and tls://host:port.
func (g *Gate) Addrs() []string {
	as := make([]string, len(g.listeners))
	for i, l := range g.listeners {
		as[i] = l.url()
	}
	return as
}

// Epoch names this run of the gate.
func (g *Gate) Epoch() uint64 { return g.epoch }

// SetRPCAddress sets the host:port where Deliver and Kick are served, for a port that is known only now. Beats carry it from then on.
func (g *Gate) SetRPCAddress(address string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.rpcAddress = address
}

// Ready reports whether messages can be taken: a logic node is ready, and the gate does not drain.
func (g *Gate) Ready() bool { return !g.draining.Load() && g.ctx.Err() == nil && g.nodes.ready() }

// Handler serves /healthz (the process lives) and /readyz (clients may be sent here).
func (g *Gate) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		switch {
		case g.Ready():
			fmt.Fprintln(w, "ready")
		case g.draining.Load():
			http.Error(w, "draining", http.StatusServiceUnavailable)
		default:
			http.Error(w, "no logic node is ready", http.StatusServiceUnavailable)
		}
	})
	return mux
}

// beatRequest is what the gate tells logic nodes now.
func (g *Gate) beatRequest() *logicpb.BeatRequest {
	g.mu.Lock()
	rpc := g.rpcAddress
	g.mu.Unlock()
	addresses := g.cfg.Advertise
	if len(addresses) == 0 {
		addresses = g.Addrs()
	}
	name := g.cfg.Name
	if name == "" && len(addresses) > 0 {
		name = addresses[0]
	}
	return &logicpb.BeatRequest{
		GateEpoch: g.epoch, Name: name, RpcAddress: rpc, ClientAddresses: addresses,
		Connections: uint32(max(g.connections.Load(), 0)), Sessions: uint32(max(g.sessions.Load(), 0)),
		Draining: g.draining.Load(), PresenceEpoch: g.presence.registered.Load(),
	}
}

// Drain stops the gate so that nobody loses anything: not ready, the leases say draining, listeners closed, connections told to
// leave, spread over DrainTime, each after its outstanding requests are answered; then the ends of sessions are reported, and Close.
// When ctx ends before, the rest is closed at once; the error says so.
func (g *Gate) Drain(ctx context.Context) error {
	g.draining.Store(true)
	g.log.Info("gate drains", "connections", g.connections.Load(), "over", g.cfg.DrainTime)
	g.nodes.probeAll()
	first, cancel := context.WithTimeout(ctx, g.cfg.BeatInterval)
	g.poll(first, g.nodes.toldDraining)
	cancel()
	g.closeListeners()
	g.acceptWG.Wait()

	conns := g.table.all()
	begun := time.Now()
	for i, c := range conns {
		due := begun.Add(g.cfg.DrainTime * time.Duration(i) / time.Duration(len(conns)))
		if wait := time.Until(due); wait > 10*time.Millisecond && !sleep(ctx, wait) {
			break
		}
		c.leave()
	}
	gone := g.poll(ctx, func() bool { return g.connections.Load() == 0 })
	told := g.poll(ctx, g.reporter.empty)
	err := g.Close()
	if !gone || !told {
		return errors.Join(fmt.Errorf("gate: drain was cut short: %w", context.Cause(ctx)), err)
	}
	return err
}

// poll waits until done; false: ctx ended before.
func (g *Gate) poll(ctx context.Context, done func() bool) bool {
	for !done() {
		if !sleep(ctx, 5*time.Millisecond) {
			return done()
		}
	}
	return true
}

// Close stops the gate at once: clients are told DRAINING, and what is in flight is bounded by the timeouts of lanes and closing.
// It may be called again, and without Start.
func (g *Gate) Close() error {
	g.draining.Store(true)
	g.closeListeners()
	g.acceptWG.Wait()
	g.cancel()
	for _, c := range g.table.all() {
		c.close(cause{code: status.Draining})
	}
	g.wg.Wait()
	// One try to report what has just ended, then the leases run out.
	ctx, cancel := context.WithTimeout(g.beats, g.cfg.BeatInterval)
	g.reporter.tell(ctx)
	cancel()
	g.stopBeat()
	g.beatsWG.Wait()
	return nil
}

func (g *Gate) closeListeners() {
	for _, l := range g.listeners {
		l.Close()
	}
}
