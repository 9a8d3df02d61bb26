package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/gatepost/gatepost/app"
	"github.com/gatepost/gatepost/audit/bench"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func benchC2CCommand() *cobra.Command {
	var f benchFlags
	var b bench.C2C
	var depth int64
	var delay time.Duration
	cmd := &cobra.Command{
		Use:   "c2c",
		Short: "Measure durable messages from client to client",
		Long: `Pairs of users, all online: one of each sends to the other as fast as the window lets him, or at --rate. Printed are the messages that were
accepted, delivered, confirmed and removed in a second, the times to accepted and to shown, the CPU of each server process (when
it runs on this machine and was started here) and the verdict. Exit code 1 when the verdict is FAIL.

At a fixed rate times count from when a message was meant to be sent, not from when the window let it go.

With --depth so many rows wait in the inbox of users who are away, put in by plain SQL before, and a pull of 100 for some of them is timed before
the load. --depth-database keeps them for the next run. --commit-delay lets each commit of the database take longer, through a proxy before it.

` + serversHelp,
		Example: `  gatepost bench c2c
  gatepost bench c2c --pairs 200 --window 8 --size 200 --duration 30s --json
  gatepost bench c2c --backing .cache/servers/bench --pairs 200 --window 8
  gatepost bench c2c --backing .cache/servers/bench --depth 10000000 --depth-database gatepost_bench_depth
  gatepost bench c2c --backing .cache/servers/bench --window 64 --commit-delay 5ms
  gatepost bench c2c --mysql 'root@tcp(127.0.0.1:3306)/bench' --redis 127.0.0.1:6379 --cpu mariadb=1234
  gatepost bench c2c --servers tcp://10.0.0.21:7100 --keys-file keys.json`,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if b.Pairs < 1 || f.load.Window < 1 {
				return usageError{errors.New("--pairs and --window must be above zero")}
			}
			deep, delayed := cmd.Flags().Changed("depth"), cmd.Flags().Changed("commit-delay")
			if err := f.checkDatabase(deep, depth, delayed, delay); err != nil {
				return usageError{err}
			}
			if delayed {
				f.servers.commitDelay = &delay
			}
			o, err := f.open(cmd)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, o.Close()) }()
			var pull *bench.Latency
			if deep {
				if pull, err = o.deepen(depth); err != nil {
					return err
				}
			}
			b.Load = f.load
			r, err := o.beside(limitDatabase, b.Run, func(r *bench.Result) float64 { return *r.RemovedPerS })
			if err != nil {
				return err
			}
			if deep {
				r.DepthRows, r.Pull = &depth, pull
			}
			r.DelayMS = float64(delay) / float64(time.Millisecond)
			return o.print(r)
		},
	}
	f.add(cmd)
	cmd.Flags().Int64Var(&depth, "depth", 0, "with --backing: rows that wait in the inbox of users who are away")
	cmd.Flags().StringVar(&f.servers.depthDatabase, "depth-database", "", "with --depth: name of a database that keeps them (default: one of this run)")
	cmd.Flags().DurationVar(&delay, "commit-delay", 0, "with --backing or --mysql: how much longer each commit takes")
	f.addMessages(cmd.Flags())
	f.addWindow(cmd.Flags(), 64)
	f.addLimit(cmd.Flags(), false, "measure the database alone too, with the same rows, before and after")
	cmd.Flags().IntVar(&b.Pairs, "pairs", 16, "pairs of users")
	cmd.Flags().Float64Var(&f.load.Rate, "rate", 0, "messages a second of all senders together (0: as fast as the windows let them)")
	return cmd
}

func benchC2SCommand() *cobra.Command {
	f := benchFlags{servers: servers{anyKafka: true}}
	var b bench.C2S
	var topic string
	cmd := &cobra.Command{
		Use:   "c2s",
		Short: "Measure uplinks from clients into Kafka",
		Long: `Clients report as fast as the window lets them. At the end the topic is read: every accepted report stands in it, in its sender's order.
Of a platform that was not started here, --kafka and --topic say where its uplinks go. Exit code 1 when the verdict is FAIL.

` + serversHelp,
		Example: `  gatepost bench c2s --clients 200
  gatepost bench c2s --servers tcp://10.0.0.21:7100 --keys-file keys.json --domain shop --kafka 10.0.0.7:9092 --topic orders
  gatepost bench c2s --backing .cache/servers/bench --clients 200 --json`,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if b.Clients < 2 || f.load.Window < 1 {
				return usageError{errors.New("--clients must be at least 2 and --window above zero")}
			}
			o, err := f.open(cmd)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, o.Close()) }()
			where, err := o.topic(topic)
			if err != nil {
				return err
			}
			b.Load, b.Topic = f.load, where
			o.alone.users, o.alone.inFlight = b.Clients, b.Clients*f.load.Window
			r, err := o.beside(limitKafka, b.Run, func(r *bench.Result) float64 { return *r.AcceptedPerS })
			if err != nil {
				return err
			}
			return o.print(r)
		},
	}
	f.add(cmd)
	f.addMessages(cmd.Flags())
	f.addWindow(cmd.Flags(), 64)
	f.addLimit(cmd.Flags(), false, "measure sarama's producer alone too, with the same records, before and after")
	cmd.Flags().StringVar(&topic, "topic", app.DefaultTopic, "topic of the uplinks (not with --servers local)")
	cmd.Flags().IntVar(&b.Clients, "clients", 200, "clients that report")
	cmd.Flags().Float64Var(&f.load.Rate, "rate", 0, "reports a second of all clients together (0: as fast as the windows let them)")
	return cmd
}

