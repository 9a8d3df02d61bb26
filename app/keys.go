package app

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/gatepost/gatepost/idl/wire"
)

// SecretLen is the length of a token signing secret in bytes: that of the hash which it keys.
const SecretLen = 32

// Keys are the secrets that all nodes of a cluster share. Of each list the first is used for what is new, the others are still
// understood: to rotate, put a new one in front and take the old one out when nobody uses it any more.
type Keys struct {
	Noise  []wire.PrivateKey // static keys of the gates; clients pin the public halves. At least one
	Tokens []TokenSecret     // sign the platform's own tokens. At least one
}

// TokenSecret signs tokens, which name it by its id.
type TokenSecret struct {
	ID     string
	Secret [SecretLen]byte
}

// Public returns the public halves of the gates' keys, as clients pin them.
func (k Keys) Public() []wire.PublicKey {
	out := make([]wire.PublicKey, 0, len(k.Noise))
	for _, p := range k.Noise {
		out = append(out, p.PublicKey())
	}
	return out
}

// String never shows a secret.
func (k Keys) String() string { return fmt.Sprintf("keys %v", k.Public()) }

// LogValue never shows a secret.
func (k Keys) LogValue() slog.Value { return slog.StringValue(k.String()) }

// keysFile is Keys as JSON.
type keysFile struct {
	Noise  []noiseEntry `json:"noise"`
	Tokens []tokenEntry `json:"tokens"`
}

type noiseEntry struct {
	Private string `json:"private"` // text form of wire: id:base64url
	Public  string `json:"public"`  // the same of the other half; read for a check only
}

type tokenEntry struct {
	ID     string `json:"id"`
	Secret string `json:"secret"` // base64url of 32 bytes
}

var base64url = base64.RawURLEncoding

// GenerateKeys makes one key of each kind.
func GenerateKeys() (Keys, error) {
	noise, err := wire.GenerateKey(1)
	if err != nil {
		return Keys{}, fmt.Errorf("generate a key: %w", err)
	}
	token := TokenSecret{ID: "1"}
	if _, err := rand.Read(token.Secret[:]); err != nil {
		return Keys{}, fmt.Errorf("generate a secret: %w", err)
	}
	return Keys{Noise: []wire.PrivateKey{noise}, Tokens: []TokenSecret{token}}, nil
}

// ReadKeys reads a keys file. A file that others than its owner and group can read is refused.
func ReadKeys(path string) (Keys, error) {
	content, err := readSecret(path)
	if err != nil {
		return Keys{}, fmt.Errorf("keys file: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(content))
	dec.DisallowUnknownFields()
	var kf keysFile
	if err := dec.Decode(&kf); err != nil {
		return Keys{}, fmt.Errorf("keys file %s: it is not the JSON that gatepost keys init writes", path) // the cause would quote secrets
	}
	keys, err := kf.keys()
	if err != nil {
		return Keys{}, fmt.Errorf("keys file %s: %w", path, err)
	}
	return keys, nil
}

// readSecret reads a file that must not be there for others than its owner and group.
func readSecret(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); mode&0o027 != 0 {
		return nil, fmt.Errorf("%s: its mode is %#o, so others than its owner can use the secrets in it: run chmod 600 %s", path, mode, path)
	}
	return io.ReadAll(io.LimitReader(f, 1<<20))
}

func (kf keysFile) keys() (Keys, error) {
	var keys Keys
	var faults []error
	ids := make(map[any]bool)
	for i, n := range kf.Noise {
		p, err := wire.ParsePrivateKey(n.Private)
		switch {
		case err != nil:
			faults = append(faults, fmt.Errorf("noise[%d]: %w", i, err))
		case ids[p.ID]:
			faults = append(faults, fmt.Errorf("noise[%d]: another key has the id %d", i, p.ID))
		case n.Public != "" && n.Public != p.PublicKey().String():
			faults = append(faults, fmt.Errorf("noise[%d]: public is not the other half of private", i))
		}
		ids[p.ID] = true
		keys.Noise = append(keys.Noise, p)
	}
	for i, t := range kf.Tokens {
		secret := decode32(t.Secret)
		if t.ID == "" || ids[t.ID] || secret == [SecretLen]byte{} {
			faults = append(faults, fmt.Errorf("tokens[%d]: want an id of its own and a secret of %d bytes in base64url", i, SecretLen))
		}
		ids[t.ID] = true
		keys.Tokens = append(keys.Tokens, TokenSecret{ID: t.ID, Secret: secret})
	}
	if len(kf.Noise) == 0 || len(kf.Tokens) == 0 {
		faults = append(faults, errors.New("want at least one key in noise and one in tokens"))
	}
	return keys, errors.Join(faults...)
}

// decode32 is all zero unless text is base64url of 32 bytes.
func decode32(text string) (out [32]byte) {
	b, err := base64url.DecodeString(text)
	if err == nil && len(b) == len(out) {
		copy(out[:], b)
	}
	return out
}

// WriteKeys writes a new keys file of mode 0600. It never overwrites: fs.ErrExist. Another process sees the whole file or none.
func WriteKeys(path string, keys Keys) error {
	var kf keysFile
	for _, n := range keys.Noise {
		kf.Noise = append(kf.Noise, noiseEntry{n.Text(), n.PublicKey().String()})
	}
	for _, t := range keys.Tokens {
		kf.Tokens = append(kf.Tokens, tokenEntry{t.ID, base64url.EncodeToString(t.Secret[:])})
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	if err := enc.Encode(kf); err != nil {
		return fmt.Errorf("keys file: %w", err)
	}
	if err := writeNew(path, b.Bytes(), 0o600); err != nil {
		return fmt.Errorf("keys file: %w", err)
	}
	return nil
}

// ensureKeys reads the keys file, or makes it when it is missing and make is allowed.
func ensureKeys(path string, make bool) (Keys, error) {
	keys, err := ReadKeys(path)
	if !make || !errors.Is(err, fs.ErrNotExist) {
		return keys, err
	}
	if keys, err = GenerateKeys(); err != nil {
		return Keys{}, err
	}
	switch err := WriteKeys(path, keys); {
	case errors.Is(err, fs.ErrExist): // another process was first: its keys count
		return ReadKeys(path)
	case err != nil:
		return Keys{}, err
	}
	return keys, nil
}

// writeNew writes a file that must not be there yet, durably and whole: it is written beside its name and linked to it.
func writeNew(path string, content []byte, mode fs.FileMode) error {
	tmp, err := writeBeside(path, content, mode)
	if err != nil {
		return err
	}
	defer os.Remove(tmp)
	if err := os.Link(tmp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// replaceFile writes a file over what may be there, whole.
func replaceFile(path string, content []byte, mode fs.FileMode) error {
	tmp, err := writeBeside(path, content, mode)
	if err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		os.Remove(tmp)
		return err
	}
	return nil
}

func writeBeside(path string, content []byte, mode fs.FileMode) (tmp string, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return "", err
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		os.Remove(f.Name())
		return "", err
	}
	return f.Name(), nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
