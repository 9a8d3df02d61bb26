package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/gatepost/gatepost/cmd/gatepost/internal/demo"
	"github.com/gatepost/gatepost/cmd/gatepost/internal/target"
	"github.com/spf13/cobra"
)

// errNotHeld: a step of the demo did not hold. The demo has said which.
var errNotHeld = errors.New("a promise did not hold: see the ✗ above")

func demoCommand() *cobra.Command {
	var to target.Flags
	var domain string
	var timeout time.Duration
	var exit bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See what is promised, and see it hold, on a running platform",
		Long: `Play what Gatepost promises on a running platform, through its public ports and the real SDK: two users log in and talk, one of
them is away for a while, a client process is killed in the middle, a second login wins. There are receipts, a second device, reports
that are read from their topic, and an app-server that pushes, with an app key that is made and revoked in the database of the data
directory. Each step says what is promised, does it, checks it, and says how long it took. A run leaves a message that the next run finds.

What needs the data directory of a standalone is left out where only gates are named. Exit code 0 only if every step that was played held.`,
		Example: "  gatepost demo --data-dir data\n  gatepost demo --gate tcp://10.0.0.21:7100 --keys-file keys.json --exit",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			t, err := to.Find()
			if err != nil {
				return err
			}
			if !t.CanMint() {
				return usageError{errors.New("the demo makes tokens for its users: name the platform's secrets by --keys-file")}
			}
			exe, err := os.Executable()
			if err != nil {
				return fmt.Errorf("find this binary, to start clients that can be killed: %w", err)
			}
			held, err := demo.Run(cmd.Context(), demo.Config{
				Target: t, Command: append([]string{exe, demoClientName}, to.Args()...),
				Domain: domain, Timeout: timeout, Out: cmd.OutOrStdout(),
			})
			if err != nil {
				return err
			}
			if !held {
				return errNotHeld
			}
			if !exit {
				demo.GoOn(cmd.OutOrStdout(), os.Args[0], to.DataDir)
			}
			return nil
		},
	}
	to.Add(cmd.Flags())
	cmd.Flags().StringVar(&domain, "domain", defaultDomain, "account system of the demo's users")
	cmd.Flags().DurationVar(&timeout, "timeout", 30*time.Second, "longest time for one step")
	cmd.Flags().BoolVar(&exit, "exit", false, "for scripts: end without the commands to go on by hand")
	return cmd
}

const demoClientName = "demo-client"

// demoClientCommand is the client process that the demo kills.
func demoClientCommand() *cobra.Command {
	var to target.Flags
	cmd := &cobra.Command{
		Use:    demoClientName,
		Short:  "A client that the demo starts and kills",
		Long:   "A client that gatepost demo starts and kills. What it is to do comes by stdin, what it sees leaves by stdout, as JSON.",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			t, err := to.Find()
			if err != nil {
				return err
			}
			return demo.RunChild(cmd.Context(), t, cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
	to.Add(cmd.Flags())
	return cmd
}
