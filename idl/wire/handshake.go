package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/cloudwego/prutal"
	"github.com/flynn/noise"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/limits"
	"github.com/gatepost/gatepost/idl/status"
)

// The handshake is one frame each way, both in clear [P-4.1], [P-4.2]:
//
//	client                                                   gate
//	  Hello{version, security, key_id, noise₁(HelloOffer)}  ──▶
//	  ◀──  HelloAnswer{noise₂(HelloSettings)}               and from here on every body is sealed
//
// noise₁ and noise₂ are the two messages of Noise_NK_25519_ChaChaPoly_SHA256, the gate being the responder whose static key is known:
//
//	noise₁ = ephemeral public key:32 │ sealed HelloOffer    │ tag:16
//	noise₂ = ephemeral public key:32 │ sealed HelloSettings │ tag:16
//
// What goes into HELLO in clear is bound by the prologue, 15 bytes [P-4.4]:
//
//	"gatepost" 00 │ protocol_version:1 │ security:1 │ key_id:4, big endian
//
// Split then gives two keys: the first for client → gate, the second for gate → client.
// In the clear variant offer and settings stand in the bodies as they are, and nothing is sealed.

// ErrHandshake: the gate's answer is not that of the gate whose key is pinned, or does not fit the offer.
var ErrHandshake = errors.New("wire: handshake failed")

func prologue(security clientpb.Security, keyID uint32) []byte {
	p := append(make([]byte, 0, 15), "gatepost\x00"...)
	p = append(p, Version, byte(security))
	return binary.BigEndian.AppendUint32(p, keyID)
}

// Accept is the gate's end of a handshake.
type Accept struct {
	Answer   []byte // body of the answer to HELLO, which goes out in clear
	Opener   Opener // for what comes after HELLO
	Sealer   Sealer // for what goes after the answer
	Offer    clientpb.HelloOffer
	Settings clientpb.HelloSettings // as they were answered
	Security clientpb.Security
	KeyID    uint32 // 0: clear
}

// AcceptHello answers a HELLO. keys are those of the gate, found by their ids; allowClear lets a client do without Noise,
// because the transport protects the connection or the operator says so.
//
// settings is asked for what the gate answers. Its Compression is a wish: it falls to COMPRESSION_NONE when the client does not offer it
// or no dictionary is known to both, and Dictionary is set here. It must not return nil.
//
// The error is a *status.Error: UnsupportedVersion, UnknownKey, ClearRefused or BadHandshake; GateError when the settings are too large.
// Nothing of body is kept.
func AcceptHello(body []byte, keys []PrivateKey, allowClear bool, settings func(*clientpb.HelloOffer) *clientpb.HelloSettings) (*Accept, error) {
	return AcceptHelloWith(nil, body, keys, allowClear, settings)
}

// AcceptHelloWith is AcceptHello with a source of the ephemeral key, for golden vectors. A nil source is crypto/rand, and the only safe one.
func AcceptHelloWith(random io.Reader, body []byte, keys []PrivateKey, allowClear bool, settings func(*clientpb.HelloOffer) *clientpb.HelloSettings) (*Accept, error) {
	if len(body) > limits.HelloBodyBytes {
		return nil, status.New(status.BadHandshake, "hello has %d bytes, %d are allowed", len(body), limits.HelloBodyBytes)
	}
	var hello clientpb.Hello
	if err := prutal.Unmarshal(body, &hello); err != nil {
		return nil, status.Wrap(status.BadHandshake, err, "hello cannot be decoded")
	}
	if hello.ProtocolVersion != Version {
		return nil, status.New(status.UnsupportedVersion, "protocol version %d is not spoken here, %d is", hello.ProtocolVersion, Version)
	}
	a := &Accept{Security: hello.Security, KeyID: hello.KeyId}
	switch hello.Security {
	case clientpb.Security_SECURITY_CLEAR:
		if !allowClear {
			return nil, status.New(status.ClearRefused, "this port wants Noise")
		}
		if err := a.clear(&hello, settings); err != nil {
			return nil, err
		}
	case clientpb.Security_SECURITY_NOISE_NK:
		if err := a.noise(random, &hello, keys, settings); err != nil {
			return nil, err
		}
	default:
		return nil, status.New(status.UnsupportedVersion, "security %d is not known here", hello.Security)
	}
	return a, nil
}

