package platform

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Kinds of servers that a platform stands on, by the names of deploy/servers.
const (
	MariaDB = "mariadb"
	Redis   = "redis"
	Kafka   = "kafka"
)

// backingKinds are in the order in which they are shown.
var backingKinds = []string{MariaDB, Redis, Kafka}

// Backing are the servers that deploy/servers has started, or shall start, in a directory. They outlive us: who started them stops
// them, but they can be killed and brought back here. Its methods are safe for concurrent use; the scripts lock the directory.
type Backing struct {
	dir     string
	scripts string
}

// Server is a process that a platform stands on.
type Server struct {
	Name string // mariadb, redis or kafka
	PID  int
}

// NewBacking are servers in dir, whether any runs there or not. scripts is where up.sh and down.sh lie; "" is deploy/servers below
// the working directory.
func NewBacking(dir, scripts string) (*Backing, error) {
	if scripts == "" {
		scripts = filepath.Join("deploy", "servers")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("platform: %w", err)
	}
	if scripts, err = filepath.Abs(scripts); err != nil {
		return nil, fmt.Errorf("platform: %w", err)
	}
	return &Backing{dir: dir, scripts: scripts}, nil
}

// OpenBacking are servers that run in dir: a MariaDB and a Redis at least. scripts is as in NewBacking, and needed by Kill and Start alone.
func OpenBacking(dir, scripts string) (*Backing, error) {
	b, err := NewBacking(dir, scripts)
	if err != nil {
		return nil, err
	}
	for _, kind := range []string{MariaDB, Redis} {
		if b.Address(kind) == "" {
			return nil, fmt.Errorf("no %s in %s: start it with deploy/servers/up.sh --dir %s", kind, b.dir, b.dir)
		}
	}
	return b, nil
}

// Address of the server of a kind: of MariaDB a DSN with the right to create databases, else host:port. "": there is none.
func (b *Backing) Address(kind string) string {
	text, err := os.ReadFile(filepath.Join(b.dir, kind, "address"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// Processes are those that run now. A server whose address was given to the scripts is nobody's process here.
func (b *Backing) Processes() []Server {
	var out []Server
	for _, kind := range backingKinds {
		text, err := os.ReadFile(filepath.Join(b.dir, kind, "pid")) // number and start time
		if err != nil {
			continue
		}
		first, _, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
		if pid, err := strconv.Atoi(first); err == nil {
			out = append(out, Server{Name: kind, PID: pid})
		}
	}
	return out
}

// Owns reports whether a process of that kind runs, which Kill can kill.
func (b *Backing) Owns(kind string) bool {
	return slices.ContainsFunc(b.Processes(), func(s Server) bool { return s.Name == kind })
}

// CheckScripts reports whether Kill and Start can work.
func (b *Backing) CheckScripts() error {
	for _, name := range []string{"up.sh", "down.sh"} {
		if _, err := os.Stat(filepath.Join(b.scripts, name)); err != nil {
			return fmt.Errorf("the scripts that start and kill servers: %w", err)
		}
	}
	return nil
}

// Start starts servers that do not run, those that were killed on their old ports and with what they had on disk.
func (b *Backing) Start(ctx context.Context, kinds ...string) error {
	return b.script(ctx, "up.sh", kinds...)
}

// Kill ends servers at once, as a crash does, and keeps what they wrote.
func (b *Backing) Kill(ctx context.Context, kinds ...string) error {
	return b.script(ctx, "down.sh", append([]string{"--kill", "--keep"}, kinds...)...)
}

// Pause freezes a server: its connections stay open and nothing answers.
func (b *Backing) Pause(kind string) error { return b.signal(kind, syscall.SIGSTOP) }

// Resume lets a frozen server go on.
func (b *Backing) Resume(kind string) error { return b.signal(kind, syscall.SIGCONT) }

func (b *Backing) signal(kind string, sig syscall.Signal) error {
	for _, s := range b.Processes() {
		if s.Name != kind {
			continue
		}
		if err := syscall.Kill(s.PID, sig); err != nil {
			return fmt.Errorf("%s to %s (process %d): %w", sig, kind, s.PID, err)
		}
		return nil
	}
	return fmt.Errorf("%s does not run in %s", kind, b.dir)
}

// Remove stops all servers of the directory and removes what they wrote.
func (b *Backing) Remove(ctx context.Context) error { return b.script(ctx, "down.sh") }

func (b *Backing) script(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, filepath.Join(b.scripts, name), append([]string{"--dir", b.dir}, args...)...)
	for _, kv := range os.Environ() { // addresses of other servers are not ours
		name, _, _ := strings.Cut(kv, "=")
		switch name {
		case "GATEPOST_TEST_MYSQL", "GATEPOST_TEST_REDIS", "GATEPOST_TEST_REDIS_CLUSTER", "GATEPOST_TEST_KAFKA":
		default:
			cmd.Env = append(cmd.Env, kv)
		}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}
