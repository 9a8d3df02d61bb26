package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/gatepost/gatepost/audit"
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
	where  string
	to     target.Flags
	domain string
	mysql  string
	redis  string
	keep   bool
}

const serversHelp = `The platform is the one that --servers names:
  local     one that is started for this run from this very binary, and stopped after it: standalone on a fresh data directory, or,
            with --mysql and --redis, a cluster of one gate and one logic node (its database must be empty or left by an earlier run)
  running   the one that runs in --data-dir
  ADDRESS   a gate, tcp://host:port, with --keys-file for the secrets`

func (s *servers) add(cmd *cobra.Command) {
	s.to.Add(cmd.Flags())
	cmd.Flags().StringVar(&s.where, "servers", serversLocal, "local, running, or the address of a gate")
	cmd.Flags().StringVar(&s.domain, "domain", defaultDomain, "account system of the users (not with --servers local)")
	cmd.Flags().StringVar(&s.mysql, "mysql", "", "with --servers local: data source name of a MySQL or MariaDB for a cluster")
	cmd.Flags().StringVar(&s.redis, "redis", "", "with --servers local: address of a Redis for a cluster")
	cmd.Flags().BoolVar(&s.keep, "keep", false, "with --servers local: keep the servers' logs and data, and say where")
}

// openServers is a platform that a load runs against.
type openServers struct {
	target audit.Target
	local  *platform.Platform // nil unless it was started for this run
	dir    string             // of local
	keep   bool
}

// open finds the platform or starts it. The caller closes it.
func (s *servers) open(ctx context.Context) (*openServers, error) {
	if (s.mysql == "") != (s.redis == "") {
		return nil, usageError{errors.New("--mysql and --redis belong together")}
	}
	if s.where == serversLocal {
		return s.start(ctx)
	}
	if s.mysql != "" {
		return nil, usageError{errors.New("--mysql and --redis are for --servers local")}
	}
	if s.where != serversRunning {
		address, err := gateAddress(s.where)
		if err != nil {
			return nil, usageError{fmt.Errorf("--servers %s: %w", s.where, err)}
		}
		s.to.Gates = append(s.to.Gates, address)
	}
	t, err := auditTarget(s.to, s.domain)
	return &openServers{target: t}, err
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
	o := &openServers{dir: dir, keep: s.keep}
	opt := platform.Options{Binary: exe, Dir: dir, MySQL: s.mysql, Redis: s.redis}
	if s.mysql != "" {
		opt.Gates, opt.Logic = 1, 1
	}
	if o.local, err = platform.Start(ctx, opt); err != nil {
		return nil, errors.Join(err, o.Close())
	}
	o.target, err = auditTarget(target.Flags{Gates: o.local.Addresses(), Keys: o.local.Keys(), KeysFile: o.local.KeysFile()}, platform.Domain)
	if err != nil {
		return nil, errors.Join(err, o.Close())
	}
	return o, nil
}

// processes are those whose CPU can be measured.
func (o *openServers) processes() (out []audit.Server) {
	if o.local == nil {
		return nil
	}
	for _, p := range o.local.Processes() {
		out = append(out, audit.Server{Name: p.Name(), PID: p.PID()})
	}
	return out
}

// Close stops what open started, and removes what it wrote.
func (o *openServers) Close() error {
	var err error
	if o.local != nil {
		err = o.local.Close()
	}
	switch {
	case o.dir == "":
	case o.keep:
		fmt.Fprintln(os.Stderr, "logs and data of the servers:", o.dir)
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