func (a *Accept) clear(hello *clientpb.Hello, settings func(*clientpb.HelloOffer) *clientpb.HelloSettings) error {
	if len(hello.Noise) != 0 || hello.KeyId != 0 {
		return status.New(status.BadHandshake, "hello in clear with parts of Noise")
	}
	if hello.Offer != nil {
		a.Offer = *hello.Offer
	}
	dict, err := a.settle(settings)
	if err != nil {
		return err
	}
	answer := clientpb.HelloAnswer{Settings: &a.Settings}
	if a.Answer, err = marshalHello(&answer); err != nil {
		return err
	}
	a.Opener.dict, a.Sealer.dict = dict, dict
	return nil
}

func (a *Accept) noise(random io.Reader, hello *clientpb.Hello, keys []PrivateKey, settings func(*clientpb.HelloOffer) *clientpb.HelloSettings) error {
	i := slices.IndexFunc(keys, func(k PrivateKey) bool { return k.ID == hello.KeyId })
	if i < 0 || hello.KeyId == 0 {
		return status.New(status.UnknownKey, "key %d is not known here", hello.KeyId)
	}
	if hello.Offer != nil {
		return status.New(status.BadHandshake, "hello with Noise and an offer in clear")
	}
	hs, err := noise.NewHandshakeState(noise.Config{
		CipherSuite:   newSuite(&keys[i]),
		Random:        random,
		Pattern:       noise.HandshakeNK,
		Prologue:      prologue(hello.Security, hello.KeyId),
		StaticKeypair: noise.DHKey{Private: keys[i].Private[:], Public: keys[i].Public[:]},
	})
	if err != nil {
		return status.Wrap(status.GateError, err, "handshake cannot be begun")
	}
	offer, _, _, err := hs.ReadMessage(nil, hello.Noise)
	if err != nil {
		return status.Wrap(status.BadHandshake, err, "handshake does not fit key %d", hello.KeyId)
	}
	if err := prutal.Unmarshal(offer, &a.Offer); err != nil {
		return status.Wrap(status.BadHandshake, err, "offer cannot be decoded")
	}
	dict, err := a.settle(settings)
	if err != nil {
		return err
	}
	payload, err := prutal.MarshalAppend(nil, &a.Settings)
	if err != nil {
		return status.Wrap(status.GateError, err, "settings cannot be encoded")
	}
	message, fromClient, toClient, err := hs.WriteMessage(nil, payload)
	if err != nil {
		return status.Wrap(status.BadHandshake, err, "handshake failed")
	}
	answer := clientpb.HelloAnswer{Noise: message}
	if a.Answer, err = marshalHello(&answer); err != nil {
		return err
	}
	a.Opener = Opener{secret: newSecret(fromClient), dict: dict}
	a.Sealer = Sealer{secret: newSecret(toClient), dict: dict}
	return nil
}

// settle checks the offer, asks for the settings and fits their compression to the offer.
func (a *Accept) settle(settings func(*clientpb.HelloOffer) *clientpb.HelloSettings) (*dictionary, error) {
	o := &a.Offer
	if len(o.Sdk) > limits.SDKNameBytes || len(o.Compressions) > limits.OfferedOptions || len(o.Dictionaries) > limits.OfferedOptions {
		return nil, status.New(status.BadHandshake, "offer is out of bounds")
	}
	a.Settings = *settings(o)
	wish := a.Settings.Compression
	a.Settings.Compression, a.Settings.Dictionary = clientpb.Compression_COMPRESSION_NONE, 0
	if wish != clientpb.Compression_COMPRESSION_DEFLATE || !slices.Contains(o.Compressions, wish) {
		return nil, nil
	}
	var best *dictionary
	for _, id := range o.Dictionaries {
		if d := dictionaries[id]; d != nil && (best == nil || id > best.id) {
			best = d
		}
	}
	if best != nil {
		a.Settings.Compression, a.Settings.Dictionary = wish, best.id
	}
	return best, nil
}

func marshalHello(answer *clientpb.HelloAnswer) ([]byte, error) {
	b, err := prutal.MarshalAppend(nil, answer)
	if err != nil {
		return nil, status.Wrap(status.GateError, err, "answer to hello cannot be encoded")
	}
	if len(b) > limits.HelloBodyBytes {
		return nil, status.New(status.GateError, "answer to hello has %d bytes, %d are allowed", len(b), limits.HelloBodyBytes)
	}
	return b, nil
}

// newSecret takes the key out of a finished handshake. Nonces are counted here as the Noise specification counts them,
// and without an allocation for each.
func newSecret(cs *noise.CipherState) secret {
	key := cs.UnsafeKey()
	aead, err := chacha20poly1305.New(key[:])
	if err != nil {
		panic(err) // 32 bytes are a key
	}
	return secret{aead: aead}
}

