package logic

import (
	"errors"
	"fmt"
	"time"
)

// Config of a logic node. Default gives working values; a zero in a field that has no stated meaning of zero is a fault.
type Config struct {
	// RPCAddress is where gates reach this node, told to them through the presence table. Empty: it is not announced (one process,
	// or gates that have a static list).
	RPCAddress string `koanf:"rpc_address"`

	// HandleTimeout bounds one Handle call, also when the caller sets no deadline. Frames that have no outcome by then are answered
	// with a time-out. It must be above CommitTimeout, else outcomes that are known would not be told.
	HandleTimeout time.Duration `koanf:"handle_timeout"`

	// CommitLanes is the number of inserts in flight. With one of them batches are largest, and cheapest for each message; more help
	// only where a commit takes tens of milliseconds.
	CommitLanes int `koanf:"commit_lanes"`
	// CommitRows and CommitBytes cap one insert; CommitRows also caps one look-up of known users or of stored messages.
	CommitRows  int `koanf:"commit_rows"`
	CommitBytes int `koanf:"commit_bytes"`
	// CommitQueue bounds the messages that wait in one lane of the commit, and the confirmations in one lane of theirs; beyond it
	// they are refused as overloaded. It also bounds, for each domain, the messages whose receivers are asked about before the
	// commit: those that wait for the domain's hook, for whether the receiver is known, or, to a full inbox or behind a hook that is
	// away, for whether they are stored already. Beyond it they are refused as overloaded, or, when they are for a hook and of a
	// sender of another domain, for good as hook away. And it bounds the look-ups for the latter two that wait; beyond it they are
	// refused as unavailable.
	CommitQueue int `koanf:"commit_queue"`
	// CommitTimeout bounds one call to the database: an insert, a confirmation, a page, a look-up.
	CommitTimeout time.Duration `koanf:"commit_timeout"`

	// ConfirmLanes is the number of batched confirmations in flight; as with CommitLanes, one makes the largest batches.
	ConfirmLanes int `koanf:"confirm_lanes"`

	// DeliveryLanes is the number of route look-ups in flight.
	DeliveryLanes int `koanf:"delivery_lanes"`
	// DeliverTimeout bounds one call to a gate.
	DeliverTimeout time.Duration `koanf:"deliver_timeout"`
	// DeliveryQueue bounds what waits for one delivery lane and for one gate; what does not fit becomes a hint.
	DeliveryQueue int `koanf:"delivery_queue"`
	// HintUsers bounds the users who wait for a SYNC because a delivery to them failed, or to be found away.
	HintUsers int `koanf:"hint_users"`

	// InboxBound is about how many unconfirmed messages a user may have; of what comes beyond, only repeats of what is stored are
	// accepted. It is counted once for each InboxBound/16 rows this node
	// appended for a user, so an inbox overshoots by as much for each node.
	InboxBound int `koanf:"inbox_bound"`
	// InboxUsers bounds the users whose appends are remembered for InboxBound, and those who are remembered as known where a domain
	// refuses users who never logged in.
	InboxUsers int `koanf:"inbox_users"`

	// LoginTimeout bounds the check of a token.
	LoginTimeout time.Duration `koanf:"login_timeout"`
	// LoginConcurrency bounds the checks in flight of one authenticator.
	LoginConcurrency int `koanf:"login_concurrency"`
	// ReadConcurrency bounds pulls and logouts in flight.
	ReadConcurrency int `koanf:"read_concurrency"`

	// PresenceTimeout bounds one call to the presence table.
	PresenceTimeout time.Duration `koanf:"presence_timeout"`
	// LeaseTTL is how long a gate or a logic node counts as alive without a heartbeat.
	LeaseTTL time.Duration `koanf:"lease_ttl"`
	// LeaseRefresh is how often the leases are read and this node's own is written.
	LeaseRefresh time.Duration `koanf:"lease_refresh"`

	// NodeTTL, NodeAhead and NodeRenew rule the leased node number in message ids: its time to live, how far ahead ids are
	// reserved, and how often both are prolonged. Without a renewal ids end after NodeAhead.
	NodeTTL   time.Duration `koanf:"node_ttl"`
	NodeAhead time.Duration `koanf:"node_ahead"`
	NodeRenew time.Duration `koanf:"node_renew"`
	// MaxSkew is how far this node's clock may be from the database's; beyond it the node takes no messages.
	MaxSkew time.Duration `koanf:"max_skew"`

	// SweepEvery is the pause between two walks that remove what has expired. Zero: this node never sweeps.
	SweepEvery time.Duration `koanf:"sweep_every"`
	// SweepRows is how many rows one step of the walk looks at, SweepPause the rest after each step. A pause of zero: none.
	SweepRows  int           `koanf:"sweep_rows"`
	SweepPause time.Duration `koanf:"sweep_pause"`
	// IdleRetire is the absence after which a device class is owed nothing any more.
	IdleRetire time.Duration `koanf:"idle_retire"`

	// StopGrace is how long a stopping node goes on serving, so that each gate hears of it in a heartbeat. It ends early when all have. Zero: it stops at once.
	StopGrace time.Duration `koanf:"stop_grace"`
}

