package app

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// KeysName is the keys file in a data directory.
const KeysName = "keys.json"

// Other names in a data directory.
const (
	runtimeName = "runtime.json"
	lockName    = "lock"
	sqliteName  = "gatepost.db"
	kafkaName   = "kafka"
	tlsCertName = "tls-cert.pem"
	tlsKeyName  = "tls-key.pem"
)

// ErrInUse: another process works in the data directory.
var ErrInUse = errors.New("another gatepost uses it")

// dataDir is an open data directory: this process has it for itself.
type dataDir struct {
	path string
	lock *os.File
}

// openDataDir makes the directory, mode 0700, when it is missing, and locks it.
func openDataDir(path string) (*dataDir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(path, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("data directory %s: %w: stop it, or choose another directory by --data-dir", path, ErrInUse)
		}
		return nil, fmt.Errorf("lock data directory %s: %w", path, err)
	}
	return &dataDir{path, lock}, nil
}

func (d *dataDir) file(name string) string { return filepath.Join(d.path, name) }

// Close leaves the directory: nobody is to be reached there any more.
func (d *dataDir) Close() error {
	return errors.Join(d.removeRuntime(), d.lock.Close()) // which unlocks
}

// Runtime is where a running process can be reached. It lies in the data directory while the process runs,
// so that chat, demo and the like need to be told the directory only.
type Runtime struct {
	Role      Role      `json:"role"`
	PID       int       `json:"pid"`
	StartedAt time.Time `json:"started_at"`
	TCP       string    `json:"tcp,omitempty"`   // for clients, sealed by Noise
	TLS       string    `json:"tls,omitempty"`   // for clients
	RPC       string    `json:"rpc,omitempty"`   // for the other nodes
	App       string    `json:"app,omitempty"`   // for app-servers
	Kafka     []string  `json:"kafka,omitempty"` // brokers of the topics
	Topics    []Route   `json:"topics,omitempty"`
	Retention string    `json:"retention,omitempty"` // of the records, when the Kafka is the process's own: a time, or ForEver
	Admin     string    `json:"admin,omitempty"`     // for people and Prometheus
	Keys      []string  `json:"keys,omitempty"`      // public keys of the gate, as clients pin them
	KeysFile  string    `json:"keys_file,omitempty"`
	TLSCert   string    `json:"tls_cert,omitempty"` // file of the self-made certificate
}

// Route says where the uplinks of one account system go.
type Route struct {
	Domain string `json:"domain"` // "*": every one without an entry of its own
	Type   string `json:"type"`   // a type, or a pattern that ends in "*"; "*": every other one; "(events)": not of users, but about them
	Topic  string `json:"topic"`
}

// Ready is the line that a server process prints when it serves: READY, its role, and name=value for each address and key.
func (r Runtime) Ready() string {
	var b strings.Builder
	fmt.Fprintf(&b, "READY %s", r.Role)
	for _, kv := range [][2]string{{"tcp", r.TCP}, {"tls", r.TLS}, {"rpc", r.RPC}, {"app", r.App}, {"kafka", strings.Join(r.Kafka, ",")}, {"admin", r.Admin}} {
		if kv[1] != "" {
			fmt.Fprintf(&b, " %s=%s", kv[0], kv[1])
		}
	}
	for _, k := range r.Keys {
		fmt.Fprintf(&b, " key=%s", k)
	}
	return b.String()
}

// ReadRuntime finds the process that runs in a data directory.
func ReadRuntime(dir string) (Runtime, error) {
	path := filepath.Join(dir, runtimeName)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Runtime{}, fmt.Errorf("no gatepost runs in %s: start one by gatepost standalone --data-dir %s", dir, dir)
	}
	if err != nil {
		return Runtime{}, fmt.Errorf("runtime file: %w", err)
	}
	var r Runtime
	if err := json.Unmarshal(b, &r); err != nil {
		return Runtime{}, fmt.Errorf("runtime file %s: %w", path, err)
	}
	if errors.Is(syscall.Kill(r.PID, 0), syscall.ESRCH) {
		return Runtime{}, fmt.Errorf("the %s that ran in %s was killed: start it again by gatepost %s --data-dir %s", r.Role, dir, r.Role, dir)
	}
	return r, nil
}

func (d *dataDir) writeRuntime(r Runtime) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("runtime file: %w", err)
	}
	if err := replaceFile(d.file(runtimeName), append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("runtime file: %w", err)
	}
	return nil
}

func (d *dataDir) removeRuntime() error {
	if err := os.Remove(d.file(runtimeName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("runtime file: %w", err)
	}
	return nil
}
