package app

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gatepost/gatepost/logic"
	"github.com/gatepost/gatepost/mq"
)

// anyDomain in Config.Domains stands for every account system that has no entry of its own.
const anyDomain = "*"

// DefaultTopic is the topic of the uplinks of account systems that were given without settings.
const DefaultTopic = "uplinks"

// Domain is what a file says of one account system.
type Domain struct {
	Auth DomainAuth `koanf:"auth"`
	// Uplinks says by their types which topics the reports of its users go to. With neither topics nor a default all of them are refused.
	Uplinks mq.TopicMap `koanf:"uplinks"`
	// AcceptFrom are the other account systems whose users may write to its users. "*": all. Empty: none.
	AcceptFrom []string `koanf:"accept_from"`
	// UnknownReceivers says what becomes of messages to users who have never logged in: store, or refuse.
	UnknownReceivers string       `koanf:"unknown_receivers"`
	Hook             DomainHook   `koanf:"hook"`
	Limits           DomainLimits `koanf:"limits"`
	Events           DomainEvents `koanf:"events"`
}

// DomainAuth says how the users of an account system prove who they are.
type DomainAuth struct {
	// Kind is token (the platform's own, signed with the secrets in keys_file), jwt or http.
	Kind string   `koanf:"kind"`
	JWT  AuthJWT  `koanf:"jwt"`
	HTTP AuthHTTP `koanf:"http"`
}

// AuthJWT says which tokens of the account system's own are good.
type AuthJWT struct {
	// Alg is the one algorithm that is taken: HS256, RS256, ES256 or EdDSA.
	Alg string `koanf:"alg"`
	// SecretFiles hold a secret of HS256 each, at least 32 bytes, a line end not counted; mode 0600. Several: a token of any of them is good.
	SecretFiles []string `koanf:"secret_files"`
	// PublicKeyFile holds the keys of the other algorithms, PEM; one or several.
	PublicKeyFile string `koanf:"public_key_file"`
	// Issuer must be the token's iss, Audience among its aud. Empty: not looked at.
	Issuer   string `koanf:"issuer"`
	Audience string `koanf:"audience"`
	// UIDClaim holds the uid. Empty: sub.
	UIDClaim string `koanf:"uid_claim"`
}

// AuthHTTP is the business that is asked whether a token is good.
type AuthHTTP struct {
	// URL is asked by POST at each login.
	URL string `koanf:"url"`
	// Timeout bounds one question; shorter than logic.login_timeout.
	Timeout time.Duration `koanf:"timeout"`
}

// DomainHook is the business that is asked whether a user may write to one of the account system.
type DomainHook struct {
	// URL is asked by POST before a message is taken. Empty: nobody is asked.
	URL string `koanf:"url"`
	// Timeout bounds one question. With its wait for a turn a message waits for three quarters of logic.handle_timeout at most.
	Timeout time.Duration `koanf:"timeout"`
	// Away says what holds while there is no answer: refuse (that message, for good, as status 1011), retry (senders of this account
	// system keep the message and try again, and all that their device sends after it waits, to whomever; senders of others are refused), or allow.
	Away string `koanf:"away"`
	// Remember is how long an answer holds for the same two users and type. Zero: each message is asked for.
	Remember time.Duration `koanf:"remember"`
}

// DomainLimits are bounds of one account system.
type DomainLimits struct {
	// ContentBytes bounds the content of one message. Zero: 32768, which is also the most.
	ContentBytes int `koanf:"content_bytes"`
	// Life is the longest time to live; a longer one is cut. Zero: 168h, which is also the most.
	Life time.Duration `koanf:"life"`
	// InboxBound is how many unconfirmed messages a user may have, at least 16. Zero: logic.inbox_bound.
	InboxBound int `koanf:"inbox_bound"`
	// Logins, Messages (to users), Uplinks and Pushes (targets of them) are bounds a second and logic node. Zero: none.
	Logins   int `koanf:"logins"`
	Messages int `koanf:"messages"`
	Uplinks  int `koanf:"uplinks"`
	Pushes   int `koanf:"pushes"`
}

// DomainEvents says what is told of the users of an account system in a topic.
type DomainEvents struct {
	// Topic gets the events. Empty: there are none.
	Topic string `koanf:"topic"`
	// Presence tells of users who come online and go offline, Waiting of messages that wait for a user who is away.
	Presence bool `koanf:"presence"`
	Waiting  bool `koanf:"waiting"`
}

// Values of settings that are words.
const (
	authToken = "token"
	authJWT   = "jwt"
	authHTTP  = "http"

	unknownStore  = "store"
	unknownRefuse = "refuse"
)

var hookAway = map[string]logic.HookAway{"retry": logic.HookAwayRetry, "allow": logic.HookAwayAllow, "refuse": logic.HookAwayRefuse}

// defaultDomain is what an entry in the file has that it does not say.
func defaultDomain() Domain {
	return Domain{
		Auth:             DomainAuth{Kind: authToken, HTTP: AuthHTTP{Timeout: time.Second}},
		UnknownReceivers: unknownStore,
		Hook:             DomainHook{Timeout: time.Second, Away: "refuse"},
	}
}