// Default is a configuration for production.
func Default() Config {
	return Config{
		HandleTimeout:    4800 * time.Millisecond, // under the five seconds that a gate waits
		CommitLanes:      1,
		CommitRows:       1024,
		CommitBytes:      1 << 20,
		CommitQueue:      16384,
		CommitTimeout:    4 * time.Second,
		ConfirmLanes:     1,
		DeliveryLanes:    2,
		DeliverTimeout:   2 * time.Second,
		DeliveryQueue:    8192,
		HintUsers:        65536,
		InboxBound:       10000,
		InboxUsers:       65536,
		LoginTimeout:     3 * time.Second,
		LoginConcurrency: 256,
		ReadConcurrency:  64,
		PresenceTimeout:  time.Second,
		LeaseTTL:         5 * time.Second,
		LeaseRefresh:     time.Second,
		NodeTTL:          10 * time.Second,
		NodeAhead:        10 * time.Second,
		NodeRenew:        3 * time.Second,
		MaxSkew:          2 * time.Second,
		SweepEvery:       time.Minute,
		SweepRows:        1000,
		SweepPause:       20 * time.Millisecond,
		IdleRetire:       30 * 24 * time.Hour,
		StopGrace:        2 * time.Second,
	}
}

// Validate returns all faults joined.
func (c Config) Validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	for _, f := range []struct {
		name  string
		value int
		most  int
	}{
		{"commit_lanes", c.CommitLanes, 64}, {"commit_rows", c.CommitRows, 4096}, {"commit_bytes", c.CommitBytes, 16 << 20},
		{"commit_queue", c.CommitQueue, 1 << 20}, {"confirm_lanes", c.ConfirmLanes, 64}, {"delivery_lanes", c.DeliveryLanes, 64},
		{"delivery_queue", c.DeliveryQueue, 1 << 20}, {"hint_users", c.HintUsers, 1 << 24}, {"inbox_bound", c.InboxBound, 1 << 24},
		{"inbox_users", c.InboxUsers, 1 << 24}, {"login_concurrency", c.LoginConcurrency, 1 << 16},
		{"read_concurrency", c.ReadConcurrency, 1 << 16}, {"sweep_rows", c.SweepRows, 1 << 16},
	} {
		if f.value < 1 || f.value > f.most {
			fault("logic.%s is %d: must be 1 to %d", f.name, f.value, f.most)
		}
	}
	for _, f := range []struct {
		name  string
		value time.Duration
	}{
		{"handle_timeout", c.HandleTimeout}, {"commit_timeout", c.CommitTimeout}, {"deliver_timeout", c.DeliverTimeout},
		{"login_timeout", c.LoginTimeout}, {"presence_timeout", c.PresenceTimeout}, {"lease_ttl", c.LeaseTTL},
		{"lease_refresh", c.LeaseRefresh}, {"node_ttl", c.NodeTTL}, {"node_ahead", c.NodeAhead}, {"node_renew", c.NodeRenew},
		{"max_skew", c.MaxSkew}, {"idle_retire", c.IdleRetire},
	} {
		if f.value <= 0 {
			fault("logic.%s is %v: must be above zero", f.name, f.value)
		}
	}
	for _, f := range []struct {
		name  string
		value time.Duration
	}{{"sweep_every", c.SweepEvery}, {"sweep_pause", c.SweepPause}, {"stop_grace", c.StopGrace}} {
		if f.value < 0 {
			fault("logic.%s is %v: must not be negative", f.name, f.value)
		}
	}
	if c.CommitTimeout >= c.HandleTimeout {
		fault("logic.commit_timeout (%v) must be below logic.handle_timeout (%v)", c.CommitTimeout, c.HandleTimeout)
	}
	if c.LoginTimeout >= c.HandleTimeout {
		fault("logic.login_timeout (%v) must be below logic.handle_timeout (%v)", c.LoginTimeout, c.HandleTimeout)
	}
	if c.CommitBytes < 2*maxContentBytes {
		fault("logic.commit_bytes (%d) must hold two of the largest messages (%d)", c.CommitBytes, 2*maxContentBytes)
	}
	if c.LeaseRefresh > c.LeaseTTL/2 {
		fault("logic.lease_refresh (%v) must be at most half of logic.lease_ttl (%v)", c.LeaseRefresh, c.LeaseTTL)
	}
	if c.NodeRenew > c.NodeTTL/2 || c.NodeRenew > c.NodeAhead/2 {
		fault("logic.node_renew (%v) must be at most half of logic.node_ttl (%v) and logic.node_ahead (%v)", c.NodeRenew, c.NodeTTL, c.NodeAhead)
	}
	if c.InboxBound < 16 {
		fault("logic.inbox_bound is %d: must be at least 16", c.InboxBound)
	}
	return errors.Join(faults...)
}
