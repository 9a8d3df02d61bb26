// Package audit drives many users through the real SDK, from a seed, and judges what happened by sets:
//
//	accepted ⊆ shown ⊆ sent, each message shown once by each installation, in its sender's order, and the inbox empty at the end.
//
// Run is the engine. It writes a Journal: one compact record for each message sent and one for each message shown, so an audit of a
// million messages to two devices each fits into a hundred megabytes. Judge reads the journal afterwards and names each violation with the history of
// its message. Folder bench runs the same engine and measures.
//
// The engine reaches a platform through the small interface Client. Dialer makes clients of the Go SDK; a test hands in a platform of
// its own that loses, repeats and reorders on purpose, and so proves the oracle. Folder platform starts local processes of the binary,
// and folder faults breaks them, the servers below them and the connections before them.
package audit
