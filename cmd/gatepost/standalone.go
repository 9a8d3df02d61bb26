package main

import (
	"github.com/gatepost/gatepost/app"
	"github.com/spf13/cobra"
)

func standaloneCommand() *cobra.Command {
	return serverCommand(&cobra.Command{
		Use:   "standalone",
		Short: "Run the whole platform in one process",
		Long: `Run a gate and a logic node in one process, with SQLite as the database, presence in memory and a Kafka of its own.

Everything lies in the data directory, mode 0700: the database, the topics, the secrets (made at the first start, mode 0600), a
self-made TLS certificate, and runtime.json, by which chat, demo, push, consume and the other clients find the process. One process
uses a data directory.

App-servers push to users and mint tokens at --app, with a key made by gatepost app-key add. What users report is read from Kafka at
--kafka-listen by any Kafka client; for consumers on other machines say by --kafka-advertise how they reach this one. --kafka names
brokers to write to instead.

When it serves, one line on stdout says so, and where (port 0 in an address means any free port):

  READY standalone tcp=127.0.0.1:7100 tls=127.0.0.1:7101 app=127.0.0.1:7130 kafka=127.0.0.1:7140 admin=127.0.0.1:7190 key=1:...

SIGHUP reads the settings of the account systems (domains) again; everything else waits for the next start. Wrong settings are told
in the log and change nothing.

SIGTERM and SIGINT stop it in order: what the gate has read is answered, clients are told to leave, what is
on its way to Kafka is written, the database is closed last.
A request that the gate had not read yet gets no answer; clients send it again when they are back.
A second signal ends it at once. The admin port has /metrics, /healthz, /readyz, /debug/pprof and /loglevel:

  curl -X PUT -d debug http://127.0.0.1:7190/loglevel`,
		Example: `  gatepost standalone --data-dir data
  gatepost standalone --data-dir data --tcp 0.0.0.0:7100 --tls '' --admin 127.0.0.1:0
  gatepost standalone --data-dir data --config gatepost.yaml --kafka-listen 0.0.0.0:7140 --kafka-advertise kafka.example`,
	}, app.Standalone, app.NewStandalone)
}
