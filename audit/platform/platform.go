package platform

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Domain is the account system of the users that Token makes tokens for.
const Domain = "local"

// Options of a platform. Gates and Logic both 0: standalone.
type Options struct {
	Binary string // path of gatepost
	Dir    string // of everything that the platform writes; made when it is missing
	Gates  int
	Logic  int
	MySQL  string   // for a cluster: DSN of a database that is there, and empty or this platform's from before
	Redis  string   // for a cluster: host:port
	Kafka  []string // brokers, host:port; empty: standalone has its own, a cluster none
	Topic  string   // of every uplink; default "uplinks"
	// Accept are the domains whose users may write to those of Domain. More are further entries of the configuration's domains, by name.
	Accept []string
	More   map[string]string
	Prefix string        // of the keys in Redis; empty: drawn
	TLS    bool          // the gates listen with TLS too
	Set    []string      // key=value of the configuration of every server
	Wait   time.Duration // for a server to be ready or gone; default 30 s
}

// Platform is a set of server processes of this machine.
type Platform struct {
	Gates    []*Process // in standalone the one process
	Logic    []*Process // in standalone empty
	opt      Options
	keysFile string
	keys     []string // public
	config   string   // path of the configuration file
	apps     []string // where app-servers call
	brokers  []string
	store    []string // flags that name the database

	mu     sync.Mutex
	tokens map[string]string // by domain/uid
	appKey string
}

// Start starts a platform. What had been started is stopped again when it fails.
func Start(ctx context.Context, opt Options) (*Platform, error) {
	if opt.Wait == 0 {
		opt.Wait = 30 * time.Second
	}
	if (opt.Gates == 0) != (opt.Logic == 0) {
		return nil, errors.New("platform: a cluster needs gates and logic nodes")
	}
	if opt.Gates > 0 && (opt.MySQL == "" || opt.Redis == "") {
		return nil, errors.New("platform: a cluster needs the addresses of MySQL and Redis")
	}
	dir, err := filepath.Abs(opt.Dir)
	if err != nil {
		return nil, err
	}
	opt.Dir = dir
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("platform: %w", err)
	}
	if opt.Topic == "" {
		opt.Topic = "uplinks"
	}
	p := &Platform{opt: opt, tokens: map[string]string{}, brokers: opt.Kafka, config: filepath.Join(dir, "gatepost.yaml")}
	if err := p.writeConfig(); err != nil {
		return nil, err
	}
	build := p.standalone
	if opt.Gates > 0 {
		build = p.cluster
	}
	if err := build(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("platform: %w", err), p.Close())
	}
	return p, nil
}

func (p *Platform) standalone(ctx context.Context) error {
	data := filepath.Join(p.opt.Dir, "data")
	p.apps = []string{freeAddress()}
	args := []string{"standalone", "--config", p.config, "--data-dir", data, "--tcp", freeAddress(), "--admin", freeAddress(), "--set", "app_listen=" + p.apps[0]}
	if len(p.opt.Kafka) == 0 {
		p.brokers = []string{freeAddress()}
		args = append(args, "--set", "kafka.listen="+p.brokers[0])
	}
	p.store = []string{"--data-dir", data}
	args = append(args, p.tls()...)
	proc := p.process("standalone", args)
	p.Gates = []*Process{proc}
	p.keysFile = filepath.Join(data, "keys.json")
	if err := proc.Start(ctx); err != nil {
		return err
	}
	p.keys = proc.ready["key"]
	return nil
}

