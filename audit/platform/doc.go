// Package platform starts a platform of local processes from the binary: standalone, or a cluster of gates and logic nodes over a
// MySQL server and a Redis that run already. It knows the binary's public face only: its flags, the READY line, signals.
//
// Backing are the MariaDB, Redis and Kafka that deploy/servers started in a directory: their addresses, their processes, and a kill.
//
// The end-to-end and fault tests, `gatepost bench` and `gatepost audit` stand on it.
package platform
