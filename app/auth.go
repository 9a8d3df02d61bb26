package app

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/gatepost/gatepost/logic"
	"github.com/gatepost/gatepost/logic/auth"
	"github.com/gatepost/gatepost/logic/hook"
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

// domainTable is the table of account systems as logic takes it. close drops what it keeps open to others, when it is not used any more.
func domainTable(domains map[string]Domain, keys Keys) (table logic.Domains, close func(), err error) {
	ring, err := keys.ring()
	if err != nil {
		return logic.Domains{}, nil, err
	}
	var closers []func()
	close = func() {
		for _, c := range closers {
			c()
		}
	}
	var faults []error
	table.ByName = make(map[string]*logic.Domain)
	for _, name := range slices.Sorted(maps.Keys(domains)) {
		x, err := domains[name].build(ring, &closers)
		if err != nil {
			faults = append(faults, fmt.Errorf("domains.%s: %w", name, err))
		}
		if name == anyDomain {
			table.Other = x
		} else {
			table.ByName[name] = x
		}
	}
	if err := errors.Join(faults...); err != nil {
		close()
		return logic.Domains{}, nil, err
	}
	return table, close, nil
}

// build is d as logic takes it. ring makes and checks the platform's own tokens.
func (d Domain) build(ring *auth.Ring, closers *[]func()) (*logic.Domain, error) {
	x := &logic.Domain{
		AcceptFrom: d.AcceptFrom, RefuseUnknown: d.UnknownReceivers == unknownRefuse, HookAway: hookAway[d.Hook.Away],
		Limits: d.Limits.logic(),
		Topics: d.Uplinks,
		Events: logic.DomainEvents{Topic: d.Events.Topic, Presence: d.Events.Presence, Waiting: d.Events.Waiting},
	}
	if d.Hook.URL != "" {
		h, err := hook.New(hook.Config{URL: d.Hook.URL, Timeout: d.Hook.Timeout, Remember: d.Hook.Remember})
		if err != nil {
			return nil, err
		}
		*closers = append(*closers, h.Close)
		x.MayWrite = h
	}
	switch d.Auth.Kind {
	case authJWT:
		a, err := d.Auth.JWT.build()
		if err != nil {
			return nil, err
		}
		x.Auth = a
	case authHTTP:
		a, err := auth.NewHTTP(auth.HTTPConfig{URL: d.Auth.HTTP.URL, Timeout: d.Auth.HTTP.Timeout})
		if err != nil {
			return nil, err
		}
		*closers = append(*closers, a.Close)
		x.Auth = a
	default:
		x.Auth, x.Mint = auth.NewAuthenticator(ring, nil), ring
	}
	return x, nil
}

// build reads the files of secrets and keys.
func (c AuthJWT) build() (*auth.JWT, error) {
	cfg := auth.JWTConfig{Alg: c.Alg, Issuer: c.Issuer, Audience: c.Audience, UIDClaim: c.UIDClaim}
	for _, path := range c.SecretFiles {
		secret, err := readSecret(path)
		if err != nil {
			return nil, fmt.Errorf("auth.jwt.secret_files: %w", err)
		}
		cfg.Secrets = append(cfg.Secrets, bytes.TrimRight(secret, "\r\n"))
	}
	if c.PublicKeyFile != "" {
		var err error
		if cfg.PublicKeys, err = os.ReadFile(c.PublicKeyFile); err != nil {
			return nil, fmt.Errorf("auth.jwt.public_key_file: %w", err)
		}
	}
	return auth.NewJWT(cfg, nil)
}