func (p *Platform) cluster(ctx context.Context) error {
	dsn, prefix := p.opt.MySQL, p.opt.Prefix
	if prefix == "" {
		prefix = randomPrefix()
	}
	p.keysFile = filepath.Join(p.opt.Dir, "keys.json")
	if _, err := os.Stat(p.keysFile); err != nil {
		if _, err := p.Command(ctx, "keys", "init", "--keys-file", p.keysFile); err != nil {
			return err
		}
	}
	if _, err := p.Command(ctx, "migrate", "up", "--mysql", dsn); err != nil {
		return err
	}
	var rpc []string
	for range p.opt.Logic {
		rpc = append(rpc, freeAddress())
	}
	p.store = []string{"--mysql", dsn}
	for i, address := range rpc {
		p.apps = append(p.apps, freeAddress())
		p.Logic = append(p.Logic, p.process(fmt.Sprintf("logic %d", i+1), []string{"logic", "--config", p.config, "--keys-file", p.keysFile,
			"--mysql", dsn, "--redis", p.opt.Redis, "--rpc", address, "--admin", freeAddress(), "--set", "redis.prefix=" + prefix,
			"--set", "app_listen=" + p.apps[i]}))
	}
	for i := range p.opt.Gates {
		args := []string{"gate", "--keys-file", p.keysFile, "--tcp", freeAddress(), "--rpc", freeAddress(), "--logic", strings.Join(rpc, ","),
			"--admin", freeAddress(), "--data-dir", filepath.Join(p.opt.Dir, fmt.Sprintf("gate-%d", i+1)), "--set", "gate.drain_time=1s"}
		p.Gates = append(p.Gates, p.process(fmt.Sprintf("gate %d", i+1), append(args, p.tls()...)))
	}
	for _, proc := range p.Processes() {
		if err := proc.Start(ctx); err != nil {
			return err
		}
	}
	p.keys = p.Gates[0].ready["key"]
	return nil
}

// writeConfig writes what all servers share.
func (p *Platform) writeConfig() error {
	text := fmt.Sprintf("domains:\n  %s:\n    auth: {kind: token}\n    accept_from: [%s]\n", Domain, strings.Join(p.opt.Accept, ", "))
	if p.opt.Gates == 0 || len(p.opt.Kafka) > 0 {
		text += fmt.Sprintf("    uplinks: {default: %q}\n", p.opt.Topic)
	}
	for name, entry := range p.opt.More {
		text += fmt.Sprintf("  %s: %s\n", name, entry)
	}
	if len(p.opt.Kafka) > 0 {
		text += "kafka:\n  brokers: [" + strings.Join(p.opt.Kafka, ", ") + "]\n"
	}
	if err := os.WriteFile(p.config, []byte(text), 0o600); err != nil {
		return fmt.Errorf("platform: %w", err)
	}
	return nil
}

func (p *Platform) tls() []string {
	if !p.opt.TLS {
		return []string{"--tls", ""}
	}
	return []string{"--tls", freeAddress(), "--set", "tls.self_made=true"}
}

func (p *Platform) process(name string, args []string) *Process {
	args = append(args, "--exit-on-stdin-eof")
	for _, kv := range p.opt.Set {
		args = append(args, "--set", kv)
	}
	return &Process{name: name, binary: p.opt.Binary, args: args, timeout: p.opt.Wait,
		log: filepath.Join(p.opt.Dir, strings.ReplaceAll(name, " ", "-")+".log")}
}

// Processes are all server processes, logic nodes first.
func (p *Platform) Processes() []*Process {
	return append(append([]*Process(nil), p.Logic...), p.Gates...)
}

// Addresses are those of the gates, as the SDK takes them.
func (p *Platform) Addresses() []string {
	var out []string
	for _, g := range p.Gates {
		out = append(out, "tcp://"+g.Ready("tcp"))
	}
	return out
}

// Keys are the public keys of the gates.
func (p *Platform) Keys() []string { return p.keys }

// Apps are the addresses for app-servers.
func (p *Platform) Apps() []string { return p.apps }

// Brokers are the Kafka brokers that uplinks go to; nil: there are none.
func (p *Platform) Brokers() []string { return p.brokers }

// Topic is where every uplink goes.
func (p *Platform) Topic() string { return p.opt.Topic }

// AppKey is an app key of Domain with all rights, made once by the binary.
func (p *Platform) AppKey(ctx context.Context) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.appKey != "" {
		return p.appKey, nil
	}
	key, err := p.AddAppKey(ctx, Domain, "push,presence,kick,token")
	if err != nil {
		return "", err
	}
	p.appKey = key
	return key, nil
}

