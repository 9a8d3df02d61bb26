// Package target finds a running platform, for the commands that are its clients.
package target

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gatepost/gatepost/app"
	gatepost "github.com/gatepost/gatepost/sdk/go"
	"github.com/spf13/pflag"
)

// tokenLife is how long a token that was made for a login is valid.
const tokenLife = time.Hour

// Flags are the ways to name a platform: by the data directory of one that runs on this machine, or by its parts.
type Flags struct {
	DataDir  string
	Gates    []string
	Keys     []string
	KeysFile string
	TLSCA    string
}

// Add defines the flags.
func (f *Flags) Add(fs *pflag.FlagSet) {
	fs.StringVar(&f.DataDir, "data-dir", "data", "data directory of a platform that runs on this machine")
	fs.StringSliceVar(&f.Gates, "gate", nil, "address of a gate, tcp://host:port or tls://host:port, instead of what --data-dir tells; may be repeated")
	fs.StringSliceVar(&f.Keys, "key", nil, "public key of the gates, id:base64url (gatepost keys show-public); may be repeated")
	fs.StringVar(&f.KeysFile, "keys-file", "", "secrets of the platform, to make tokens with (default: what --data-dir tells)")
	fs.StringVar(&f.TLSCA, "tls-ca", "", "certificates to trust for tls:// gates, PEM (default: the system's)")
}

// Args are the flags again, for another process of this binary.
func (f *Flags) Args() []string {
	args := []string{"--data-dir", f.DataDir, "--keys-file", f.KeysFile, "--tls-ca", f.TLSCA}
	for _, g := range f.Gates {
		args = append(args, "--gate", g)
	}
	for _, k := range f.Keys {
		args = append(args, "--key", k)
	}
	return args
}

// Target is a platform to connect to.
type Target struct {
	Gates   []string
	Keys    []gatepost.Key
	TLS     *tls.Config  // nil: the system's roots
	DataDir string       // where clients of this machine keep their stores
	Runtime *app.Runtime // what the platform in DataDir tells of itself; nil: the gates were named instead
	secrets *app.Keys    // nil: tokens cannot be made
}

// Find resolves the flags.
func (f *Flags) Find() (*Target, error) {
	t := &Target{Gates: f.Gates, DataDir: f.DataDir}
	keysFile := f.KeysFile
	keys := f.Keys
	if len(t.Gates) == 0 {
		rt, err := app.ReadRuntime(f.DataDir)
		if err != nil {
			return nil, err
		}
		if rt.TCP == "" {
			return nil, fmt.Errorf("the %s in %s has no tcp address for clients: name a gate by --gate", rt.Role, f.DataDir)
		}
		t.Gates, t.Runtime = []string{"tcp://" + rt.TCP}, &rt
		if len(keys) == 0 {
			keys = rt.Keys
		}
		if keysFile == "" {
			keysFile = rt.KeysFile
		}
	}
	if keysFile != "" {
		secrets, err := app.ReadKeys(keysFile)
		if err != nil {
			return nil, err
		}
		t.secrets = &secrets
		if len(keys) == 0 {
			t.Keys = secrets.Public()
		}
	}
	for _, text := range keys {
		key, err := gatepost.ParseKey(text)
		if err != nil {
			return nil, fmt.Errorf("--key %s: %w", text, err)
		}
		t.Keys = append(t.Keys, key)
	}
	return t, t.trust(f.TLSCA)
}

func (t *Target) trust(caFile string) error {
	if caFile == "" {
		return nil
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return fmt.Errorf("--tls-ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return fmt.Errorf("--tls-ca %s: no certificate in it", caFile)
	}
	t.TLS = &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pool}
	return nil
}

// CanMint reports whether the secrets of the platform are at hand.
func (t *Target) CanMint() bool { return t.secrets != nil }

// Token makes a token for user.
func (t *Target) Token(user gatepost.User) (string, error) {
	if t.secrets == nil {
		return "", errors.New("there are no secrets to make a token with: name them by --keys-file")
	}
	return app.MintToken(*t.secrets, user.Domain, user.UID, tokenLife)
}

// Client is the SDK configuration of user on device; what else it needs is for the caller to add.
func (t *Target) Client(user gatepost.User, device gatepost.Device) gatepost.Config {
	return gatepost.Config{
		Gates: t.Gates, Keys: t.Keys, TLS: t.TLS, User: user, Device: device, SDK: "gatepost-cli/go",
		Token: func(context.Context) (string, error) { return t.Token(user) },
	}
}

// StorePath is where a client of this machine keeps its outbox and what it has received: below the data directory in
// clients/PLATFORM/. Names of users and domains become elements by FileName.
func (t *Target) StorePath(elem ...string) (string, error) {
	path := filepath.Join(append([]string{t.DataDir, "clients", t.platform()}, elem...)...)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", fmt.Errorf("store of the client: %w", err)
	}
	return path, nil
}

// platform names the directory of one platform's clients, so that nobody's outbox goes to another platform: the fingerprint of a pinned
// key or, without one, of the gates' addresses. While keys are rotated, the directory of whichever pinned key is there goes on being used.
func (t *Target) platform() string {
	if len(t.Keys) == 0 {
		return fingerprint(strings.Join(slices.Sorted(slices.Values(t.Gates)), ","))
	}
	for _, k := range t.Keys {
		name := fingerprint(k.String())
		if _, err := os.Stat(filepath.Join(t.DataDir, "clients", name)); err == nil {
			return name
		}
	}
	return fingerprint(t.Keys[0].String())
}

func fingerprint(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:8])
}

// FileName is a name of a user or a domain as one element of a path. It never begins with a dot.
func FileName(name string) string {
	name = url.PathEscape(name)
	if strings.HasPrefix(name, ".") {
		name = "%2E" + name[1:]
	}
	return name
}
