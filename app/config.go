package app

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"time"

	"github.com/gatepost/gatepost/gate"
	"github.com/gatepost/gatepost/logic"
	"github.com/gatepost/gatepost/mq/kafka"
	"github.com/gatepost/gatepost/store/redis"
	"github.com/gatepost/gatepost/store/sql"
)

// Role is what a process is.
type Role string

// The roles.
const (
	Standalone Role = "standalone" // the whole platform, with SQLite and presence in memory
	Gate       Role = "gate"
	Logic      Role = "logic"
)

// Roles are all roles.
var Roles = []Role{Standalone, Gate, Logic}

// Default ports, on loopback in standalone.
const (
	PortTCP        = "7100"
	PortTLS        = "7101"
	PortGateRPC    = "7110"
	PortLogicRPC   = "7120"
	PortApp        = "7130"
	PortKafka      = "7140"
	PortAdmin      = "7190"
	portGateAdmin  = "7191"
	portLogicAdmin = "7192"
)

// Config of a process: one section for each room, and what belongs to the process itself. One file serves all nodes of a cluster;
// a role looks only at the sections that it uses.
type Config struct {
	// DataDir is the directory, mode 0700, in which the process keeps its files and tells where it can be reached.
	// One process uses it at a time. Empty (the default of gates and logic nodes): nothing is kept.
	DataDir string `koanf:"data_dir"`
	// KeysFile holds the secrets that all nodes share, mode 0600. Empty: keys.json in DataDir. Standalone makes it when it is missing.
	KeysFile string `koanf:"keys_file"`
	// Domains are the account systems by their names, "*" for every one that has no entry. They are read again at SIGHUP.
	// The environment and flags can give names only, which then have the platform's own tokens; their settings stand in a file.
	Domains map[string]Domain `koanf:"domains"`
	// RPCListen is the host:port where a gate or a logic node serves the other nodes. What they are told is gate.rpc_address
	// and logic.rpc_address; when those are empty, the bound address. Not used in standalone.
	RPCListen string `koanf:"rpc_listen"`
	// AppListen is the host:port where app-servers reach a logic node, by gRPC or Kitex and with an app key. Empty: they do not.
	AppListen string `koanf:"app_listen"`
	// StopGrace is the longest time that a stop in order may take. It must be longer than gate.drain_time and logic.stop_grace.
	StopGrace time.Duration `koanf:"stop_grace"`

	Log   Log          `koanf:"log"`
	Admin Admin        `koanf:"admin"`
	TLS   TLS          `koanf:"tls"`
	Gate  gate.Config  `koanf:"gate"`
	Logic logic.Config `koanf:"logic"`
	SQL   sql.Config   `koanf:"sql"`
	Redis Redis        `koanf:"redis"`
	Kafka Kafka        `koanf:"kafka"`
}

// Redis is the server that holds the presence table, and the table in it.
type Redis struct {
	redis.ClientConfig `koanf:",squash"`
	redis.Config       `koanf:",squash"`
}

// Log says what is logged to stderr, and how.
type Log struct {
	Level  string `koanf:"level"`  // the least that is logged: debug, info, warn or error; PUT /loglevel on the admin port changes it
	Format string `koanf:"format"` // text (key=value) or json, a line each
}

func (l Log) level() slog.Level {
	var level slog.Level
	if err := level.UnmarshalText([]byte(l.Level)); err != nil {
		return slog.LevelInfo // Validate has refused it
	}
	return level
}

// Admin is the port for people and Prometheus.
type Admin struct {
	// Address is host:port. Empty: no admin port.
	Address string `koanf:"address"`
	// AllowRemote admits an address that is not loopback. The port has no authentication.
	AllowRemote bool `koanf:"allow_remote"`
}

// TLS is the certificate for gate.listen_tls.
type TLS struct {
	// CertFile and KeyFile are the certificate and its private key, PEM. Empty: see SelfMade.
	CertFile string `koanf:"cert_file"`
	KeyFile  string `koanf:"key_file"`
	// SelfMade makes a self-signed certificate in DataDir when no files are named. For development: clients have to be told to trust it.
	SelfMade bool `koanf:"self_made"`
}

// Default is what role runs with when it is told nothing.
func Default(role Role) Config {
	cfg := Config{
		StopGrace: 30 * time.Second,
		Log:       Log{Level: "info", Format: "text"},
		Gate:      gate.Default(),
		Logic:     logic.Default(),
		SQL:       sql.Default(),
		Redis:     Redis{redis.DefaultClient(), redis.Default()},
		Kafka:     Kafka{Config: kafka.Default()},
	}
	switch role {
	case Standalone:
		cfg.DataDir = "data"
		cfg.AppListen = net.JoinHostPort("127.0.0.1", PortApp)
		cfg.Kafka.Listen = net.JoinHostPort("127.0.0.1", PortKafka)
		cfg.Domains = cfg.named(role, []string{anyDomain})
		cfg.Gate.ListenTCP = net.JoinHostPort("127.0.0.1", PortTCP)
		cfg.Gate.ListenTLS = net.JoinHostPort("127.0.0.1", PortTLS)
		cfg.Gate.DrainTime = time.Second // there is no other gate to go to
		cfg.Logic.StopGrace = 0          // the gate has gone before, nobody is to be told
		cfg.Admin.Address = net.JoinHostPort("127.0.0.1", PortAdmin)
		cfg.TLS.SelfMade = true
	case Gate:
		cfg.Gate.ListenTCP = net.JoinHostPort("0.0.0.0", PortTCP)
		cfg.Gate.Logic = []string{net.JoinHostPort("127.0.0.1", PortLogicRPC)}
		cfg.RPCListen = net.JoinHostPort("127.0.0.1", PortGateRPC)
		cfg.Admin.Address = net.JoinHostPort("127.0.0.1", portGateAdmin)
	case Logic:
		cfg.RPCListen = net.JoinHostPort("127.0.0.1", PortLogicRPC)
		cfg.SQL.Driver = sql.DriverMySQL
		cfg.Admin.Address = net.JoinHostPort("127.0.0.1", portLogicAdmin)
	}
	return cfg
}

