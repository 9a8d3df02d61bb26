package app

import (
	"fmt"
	"time"

	"github.com/gatepost/gatepost/logic"
	"github.com/gatepost/gatepost/logic/auth"
	"github.com/gatepost/gatepost/store"
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
	token, err := ring.Mint(store.UserKey{Domain: domain, UID: uid}, 0, time.Now().Add(ttl))
	return string(token), err
}

// domainTable is the table of the account systems called domains.
func domainTable(domains []string, keys Keys) (logic.Domains, error) {
	ring, err := keys.ring()
	if err != nil {
		return logic.Domains{}, err
	}
	own := &logic.Domain{Auth: auth.NewAuthenticator(ring, nil), Mint: ring, AcceptFrom: []string{anyDomain}}
	table := logic.Domains{ByName: make(map[string]*logic.Domain)}
	for _, d := range domains {
		if d == anyDomain {
			table.Other = own
		} else {
			table.ByName[d] = own
		}
	}
	return table, nil
}
