package auth

import (
	"errors"
	"fmt"
	"log/slog"
)

// MinSecretBytes is the shortest secret that is taken: the size of the hash.
const MinSecretBytes = 32

// Key signs tokens. It prints without its secret.
type Key struct {
	ID     string // 1..64 bytes, stands in clear in each token
	Secret []byte // at least MinSecretBytes
}

func (k Key) String() string { return fmt.Sprintf("key %q (secret of %d bytes)", k.ID, len(k.Secret)) }

// GoString keeps the secret out of %#v.
func (k Key) GoString() string { return k.String() }

// LogValue keeps the secret out of logs.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// Ring holds keys by id. It does not change after NewRing, and is safe for concurrent use.
type Ring struct {
	current string
	secrets map[string][]byte
}

// NewRing takes the key that signs new tokens, and those whose tokens still count. All faults come joined.
func NewRing(current Key, older ...Key) (*Ring, error) {
	r := &Ring{current: current.ID, secrets: make(map[string][]byte)}
	var faults []error
	for _, k := range append([]Key{current}, older...) {
		if k.ID == "" || len(k.ID) > 64 {
			faults = append(faults, fmt.Errorf("token key id %q: must have 1 to 64 bytes", k.ID))
		}
		if len(k.Secret) < MinSecretBytes {
			faults = append(faults, fmt.Errorf("token key %q: the secret has %d bytes, at least %d are needed", k.ID, len(k.Secret), MinSecretBytes))
		}
		if _, twice := r.secrets[k.ID]; twice {
			faults = append(faults, fmt.Errorf("token key %q is there twice", k.ID))
		}
		r.secrets[k.ID] = append([]byte(nil), k.Secret...)
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return r, nil
}
