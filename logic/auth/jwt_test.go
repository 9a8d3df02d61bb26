package auth

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/store"
)

func publicPEM(t *testing.T, key crypto.PublicKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func signed(t *testing.T, method jwt.SigningMethod, key any, claims jwt.MapClaims) []byte {
	t.Helper()
	s, err := jwt.NewWithClaims(method, claims).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return []byte(s)
}

func TestJWTAlgorithms(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edPublic, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	otherPublic, otherKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	claims := jwt.MapClaims{"sub": "u", "exp": noon.Add(time.Minute).Unix()}
	rsaPEM := publicPEM(t, &rsaKey.PublicKey)
	tokens := map[string][]byte{
		"HS256": signed(t, jwt.SigningMethodHS256, secret(1), claims),
		"RS256": signed(t, jwt.SigningMethodRS256, rsaKey, claims),
		"ES256": signed(t, jwt.SigningMethodES256, ecKey, claims),
		"EdDSA": signed(t, jwt.SigningMethodEdDSA, edKey, claims),
		"RS512": signed(t, jwt.SigningMethodRS512, rsaKey, claims),
		// The public key taken for a secret: who checks must not let the token choose.
		"confused": signed(t, jwt.SigningMethodHS256, rsaPEM, claims),
		"none":     signed(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, claims),
		"another":  signed(t, jwt.SigningMethodHS256, secret(9), claims),
		"second":   signed(t, jwt.SigningMethodEdDSA, otherKey, claims),
	}
	for _, c := range []struct {
		cfg  JWTConfig
		good []string
	}{
		{JWTConfig{Alg: "HS256", Secrets: [][]byte{secret(2), secret(1)}}, []string{"HS256"}},
		{JWTConfig{Alg: "RS256", PublicKeys: rsaPEM}, []string{"RS256"}},
		{JWTConfig{Alg: "ES256", PublicKeys: publicPEM(t, &ecKey.PublicKey)}, []string{"ES256"}},
		{JWTConfig{Alg: "EdDSA", PublicKeys: append(publicPEM(t, edPublic), publicPEM(t, otherPublic)...)}, []string{"EdDSA", "second"}},
	} {
		a, err := NewJWT(c.cfg, func() time.Time { return noon })
		if err != nil {
			t.Fatal(err)
		}
		for name, token := range tokens {
			want := status.BadToken
			if strings.Contains(strings.Join(c.good, " "), name) {
				want = status.OK
			}
			if got := codeOf(t, a.Authenticate(context.Background(), store.UserKey{Domain: "d", UID: "u"}, 1, token)); got != want {
				t.Errorf("%s takes %s: got %v, want %v", c.cfg.Alg, name, got, want)
			}
		}
	}
}

func TestJWTClaims(t *testing.T) {
	a, err := NewJWT(JWTConfig{Alg: "HS256", Secrets: [][]byte{secret(1)}, Issuer: "shop", Audience: "chat", UIDClaim: "id"}, func() time.Time { return noon })
	if err != nil {
		t.Fatal(err)
	}
	with := func(changes jwt.MapClaims) jwt.MapClaims {
		c := jwt.MapClaims{"id": "7", "sub": "x", "iss": "shop", "aud": []string{"web", "chat"}, "exp": noon.Add(time.Minute).Unix()}
		for k, v := range changes {
			if v == nil {
				delete(c, k)
			} else {
				c[k] = v
			}
		}
		return c
	}
	for name, c := range map[string]struct {
		claims jwt.MapClaims
		want   status.Code
	}{
		"good":               {with(nil), status.OK},
		"a number":           {with(jwt.MapClaims{"id": 7}), status.OK},
		"another number":     {with(jwt.MapClaims{"id": 7.5}), status.BadToken},
		"another user":       {with(jwt.MapClaims{"id": "8"}), status.BadToken},
		"no user":            {with(jwt.MapClaims{"id": nil}), status.BadToken},
		"a list":             {with(jwt.MapClaims{"id": []string{"7"}}), status.BadToken},
		"another issuer":     {with(jwt.MapClaims{"iss": "post"}), status.BadToken},
		"no issuer":          {with(jwt.MapClaims{"iss": nil}), status.BadToken},
		"another audience":   {with(jwt.MapClaims{"aud": "web"}), status.BadToken},
		"no audience":        {with(jwt.MapClaims{"aud": nil}), status.BadToken},
		"expired":            {with(jwt.MapClaims{"exp": noon.Add(-time.Minute).Unix()}), status.TokenExpired},
		"just expired":       {with(jwt.MapClaims{"exp": noon.Add(-time.Second).Unix()}), status.OK},
		"expired and others": {with(jwt.MapClaims{"exp": noon.Add(-time.Minute).Unix(), "iss": "post"}), status.BadToken},
		"without expiry":     {with(jwt.MapClaims{"exp": nil}), status.BadToken},
		"not yet":            {with(jwt.MapClaims{"nbf": noon.Add(time.Minute).Unix()}), status.BadToken},
	} {
		token := signed(t, jwt.SigningMethodHS256, secret(1), c.claims)
		if got := codeOf(t, a.Authenticate(context.Background(), store.UserKey{Domain: "d", UID: "7"}, 1, token)); got != c.want {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
	for _, garbage := range []string{"", "a.b.c", "...."} {
		if got := codeOf(t, a.Authenticate(context.Background(), store.UserKey{Domain: "d", UID: "7"}, 1, []byte(garbage))); got != status.BadToken {
			t.Errorf("%q: %v", garbage, got)
		}
	}
}

func TestNewJWTRefuses(t *testing.T) {
	ec384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edPublic, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ed := publicPEM(t, edPublic)
	for name, c := range map[string]JWTConfig{
		"no alg":            {Secrets: [][]byte{secret(1)}},
		"none":              {Alg: "none"},
		"HS512":             {Alg: "HS512", Secrets: [][]byte{secret(1)}},
		"no secret":         {Alg: "HS256"},
		"a short secret":    {Alg: "HS256", Secrets: [][]byte{secret(1), []byte("short")}},
		"a key as well":     {Alg: "HS256", Secrets: [][]byte{secret(1)}, PublicKeys: ed},
		"a secret as well":  {Alg: "EdDSA", Secrets: [][]byte{secret(1)}, PublicKeys: ed},
		"no key":            {Alg: "EdDSA"},
		"not PEM":           {Alg: "EdDSA", PublicKeys: []byte("key")},
		"rubbish behind it": {Alg: "EdDSA", PublicKeys: append(bytes.Clone(ed), "-----BEGIN"...)},
		"another kind":      {Alg: "RS256", PublicKeys: ed},
		"another curve":     {Alg: "ES256", PublicKeys: publicPEM(t, &ec384.PublicKey)},
	} {
		if _, err := NewJWT(c, nil); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}