// named are account systems that were given by their names only: they have the platform's own tokens and, where there is a Kafka,
// a topic. In standalone they accept messages from each other.
func (c Config) named(role Role, names []string) map[string]Domain {
	d := defaultDomain()
	if c.hasKafka(role) {
		d.Uplinks.Default = DefaultTopic
	}
	if role == Standalone {
		d.AcceptFrom = []string{anyDomain}
	}
	out := make(map[string]Domain, len(names))
	for _, name := range names {
		out[name] = d
	}
	return out
}

// hasKafka reports whether role has a Kafka to write to.
func (c Config) hasKafka(role Role) bool {
	return role != Gate && len(c.Kafka.Brokers) > 0 || role == Standalone && c.Kafka.Listen != ""
}

// topics are all topics that the domains name, each once, sorted.
func topics(domains map[string]Domain) []string {
	set := make(map[string]bool)
	for _, d := range domains {
		for _, t := range d.topics() {
			set[t] = true
		}
	}
	return slices.Sorted(maps.Keys(set))
}

func (d Domain) topics() []string {
	all := d.Uplinks.All()
	if d.Events.Topic != "" && (d.Events.Presence || d.Events.Waiting) && !slices.Contains(all, d.Events.Topic) {
		all = append(all, d.Events.Topic)
	}
	return all
}

// validateDomains checks the account systems, and returns all faults joined.
func (c Config) validateDomains(role Role) error {
	if len(c.Domains) == 0 {
		return errors.New("domains is empty: nobody could log in")
	}
	var faults []error
	for _, name := range slices.Sorted(maps.Keys(c.Domains)) {
		d := c.Domains[name]
		fault := func(bad bool, format string, args ...any) {
			if bad {
				faults = append(faults, fmt.Errorf("domains.%s: "+format, append([]any{name}, args...)...))
			}
		}
		fault(name == "" || len(name) > 64 || strings.Contains(name, "/"), "a name has 1 to 64 bytes and no /")
		d.Auth.validate(c.Logic.LoginTimeout, fault)
		fault(!slices.Contains([]string{unknownStore, unknownRefuse}, d.UnknownReceivers),
			"unknown_receivers is %q: must be %s or %s", d.UnknownReceivers, unknownStore, unknownRefuse)
		for _, from := range d.AcceptFrom {
			fault(from == "" || len(from) > 64, "accept_from names %q: a name has 1 to 64 bytes", from)
		}
		if err := d.Uplinks.Validate(); err != nil {
			fault(true, "uplinks: %w", err)
		}
		fault(len(d.topics()) > 0 && !c.hasKafka(role), "topics are named (%s), and there is no Kafka: set kafka.brokers", strings.Join(d.topics(), ", "))
		d.Hook.validate(fault)
		d.faultsOfLogic(fault)
		fault((d.Events.Presence || d.Events.Waiting) && d.Events.Topic == "", "events.topic is not set: where are they to go?")
		fault(d.Events.Topic != "" && !d.Events.Presence && !d.Events.Waiting, "events.topic is set, and neither events.presence nor events.waiting is on")
	}
	return errors.Join(faults...)
}

// faultFunc notes a fault when bad.
type faultFunc func(bad bool, format string, args ...any)

func (a DomainAuth) validate(loginTimeout time.Duration, fault faultFunc) {
	switch a.Kind {
	case authToken:
	case authJWT:
		fault(a.JWT.Alg == "", "auth.jwt.alg is not set: must be HS256, RS256, ES256 or EdDSA")
		fault(len(a.JWT.SecretFiles) == 0 && a.JWT.PublicKeyFile == "", "auth.jwt has neither secret_files (for HS256) nor a public_key_file")
	case authHTTP:
		fault(!isHTTP(a.HTTP.URL), "auth.http.url is not the address of an HTTP service")
		fault(a.HTTP.Timeout <= 0 || a.HTTP.Timeout >= loginTimeout, "auth.http.timeout is %v: must be above zero and below logic.login_timeout (%v)", a.HTTP.Timeout, loginTimeout)
	default:
		fault(true, "auth.kind is %q: must be %s, %s or %s", a.Kind, authToken, authJWT, authHTTP)
	}
}

func isHTTP(address string) bool {
	u, err := url.Parse(address)
	return err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https")
}

func (h DomainHook) validate(fault faultFunc) {
	if _, ok := hookAway[h.Away]; !ok {
		fault(true, "hook.away is %q: must be refuse, retry or allow", h.Away)
	}
	fault(h.Timeout <= 0, "hook.timeout is %v: must be above zero", h.Timeout)
	fault(h.Remember < 0, "hook.remember is %v: must not be negative", h.Remember)
	fault(h.URL != "" && !isHTTP(h.URL), "hook.url is not the address of an HTTP service")
}

// logic is l as logic takes it.
func (l DomainLimits) logic() logic.DomainLimits {
	return logic.DomainLimits{
		ContentBytes: l.ContentBytes, Life: l.Life, InboxBound: l.InboxBound, Logins: l.Logins, Messages: l.Messages, Uplinks: l.Uplinks, Pushes: l.Pushes,
	}
}

// faultsOfLogic are what logic says of the numbers and names of d that this package only hands on.
func (d Domain) faultsOfLogic(fault faultFunc) {
	err := logic.Domains{Other: &logic.Domain{Limits: d.Limits.logic(), Events: logic.DomainEvents{Topic: d.Events.Topic}}}.Validate()
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		for _, err := range many.Unwrap() {
			if inner := errors.Unwrap(err); inner != nil { // without the name: fault tells it
				err = inner
			}
			fault(true, "%w", err)
		}
	}
}
