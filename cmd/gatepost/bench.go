package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"runtime/debug"
	"runtime/pprof"
	"time"

	"github.com/gatepost/gatepost/audit"
	"github.com/gatepost/gatepost/audit/bench"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// errNotPassed: a load went through and its verdict is not good. It has been printed.
var errNotPassed = errors.New("the verdict is FAIL: a promise was broken")

func benchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure a platform, with a verdict over the same run",
		Long: `Measure a platform with real clients: handshakes, sealed frames, tokens. Each figure comes with the verdict over the same run: without one
it is not a figure. limit measures what the database, Kafka and the wire do alone, on the same machine with the same rows.`,
		Example: `  gatepost bench c2c
  gatepost bench c2c --backing .cache/servers/bench --pairs 200 --window 8 --limit --json
  gatepost bench limit --backing .cache/servers/bench`,
	}
	cmd.AddCommand(benchC2CCommand(), benchS2CCommand(), benchC2SCommand(), benchLatencyCommand(), benchLoginCommand(), benchIdleCommand(), benchLimitCommand(), benchReportCommand())
	for _, c := range cmd.Commands() {
		c.Args = cobra.NoArgs
	}
	return cmd
}

// benchFlags are the flags of all loads.
type benchFlags struct {
	servers  servers
	load     bench.Load
	asJSON   bool
	duration bool // whether there is one

	limit     bool // measure a part alone too
	limitTime time.Duration
	profile   string // file; "": none
}

// add adds the flags that every load has.
func (f *benchFlags) add(cmd *cobra.Command) {
	f.servers.add(cmd, 1)
	cmd.Flags().BoolVar(&f.asJSON, "json", false, "print the result as JSON")
	cmd.Flags().StringVar(&f.profile, "cpu-profile", "", "file for a CPU profile of this process, the load, from its begin to its end")
}

// addTimes adds those of a load that goes on for a time.
func (f *benchFlags) addTimes(flags *pflag.FlagSet) {
	f.duration = true
	flags.DurationVar(&f.load.Warmup, "warmup", 2*time.Second, "load before measuring begins")
	flags.DurationVar(&f.load.Duration, "duration", 10*time.Second, "how long to measure")
}

// addMessages adds those of a load of messages.
func (f *benchFlags) addMessages(flags *pflag.FlagSet) {
	f.addTimes(flags)
	flags.IntVar(&f.load.Size, "size", 200, "bytes of content")
	flags.DurationVar(&f.load.Settle, "settle", time.Minute, "how long the end may take, until all is confirmed")
	flags.Uint64Var(&f.load.Seed, "seed", 1, "of everything that is drawn")
}

// addLimit adds those of a load that is compared with what a part does alone.
func (f *benchFlags) addLimit(flags *pflag.FlagSet, limit bool, what string) {
	flags.BoolVar(&f.limit, "limit", limit, what)
	flags.DurationVar(&f.limitTime, "limit-duration", 5*time.Second, "how long to measure with --limit, each time")
}

func (f *benchFlags) addWindow(flags *pflag.FlagSet, window int) {
	flags.IntVar(&f.load.Window, "window", window, "messages of a sender that are not accepted yet")
}

// check checks what was added.
func (f *benchFlags) check() error {
	if f.duration && (f.load.Duration <= 0 || f.load.Warmup < 0) {
		return usageError{errors.New("--duration must be above zero and --warmup not below")}
	}
	if f.limit && f.limitTime <= 0 {
		return usageError{errors.New("--limit-duration must be above zero")}
	}
	if f.load.Window < 0 || f.load.Rate < 0 || f.load.Size < 0 {
		return usageError{errors.New("--window, --rate and --size must not be negative")}
	}
	return nil
}

// loadGCPercent lets the load collect its garbage four times as rarely as usual: it shares the cores with the servers, and has the memory.
const loadGCPercent = 400

// opened is a platform and what a load needs of it.
type opened struct {
	*openServers
	flags *benchFlags
	cmd   *cobra.Command
	alone *parts
	stop  func() error // ends the profile
}

// Close ends all that open began.
func (o *opened) Close() error { return errors.Join(o.stop(), o.openServers.Close()) }

// open checks the flags, finds or starts the platform and connects the load with it. The caller closes it.
func (f *benchFlags) open(cmd *cobra.Command) (*opened, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	o, err := f.servers.open(cmd.Context())
	if err != nil {
		return nil, err
	}
	o.target.Window = f.load.Window
	if f.load.Dial, err = o.target.Dial(); err != nil {
		return nil, errors.Join(err, o.Close())
	}
	debug.SetGCPercent(loadGCPercent)
	f.load.Servers = o.processes()
	f.load.Progress = progressTo(cmd.ErrOrStderr())
	f.load.Rows, f.load.NoRefusals = o.inboxRows(), o.local != nil // its limits are known
	stop, err := profileTo(f.profile)
	if err != nil {
		return nil, errors.Join(err, o.Close())
	}
	return &opened{openServers: o, flags: f, cmd: cmd, alone: f.parts(o, cmd), stop: stop}, nil
}

// profileTo begins a CPU profile of this process; without a path it does nothing.
func profileTo(path string) (stop func() error, err error) {
	if path == "" {
		return func() error { return nil }, nil
	}
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		return file.Close()
	}, nil
}

// print completes a result and prints it; an error when its verdict is FAIL.
func (o *opened) print(r *bench.Result) error {
	o.complete(r)
	return report(o.cmd.OutOrStdout(), o.flags.asJSON, r, r.Verdict)
}

// complete writes into r where and how it was made.
func (o *opened) complete(r *bench.Result) {
	completeAs(r, o.flags.servers.kind())
}

func completeAs(r *bench.Result, kind string) {
	r.Commit, r.Machine, r.Command, r.Platform = bench.ThisCommit(), bench.ThisMachine(), commandLine(os.Args), kind
}

// kind of the platform, in words.
func (s *servers) kind() string {
	switch {
	case s.where != serversLocal:
		return s.where
	case s.cluster():
		return fmt.Sprintf("cluster of %d+%d", s.nodes, s.nodes)
	}
	return "standalone"
}

// secretInDSN is the password of a data source name.
var secretInDSN = regexp.MustCompile(`([^:@/=\s]+):\S*@(tcp|unix)\(`)

// commandLine is how this program was called, without passwords.
func commandLine(args []string) []string {
	out := []string{"gatepost"}
	for _, a := range args[min(1, len(args)):] {
		out = append(out, secretInDSN.ReplaceAllString(a, "$1:***@$2("))
	}
	return out
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