func benchS2CCommand() *cobra.Command {
	var f benchFlags
	var online bool
	var address, keyFile string
	var users, list, open int
	cmd := &cobra.Command{
		Use:   "s2c",
		Short: "Measure pushes of an app-server to lists of users",
		Long: `Users are connected, an app-server pushes to lists of them, in turn. Durable pushes are counted when they are accepted, shown and confirmed;
with --online they are online-only and counted when they are shown, each of which is recognised by its content. The CPU is that of an
accepted message, with --online that of a shown one. Of a platform that was not started here, --app and --app-key-file say how app-servers
reach it. Exit code 1 when the verdict is FAIL.

` + serversHelp,
		Example: `  gatepost bench s2c --users 1000 --list 100
  gatepost bench s2c --backing .cache/servers/bench --online --users 1000 --list 1000 --json
  gatepost bench s2c --servers tcp://10.0.0.21:7100 --keys-file keys.json --domain shop --app 10.0.0.11:7130 --app-key-file shop.key`,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if users < 2 || list < 1 || open < 1 {
				return usageError{errors.New("--users must be at least 2, --list and --open above zero")}
			}
			if local := f.servers.where == serversLocal; local && (address != "" || keyFile != "") {
				return usageError{errors.New("--app and --app-key-file are for platforms that run already")}
			}
			o, err := f.open(cmd)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, o.Close()) }()
			server, err := o.appServer(cmd.Context(), address, keyFile)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, server.Close()) }()
			var r *bench.Result
			if online {
				r, err = bench.Online{Load: f.load, App: server, Users: users, List: list, Open: open}.Run(cmd.Context())
			} else {
				r, err = bench.S2C{Load: f.load, App: server, Users: users, List: list, Open: open}.Run(cmd.Context())
			}
			if err != nil {
				return err
			}
			return o.print(r)
		},
	}
	f.add(cmd)
	f.addMessages(cmd.Flags())
	cmd.Flags().StringVar(&address, "app", "", "addresses for app-servers, comma separated (default: what --data-dir tells; not with --servers local)")
	cmd.Flags().StringVar(&keyFile, "app-key-file", "", "file with an app key that may push (default: as gatepost push finds it; not with --servers local)")
	cmd.Flags().BoolVar(&online, "online", false, "push online-only: nothing is stored")
	cmd.Flags().IntVar(&users, "users", 1000, "connected users")
	cmd.Flags().IntVar(&list, "list", 1000, "users of one push")
	cmd.Flags().IntVar(&open, "open", 4, "pushes under way")
	return cmd
}

func benchLatencyCommand() *cobra.Command {
	var f benchFlags
	var b bench.C2C
	var rates []float64
	cmd := &cobra.Command{
		Use:   "latency",
		Short: "Measure the times to accepted and to shown at fixed rates",
		Long: `Durable messages from client to client at fixed rates, one run after the other on the same platform. Times count from when a message was meant
to be sent (coordinated omission); send_lag_ms is how much of them passed before the load handed it over. With --json one object is
printed for each rate. Exit code 1 when a verdict is FAIL.

` + serversHelp,
		Example: `  gatepost bench latency --rate 1000
  gatepost bench latency --backing .cache/servers/bench --rate 500,1000,2000,4000 --json`,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if b.Pairs < 1 || f.load.Window < 1 || len(rates) == 0 {
				return usageError{errors.New("--pairs and --window must be above zero, and a rate must be named")}
			}
			for _, rate := range rates {
				if rate <= 0 {
					return usageError{fmt.Errorf("--rate %g: must be above zero", rate)}
				}
			}
			o, err := f.open(cmd)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, o.Close()) }()
			var failed error
			for _, rate := range rates {
				b.Load = f.load
				b.Rate = rate
				r, err := o.beside(limitCommits(rate), b.Run, nil)
				if err != nil {
					return err
				}
				r.Bench = "latency"
				if err := o.print(r); err != nil {
					failed = err
				}
			}
			return failed
		},
	}
	f.add(cmd)
	f.addMessages(cmd.Flags())
	f.addWindow(cmd.Flags(), 64)
	f.addLimit(cmd.Flags(), false, "measure the commits of the database alone too, of rows that come at the same rate, before and after")
	cmd.Flags().IntVar(&b.Pairs, "pairs", 100, "pairs of users")
	cmd.Flags().Float64SliceVar(&rates, "rate", []float64{1000}, "messages a second of all senders together; more than one: a run for each")
	cmd.Flags().SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if name == "rates" {
			name = "rate"
		}
		return pflag.NormalizedName(name)
	})
	return cmd
}
