package appserver

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"
)

// Config of a Client. The zero value of all but Addresses and Key means the default.
type Config struct {
	// Addresses are host:port of the platform's port for app-servers, of one or several nodes. Calls go to them in turn; one that
	// cannot be reached is passed over for a while.
	Addresses []string
	// Key is the app key as it was shown when it was made. It appears in no log and in no error of this package.
	Key string
	// TLS is for a proxy in front of the port, which itself takes calls in clear; nil: in clear. It is cloned.
	TLS *tls.Config
	// CallTimeout bounds one attempt; default 10 s, more than the platform takes for any.
	CallTimeout time.Duration
	// Patience bounds a call with all its attempts when its context has no deadline; default 30 s. A deadline of the context
	// counts alone.
	Patience time.Duration
	// ConnectTimeout bounds connecting; default 1 s.
	ConnectTimeout time.Duration
	// RetryBase and RetryCap bound the waits between attempts: the n-th is anywhere from 0 to RetryBase·2ⁿ, at most RetryCap;
	// defaults 100 ms and 5 s. What the platform asks for comes on top.
	RetryBase, RetryCap time.Duration
	// Logger hears of addresses that fail; default: nothing is logged.
	Logger *slog.Logger
}

// String leaves the key out.
func (c Config) String() string {
	return fmt.Sprintf("app-server client of %s", strings.Join(c.Addresses, ", "))
}

// GoString leaves the key out.
func (c Config) GoString() string { return c.String() }

// LogValue leaves the key out.
func (c Config) LogValue() slog.Value { return slog.StringValue(c.String()) }

// Validate returns all faults, joined. It never repeats the key.
func (c Config) Validate() error {
	var faults []error
	if len(c.Addresses) == 0 {
		faults = append(faults, errors.New("no address: name host:port of at least one node"))
	}
	for _, a := range c.Addresses {
		if host, port, err := net.SplitHostPort(a); err != nil || host == "" || port == "" {
			faults = append(faults, fmt.Errorf("address %q is not host:port", a))
		}
	}
	if c.Key == "" {
		faults = append(faults, errors.New("no app key: `gatepost app-key add` makes one"))
	} else if strings.ContainsFunc(c.Key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		faults = append(faults, errors.New("the app key has characters that no key has, such as a space or the end of a line"))
	}
	for name, d := range map[string]time.Duration{"call timeout": c.CallTimeout, "patience": c.Patience, "connect timeout": c.ConnectTimeout,
		"retry base": c.RetryBase, "retry cap": c.RetryCap} {
		if d < 0 {
			faults = append(faults, fmt.Errorf("the %s is negative", name))
		}
	}
	return errors.Join(faults...)
}

func (c Config) withDefaults() Config {
	or := func(d *time.Duration, by time.Duration) {
		if *d == 0 {
			*d = by
		}
	}
	or(&c.CallTimeout, 10*time.Second)
	or(&c.Patience, 30*time.Second)
	or(&c.ConnectTimeout, time.Second)
	or(&c.RetryBase, 100*time.Millisecond)
	or(&c.RetryCap, 5*time.Second)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}
