package app

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"syscall"

	"github.com/spf13/pflag"
)

// ErrAddressTaken: an address to listen on is in use by another process.
var ErrAddressTaken = errors.New("address is taken")

// setting is a flag with a short name for a key that is often set. Every other key is set by --set key=value.
type setting struct {
	flag, key, usage string
	roles            []Role
}

var settings = []setting{
	{"data-dir", "data_dir", "directory for the database, the secrets and the runtime file", Roles},
	{"keys-file", "keys_file", "file with the secrets of all nodes, made by gatepost keys init", Roles},
	{"domains", "domains", "account systems whose users log in with the platform's own tokens, comma separated, instead of those in the file; * for any", []Role{Standalone, Logic}},
	{"tcp", "gate.listen_tcp", "address for clients, sealed by Noise", []Role{Standalone, Gate}},
	{"tls", "gate.listen_tls", "address for clients, TLS 1.3", []Role{Standalone, Gate}},
	{"tls-cert", "tls.cert_file", "certificate for --tls, PEM", []Role{Standalone, Gate}},
	{"tls-key", "tls.key_file", "private key of the certificate, PEM", []Role{Standalone, Gate}},
	{"advertise", "gate.advertise", "addresses as clients reach them, tcp://host:port or tls://host:port, comma separated", []Role{Gate}},
	{"logic", "gate.logic", "addresses of logic nodes to begin with, comma separated", []Role{Gate}},
	{"rpc", "rpc_listen", "address for the other nodes", []Role{Gate, Logic}},
	{"app", "app_listen", "address for app-servers, gRPC and Kitex", []Role{Standalone, Logic}},
	{"kafka", "kafka.brokers", "addresses of Kafka, comma separated", []Role{Standalone, Logic}},
	{"kafka-listen", "kafka.listen", "address of the Kafka in this process, when --kafka names none", []Role{Standalone}},
	{"kafka-advertise", "kafka.advertise", "host or host:port of that Kafka as consumers reach it, when they run on other machines", []Role{Standalone}},
	{"mysql", "sql.dsn", "data source name of MySQL or MariaDB: user:password@tcp(host:port)/name", []Role{Logic}},
	{"redis", "redis.addresses", "addresses of Redis, comma separated", []Role{Logic}},
	{"admin", "admin.address", "address for metrics, health, pprof and the log level", Roles},
	{"log-level", "log.level", "debug, info, warn or error", Roles},
	{"log-format", "log.format", "text or json", Roles},
	{"stop-grace", "stop_grace", "longest time that a stop may take", Roles},
}

// AddFlags defines the flags of role, or only those that are named. Load takes those that were set.
func AddFlags(fs *pflag.FlagSet, role Role, only ...string) {
	cfg := Default(role)
	defaults := make(map[string]string)
	for _, f := range fieldsOf(&cfg) {
		defaults[f.key] = f.text()
	}
	for _, s := range settings {
		if !slices.Contains(s.roles, role) || len(only) > 0 && !slices.Contains(only, s.flag) {
			continue
		}
		fs.String(s.flag, defaults[s.key], fmt.Sprintf("%s (%s)", s.usage, s.key))
		if err := fs.SetAnnotation(s.flag, flagKey, []string{s.key}); err != nil {
			panic(err) // the flag was defined one line above
		}
	}
}

// explainTaken adds to the error of a listener whose address is taken which flag chooses another one.
func (c Config) explainTaken(err error) error {
	var op *net.OpError
	if !errors.Is(err, syscall.EADDRINUSE) || !errors.As(err, &op) || op.Addr == nil {
		return err
	}
	_, port, _ := net.SplitHostPort(op.Addr.String())
	for key, address := range map[string]string{
		"gate.listen_tcp": c.Gate.ListenTCP, "gate.listen_tls": c.Gate.ListenTLS, "rpc_listen": c.RPCListen, "admin.address": c.Admin.Address,
		"app_listen": c.AppListen, "kafka.listen": c.Kafka.Listen,
	} {
		if _, p, err := net.SplitHostPort(address); err != nil || p != port {
			continue
		}
		i := slices.IndexFunc(settings, func(s setting) bool { return s.key == key })
		return fmt.Errorf("%w: %s is in use by another process: stop that one, or choose another address by --%s (port 0: any free one)",
			ErrAddressTaken, address, settings[i].flag)
	}
	return fmt.Errorf("%w: %w", ErrAddressTaken, err)
}
