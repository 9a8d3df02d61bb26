package gatepost

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"time"
)

// Config is all that a Client needs to know. User, Device, Token, Store and at least one gate are required.
type Config struct {
	Gates  []string // "tcp://host:port": Noise, needs Keys; "tls://host:port": TLS 1.3, no Noise inside
	Keys   []Key    // pinned Noise keys of the gates, best first; a gate that does not know one is offered the next
	User   User
	Device Device
	// Token returns what LOGIN presents, at most 2,048 bytes. It is called for each login, not on the callbacks' goroutine.
	Token func(ctx context.Context) (string, error)
	Store Store // belongs to the Client until Close, which closes it

	// OnMessage shows one message. Messages of one sender's stream come in order. An error, or a panic, is tried again with
	// backoff while this stream waits and others go on; after Limits.ShowAttempts the message is parked. nil: the Client
	// takes no messages and leaves them in the inbox.
	OnMessage func(ctx context.Context, m Message) error
	// OnReceipt shows one receipt for what was sent with Outgoing.Receipt: kept, shown once, tried again and parked as a message is. nil:
	// receipts are confirmed unseen, if the Client takes messages.
	OnReceipt func(ctx context.Context, r Receipt) error
	// OnSent tells the final outcome of each message and uplink once; again after a restart if the process ended meanwhile.
	OnSent func(r SendResult)
	// OnState tells each change of state.
	OnState func(s StateChange)
	// OnParked tells of a message that OnMessage would not take, or of a receipt (by its Kind) that OnReceipt would not. It has been confirmed and does not come again.
	OnParked func(m Message, err error)

	Logger *slog.Logger                                                         // nil: logs nothing
	Dialer func(ctx context.Context, network, address string) (net.Conn, error) // nil: net.Dialer
	TLS    *tls.Config                                                          // for tls:// gates; nil: the system's roots
	SDK    string                                                               // name/version sent in hello, at most 64 bytes; "": this package's

	Timing Timing
	Limits Limits
}

// Timing holds all waits of a Client. Zero fields take the defaults that stand beside them.
type Timing struct {
	Dial           time.Duration // 10s: connect, TLS and hello
	Login          time.Duration // 30s: token and LOGIN
	Request        time.Duration // 15s: an answer that takes longer means that the connection is dead, one four times as long if other bytes arrive
	Keepalive      time.Duration // 0: as the gate says
	BackoffBase    time.Duration // 500ms: full jitter between 0 and base·2ⁿ …
	BackoffCap     time.Duration // 60s: … and at most this
	Stable         time.Duration // 10s online forget earlier failures
	PullEvery      time.Duration // 5m, jittered by a quarter
	JumpPullEvery  time.Duration // 1s: at most one pull for jumps in this time
	ConfirmPause   time.Duration // 200ms between two confirmations of steady traffic, and the receipts in them; 1ns: they never wait
	ShowRetry      time.Duration // 500ms: first wait after a failed OnMessage, doubled up to ShowRetryCap
	ShowRetryCap   time.Duration // 30s
	OutboxLifetime time.Duration // 7 days, and never more: older messages and uplinks fail
}

// Limits bounds a Client's memory and store. Zero fields take the defaults that stand beside them.
type Limits struct {
	OutboxMessages    int // 4,096; what has an outcome counts until OnSent has told it
	OutboxBytes       int // 16 MiB of content of messages
	OutboxUplinks     int // 4,096, beside the messages: a flood of one kind leaves the other its room
	OutboxUplinkBytes int // 16 MiB of content of uplinks
	Window            int // 64 unanswered messages
	UplinkWindow      int // 64 unanswered uplinks
	ShowAttempts      int // 5 calls of OnMessage for one message
	UnshownBytes      int // 4 MiB of content that waits for OnMessage; beyond it messages stay in the inbox
	Unshown           int // 1,000 messages likewise
}

func (t Timing) withDefaults() Timing {
	or := func(d *time.Duration, def time.Duration) {
		if *d <= 0 {
			*d = def
		}
	}
	or(&t.Dial, 10*time.Second)
	or(&t.Login, 30*time.Second)
	or(&t.Request, 15*time.Second)
	or(&t.BackoffBase, 500*time.Millisecond)
	or(&t.BackoffCap, time.Minute)
	or(&t.Stable, 10*time.Second)
	or(&t.PullEvery, 5*time.Minute)
	or(&t.JumpPullEvery, time.Second)
	or(&t.ConfirmPause, 200*time.Millisecond)
	or(&t.ShowRetry, 500*time.Millisecond)
	or(&t.ShowRetryCap, 30*time.Second)
	or(&t.OutboxLifetime, maxLifetime)
	t.OutboxLifetime = min(t.OutboxLifetime, maxLifetime)
	return t
}

func (l Limits) withDefaults() Limits {
	or := func(n *int, def int) {
		if *n <= 0 {
			*n = def
		}
	}
	or(&l.OutboxMessages, 4096)
	or(&l.OutboxBytes, 16<<20)
	or(&l.OutboxUplinks, 4096)
	or(&l.OutboxUplinkBytes, 16<<20)
	or(&l.Window, 64)
	or(&l.UplinkWindow, 64)
	or(&l.ShowAttempts, 5)
	or(&l.UnshownBytes, 4<<20)
	or(&l.Unshown, 1000)
	return l
}

// validate returns all faults of cfg joined.
func (cfg *Config) validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf("gatepost: "+format, args...)) }
	if len(cfg.Gates) == 0 {
		fault("Config.Gates is empty")
	}
	for _, g := range cfg.Gates {
		if u, err := url.Parse(g); err != nil || u.Host == "" || u.Port() == "" || u.Scheme != "tcp" && u.Scheme != "tls" {
			fault("gate %q is not tcp://host:port or tls://host:port", g)
		} else if u.Scheme == "tcp" && len(cfg.Keys) == 0 {
			fault("gate %q needs a pinned key in Config.Keys", g)
		}
	}
	if err := cfg.User.validate(); err != nil {
		faults = append(faults, fmt.Errorf("gatepost: Config.User: %w", err))
	}
	if cfg.Device < 1 || cfg.Device > 31 {
		fault("Config.Device %d is not a device class", cfg.Device)
	}
	if cfg.Token == nil {
		fault("Config.Token is missing")
	}
	if cfg.Store == nil {
		fault("Config.Store is missing")
	}
	if len(cfg.SDK) > 64 {
		fault("Config.SDK has more than 64 bytes")
	}
	return errors.Join(faults...)
}

func (u User) validate() error {
	if len(u.Domain) < 1 || len(u.Domain) > 64 || len(u.UID) < 1 || len(u.UID) > 128 {
		return fmt.Errorf("user %q: domain has 1 to 64 bytes, uid 1 to 128", u.String())
	}
	return nil
}
