package wire

import (
	"bytes"
	"testing"

	"github.com/flynn/noise"
)

// What exchange keeps changes nothing of what Noise's own X25519 says.
func TestExchange(t *testing.T) {
	static, peer, other := mustKey(t, 1), mustKey(t, 2), mustKey(t, 3)
	x := newSuite(&static)
	random := bytes.Repeat([]byte{7}, 32)
	ephemeral, err := x.GenerateKeypair(bytes.NewReader(random))
	if err != nil {
		t.Fatal(err)
	}
	want, err := noise.DH25519.GenerateKeypair(bytes.NewReader(random))
	if err != nil || !bytes.Equal(ephemeral.Private, want.Private) || !bytes.Equal(ephemeral.Public, want.Public) {
		t.Fatalf("%x, want %x, %v", ephemeral, want, err)
	}
	bare := PrivateKey{ID: 1, Private: static.Private, Public: static.Public}
	for name, y := range map[string]noise.CipherSuite{"with the static key": x, "with a bare one": newSuite(&bare), "without": newSuite(nil)} {
		for _, private := range [][]byte{static.Private[:], ephemeral.Private, other.Private[:]} {
			got, err := y.DH(private, peer.Public[:])
			want, _ := noise.DH25519.DH(private, peer.Public[:])
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: %x, want %x, %v", name, got, want, err)
			}
			if _, err := y.DH(private, make([]byte, 32)); err == nil {
				t.Errorf("%s: a key of low order was taken", name)
			}
			if _, err := y.DH(private, peer.Public[:31]); err == nil {
				t.Errorf("%s: a short key was taken", name)
			}
		}
	}
	if _, err := x.GenerateKeypair(bytes.NewReader(random[:31])); err == nil {
		t.Error("a key was made of too little")
	}
}
