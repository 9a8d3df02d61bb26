// Package wire turns bytes into frames and frames into bytes: the header, reading with caps, the handshake, sealing and compression.
// A gate and the Go SDK share it. PROTOCOL.md is the book; the rules are cited as [P-x.y].
//
// One direction of a connection is an Opener at the reading side and a Sealer at the writing side:
//
//	write:  body ─▶ deflate (if smaller) ─▶ seal (header as associated data) ─▶ header + body     Sealer.AppendFrame
//	read:   header ─▶ cap ─▶ body into a pooled buffer ─▶ open in place ─▶ inflate (capped)       ReadFrame, Opener.Open
//
// Both begin as zero values, which is a clear connection without compression: hello and its answer travel so.
// AcceptHello and Initiator.Finish return the pair that everything after them goes through.
//
// Bodies lie in Buffers from a pool of size classes. A Buffer has one owner at a time, who releases it once; a function that
// takes ownership says so. Every size that a peer claims is compared with a limit before memory is taken for it.
package wire
