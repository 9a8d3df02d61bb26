package gate

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/gatepost/gatepost/idl/limits"
)

// Config of a gate. Start from Default; Validate names every fault.
type Config struct {
	// Name of this gate in logs and in its lease; a host name, say. Empty: the first client address.
	Name string
	// ListenTCP is the host:port where clients connect by TCP, secured by Noise. Empty: none. Port 0: the system chooses.
	ListenTCP string
	// ListenTLS is the host:port where clients connect by TLS 1.3; frames inside are clear unless the client asks for Noise. Empty: none.
	ListenTLS string
	// AllowClear admits clients without Noise on ListenTCP. Only for a trusted network in which a balancer ends TLS.
	AllowClear bool
	// Advertise are the addresses that clients use, as tcp://host:port or tls://host:port. Empty: the bound ones.
	Advertise []string
	// RPCAddress is the host:port where logic nodes reach Deliver and Kick. Empty: the address that its server has bound
	// (SetRPCAddress tells it before Start).
	RPCAddress string
	// Logic are the addresses of logic nodes to begin with; more are learnt from them. At least one.
	Logic []string

	// MaxConnections at the same time; what comes above is told TOO_MANY_CONNECTIONS. Mind the limit of open files.
	MaxConnections int
	// MaxHandshakes at the same time, each up to HelloTimeout long. A handshake costs about 0.5 ms of CPU.
	MaxHandshakes int
	// HandshakeRate is how many handshakes a second one client address may begin (an IPv6 /64 is one address). 0: not limited.
	HandshakeRate int
	// HandshakeBurst is how many it may begin at once. At least 1 when HandshakeRate is set.
	HandshakeBurst int

	// HelloTimeout bounds accept to the end of the handshake, that of TLS included.
	HelloTimeout time.Duration
	// LoginTimeout bounds the time that a connection may be without a session. Longer than EntryTimeout.
	LoginTimeout time.Duration
	// Keepalive is how often a client must send something; after 2.5 times as long in silence its connection is closed.
	Keepalive time.Duration
	// BodyTimeout bounds the time between a header and the end of its body.
	BodyTimeout time.Duration
	// WriteTimeout bounds one write of at most some 100 KiB to a socket.
	WriteTimeout time.Duration
	// CloseTimeout bounds what is spent on a connection that is being closed: the rest of its queue, the CLOSE frame, the client's last bytes.
	CloseTimeout time.Duration

	// MaxInFlight is how many requests of a connection may be unanswered; then the gate stops reading from it.
	MaxInFlight int
	// MaxInFlightUnbound is the same before the login.
	MaxInFlightUnbound int
	// QueueFrames and QueueBytes bound what waits for one socket. Live deliveries stop at half of either;
	// answers may use all of it, and when not even one of them fits the connection is closed as slow.
	QueueFrames int
	QueueBytes  int

	// Compress lets clients agree on compression of bodies.
	Compress bool

	// Lanes of each kind of frame.
	Lanes Lanes

	// BeatInterval is the time between two beats to each logic node, and the timeout of one.
	BeatInterval time.Duration
	// MissedBeats in a row make a logic node dead; a broken connection does at once.
	MissedBeats int
	// ForgetNode is how long a dead logic node that no other node names any more is still tried.
	ForgetNode time.Duration
	// SyncSpread is the time over which SYNC is sent to all sessions after a logic node died. Zero: at once.
	SyncSpread time.Duration
	// SessionsTimeout bounds one call that registers sessions or reports their end.
	SessionsTimeout time.Duration
	// RegisterPause is the pause between two chunks of 500 sessions that are registered anew. Zero: none.
	RegisterPause time.Duration
	// WalkInterval is the time in which the endless walk registers each session once. Shorter than half the time to live of routes.
	WalkInterval time.Duration
	// MaxEnded bounds the ended sessions that wait to be reported; the oldest are dropped beyond (their routes die when used).
	MaxEnded int

	// DrainTime is the time over which connections are told to leave. Zero: all at once.
	DrainTime time.Duration
}

// Lanes of a gate. A lane is a queue with a bounded number of batches in flight.
type Lanes struct {
	// Message and Uplink are the numbers of ordered lanes; each has one batch in flight. A connection belongs to one of each.
	Message int
	Uplink  int
	// RequestBatches and EntryBatches are how many batches of unordered requests, and of frames before the login, are in flight.
	RequestBatches int
	EntryBatches   int
	// BatchFrames and BatchBytes bound one batch. A batch before the login holds at most EntryFrames: one slow login keeps the others waiting.
	BatchFrames int
	BatchBytes  int
	EntryFrames int
	// BatchTimeout bounds one call to logic, EntryTimeout one before the login (it may ask an outside service).
	BatchTimeout time.Duration
	EntryTimeout time.Duration
	// QueueFrames and QueueBytes bound what waits in one lane; what comes above is answered OVERLOADED.
	QueueFrames int
	QueueBytes  int
}

