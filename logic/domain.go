package logic

import (
	"context"
	"time"

	"github.com/gatepost/gatepost/mq"
	"github.com/gatepost/gatepost/store"
)

// Domain is one account system: who may log in, who may write to its users, what they may send, and where it goes.
type Domain struct {
	// Auth checks tokens. nil: nobody can log in, and messages to its users are refused as to unknown receivers.
	Auth Authenticator
	// Mint makes tokens for app-servers. nil: this domain's tokens are made elsewhere.
	Mint Minter

	// AcceptFrom are the other domains whose users may write to users of this one. "*": all.
	AcceptFrom []string
	// RefuseUnknown refuses messages to users who have never logged in. Else they are stored.
	RefuseUnknown bool
	// MayWrite is asked before a message to a user of this domain is taken. nil: nobody is asked.
	MayWrite MayWrite
	// HookAway says what holds while MayWrite gives no answer.
	HookAway HookAway

	Limits DomainLimits
	Topics mq.TopicMap
	Events DomainEvents
}

// HookAway is what happens to messages while the business hook gives no answer.
type HookAway uint8

const (
	// HookAwayRefuse: they are refused for good, as status.HookAway.
	HookAwayRefuse HookAway = iota
	// HookAwayRetry: those of the domain's own users are refused as unavailable, so that their SDKs keep them, and all that the same
	// device sends after them, to whomever. Those of other domains' users are refused for good.
	HookAwayRetry
	// HookAwayAllow: they are taken.
	HookAwayAllow
)

// DomainLimits are bounds of one domain. Zero takes the platform's own, or none where there is none.
type DomainLimits struct {
	ContentBytes int           // of one message; 0: 32,768, which is also the most
	Life         time.Duration // longest time to live; 0: seven days, which is also the most. A longer one is cut
	InboxBound   int           // unconfirmed messages of one user; 0: logic.inbox_bound
	Logins       int           // a second and logic node; 0: no bound
	Messages     int           // c2c, likewise
	Uplinks      int           // c2s, likewise
	Pushes       int           // targets of s2c, likewise
}

// DomainEvents says which events about a domain's users are written to a topic.
type DomainEvents struct {
	Topic    string // "": none
	Presence bool   // online, offline
	Waiting  bool   // a message waits for a user who is away
}

// Domains is the table of account systems. The zero value knows none.
type Domains struct {
	ByName map[string]*Domain
	Other  *Domain // every other one, which together have one share of what is bounded; nil: they are unknown
}

// Of returns the domain called name; nil: it is unknown.
func (d *Domains) Of(name string) *Domain {
	if x, ok := d.ByName[name]; ok {
		return x
	}
	return d.Other
}

// MayWrite is a domain's business hook. Implementations bound themselves in time and number, and have a breaker.
type MayWrite interface {
	// Ask reports whether from may write to to. reason is for the sender, when he may not. An error: no answer was to be had.
	Ask(ctx context.Context, from, to store.UserKey, messageType string) (allowed bool, reason string, err error)
}

// Minter makes login tokens. class 0: good for any.
type Minter interface {
	Mint(user store.UserKey, class store.DeviceClass, expiresAt time.Time) (token []byte, err error)
}
