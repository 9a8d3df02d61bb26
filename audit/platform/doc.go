// Package platform starts a platform of local processes from the binary: standalone, or a cluster of gates and logic nodes over a
// MySQL server and a Redis that run already. It knows the binary's public face only: its flags, the READY line, signals.
//
// The end-to-end and fault tests and `gatepost bench --servers local` stand on it.
package platform
