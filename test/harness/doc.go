// Package harness holds what the end-to-end and the fault tests share: the binary, platforms of real processes, people (clients of the
// Go SDK that write down what they are shown), a raw client of the wire, and a proxy that cuts, stalls and halves what passes.
//
// It reaches Gatepost through its public face only: the binary's commands, the ports for clients, the SDK, and the wire.
package harness
