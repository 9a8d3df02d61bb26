package app

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// base is what every process has, whatever its role.
type base struct {
	*Process
	cfg     Config
	metrics *prometheus.Registry
	keys    Keys

	closeDomains func() // guarded by mu
}

// newBase checks the configuration, opens the data directory, reads the secrets and opens the admin port.
// What it opened belongs to the process: abandon closes it.
func newBase(role Role, cfg Config, logs io.Writer) (*base, error) {
	if err := cfg.Validate(role); err != nil {
		return nil, err
	}
	logger, level := newLogger(cfg.Log, logs)
	p := &Process{Logger: logger, role: role, grace: cfg.StopGrace, failures: make(chan error, 1)}
	b := &base{Process: p, cfg: cfg, metrics: prometheus.NewRegistry()}
	b.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	p.runtime = Runtime{Role: role, PID: os.Getpid(), StartedAt: time.Now().UTC()}
	if err := b.open(level); err != nil {
		return nil, p.abandon(cfg.explainTaken(err))
	}
	return b, nil
}

func (b *base) open(level *slog.LevelVar) (err error) {
	if b.cfg.DataDir != "" {
		if b.dir, err = openDataDir(b.cfg.DataDir); err != nil {
			return err
		}
		b.opened("data directory", func(context.Context) error { return b.dir.Close() })
	}
	if b.keys, err = ensureKeys(b.cfg.keysPath(), b.role == Standalone); err != nil {
		return err
	}
	for _, k := range b.keys.Public() {
		b.runtime.Keys = append(b.runtime.Keys, k.String())
	}
	if b.runtime.KeysFile, err = filepath.Abs(b.cfg.keysPath()); err != nil {
		return err
	}
	if b.cfg.Admin.Address == "" {
		return nil
	}
	a, err := newAdmin(b.cfg.Admin.Address, b.metrics, level, b.Ready)
	if err != nil {
		return err
	}
	b.opened("admin port", a.stop)
	b.runtime.Admin = a.addr()
	return nil
}

// tls is the certificate for clients; nil when they do not connect by TLS.
func (b *base) tls() (*tls.Config, error) {
	if b.cfg.Gate.ListenTLS == "" {
		return nil, nil
	}
	cert, key := b.cfg.TLS.CertFile, b.cfg.TLS.KeyFile
	if cert == "" {
		cert, key = b.dir.file(tlsCertName), b.dir.file(tlsKeyName)
		if err := ensureCertificate(cert, key, time.Now()); err != nil {
			return nil, err
		}
		b.runtime.TLSCert = cert
	}
	return loadTLS(cert, key)
}
