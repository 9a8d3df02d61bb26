package main

import (
	"github.com/gatepost/gatepost/app"
	"github.com/spf13/cobra"
)

func gateCommand() *cobra.Command {
	return serverCommand(&cobra.Command{
		Use:   "gate",
		Short: "Run a gate of a cluster: clients connect to it",
		Long: `Run a gate: it keeps the connections of clients, and hands their frames on to logic nodes in batches.

It needs the keys file that all nodes share and the address of at least one logic node; it learns of the others from that one.
Logic nodes call it at --rpc, which must be reachable for them and for nobody else; if that is not the address they are to use,
set gate.rpc_address. Likewise --advertise for clients. With --data-dir it leaves a runtime.json there for chat, demo and the like.

When it serves, one line on stdout says so: READY gate tcp=... rpc=... admin=... key=1:...
SIGTERM drains it: no new connections, connected clients are told to leave over gate.drain_time, what was read from them is answered.`,
		Example: `  gatepost gate --keys-file keys.json --logic 10.0.0.11:7120,10.0.0.12:7120 --rpc 10.0.0.21:7110
  gatepost gate --config gatepost.yaml --tls 0.0.0.0:7101 --tls-cert cert.pem --tls-key key.pem`,
	}, app.Gate, app.NewGate)
}