// Initiator is the client's end of a handshake that waits for the answer. It is used once.
type Initiator struct {
	hs    *noise.HandshakeState // nil: clear
	offer clientpb.HelloOffer
}

// NewHello begins a handshake and returns the body of HELLO. key is the gate's, as it was pinned; nil: in clear, for a transport
// that protects the connection itself. The offer is read and not kept.
func NewHello(key *PublicKey, offer *clientpb.HelloOffer) (*Initiator, []byte, error) {
	return NewHelloWith(nil, key, offer)
}

// NewHelloWith is NewHello with a source of the ephemeral key, for golden vectors. A nil source is crypto/rand, and the only safe one.
func NewHelloWith(random io.Reader, key *PublicKey, offer *clientpb.HelloOffer) (*Initiator, []byte, error) {
	i := &Initiator{offer: clientpb.HelloOffer{
		Compressions: slices.Clone(offer.Compressions),
		Dictionaries: slices.Clone(offer.Dictionaries),
	}}
	hello := clientpb.Hello{ProtocolVersion: Version}
	if key == nil {
		hello.Offer = offer
	} else {
		hello.Security, hello.KeyId = clientpb.Security_SECURITY_NOISE_NK, key.ID
		var err error
		if i.hs, err = noise.NewHandshakeState(noise.Config{
			CipherSuite: newSuite(nil),
			Random:      random,
			Pattern:     noise.HandshakeNK,
			Initiator:   true,
			Prologue:    prologue(hello.Security, key.ID),
			PeerStatic:  key.Key[:],
		}); err != nil {
			return nil, nil, fmt.Errorf("%w: %v", ErrHandshake, err)
		}
		payload, err := prutal.MarshalAppend(nil, offer)
		if err != nil {
			return nil, nil, fmt.Errorf("encode offer: %w", err)
		}
		if hello.Noise, _, _, err = i.hs.WriteMessage(nil, payload); err != nil {
			return nil, nil, fmt.Errorf("%w: %v", ErrHandshake, err)
		}
	}
	body, err := prutal.MarshalAppend(nil, &hello)
	if err != nil {
		return nil, nil, fmt.Errorf("encode hello: %w", err)
	}
	if len(body) > limits.HelloBodyBytes {
		return nil, nil, fmt.Errorf("%w: hello has %d bytes", ErrTooLarge, len(body))
	}
	return i, body, nil
}

// Finish reads the body of an answer to HELLO whose status is OK, and returns what the gate settled on and the pair for what follows.
// The error wraps ErrHandshake: the gate does not hold the pinned key, somebody stands between, or it chose what was not offered.
func (i *Initiator) Finish(answer []byte) (*clientpb.HelloSettings, Opener, Sealer, error) {
	fail := func(format string, args ...any) (*clientpb.HelloSettings, Opener, Sealer, error) {
		return nil, Opener{}, Sealer{}, fmt.Errorf("%w: "+format, append([]any{ErrHandshake}, args...)...)
	}
	if len(answer) > limits.HelloBodyBytes {
		return fail("answer has %d bytes", len(answer))
	}
	var a clientpb.HelloAnswer
	if err := prutal.Unmarshal(answer, &a); err != nil {
		return fail("answer cannot be decoded: %v", err)
	}
	var settings clientpb.HelloSettings
	var toGate, fromGate secret
	if i.hs == nil {
		if len(a.Noise) != 0 || a.Settings == nil {
			return fail("answer is not in clear")
		}
		settings = *a.Settings
	} else {
		if a.Settings != nil {
			return fail("answer has settings in clear")
		}
		payload, first, second, err := i.hs.ReadMessage(nil, a.Noise)
		if err != nil {
			return fail("%v", err)
		}
		if err := prutal.Unmarshal(payload, &settings); err != nil {
			return fail("settings cannot be decoded: %v", err)
		}
		toGate, fromGate = newSecret(first), newSecret(second)
	}
	dict, ok := compressionOf(settings.Compression, settings.Dictionary)
	if !ok || dict != nil && !(slices.Contains(i.offer.Compressions, settings.Compression) && slices.Contains(i.offer.Dictionaries, settings.Dictionary)) {
		return fail("compression %v with dictionary %d was not offered", settings.Compression, settings.Dictionary)
	}
	return &settings, Opener{secret: fromGate, dict: dict}, Sealer{secret: toGate, dict: dict}, nil
}
