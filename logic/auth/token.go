package auth

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/store"
)

// Leeway is how far the clocks of who mints and who checks may differ.
const Leeway = 5 * time.Second

// claims of the JWT: sub is the uid, dom the domain, dev the device class.
type claims struct {
	jwt.RegisteredClaims
	Domain string            `json:"dom"`
	Class  store.DeviceClass `json:"dev,omitempty"`
}

// Mint makes a token that proves user until expiresAt, signed with the current key. class 0: on any device class, else on that one.
func (r *Ring) Mint(user store.UserKey, class store.DeviceClass, expiresAt time.Time) ([]byte, error) {
	if user.Domain == "" || user.UID == "" || expiresAt.IsZero() {
		return nil, errors.New("mint token: domain, uid and expiry are needed")
	}
	j := jwt.NewWithClaims(jwt.SigningMethodHS256, claims{
		RegisteredClaims: jwt.RegisteredClaims{Subject: user.UID, ExpiresAt: jwt.NewNumericDate(expiresAt)},
		Domain:           user.Domain,
		Class:            class,
	})
	j.Header["kid"] = r.current
	signed, err := j.SignedString(r.secrets[r.current])
	if err != nil {
		return nil, fmt.Errorf("mint token: %w", err)
	}
	return []byte(signed), nil
}

// Authenticator proves users by tokens of a ring, which are Gatepost's own. It calls nobody and is safe for concurrent use.
type Authenticator struct {
	ring   *Ring
	parser *jwt.Parser
}

// NewAuthenticator checks tokens of ring by the clock now; nil is time.Now.
func NewAuthenticator(ring *Ring, now func() time.Time) *Authenticator {
	if now == nil {
		now = time.Now
	}
	return &Authenticator{ring: ring, parser: jwt.NewParser(
		jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}), // nothing else, "none" least of all
		jwt.WithExpirationRequired(),
		jwt.WithLeeway(Leeway),
		jwt.WithTimeFunc(now),
	)}
}

// Authenticate refuses with BadToken, or TokenExpired for a token that was good once. The signature is compared in constant time.
func (a *Authenticator) Authenticate(_ context.Context, user store.UserKey, class store.DeviceClass, token []byte) error {
	var c claims
	_, err := a.parser.ParseWithClaims(string(token), &c, func(t *jwt.Token) (any, error) {
		id, _ := t.Header["kid"].(string)
		secret, ok := a.ring.secrets[id]
		if !ok {
			return nil, errors.New("no such key")
		}
		return secret, nil
	})
	switch {
	case err != nil:
		return refusalOf(err)
	case c.Subject != user.UID || c.Domain != user.Domain:
		return status.New(status.BadToken, "the token is of another user")
	case c.Class != 0 && c.Class != class:
		return status.New(status.BadToken, "the token is of another device class")
	}
	return nil
}