// keysPath is the path of the keys file; "" when neither it nor a data directory is named.
func (c Config) keysPath() string {
	if c.KeysFile == "" && c.DataDir != "" {
		return filepath.Join(c.DataDir, KeysName)
	}
	return c.KeysFile
}

// Validate checks what role uses, and returns all faults joined.
func (c Config) Validate(role Role) error {
	var faults []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	var level slog.Level
	fault(level.UnmarshalText([]byte(c.Log.Level)) != nil, "log.level is %q: must be debug, info, warn or error", c.Log.Level)
	fault(c.Log.Format != "text" && c.Log.Format != "json", "log.format is %q: must be text or json", c.Log.Format)
	fault(c.StopGrace <= 0, "stop_grace is %v: must be above zero", c.StopGrace)
	if c.Admin.Address != "" {
		if err := checkAdminAddress(c.Admin.Address, c.Admin.AllowRemote); err != nil {
			fault(true, "admin.address %q: %w", c.Admin.Address, err)
		}
	}
	fault(c.keysPath() == "", "keys_file is not set: make one for all nodes by gatepost keys init")
	if role != Gate {
		fault(c.StopGrace <= c.Logic.StopGrace, "stop_grace (%v) must be longer than logic.stop_grace (%v)", c.StopGrace, c.Logic.StopGrace)
		faults = append(faults, c.Logic.Validate(), c.validateDomains(role), c.validateKafka(role), c.validateAppListen())
	}
	if role != Logic {
		fault(c.StopGrace <= c.Gate.DrainTime, "stop_grace (%v) must be longer than gate.drain_time (%v)", c.StopGrace, c.Gate.DrainTime)
		faults = append(faults, c.validateTLS())
	}
	switch role {
	case Standalone:
		fault(c.DataDir == "", "data_dir is not set")
		g := c.standalone().Gate
		faults = append(faults, g.Validate())
	case Gate:
		faults = append(faults, c.Gate.Validate(), c.validateRPC("gate.rpc_address", c.Gate.RPCAddress))
		fault(c.Gate.Lanes.BatchTimeout < c.Logic.HandleTimeout, "gate.lanes.batch_timeout (%v) must not be below logic.handle_timeout (%v)",
			c.Gate.Lanes.BatchTimeout, c.Logic.HandleTimeout)
	case Logic:
		faults = append(faults, c.SQL.Validate(), c.Redis.Validate(), c.validateRPC("logic.rpc_address", c.Logic.RPCAddress))
		fault(len(c.Redis.Addresses) == 0, "redis.addresses is empty")
		fault(c.Redis.RouteTTL <= 2*c.Gate.WalkInterval, "redis.route_ttl (%v) must be longer than two of gate.walk_interval (%v), which renews routes",
			c.Redis.RouteTTL, c.Gate.WalkInterval)
		fault(c.Redis.TombstoneTTL <= c.Gate.WalkInterval, "redis.tombstone_ttl (%v) must be longer than gate.walk_interval (%v)",
			c.Redis.TombstoneTTL, c.Gate.WalkInterval)
	default:
		fault(true, "role %q is not one of %v", role, Roles)
	}
	return errors.Join(faults...)
}

// standalone is c with what standalone has of itself: everything lies in the data directory.
func (c Config) standalone() Config {
	c.SQL.Driver, c.SQL.AutoMigrate = sql.DriverSQLite, true
	if c.SQL.Path == "" {
		c.SQL.Path = filepath.Join(c.DataDir, sqliteName)
	}
	c.Gate.Logic = []string{inProcess}
	c.Gate.RPCAddress = inProcess
	return c
}

// validateRPC checks the address where a node serves the others, and the one that they are told.
func (c Config) validateRPC(key, told string) error {
	host, _, err := net.SplitHostPort(c.RPCListen)
	switch ip := net.ParseIP(host); {
	case c.RPCListen == "":
		return errors.New("rpc_listen is not set: the other nodes could not reach this one")
	case err != nil:
		return fmt.Errorf("rpc_listen %q is not host:port", c.RPCListen)
	case told == "" && (host == "" || ip != nil && ip.IsUnspecified()):
		return fmt.Errorf("rpc_listen %q is every address of this machine: say by %s which one the other nodes are to use", c.RPCListen, key)
	}
	return nil
}

func (c Config) validateTLS() error {
	switch {
	case (c.TLS.CertFile == "") != (c.TLS.KeyFile == ""):
		return errors.New("tls.cert_file and tls.key_file belong together")
	case c.Gate.ListenTLS == "" || c.TLS.CertFile != "" || c.TLS.SelfMade && c.DataDir != "":
		return nil
	}
	return errors.New("gate.listen_tls needs tls.cert_file and tls.key_file (or, for development, tls.self_made and a data_dir)")
}
