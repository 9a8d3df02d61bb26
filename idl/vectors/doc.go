// Package vectors makes and reads the golden bytes of the protocol: the JSON files beside this one, which the tests of every
// SDK walk. All bytes stand as lower-case hexadecimal; 64-bit numbers in bodies stand as decimal strings.
//
//	headers.json     headers and their fields
//	handshakes.json  whole handshakes with fixed keys, from the offer to the two transport keys
//	frames.json      frames after those handshakes, in their order: clear, compressed, sealed, both
//	compressed.json  compressed bodies
//	bodies.json      each message of client.proto, field by field
//	malformed.json   bytes that are to be refused, and how
//
// `go run ./idl/vectors/generate` writes them, always the same. A diff in them comes with a line in PROTOCOL.md.
package vectors
