package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/cloudwego/kitex/pkg/klog"
	"github.com/gatepost/gatepost/app"
	"github.com/gatepost/gatepost/audit"
	"github.com/gatepost/gatepost/audit/bench"
	"github.com/gatepost/gatepost/audit/faults"
	"github.com/gatepost/gatepost/audit/platform"
	"github.com/spf13/cobra"
)

var traffics = map[string]audit.Traffic{"pairs": audit.Pairs, "talks": audit.Talks, "mixed": audit.Mixed}

// Values of --kinds.
const (
	kindMessages = "messages"
	kindUplinks  = "uplinks"
	kindPushes   = "pushes"
)

// mostDevices is how many device classes a user can have here.
const mostDevices = 5

// auditing is a run of `gatepost audit`.
type auditing struct {
	servers
	cfg      audit.Config
	traffic  string
	kinds    []string
	devices  int
	messages uint64
	topic    string
	app      string
	keyFile  string
	faults   bool
	rough    float64
	json     bool
}

// check checks the flags, and turns them into what the engine takes. durationSet: --duration was given.
func (a *auditing) check(durationSet bool) (err error) {
	var ok bool
	if a.cfg.Traffic, ok = traffics[a.traffic]; !ok {
		return fmt.Errorf("--traffic %s: must be pairs, talks or mixed", a.traffic)
	}
	local := a.where == serversLocal
	switch {
	case a.cfg.Users < 2:
		return fmt.Errorf("--users %d: must be at least 2, one who sends and one who receives", a.cfg.Users)
	case a.devices < 1 || a.devices > mostDevices:
		return fmt.Errorf("--devices %d: must be 1 to %d", a.devices, mostDevices)
	case a.faults && !local:
		return errors.New("--faults: is for --servers local; what others started is left alone")
	case local && (a.app != "" || a.keyFile != ""):
		return errors.New("--app and --app-key-file: are for platforms that run already")
	case a.rough < 0 || a.rough > 1:
		return fmt.Errorf("--rough %g: is a share, 0 to 1", a.rough)
	case a.cfg.FaultEvery <= 0 || a.cfg.Duration <= 0 || a.cfg.Settle <= 0:
		return errors.New("--fault-every, --duration and --settle must be above zero")
	}
	for i := range a.devices {
		a.cfg.Classes = append(a.cfg.Classes, audit.Class(1+i))
	}
	if a.cfg.Accepted = a.messages; a.messages > 0 && !durationSet {
		a.cfg.Duration = 0
	}
	a.cfg.NoRefusals = local // its limits are known
	if !a.faults {
		a.cfg.FaultEvery = 0
	}
	return a.checkKinds()
}

// kafkaKnown reports whether a platform that is started has a Kafka.
func (a *auditing) kafkaKnown() bool {
	switch {
	case a.backing != "":
		b, err := platform.NewBacking(a.backing, "")
		return err == nil && b.Address(platform.Kafka) != ""
	case a.mysql != "":
		return len(a.kafka) > 0
	}
	return true // the own one of standalone
}

// checkKinds checks what --kinds says, and puts the default in place of nothing: all of a platform that is started, else what was named.
func (a *auditing) checkKinds() error {
	local := a.where == serversLocal
	if len(a.kinds) == 0 {
		a.kinds = []string{kindMessages}
		if local && a.kafkaKnown() || !local && len(a.kafka) > 0 {
			a.kinds = append(a.kinds, kindUplinks)
		}
		if local || a.app != "" {
			a.kinds = append(a.kinds, kindPushes)
		}
		return nil
	}
	for _, k := range a.kinds {
		switch {
		case k != kindMessages && k != kindUplinks && k != kindPushes:
			return fmt.Errorf("--kinds %s: must be %s, %s or %s", k, kindMessages, kindUplinks, kindPushes)
		case k == kindUplinks && local && !a.kafkaKnown():
			return fmt.Errorf("--kinds %s: there is no Kafka, name one by --kafka", k)
		}
	}
	if !slices.Contains(a.kinds, kindMessages) {
		return fmt.Errorf("--kinds: %s are always among them", kindMessages)
	}
	return nil
}

// addKinds adds uplinks and pushes to a run. The caller closes what it returns.
func (a *auditing) addKinds(ctx context.Context, o *openServers) (closeApp func() error, err error) {
	closeApp = func() error { return nil }
	if slices.Contains(a.kinds, kindUplinks) {
		topic, err := o.topic(a.topic)
		if err != nil {
			return closeApp, err
		}
		if o.local == nil {
			if err := topic.FromNow(ctx); err != nil {
				return closeApp, fmt.Errorf("topic %s: %w", a.topic, err)
			}
		}
		a.cfg.Topic = topic
	}
	if slices.Contains(a.kinds, kindPushes) {
		server, err := o.appServer(ctx, a.app, a.keyFile)
		if err != nil {
			return closeApp, err
		}
		a.cfg.App, closeApp = server, server.Close
	}
	return closeApp, nil
}

