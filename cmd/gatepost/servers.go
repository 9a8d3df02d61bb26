package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/gatepost/gatepost/audit"
	"github.com/gatepost/gatepost/audit/limit"
	"github.com/gatepost/gatepost/audit/platform"
	"github.com/gatepost/gatepost/cmd/gatepost/internal/target"
	gatepost "github.com/gatepost/gatepost/sdk/go"
	"github.com/spf13/cobra"
)

// Values of --servers beside an address.
const (
	serversLocal   = "local"   // started for this run
	serversRunning = "running" // the one in --data-dir
)

// servers are the flags that say which platform a load runs against.
type servers struct {
	where   string
	to      target.Flags
	domain  string
	mysql   string
	redis   string
	kafka   []string
	backing string
	nodes   int
	cpu     []string
	keep    bool

	// For benches of a cluster.
	depthDatabase string         // name of a database that is kept over runs; "": one of this run alone
	commitDelay   *time.Duration // that commits take longer; nil: the database is reached directly

	anyKafka bool // kafka may be named for any platform: its topic is read
}

const serversHelp = `The platform is the one that --servers names:
  local     one that is started for this run from this very binary, and stopped after it: standalone on a fresh data directory, or
            a cluster of --nodes gates and as many logic nodes. With --backing the cluster stands on the MariaDB, the Redis and the
            Kafka that deploy/servers/up.sh --dir DIR has started, in a database of its own that is dropped afterwards. With --mysql and
            --redis, and --kafka where there is one, it stands on those (the database must be empty or left by an earlier run)
  running   the one that runs in --data-dir
  ADDRESS   a gate, tcp://host:port, with --keys-file for the secrets`

// add adds the flags. nodes is the default of --nodes.
func (s *servers) add(cmd *cobra.Command, nodes int) {
	s.to.Add(cmd.Flags())
	cmd.Flags().StringVar(&s.where, "servers", serversLocal, "local, running, or the address of a gate")
	cmd.Flags().StringVar(&s.domain, "domain", defaultDomain, "account system of the users (not with --servers local)")
	cmd.Flags().StringVar(&s.backing, "backing", "", "with --servers local: directory of the servers that deploy/servers/up.sh has started, for a cluster")
	cmd.Flags().StringVar(&s.mysql, "mysql", "", "with --servers local: data source name of a MySQL or MariaDB for a cluster")
	cmd.Flags().StringVar(&s.redis, "redis", "", "with --servers local: address of a Redis for a cluster")
	cmd.Flags().StringSliceVar(&s.kafka, "kafka", nil, "with --servers local: Kafka brokers, host:port (default: the own one of standalone)")
	cmd.Flags().IntVar(&s.nodes, "nodes", nodes, "gates of a cluster that is started, and as many logic nodes")
	cmd.Flags().StringArrayVar(&s.cpu, "cpu", nil, "NAME=PID of a server process that others started on this machine, whose CPU is counted too (repeatable)")
	cmd.Flags().BoolVar(&s.keep, "keep", false, "with --servers local: keep the servers' logs and data, and say where")
}

// openServers is a platform that a load runs against.
type openServers struct {
	named    *servers // the flags that named it
	target   audit.Target
	local    *platform.Platform // nil unless it was started for this run
	backing  *platform.Backing  // what local stands on; nil: not known
	others   []audit.Server     // of --cpu
	slow     *limit.SlowCommits // nil unless commits are delayed
	drop     func() error       // removes the database of this run
	database string
	dir      string // of local
	keep     bool
}

// cluster reports whether a cluster shall be started, and not standalone.
func (s *servers) cluster() bool { return s.mysql != "" || s.backing != "" }

// check checks the flags among each other.
func (s *servers) check() error {
	switch {
	case (s.mysql == "") != (s.redis == ""):
		return errors.New("--mysql and --redis belong together")
	case s.backing != "" && (s.mysql != "" || len(s.kafka) > 0):
		return errors.New("--backing names MariaDB, Redis and Kafka: --mysql, --redis and --kafka are for servers that are elsewhere")
	case s.where != serversLocal && (s.cluster() || len(s.kafka) > 0 && !s.anyKafka):
		return errors.New("--backing, --mysql, --redis and --kafka are for --servers local")
	case s.nodes < 1:
		return fmt.Errorf("--nodes %d: must be at least 1", s.nodes)
	}
	return nil
}

// open finds the platform or starts it. The caller closes it.
func (s *servers) open(ctx context.Context) (*openServers, error) {
	if err := s.check(); err != nil {
		return nil, usageError{err}
	}
	others, err := processesOf(s.cpu)
	if err != nil {
		return nil, usageError{err}
	}
	if s.where == serversLocal {
		o, err := s.start(ctx)
		if err != nil {
			return nil, err
		}
		o.others = others
		return o, nil
	}
	if s.where != serversRunning {
		address, err := gateAddress(s.where)
		if err != nil {
			return nil, usageError{fmt.Errorf("--servers %s: %w", s.where, err)}
		}
		s.to.Gates = append(s.to.Gates, address)
	}
	t, err := auditTarget(s.to, s.domain)
	return &openServers{named: s, target: t, others: others}, err
}

