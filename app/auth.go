package app

import (
	"fmt"
	"slices"
	"time"

	"github.com/gatepost/gatepost/logic"
	"github.com/gatepost/gatepost/logic/auth"
)

// anyDomain in Config.Domains admits users of every account system.
const anyDomain = "*"

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
	token, err := ring.Mint(auth.Token{Domain: domain, UID: uid, ExpiresAt: time.Now().Add(ttl)})
	return string(token), err
}

// authenticators is the table by domain, and the one for every other domain: nil when they are unknown.
func authenticators(domains []string, keys Keys) (byDomain map[string]logic.Authenticator, other logic.Authenticator, err error) {
	ring, err := keys.ring()
	if err != nil {
		return nil, nil, err
	}
	own := auth.NewAuthenticator(ring, nil)
	byDomain = make(map[string]logic.Authenticator)
	for _, d := range domains {
		byDomain[d] = own
	}
	if slices.Contains(domains, anyDomain) {
		other = own
	}
	return byDomain, other, nil
}