// roughBytes is behind how many bytes a rough connection is cut or stalls at most: some seconds of a busy one.
const roughBytes = 256 << 10

// addFaults puts a network between clients and gates, and names what goes wrong. The caller closes what it returns.
func (a *auditing) addFaults(o *openServers) (closeNetwork func(), err error) {
	if o.backing != nil {
		if err := o.backing.CheckScripts(); err != nil {
			return nil, usageError{fmt.Errorf("--faults with --backing kills servers by deploy/servers below the working directory: %w", err)}
		}
	}
	n, err := faults.NewNetwork(o.local.Addresses(), faults.Damage{Seed: a.cfg.Seed, Share: a.rough, Bytes: roughBytes})
	if err != nil {
		return nil, err
	}
	a.cfg.Faults = faults.All(o.local, o.backing, n)
	a.cfg.OnLoading, a.cfg.Calm = func(func() audit.Totals) { n.Begin() }, n.Calm
	o.target.Gates, o.target.Timing = n.Addresses(), faults.Timing()
	return n.Close, nil
}

// run opens the platform, drives it and prints the report.
func (a *auditing) run(ctx context.Context, out, progress io.Writer) (err error) {
	o, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.Close()) }()
	if a.faults {
		klog.SetOutput(io.Discard) // the app-server's client tells of each call that a fault costs; it is made again
		closeNetwork, err := a.addFaults(o)
		if err != nil {
			return err
		}
		defer closeNetwork()
	}
	o.target.Window = a.cfg.Window
	if a.cfg.Dial, err = o.target.Dial(); err != nil {
		return err
	}
	closeApp, err := a.addKinds(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeApp()) }()
	a.cfg.Domain, a.cfg.Rows = o.target.Domain, o.inboxRows()
	a.cfg.Progress = auditProgress(progress)
	result, err := audit.Run(ctx, a.cfg)
	if err != nil {
		o.keep = o.keep || ctx.Err() == nil
		return err
	}
	r := auditReport{Bench: "audit", Command: commandLine(os.Args), Commit: bench.ThisCommit(), Machine: bench.ThisMachine(), Platform: a.kind(),
		Kinds: a.kinds, Seconds: result.Loaded.Seconds(),
		AcceptedPerS: float64(result.Verdict.Accepted) / result.Loaded.Seconds(), FaultCounts: audit.FaultCounts(result.Faults), Report: result}
	if result.Verdict.Accepted == 0 {
		o.keep = true
		return errors.Join(report(out, a.json, r, result.Verdict), errNothing)
	}
	o.keep = o.keep || !result.Verdict.Pass
	return report(out, a.json, r, result.Verdict)
}

// errNothing: a load went through, and proves nothing.
var errNothing = errors.New("nothing was accepted: there is nothing to judge")

// auditReport is what `gatepost audit` prints.
type auditReport struct {
	Bench        string         `json:"bench"` // "audit", as the benches name themselves
	Commit       string         `json:"commit,omitempty"`
	Machine      bench.Machine  `json:"machine"`
	Command      []string       `json:"command"`
	Platform     string         `json:"platform"`
	Kinds        []string       `json:"kinds"`
	Seconds      float64        `json:"seconds"`        // of the traffic
	AcceptedPerS float64        `json:"accepted_per_s"` // messages, uplinks and pushes, over the time of the traffic
	FaultCounts  map[string]int `json:"fault_counts,omitempty"`
	*audit.Report
}

// String is the report for people.
func (r auditReport) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s to %s, seed %d, traffic for %.1f s, settled and checked after %.1f s; %.0f accepted in a second; %d shown only after a pull at the end\n",
		strings.Join(r.Kinds, ", "), r.Platform, r.Seed, r.Seconds, r.Took.Seconds(), r.AcceptedPerS, r.Nudged)
	if len(r.Faults) > 0 {
		fmt.Fprintf(&b, "%d faults: %s\n", len(r.Faults), audit.CountedFaults(r.Faults))
	}
	for _, f := range r.Faults {
		fmt.Fprintf(&b, "  %s\n", f)
	}
	for _, v := range r.Verdict.Violations {
		fmt.Fprintf(&b, "%s: %s: %s\n", v.Kind, v.Message, v.History)
	}
	fmt.Fprint(&b, r.Verdict)
	return b.String()
}

