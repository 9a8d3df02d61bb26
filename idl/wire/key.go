package wire

import (
	"crypto/ecdh"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// PrivateKey is a static key pair of gates, an X25519 one. ID names it in HELLO and is never 0. It prints without its secret.
type PrivateKey struct {
	ID              uint32
	Private, Public [32]byte
	pair            *ecdh.PrivateKey // of Private; nil: not worked out yet
}

// PublicKey is what clients pin: the public half of a gate's static key.
type PublicKey struct {
	ID  uint32
	Key [32]byte
}

// ErrKey: a text is no key.
var ErrKey = errors.New("wire: bad key")

// GenerateKey makes a new key pair. id is 1 or more.
func GenerateKey(id uint32) (PrivateKey, error) {
	k, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return PrivateKey{}, fmt.Errorf("generate key %d: %w", id, err)
	}
	return NewPrivateKey(id, [32]byte(k.Bytes()))
}

// NewPrivateKey makes the pair of a private key.
func NewPrivateKey(id uint32, private [32]byte) (PrivateKey, error) {
	if id == 0 {
		return PrivateKey{}, fmt.Errorf("%w: id 0 means no key", ErrKey)
	}
	k, err := ecdh.X25519().NewPrivateKey(private[:])
	if err != nil {
		return PrivateKey{}, fmt.Errorf("%w: %v", ErrKey, err)
	}
	return PrivateKey{ID: id, Private: private, Public: [32]byte(k.PublicKey().Bytes()), pair: k}, nil
}

// Equal reports whether o is the same key.
func (k PrivateKey) Equal(o PrivateKey) bool {
	return k.ID == o.ID && subtle.ConstantTimeCompare(k.Private[:], o.Private[:]) == 1
}

// PublicKey is the half that clients pin.
func (k PrivateKey) PublicKey() PublicKey { return PublicKey{ID: k.ID, Key: k.Public} }

// String names the key without its secret.
func (k PrivateKey) String() string { return k.PublicKey().String() + " (private half not shown)" }

// GoString is String, so that %#v does not show the secret either.
func (k PrivateKey) GoString() string { return k.String() }

// Text is the whole key as text, for a file that only the gate may read: "1:" and 32 bytes in base64url.
func (k PrivateKey) Text() string { return keyText(k.ID, k.Private) }

// ParsePrivateKey reads what Text wrote. The error wraps ErrKey and does not repeat the text.
func ParsePrivateKey(text string) (PrivateKey, error) {
	id, b, err := parseKey(text)
	if err != nil {
		return PrivateKey{}, err
	}
	return NewPrivateKey(id, b)
}

// String is the text form [P-4.5]: the id in decimal, a colon, the 32 bytes in base64url without padding.
func (k PublicKey) String() string { return keyText(k.ID, k.Key) }

// ParsePublicKey reads what String wrote. The error wraps ErrKey.
func ParsePublicKey(text string) (PublicKey, error) {
	id, b, err := parseKey(text)
	return PublicKey{ID: id, Key: b}, err
}

func keyText(id uint32, b [32]byte) string {
	return strconv.FormatUint(uint64(id), 10) + ":" + base64.RawURLEncoding.EncodeToString(b[:])
}

func parseKey(text string) (id uint32, b [32]byte, err error) {
	number, code, ok := strings.Cut(strings.TrimSpace(text), ":")
	if !ok {
		return 0, b, fmt.Errorf("%w: no colon between id and key", ErrKey)
	}
	n, err := strconv.ParseUint(number, 10, 32)
	if err != nil || n == 0 {
		return 0, b, fmt.Errorf("%w: the id is not a number of 1..4294967295", ErrKey)
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(strings.TrimRight(code, "="))
	if err != nil || len(raw) != len(b) {
		return 0, b, fmt.Errorf("%w: behind the colon stand not 32 bytes in base64url", ErrKey)
	}
	return uint32(n), [32]byte(raw), nil
}