// AddAppKey makes another app key of a domain, with rights that are separated by commas.
func (p *Platform) AddAppKey(ctx context.Context, domain, rights string) (string, error) {
	out, err := p.Command(ctx, append([]string{"app-key", "add", "--json", "--domain", domain, "--rights", rights}, p.store...)...)
	if err != nil {
		return "", err
	}
	var made struct {
		Key string `json:"key"`
	}
	if err := json.Unmarshal([]byte(out), &made); err != nil || made.Key == "" {
		return "", fmt.Errorf("app-key add --json: no key in its answer: %w", err)
	}
	return made.Key, nil
}

// RevokeAppKey revokes an app key.
func (p *Platform) RevokeAppKey(ctx context.Context, key string) error {
	id, _, _ := strings.Cut(key, ".")
	_, err := p.Command(ctx, append([]string{"app-key", "revoke", id}, p.store...)...)
	return err
}

// KeysFile holds the secrets of the platform.
func (p *Platform) KeysFile() string { return p.keysFile }

// Dir holds everything that the platform writes.
func (p *Platform) Dir() string { return p.opt.Dir }

// Token is a token of a user of Domain, made by the binary. Tokens are kept for an hour of tests.
func (p *Platform) Token(ctx context.Context, uid string) (string, error) {
	return p.TokenIn(ctx, Domain, uid)
}

// TokenIn is a token of a user of any domain whose tokens are the platform's own.
func (p *Platform) TokenIn(ctx context.Context, domain, uid string) (string, error) {
	user := domain + "/" + uid
	p.mu.Lock()
	t, ok := p.tokens[user]
	p.mu.Unlock()
	if ok {
		return t, nil
	}
	t, err := p.Command(ctx, "token", "--keys-file", p.keysFile, "--ttl", "2h", "--domain", domain, "--uid", uid)
	if err != nil {
		return "", err
	}
	t = strings.TrimSpace(t)
	p.mu.Lock()
	p.tokens[user] = t
	p.mu.Unlock()
	return t, nil
}

// Command runs the binary to its end and returns what it printed.
func (p *Platform) Command(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, p.opt.Binary, args...)
	cmd.Env = environ()
	var out, fault strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &fault
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("gatepost %s: %w: %s", strings.Join(args[:min(2, len(args))], " "), err, strings.TrimSpace(fault.String()))
	}
	return out.String(), nil
}

// Kill ends all processes at once.
func (p *Platform) Kill() error {
	return together(p.Processes(), (*Process).Kill)
}

// Start starts all processes that do not run, on their old addresses.
func (p *Platform) Start(ctx context.Context) error {
	return together(p.Processes(), func(proc *Process) error {
		if proc.PID() != 0 {
			return nil
		}
		return proc.Start(ctx)
	})
}

// Close stops all processes in order, gates first. Files and the database stay.
func (p *Platform) Close() error {
	return errors.Join(together(p.Gates, (*Process).Stop), together(p.Logic, (*Process).Stop))
}

// together calls f for all processes at once.
func together(procs []*Process, f func(*Process) error) error {
	errs := make([]error, len(procs))
	var wg sync.WaitGroup
	for i, proc := range procs {
		wg.Go(func() { errs[i] = f(proc) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// freeAddress is a loopback address whose port is free, and outside of the range from which the system takes the ports of outgoing
// connections: a client that dials a server that was killed could otherwise be given the server's port, and connect to itself.
func freeAddress() string {
	for range 1000 {
		address := fmt.Sprintf("127.0.0.1:%d", 15000+mathrand.IntN(16000))
		l, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		if l.Close() == nil {
			return address
		}
	}
	return "127.0.0.1:0"
}

// randomPrefix is a prefix of keys that nobody else has.
func randomPrefix() string {
	b := make([]byte, 6)
	_, _ = rand.Read(b) // never fails
	return "gp" + hex.EncodeToString(b) + ":"
}