// Default is a gate for some ten thousands of connections. It lacks a listener and a logic node.
func Default() Config {
	return Config{
		MaxConnections: 100_000, MaxHandshakes: 512, HandshakeRate: 200, HandshakeBurst: 1000,
		HelloTimeout: 10 * time.Second, LoginTimeout: 20 * time.Second, Keepalive: time.Minute,
		BodyTimeout: 30 * time.Second, WriteTimeout: 30 * time.Second, CloseTimeout: 2 * time.Second,
		MaxInFlight: limits.MaxInFlight, MaxInFlightUnbound: 4, QueueFrames: 1024, QueueBytes: 1 << 20, Compress: true,
		Lanes: Lanes{
			Message: 8, Uplink: 4, RequestBatches: 16, EntryBatches: 32,
			BatchFrames: 512, BatchBytes: 1 << 20, EntryFrames: 16,
			BatchTimeout: 5 * time.Second, EntryTimeout: 10 * time.Second,
			QueueFrames: 8192, QueueBytes: 16 << 20,
		},
		BeatInterval: time.Second, MissedBeats: 3, ForgetNode: time.Minute, SyncSpread: 5 * time.Second,
		SessionsTimeout: 5 * time.Second, RegisterPause: 20 * time.Millisecond, WalkInterval: 10 * time.Minute, MaxEnded: 1 << 16,
		DrainTime: 20 * time.Second,
	}
}

// idle is how long a connection may be silent.
func (c *Config) idle() time.Duration { return c.Keepalive * 5 / 2 }

// lively is how long a connection that was just heard of is taken to go on: longer than the pauses in a conversation of programs, and
// short enough that of those which send keepalives only a sixtieth is taken so.
func (c *Config) lively() time.Duration { return c.Keepalive / 60 }

// Validate returns all faults, joined; nil when there are none.
func (c *Config) Validate() error {
	var faults []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			faults = append(faults, fmt.Errorf("gate: "+format, args...))
		}
	}
	fault(c.ListenTCP == "" && c.ListenTLS == "", "no listener: set listen_tcp or listen_tls")
	for _, a := range []string{c.ListenTCP, c.ListenTLS} {
		if a != "" {
			_, _, err := net.SplitHostPort(a)
			fault(err != nil, "listen address %q is not host:port", a)
		}
	}
	fault(len(c.Logic) == 0, "no logic node: set at least one address")
	fault(c.AllowClear && c.ListenTCP == "", "allow_clear without listen_tcp has no meaning")

	for name, n := range map[string]int{
		"max_connections": c.MaxConnections, "max_handshakes": c.MaxHandshakes, "max_in_flight": c.MaxInFlight,
		"max_in_flight_unbound": c.MaxInFlightUnbound, "missed_beats": c.MissedBeats, "max_ended": c.MaxEnded,
		"lanes.message": c.Lanes.Message, "lanes.uplink": c.Lanes.Uplink, "lanes.request_batches": c.Lanes.RequestBatches,
		"lanes.entry_batches": c.Lanes.EntryBatches, "lanes.batch_frames": c.Lanes.BatchFrames, "lanes.entry_frames": c.Lanes.EntryFrames,
	} {
		fault(n < 1, "%s is %d, must be at least 1", name, n)
	}
	for name, d := range map[string]time.Duration{
		"hello_timeout": c.HelloTimeout, "login_timeout": c.LoginTimeout, "keepalive": c.Keepalive, "body_timeout": c.BodyTimeout,
		"write_timeout": c.WriteTimeout, "close_timeout": c.CloseTimeout, "beat_interval": c.BeatInterval, "forget_node": c.ForgetNode,
		"sessions_timeout": c.SessionsTimeout, "walk_interval": c.WalkInterval,
		"lanes.batch_timeout": c.Lanes.BatchTimeout, "lanes.entry_timeout": c.Lanes.EntryTimeout,
	} {
		fault(d <= 0, "%s is %v, must be positive", name, d)
	}
	fault(c.SyncSpread < 0 || c.RegisterPause < 0 || c.DrainTime < 0, "sync_spread, register_pause and drain_time must not be negative")
	fault(c.HandshakeRate < 0, "handshake_rate is negative")
	fault(c.HandshakeRate > 0 && c.HandshakeBurst < 1, "handshake_burst must be at least 1")
	fault(c.LoginTimeout <= c.Lanes.EntryTimeout, "login_timeout (%v) must be longer than lanes.entry_timeout (%v)", c.LoginTimeout, c.Lanes.EntryTimeout)
	fault(c.QueueFrames < 2*c.MaxInFlight, "queue_frames (%d) must hold the answers to max_in_flight (%d) twice", c.QueueFrames, c.MaxInFlight)
	fault(c.QueueBytes < 2*limits.BodyToClientBytes, "queue_bytes (%d) must hold two of the largest frames (%d)", c.QueueBytes, 2*limits.BodyToClientBytes)
	fault(c.Lanes.BatchBytes < limits.BodyToGateBytes, "lanes.batch_bytes (%d) must hold the largest frame (%d)", c.Lanes.BatchBytes, limits.BodyToGateBytes)
	fault(c.Lanes.QueueFrames < c.Lanes.BatchFrames, "lanes.queue_frames must be at least lanes.batch_frames")
	fault(c.Lanes.QueueBytes < c.Lanes.BatchBytes, "lanes.queue_bytes must be at least lanes.batch_bytes")
	return errors.Join(faults...)
}
