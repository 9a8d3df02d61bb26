package main

import (
	"github.com/gatepost/gatepost/app"
	"github.com/spf13/cobra"
)

func logicCommand() *cobra.Command {
	return serverCommand(&cobra.Command{
		Use:   "logic",
		Short: "Run a logic node of a cluster: stateless, between gates and the stores",
		Long: `Run a logic node: it checks logins, commits messages to MySQL or MariaDB, and delivers them through the gates that Redis names.

It needs the keys file that all nodes share (tokens are checked with the secrets in it), a database whose schema is up to date
(gatepost migrate up) and a Redis; and a Kafka (--kafka) when any of its account systems has a topic for what users report. Gates call
it at --rpc, which must be reachable for them and for nobody else; if that is not the address they are to use, set logic.rpc_address.
Secrets are better kept out of the command line: GATEPOST_SQL_DSN, GATEPOST_REDIS_PASSWORD.

App-servers push to users and mint tokens at --app, with keys made by gatepost app-key add: every node may serve them. What they send
travels in clear, so it is for a private network. gatepost topics shows which reports go to which topic.

Without its database a node does not start (exit code 1, and the sentence says what to do; whoever supervises it starts it again).
Once it serves, it waits for a database that goes away; and for Redis and Kafka it waits always, also at the start.

When it serves, one line on stdout says so: READY logic rpc=... app=... kafka=... admin=... key=1:...
SIGHUP reads the settings of the account systems (domains in the file) again; everything else waits for the next start.
SIGTERM stops it in order: gates are told, calls in flight end, what was accepted is delivered, what is on its way to Kafka is
written, the database is closed last.`,
		Example: `  export GATEPOST_SQL_DSN="$(cat dsn)"   # dsn, mode 0600: gatepost:...@tcp(10.0.0.5:3306)/gatepost
  gatepost logic --keys-file keys.json --redis 10.0.0.6:6379 --rpc 10.0.0.11:7120 --domains shop,drivers
  gatepost logic --config gatepost.yaml --kafka 10.0.0.7:9092,10.0.0.8:9092 --app 10.0.0.11:7130`,
	}, app.Logic, app.NewLogic)
}
