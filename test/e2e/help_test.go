//go:build e2e

package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	gatepost "github.com/gatepost/gatepost/sdk/go"
	"github.com/gatepost/gatepost/test/harness"
)

func withPatience() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), harness.Patience)
}

// acceptedOnce tells whether n messages of x were accepted and each outcome was told once.
func acceptedOnce(x *harness.Person, n int) error {
	seen := map[gatepost.ClientMsgID]bool{}
	for _, r := range x.Sent() {
		if r.Err != nil || r.MsgID == 0 {
			return fmt.Errorf("%s: %+v", x.UID, r)
		}
		if seen[r.ClientMsgID] {
			return fmt.Errorf("%s: the outcome of %s was told twice", x.UID, r.ClientMsgID)
		}
		seen[r.ClientMsgID] = true
	}
	if len(seen) != n {
		return fmt.Errorf("%s: %d of %d messages have an outcome", x.UID, len(seen), n)
	}
	return nil
}

// waited tells whether d has passed by the server's clock since began.
func waited(x *harness.Person, began time.Time, d time.Duration) error {
	if past := x.Client.ServerTime().Sub(began); past < d {
		return fmt.Errorf("only %s have passed", past)
	}
	return nil
}

// trust is a TLS configuration that trusts the certificate which the first gate has made for itself.
func trust(t *testing.T) *tls.Config {
	t.Helper()
	dir := filepath.Join(p.Dir(), "data")
	if len(p.Logic) > 0 {
		dir = filepath.Join(p.Dir(), "gate-1")
	}
	pem, err := os.ReadFile(filepath.Join(dir, "tls-cert.pem"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		t.Fatal("no certificate in tls-cert.pem")
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}
}

// overTLS connects to the first gate by TLS.
func overTLS(t *testing.T, pinned bool) harness.Option {
	t.Helper()
	config := trust(t)
	return func(c *gatepost.Config) {
		c.Gates, c.TLS = []string{"tls://" + p.Gates[0].Ready("tls")}, config
		if !pinned {
			c.Keys = nil
		}
	}
}

// shown tells whether x was shown exactly these texts, in whatever order.
func shown(x *harness.Person, texts ...string) error {
	got := x.Texts()
	sorted := append([]string(nil), got...)
	slices.Sort(sorted)
	slices.Sort(texts)
	if !slices.Equal(sorted, texts) {
		return fmt.Errorf("%s was shown %q, want %q", x.UID, got, texts)
	}
	return nil
}
