package main

import (
	"github.com/gatepost/gatepost/app"
	"github.com/spf13/cobra"
)

func standaloneCommand() *cobra.Command {
	return serverCommand(&cobra.Command{
		Use:   "standalone",
		Short: "Run the whole platform in one process",
		Long: `Run a gate and a logic node in one process, with SQLite as the database and presence in memory.

Everything lies in the data directory, mode 0700: the database, the secrets (made at the first start, mode 0600), a self-made
TLS certificate, and runtime.json, by which chat, demo, token, audit and bench find the process. One process uses a data directory.

When it serves, one line on stdout says so, and where (port 0 in an address means any free port):

  READY standalone tcp=127.0.0.1:7100 tls=127.0.0.1:7101 admin=127.0.0.1:7190 key=1:...

SIGTERM and SIGINT stop it in order: what the gate has read is answered, clients are told to leave, the database is closed last.
A request that the gate had not read yet gets no answer; clients send it again when they are back.
A second signal ends it at once. The admin port has /metrics, /healthz, /readyz, /debug/pprof and /loglevel:

  curl -X PUT -d debug http://127.0.0.1:7190/loglevel`,
		Example: `  gatepost standalone --data-dir data
  gatepost standalone --data-dir data --tcp 0.0.0.0:7100 --tls '' --admin 127.0.0.1:0`,
	}, app.Standalone, app.NewStandalone)
}
