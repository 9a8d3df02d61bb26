package auth

import (
	"bytes"
	"context"
	"crypto/elliptic"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/store"
)

// JWTConfig of an authenticator that takes the tokens of a domain's own business. Tokens must have an expiry.
type JWTConfig struct {
	// Alg is the one algorithm that is taken: HS256, RS256, ES256 or EdDSA.
	Alg string
	// Secrets are the secrets of HS256, at least 32 bytes each. Several: a token of any of them is good, as while one is replaced.
	Secrets [][]byte
	// PublicKeys are the keys of the other algorithms: one PEM block or several, public keys or certificates.
	PublicKeys []byte
	Issuer     string // must be the token's iss. Empty: not looked at
	Audience   string // must be among the token's aud. Empty: not looked at
	UIDClaim   string // holds the uid, a text or a whole number. Empty: sub
}

// JWT proves users by tokens that somebody else makes. It calls nobody and is safe for concurrent use.
type JWT struct {
	parser   *jwt.Parser
	keys     jwt.VerificationKeySet
	uidClaim string
}

// NewJWT checks cfg; tokens are checked by the clock now, nil is time.Now. All faults come joined.
func NewJWT(cfg JWTConfig, now func() time.Time) (*JWT, error) {
	if now == nil {
		now = time.Now
	}
	a := &JWT{uidClaim: cfg.UIDClaim}
	if a.uidClaim == "" {
		a.uidClaim = "sub"
	}
	keys, err := cfg.keys()
	if err != nil {
		return nil, fmt.Errorf("jwt authenticator: %w", err)
	}
	a.keys.Keys = keys
	options := []jwt.ParserOption{
		jwt.WithValidMethods([]string{cfg.Alg}), jwt.WithExpirationRequired(), jwt.WithLeeway(Leeway), jwt.WithTimeFunc(now), jwt.WithJSONNumber(),
	}
	if cfg.Issuer != "" {
		options = append(options, jwt.WithIssuer(cfg.Issuer))
	}
	if cfg.Audience != "" {
		options = append(options, jwt.WithAudience(cfg.Audience))
	}
	a.parser = jwt.NewParser(options...)
	return a, nil
}

// keys are those of the algorithm, and of no other.
func (c JWTConfig) keys() (keys []jwt.VerificationKey, err error) {
	if c.Alg == "HS256" {
		var faults []error
		if len(c.PublicKeys) > 0 {
			faults = append(faults, errors.New("HS256 has no public keys"))
		}
		if len(c.Secrets) == 0 {
			faults = append(faults, errors.New("there is no secret"))
		}
		for i, s := range c.Secrets {
			if len(s) < MinSecretBytes {
				faults = append(faults, fmt.Errorf("secret %d has %d bytes, at least %d are needed", i+1, len(s), MinSecretBytes))
			}
			keys = append(keys, bytes.Clone(s))
		}
		return keys, errors.Join(faults...)
	}
	parse, ok := map[string]func([]byte) (jwt.VerificationKey, error){"RS256": rsaKey, "ES256": ecKey, "EdDSA": edKey}[c.Alg]
	if !ok {
		return nil, fmt.Errorf("alg %q: must be HS256, RS256, ES256 or EdDSA", c.Alg)
	}
	if len(c.Secrets) > 0 {
		return nil, fmt.Errorf("%s has no secret", c.Alg)
	}
	rest := c.PublicKeys
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		key, err := parse(pem.EncodeToMemory(block))
		if err != nil {
			return nil, fmt.Errorf("public key %d: %w", len(keys)+1, err)
		}
		keys = append(keys, key)
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("public keys: not PEM")
	}
	if len(keys) == 0 {
		return nil, errors.New("there is no public key")
	}
	return keys, nil
}

// minRSABits is the shortest RSA key that is taken (RFC 7518, 3.3).
const minRSABits = 2048

func rsaKey(block []byte) (jwt.VerificationKey, error) {
	key, err := jwt.ParseRSAPublicKeyFromPEM(block)
	if err == nil && key.N.BitLen() < minRSABits {
		err = fmt.Errorf("has %d bits, at least %d are needed", key.N.BitLen(), minRSABits)
	}
	return key, err
}

func ecKey(block []byte) (jwt.VerificationKey, error) {
	key, err := jwt.ParseECPublicKeyFromPEM(block)
	if err == nil && key.Curve != elliptic.P256() {
		err = fmt.Errorf("ES256 needs the curve P-256, not %s", key.Curve.Params().Name)
	}
	return key, err
}

func edKey(block []byte) (jwt.VerificationKey, error) {
	return jwt.ParseEdPublicKeyFromPEM(block)
}

// Authenticate refuses with BadToken, or TokenExpired for a token that was good once.
func (a *JWT) Authenticate(_ context.Context, user store.UserKey, _ store.DeviceClass, token []byte) error {
	claims := jwt.MapClaims{}
	if _, err := a.parser.ParseWithClaims(string(token), claims, func(*jwt.Token) (any, error) { return a.keys, nil }); err != nil {
		return refusalOf(err)
	}
	uid, ok := claims[a.uidClaim].(string)
	if !ok {
		number, _ := claims[a.uidClaim].(json.Number)
		uid = number.String()
	}
	if uid == "" || uid != user.UID {
		return status.New(status.BadToken, "the token is of another user")
	}
	return nil
}

// refusalOf is what a token that was not taken is refused with.
func refusalOf(err error) error {
	// A token may be at fault in several ways. It is called expired only when nothing else is wrong with it.
	for _, worse := range []error{jwt.ErrTokenInvalidIssuer, jwt.ErrTokenInvalidAudience, jwt.ErrTokenNotValidYet} {
		if errors.Is(err, worse) {
			return status.Wrap(status.BadToken, err, "the token is not valid")
		}
	}
	if errors.Is(err, jwt.ErrTokenExpired) {
		return status.Wrap(status.TokenExpired, err, "the token has expired")
	}
	return status.Wrap(status.BadToken, err, "the token is not valid")
}