// processesOf reads the values of --cpu.
func processesOf(values []string) (out []audit.Server, err error) {
	for _, text := range values {
		name, number, _ := strings.Cut(text, "=")
		pid, err := strconv.Atoi(number)
		if name == "" || err != nil || pid < 1 {
			return nil, fmt.Errorf("--cpu %s: must be NAME=PID", text)
		}
		out = append(out, audit.Server{Name: name, PID: pid})
	}
	return out, nil
}

// gateAddress is text as tcp://host:port or tls://host:port.
func gateAddress(text string) (string, error) {
	scheme, hostPort, ok := strings.Cut(text, "://")
	if !ok {
		scheme, hostPort = "tcp", text
	}
	if _, _, err := net.SplitHostPort(hostPort); err != nil || scheme != "tcp" && scheme != "tls" {
		return "", fmt.Errorf("must be %s, %s, or the address of a gate: tcp://host:port or tls://host:port", serversLocal, serversRunning)
	}
	return scheme + "://" + hostPort, nil
}

// start starts a platform of this binary in a directory of its own.
func (s *servers) start(ctx context.Context) (*openServers, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this binary, to start servers: %w", err)
	}
	dir, err := os.MkdirTemp("", "gatepost-servers-")
	if err != nil {
		return nil, fmt.Errorf("directory for the servers: %w", err)
	}
	o := &openServers{named: s, dir: dir, keep: s.keep}
	err = s.startIn(ctx, o, platform.Options{Binary: exe, Dir: dir, MySQL: s.mysql, Redis: s.redis, Kafka: s.kafka,
		Set: []string{"gate.handshake_rate=0"}, // all clients have one address
	})
	if err != nil {
		return nil, errors.Join(err, o.Close())
	}
	return o, nil
}

// startIn fills o. What it has started when it fails is closed with o.
func (s *servers) startIn(ctx context.Context, o *openServers, opt platform.Options) (err error) {
	if s.cluster() {
		opt.Gates, opt.Logic = s.nodes, s.nodes
	}
	if s.backing != "" {
		if o.backing, err = platform.OpenBacking(s.backing, ""); err != nil {
			return usageError{fmt.Errorf("--backing: %w", err)}
		}
		opt.Redis = o.backing.Address(platform.Redis)
		if kafka := o.backing.Address(platform.Kafka); kafka != "" {
			opt.Kafka = []string{kafka}
		}
		if s.depthDatabase != "" {
			opt.MySQL, err = limit.KeptDatabase(ctx, o.backing.Address(platform.MariaDB), s.depthDatabase)
		} else {
			opt.MySQL, o.drop, err = platform.CreateDatabase(ctx, o.backing.Address(platform.MariaDB), "gatepost_bench")
		}
		if err != nil {
			return fmt.Errorf("--backing: %w", err)
		}
	}
	o.database = opt.MySQL
	if s.commitDelay != nil && opt.MySQL != "" {
		if o.slow, opt.MySQL, err = limit.NewSlowCommits(opt.MySQL, *s.commitDelay); err != nil {
			return err
		}
	}
	if len(opt.Kafka) > 0 { // other runs' records stay out of the topic
		opt.Topic = fmt.Sprintf("gatepost-bench-%x", rand.Uint64())
	}
	if o.local, err = platform.Start(ctx, opt); err != nil {
		return err
	}
	o.target, err = auditTarget(target.Flags{Gates: o.local.Addresses(), Keys: o.local.Keys(), KeysFile: o.local.KeysFile()}, platform.Domain)
	return err
}

// processes are those whose CPU can be measured.
func (o *openServers) processes() (out []audit.Server) {
	if o.local != nil {
		for _, p := range o.local.Processes() {
			out = append(out, audit.Server{Name: p.Name(), PID: p.PID()})
		}
	}
	if o.backing != nil {
		for _, p := range o.backing.Processes() {
			out = append(out, audit.Server(p))
		}
	}
	return append(out, o.others...)
}

// inboxRows counts rows in the database of a platform that was started for this run; nil for others.
func (o *openServers) inboxRows() func(ctx context.Context, prefix string) (int, error) {
	if o.local == nil {
		return nil
	}
	return o.local.InboxRows
}

// Close stops what open started, and removes what it wrote.
func (o *openServers) Close() error {
	var err error
	if o.local != nil {
		err = o.local.Close()
	}
	if o.slow != nil {
		err = errors.Join(err, o.slow.Close())
	}
	if o.drop != nil && !o.keep {
		err = errors.Join(err, o.drop())
	}
	switch {
	case o.dir == "":
	case o.keep:
		fmt.Fprintln(os.Stderr, strings.TrimSpace("logs and data of the servers: "+o.dir+" "+o.database))
	default:
		err = errors.Join(err, os.RemoveAll(o.dir))
	}
	return err
}

// auditTarget is a platform as the engine of package audit sees it.
func auditTarget(flags target.Flags, domain string) (audit.Target, error) {
	found, err := flags.Find()
	if err != nil {
		return audit.Target{}, err
	}
	if !found.CanMint() {
		return audit.Target{}, usageError{errors.New("tokens for the users are made with the platform's secrets: name them by --keys-file")}
	}
	t := audit.Target{
		Gates: found.Gates, Domain: domain, TLS: found.TLS,
		Token: func(_ context.Context, uid string) (string, error) {
			return found.Token(gatepost.User{Domain: domain, UID: uid})
		},
	}
	for _, k := range found.Keys {
		t.Keys = append(t.Keys, k.String())
	}
	return t, nil
}
