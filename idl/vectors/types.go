package vectors

import (
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
)

// Hex is bytes that stand as hexadecimal in JSON.
type Hex []byte

// MarshalText writes hexadecimal.
func (h Hex) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(h)), nil }

// UnmarshalText reads hexadecimal.
func (h *Hex) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	*h = b
	return err
}

// Header is one line of headers.json.
type Header struct {
	Name   string `json:"name"`
	Bytes  Hex    `json:"bytes"`
	Flags  uint8  `json:"flags"`
	Cmd    uint16 `json:"cmd"`
	Status uint16 `json:"status"`
	Seq    uint32 `json:"seq"`
	Length uint32 `json:"length"`
}

// Handshake is one line of handshakes.json. In clear the fields of Noise are empty.
type Handshake struct {
	Name                string `json:"name"`
	KeyID               uint32 `json:"key_id"`
	GatePrivate         Hex    `json:"gate_private"`
	GatePublic          Hex    `json:"gate_public"`
	PinnedKey           string `json:"pinned_key"`
	ClientEphemeral     Hex    `json:"client_ephemeral_private"`
	GateEphemeral       Hex    `json:"gate_ephemeral_private"`
	Prologue            Hex    `json:"prologue"`
	Offer               Hex    `json:"offer"`       // HelloOffer
	HelloFrame          Hex    `json:"hello_frame"` // header and Hello
	Settings            Hex    `json:"settings"`    // HelloSettings
	AnswerFrame         Hex    `json:"answer_frame"`
	KeyToGate           Hex    `json:"key_to_gate"` // seals client → gate
	KeyToClient         Hex    `json:"key_to_client"`
	CompressionDict     uint32 `json:"dictionary"` // 0: no compression was agreed on
	NoiseHashAfterwards Hex    `json:"handshake_hash"`
}

// Frame is one line of frames.json. The frames of a connection and direction stand in their order; nonces count from 0.
type Frame struct {
	Name      string `json:"name"`
	Handshake string `json:"handshake"`
	ToGate    bool   `json:"to_gate"`
	Flags     uint8  `json:"flags"`
	Cmd       uint16 `json:"cmd"`
	Status    uint16 `json:"status"`
	Seq       uint32 `json:"seq"`
	Nonce     Hex    `json:"nonce"` // 12 bytes; empty: not sealed
	Body      Hex    `json:"body"`  // plain
	Frame     Hex    `json:"frame"` // as it stands on the wire
}

// Compressed is one line of compressed.json.
type Compressed struct {
	Name       string `json:"name"`
	Dictionary uint32 `json:"dictionary"`
	Plain      Hex    `json:"plain"`
	Compressed Hex    `json:"compressed"`
}

// Body is one line of bodies.json. Fields have the names of client.proto; those with the zero value are left out.
type Body struct {
	Name    string         `json:"name"`
	Message string         `json:"message"`
	Fields  map[string]any `json:"fields"`
	Bytes   Hex            `json:"bytes"`
}

// Malformed is one line of malformed.json.
type Malformed struct {
	Name  string `json:"name"`
	Kind  string `json:"kind"`
	Bytes Hex    `json:"bytes"`
	// Limit is that of plain bytes, where the kind needs one.
	Limit int `json:"limit,omitempty"`
	// Verdict is one of magic, version, truncated, too_large, seal, deflate, decode; or the number of a status code.
	Verdict string `json:"verdict"`
}

// The kinds of malformed.json.
const (
	KindFrame      = "frame"      // a reader of frames meets these bytes, then the end
	KindHello      = "hello"      // body of HELLO; the gate has the key of the handshake "noise" and takes no clear one
	KindCompressed = "compressed" // a compressed body, dictionary 1
	KindSealed     = "sealed"     // a whole frame, the first to the gate after the handshake "noise"
	KindUnsealed   = "unsealed"   // a whole frame, the first to the gate after the handshake "clear", where nothing was agreed on
	KindBody       = "body:"      // and the name of a message: its decoder refuses
)

//go:embed *.json
var files embed.FS

// Load reads one of the files, by its name without ".json".
func Load[T any](name string) ([]T, error) {
	text, err := files.ReadFile(name + ".json")
	if err != nil {
		return nil, fmt.Errorf("load vectors: %w", err)
	}
	var all []T
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, fmt.Errorf("load vectors %s: %w", name, err)
	}
	return all, nil
}
