package wire

import (
	"crypto/ecdh"
	"crypto/rand"
	"crypto/subtle"
	"io"

	"github.com/flynn/noise"
)

// exchange is the X25519 of one handshake. Noise hands over private keys as bytes, and crypto/ecdh works out the public half of each one
// that it is given, which costs as much as the exchange itself; so the keys that have been worked out are kept: three multiplications
// instead of six.
type exchange struct {
	noise.DHFunc // for its name and length
	known        [2]*ecdh.PrivateKey
	bytes        [2][]byte // of known
}

// newSuite returns the cipher suite of one handshake. static is its end's key, nil when it has none.
func newSuite(static *PrivateKey) noise.CipherSuite {
	x := &exchange{DHFunc: noise.DH25519}
	if static != nil {
		x.known[0], x.bytes[0] = static.pair, static.Private[:]
	}
	return noise.NewCipherSuite(x, noise.CipherChaChaPoly, noise.HashSHA256)
}

// GenerateKeypair implements noise.DHFunc. The 32 bytes that it reads from random are the private key; nil is crypto/rand.
func (x *exchange) GenerateKeypair(random io.Reader) (noise.DHKey, error) {
	if random == nil {
		random = rand.Reader
	}
	private := make([]byte, 32)
	if _, err := io.ReadFull(random, private); err != nil {
		return noise.DHKey{}, err
	}
	key, err := ecdh.X25519().NewPrivateKey(private)
	if err != nil {
		return noise.DHKey{}, err
	}
	x.known[1], x.bytes[1] = key, private
	return noise.DHKey{Private: private, Public: key.PublicKey().Bytes()}, nil
}

// DH implements noise.DHFunc. A peer's key of low order is refused.
func (x *exchange) DH(private, public []byte) ([]byte, error) {
	key, err := x.key(private)
	if err != nil {
		return nil, err
	}
	peer, err := ecdh.X25519().NewPublicKey(public)
	if err != nil {
		return nil, err
	}
	return key.ECDH(peer)
}

func (x *exchange) key(private []byte) (*ecdh.PrivateKey, error) {
	for i, k := range x.known {
		if k != nil && subtle.ConstantTimeCompare(x.bytes[i], private) == 1 {
			return k, nil
		}
	}
	return ecdh.X25519().NewPrivateKey(private)
}
