package auth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/store"
)

var noon = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func secret(b byte) []byte { return bytes.Repeat([]byte{b}, MinSecretBytes) }

func TestAuthenticate(t *testing.T) {
	older, err := NewRing(Key{ID: "k1", Secret: secret(1)})
	if err != nil {
		t.Fatal(err)
	}
	ring, err := NewRing(Key{ID: "k2", Secret: secret(2)}, Key{ID: "k1", Secret: secret(1)})
	if err != nil {
		t.Fatal(err)
	}
	forged, err := NewRing(Key{ID: "k2", Secret: secret(3)})
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := NewRing(Key{ID: "k9", Secret: secret(2)})
	if err != nil {
		t.Fatal(err)
	}
	type token struct {
		user      store.UserKey
		class     store.DeviceClass
		expiresAt time.Time
	}
	mint := func(r *Ring, tok token) []byte {
		b, err := r.Mint(tok.user, tok.class, tok.expiresAt)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	good := token{user: store.UserKey{Domain: "d", UID: "u"}, expiresAt: noon.Add(time.Minute)}
	expired := good
	expired.expiresAt = noon.Add(-time.Minute)
	other := good
	other.user.UID = "v"
	otherDomain := good
	otherDomain.user.Domain = "e"
	ofClass := good
	ofClass.class = 2
	unsigned, err := jwt.NewWithClaims(jwt.SigningMethodNone, jwt.MapClaims{"sub": "u", "dom": "d", "exp": noon.Add(time.Hour).Unix()}).
		SignedString(jwt.UnsafeAllowNoneSignatureType)
	if err != nil {
		t.Fatal(err)
	}
	endless := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": "u", "dom": "d"})
	endless.Header["kid"] = "k2"
	noExpiry, err := endless.SignedString(secret(2))
	if err != nil {
		t.Fatal(err)
	}

	a := NewAuthenticator(ring, func() time.Time { return noon })
	for _, c := range []struct {
		name  string
		token []byte
		class store.DeviceClass
		want  status.Code
	}{
		{"good", mint(ring, good), 1, status.OK},
		{"signed by the older key", mint(older, good), 1, status.OK},
		{"of this class", mint(ring, ofClass), 2, status.OK},
		{"of another class", mint(ring, ofClass), 1, status.BadToken},
		{"expired", mint(ring, expired), 1, status.TokenExpired},
		{"expired and forged", mint(forged, expired), 1, status.BadToken},
		{"another user", mint(ring, other), 1, status.BadToken},
		{"another domain", mint(ring, otherDomain), 1, status.BadToken},
		{"wrong secret", mint(forged, good), 1, status.BadToken},
		{"unknown key", mint(foreign, good), 1, status.BadToken},
		{"unsigned", []byte(unsigned), 1, status.BadToken},
		{"without expiry", []byte(noExpiry), 1, status.BadToken},
		{"garbage", []byte("a.b.c"), 1, status.BadToken},
		{"empty", nil, 1, status.BadToken},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := a.Authenticate(context.Background(), store.UserKey{Domain: "d", UID: "u"}, c.class, c.token)
			var refusal *status.Error
			got := status.OK
			if errors.As(err, &refusal) {
				got = refusal.Code
			} else if err != nil {
				t.Fatalf("not a refusal: %v", err)
			}
			if got != c.want {
				t.Errorf("got %v (%v), want %v", got, err, c.want)
			}
		})
	}
}

func TestRingFaultsAndSecrecy(t *testing.T) {
	_, err := NewRing(Key{ID: "", Secret: []byte("short")}, Key{ID: "a", Secret: secret(1)}, Key{ID: "a", Secret: secret(1)})
	if err == nil {
		t.Fatal("a bad ring was taken")
	}
	for _, want := range []string{"1 to 64", "at least 32", "twice"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %q", want, err)
		}
	}
	k := Key{ID: "a", Secret: []byte(strings.Repeat("topsecret", 4))}
	for _, s := range []string{fmt.Sprint(k), fmt.Sprintf("%v %+v %#v", k, k, k), k.LogValue().String()} {
		if strings.Contains(s, "topsecret") {
			t.Errorf("the secret shows: %s", s)
		}
	}
	if _, err := (&Ring{}).Mint(store.UserKey{}, 0, time.Time{}); err == nil {
		t.Error("an empty token was minted")
	}
}
