package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/gatepost/gatepost/audit"
	"github.com/spf13/cobra"
)

// errNotPassed: a load went through and its verdict is not good. It has been printed.
var errNotPassed = errors.New("the verdict is FAIL: a promise was broken")

func benchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "bench",
		Short:   "Measure a platform, with a verdict over the same run",
		Long:    "Measure a platform with the real SDK. Each figure comes with the verdict of the audit over the same run: without one it is not a figure.",
		Example: "  gatepost bench c2c\n  gatepost bench c2c --pairs 64 --duration 30s --json",
	}
	cmd.AddCommand(benchC2CCommand())
	return cmd
}

func benchC2CCommand() *cobra.Command {
	var s servers
	var b audit.C2C
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "c2c",
		Short: "Measure messages from client to client",
		Long: `Pairs of users, all online: one of each sends to the other as fast as the window lets him. Printed are the messages that were
accepted, delivered, confirmed and removed in a second, the times to accepted and to shown, the CPU of each server process (when
it runs on this machine and was started here) and the verdict. Exit code 1 when the verdict is FAIL.

` + serversHelp,
		Example: `  gatepost bench c2c
  gatepost bench c2c --pairs 64 --window 64 --size 200 --duration 30s --json
  gatepost bench c2c --mysql 'root@tcp(127.0.0.1:3306)/bench' --redis 127.0.0.1:6379
  gatepost bench c2c --servers tcp://10.0.0.21:7100 --keys-file keys.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if b.Pairs < 1 || b.Window < 1 || b.Duration <= 0 || b.Warmup < 0 {
				return usageError{errors.New("--pairs, --window and --duration must be above zero")}
			}
			o, err := s.open(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, o.Close()) }()
			o.target.Window = b.Window
			if b.Dial, err = o.target.Dial(); err != nil {
				return err
			}
			b.Servers = o.processes()
			b.Progress = progressTo(cmd.ErrOrStderr())
			result, err := audit.BenchC2C(cmd.Context(), b)
			if err != nil {
				return err
			}
			return report(cmd.OutOrStdout(), asJSON, result, result.Verdict)
		},
	}
	s.add(cmd, 1)
	cmd.Flags().IntVar(&b.Pairs, "pairs", 16, "pairs of users")
	cmd.Flags().IntVar(&b.Window, "window", 64, "messages of a sender that are not accepted yet")
	cmd.Flags().IntVar(&b.Size, "size", 200, "bytes of content")
	cmd.Flags().DurationVar(&b.Warmup, "warmup", 2*time.Second, "load before measuring begins")
	cmd.Flags().DurationVar(&b.Duration, "duration", 10*time.Second, "how long to measure")
	cmd.Flags().DurationVar(&b.Settle, "settle", time.Minute, "how long the end may take, until all is confirmed")
	cmd.Flags().Uint64Var(&b.Seed, "seed", 1, "of everything that is drawn")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the result as JSON")
	return cmd
}

// progressTo prints where a run stands.
func progressTo(w io.Writer) func(audit.Progress) {
	return func(p audit.Progress) {
		fmt.Fprintf(w, "%-10s %6.1fs  sent %d  accepted %d  refused %d  shown %d\n",
			p.Phase, p.Elapsed.Seconds(), p.Sent, p.Accepted, p.Refused, p.Shown)
	}
}

// report prints a result, and is an error when its verdict is FAIL.
func report(w io.Writer, asJSON bool, result any, verdict audit.Verdict) error {
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		if err := enc.Encode(result); err != nil {
			return err
		}
	} else if _, err := fmt.Fprintln(w, result); err != nil {
		return err
	}
	if !verdict.Pass {
		return errNotPassed
	}
	return nil
}