// auditProgress prints where a run stands.
func auditProgress(w io.Writer) func(audit.Progress) {
	var before audit.Progress
	return func(p audit.Progress) {
		rate := float64(p.Accepted-before.Accepted) / max(p.Elapsed-before.Elapsed, time.Millisecond).Seconds()
		before = p
		if p.Phase == audit.Connecting || p.Phase == audit.Checking {
			fmt.Fprintf(w, "%-10s %d of %d devices\n", p.Phase, p.Ready, p.Devices)
			return
		}
		fmt.Fprintf(w, "%-10s %6.1fs  sent %d  accepted %d (%.0f/s)  refused %d  shown %d  faults %d\n",
			p.Phase, p.Elapsed.Seconds(), p.Sent, p.Accepted, rate, p.Refused, p.Shown, p.Faults)
	}
}

func auditCommand() *cobra.Command {
	a := auditing{servers: servers{anyKafka: true}}
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Drive many users against a platform and judge what they saw",
		Long: `Drive many users with the real SDK, some of them restless, and judge by sets what happened:

  accepted ⊆ shown ⊆ sent, each message shown once, in its sender's order, and the inbox empty at the end.

Every user has several devices, and each of them shows every message. --kinds adds uplinks, each of which is in its topic at the end,
and pushes of an app-server, some of them made twice at once.

With --faults it kills (kill -9), stops and freezes the processes that it started, one at a time at seeded moments, cuts the connections
between clients and gates, and with --backing kills MariaDB, Redis and Kafka too (with everything else that uses them).

Every violation is named with the history of its message and the faults about it. The seed reproduces who sends what to whom, who leaves
when, and which fault comes when. Exit code 1 when the verdict is FAIL, when nothing was accepted, or when the run could not be
carried through; logs and data of the servers are kept then.

` + serversHelp,
		Example: `  gatepost audit --users 40 --duration 30s --crash 0.2
  gatepost audit --faults --seed 7 --duration 60s
  gatepost audit --faults --backing .cache/servers/audit --messages 2000000 --pause 0 --json
  gatepost audit --servers running --data-dir data --users 10 --duration 10s
  gatepost audit --servers tcp://10.0.0.21:7100 --keys-file keys.json --kafka 10.0.0.7:9092 --topic uplinks --app 10.0.0.11:7130 --app-key-file shop.key`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.check(cmd.Flags().Changed("duration")); err != nil {
				return usageError{err}
			}
			return a.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	a.add(cmd, 2)
	f, c := cmd.Flags(), &a.cfg
	f.IntVar(&c.Users, "users", 20, "number of users")
	f.IntVar(&a.devices, "devices", 2, "device classes of each user")
	f.StringSliceVar(&a.kinds, "kinds", nil, "what is sent: messages,uplinks,pushes (default: all; of a platform that runs already uplinks with --kafka and pushes with --app)")
	f.StringVar(&a.topic, "topic", app.DefaultTopic, "topic of uplinks of type audit (not with --servers local)")
	f.StringVar(&a.app, "app", "", "addresses for app-servers, comma separated (default: what --data-dir tells; not with --servers local)")
	f.StringVar(&a.keyFile, "app-key-file", "", "file with an app key that may push (default: as gatepost push finds it; not with --servers local)")
	f.StringVar(&a.traffic, "traffic", "mixed", "who sends to whom: pairs (one way), talks (both ways), mixed (anybody to anybody)")
	f.IntVar(&c.Window, "window", 16, "messages of a device that are not accepted yet")
	f.IntVar(&c.Size, "size", 200, "bytes of content")
	f.DurationVar(&c.Pause, "pause", 5*time.Millisecond, "of a device between two messages")
	f.DurationVar(&c.Duration, "duration", 10*time.Second, "of the traffic (default with --messages: until they are accepted)")
	f.Uint64Var(&a.messages, "messages", 0, "end the traffic when so many messages, uplinks and pushes together are accepted; 0: by --duration")
	f.BoolVar(&a.faults, "faults", false, "with --servers local: kill, stop, freeze and cut what was started")
	f.DurationVar(&c.FaultEvery, "fault-every", 3*time.Second, "mean time from the end of a fault to the next one")
	f.Float64Var(&a.rough, "rough", 0.25, "with --faults: share of the connections that are cut or stall by themselves")
	f.Float64Var(&c.Away, "away", 0.2, "share of the devices that are away for a while, again and again")
	f.Float64Var(&c.Restart, "restart", 0.1, "share whose app is restarted again and again")
	f.Float64Var(&c.Crash, "crash", 0.1, "share whose app is killed again and again")
	f.DurationVar(&c.Settle, "settle", time.Minute, "how long the end may take, until all is confirmed")
	f.Uint64Var(&c.Seed, "seed", 1, "of everything that is drawn")
	f.BoolVar(&a.json, "json", false, "print the report as JSON")
	return cmd
}
