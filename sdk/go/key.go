package gatepost

import "github.com/gatepost/gatepost/idl/wire"

// Key is a gate's static public key with its id, as `gatepost keys` prints it.
type Key = wire.PublicKey

// ParseKey reads the text form "1:base64url".
func ParseKey(s string) (Key, error) { return wire.ParsePublicKey(s) }
