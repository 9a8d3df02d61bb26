package app

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"time"
)

// selfMadeLife is how long a self-made certificate is valid: it serves development, where nobody renews one.
const selfMadeLife = 10 * 365 * 24 * time.Hour

// loadTLS reads a certificate for TLS 1.3.
func loadTLS(certFile, keyFile string) (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("TLS certificate: %w", err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}}, nil
}

// ensureCertificate makes a self-signed certificate for this machine's loopback names, unless the files are there.
func ensureCertificate(certFile, keyFile string, now time.Time) error {
	if _, err := os.Stat(certFile); err == nil {
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("TLS certificate: %w", err)
	}
	cert, key, err := selfSigned(now)
	if err != nil {
		return fmt.Errorf("make a TLS certificate: %w", err)
	}
	// The certificate comes last: while it is missing, the key of a start that was cut off is made anew.
	if err := replaceFile(keyFile, key, 0o600); err != nil {
		return fmt.Errorf("TLS key: %w", err)
	}
	if err := replaceFile(certFile, cert, 0o644); err != nil {
		return fmt.Errorf("TLS certificate: %w", err)
	}
	return nil
}

func selfSigned(now time.Time) (certPEM, keyPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "gatepost standalone"},
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.Add(selfMadeLife),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		DNSNames:              []string{"localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}
