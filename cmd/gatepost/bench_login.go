package main

import (
	"errors"
	"time"

	"github.com/gatepost/gatepost/audit/bench"
	"github.com/spf13/cobra"
)

func benchLoginCommand() *cobra.Command {
	var f benchFlags
	var b bench.Logins
	cmd := &cobra.Command{
		Use:   "login",
		Short: "Measure logins",
		Long: `Workers dial, shake hands, log in with a token and leave, again and again. Every login is that of a new user, or, with --users, of one who
was registered before. With --pull the first pull, which registers the device in the database, belongs to a login. Exit code 1 when a
login did not succeed.

` + serversHelp,
		Example: `  gatepost bench login
  gatepost bench login --backing .cache/servers/bench --workers 32 --users 2000 --pull --json`,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if b.Workers < 1 || b.Users < 0 {
				return usageError{errors.New("--workers must be above zero and --users not below")}
			}
			o, err := f.open(cmd)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, o.Close()) }()
			b.Target, b.Servers, b.Progress, b.Warmup, b.Duration = o.target, f.load.Servers, f.load.Progress, f.load.Warmup, f.load.Duration
			r, err := b.Run(cmd.Context())
			if err != nil {
				return err
			}
			return o.print(r)
		},
	}
	f.add(cmd)
	f.addTimes(cmd.Flags())
	cmd.Flags().IntVar(&b.Workers, "workers", 32, "logins under way")
	cmd.Flags().IntVar(&b.Users, "users", 0, "users who log in, in turn, registered before it is measured (0: a new one each time)")
	cmd.Flags().BoolVar(&b.Pull, "pull", false, "the first pull belongs to a login")
	return cmd
}

func benchIdleCommand() *cobra.Command {
	var f benchFlags
	var b bench.Connections
	cmd := &cobra.Command{
		Use:   "idle",
		Short: "Measure the memory that idle connections take",
		Long: `Connections shake hands, log in, make their first pull and then send no more than keepalives. Printed is the memory of each server process
before them, right after the last login and after a while, which garbage collection needs to settle. All connections must be alive at the end:
exit code 1 when one is not.

` + serversHelp,
		Example: `  gatepost bench idle --connections 1000 --wait 30s
  gatepost bench idle --backing .cache/servers/bench --json`,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if b.Number < 1 || b.AtOnce < 1 || b.Wait <= 0 {
				return usageError{errors.New("--connections, --at-once and --wait must be above zero")}
			}
			o, err := f.open(cmd)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, o.Close()) }()
			if len(f.load.Servers) == 0 {
				return usageError{errors.New("no process of this machine is known: start the servers here (--servers local) or name them by --cpu")}
			}
			b.Target, b.Servers, b.Progress = o.target, f.load.Servers, f.load.Progress
			r, err := b.Run(cmd.Context())
			if err != nil {
				return err
			}
			return o.print(r)
		},
	}
	f.add(cmd)
	cmd.Flags().IntVar(&b.Number, "connections", 9000, "connections")
	cmd.Flags().IntVar(&b.AtOnce, "at-once", 16, "logins under way")
	cmd.Flags().BoolVar(&b.NoPull, "no-pull", false, "only the handshake and the login")
	cmd.Flags().DurationVar(&b.Wait, "wait", 150*time.Second, "after the last login, before the memory is read again")
	return cmd
}
