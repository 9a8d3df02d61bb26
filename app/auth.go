package app

import (
	"fmt"
	"time"

	"github.com/gatepost/gatepost/logic"
	"github.com/gatepost/gatepost/logic/auth"
	"github.com/gatepost/gatepost/store"
)

// ring is the token secrets as package auth takes them.
func (k Keys) ring() (*auth.Ring, error) {
	keys := make([]auth.Key, 0, len(k.Tokens))
	for _, t := range k.Tokens {
		keys = append(keys, auth.Key{ID: t.ID, Secret: t.Secret[:]})
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("there is no token secret")
	}
	return auth.NewRing(keys[0], keys[1:]...)
}

// MintToken makes a token of the platform's own kind.
func MintToken(keys Keys, domain, uid string, ttl time.Duration) (string, error) {
	ring, err := keys.ring()
	if err != nil {
		return "", err
	}
	token, err := ring.Mint(store.UserKey{Domain: domain, UID: uid}, 0, time.Now().Add(ttl))
	return string(token), err
}

// domainTable is the table of account systems as logic takes it.
func domainTable(domains map[string]Domain, keys Keys) (logic.Domains, error) {
	ring, err := keys.ring()
	if err != nil {
		return logic.Domains{}, err
	}
	table := logic.Domains{ByName: make(map[string]*logic.Domain)}
	for name, d := range domains {
		x, err := d.build(ring)
		if err != nil {
			return logic.Domains{}, fmt.Errorf("domains.%s: %w", name, err)
		}
		if name == anyDomain {
			table.Other = x
		} else {
			table.ByName[name] = x
		}
	}
	return table, nil
}

// build is d as logic takes it. ring makes and checks the platform's own tokens.
func (d Domain) build(ring *auth.Ring) (*logic.Domain, error) {
	x := &logic.Domain{
		AcceptFrom: d.AcceptFrom, RefuseUnknown: d.UnknownReceivers == unknownRefuse, HookAway: hookAway[d.Hook.Away],
		Limits: logic.DomainLimits{
			ContentBytes: d.Limits.ContentBytes, Life: d.Limits.Life, InboxBound: d.Limits.InboxBound,
			Logins: d.Limits.Logins, Messages: d.Limits.Messages, Uplinks: d.Limits.Uplinks, Pushes: d.Limits.Pushes,
		},
		Topics: d.Uplinks,
		Events: logic.DomainEvents{Topic: d.Events.Topic, Presence: d.Events.Presence, Waiting: d.Events.Waiting},
	}
	x.Auth, x.Mint = auth.NewAuthenticator(ring, nil), ring
	return x, nil
}
