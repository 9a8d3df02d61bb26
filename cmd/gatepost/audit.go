package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gatepost/gatepost/audit"
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

// checkKinds checks what --kinds says, and puts the default in place of nothing: all for a standalone that is started for this run.
func checkKinds(kinds []string, s servers) ([]string, error) {
	local := s.where == serversLocal
	if len(kinds) == 0 {
		if local && s.mysql == "" {
			return []string{kindMessages, kindUplinks, kindPushes}, nil
		}
		return []string{kindMessages}, nil
	}
	for _, k := range kinds {
		switch {
		case k != kindMessages && k != kindUplinks && k != kindPushes:
			return nil, fmt.Errorf("--kinds %s: must be %s, %s or %s", k, kindMessages, kindUplinks, kindPushes)
		case k == kindUplinks && (!local || s.mysql != "" && len(s.kafka) == 0):
			return nil, fmt.Errorf("--kinds %s: is for --servers local with a Kafka that is known", k)
		case k == kindPushes && !local:
			return nil, fmt.Errorf("--kinds %s: is for --servers local, whose app keys can be made", k)
		}
	}
	if !slices.Contains(kinds, kindMessages) {
		return nil, fmt.Errorf("--kinds: %s are always among them", kindMessages)
	}
	return kinds, nil
}

// addKinds adds uplinks and pushes to a run against a platform that was started for it. The caller closes what it returns.
func addKinds(ctx context.Context, cfg *audit.Config, kinds []string, p *platform.Platform) (closeApp func() error, err error) {
	closeApp = func() error { return nil }
	if slices.Contains(kinds, kindUplinks) {
		cfg.Topic = audit.KafkaTopic{Brokers: p.Brokers(), Name: p.Topic()}
	}
	if slices.Contains(kinds, kindPushes) {
		key, err := p.AppKey(ctx)
		if err != nil {
			return closeApp, err
		}
		server, err := audit.NewAppServer(p.Apps(), key, platform.Domain)
		if err != nil {
			return closeApp, err
		}
		cfg.App, closeApp = server, server.Close
	}
	return closeApp, nil
}

func auditCommand() *cobra.Command {
	var s servers
	var kinds []string
	var cfg audit.Config
	var traffic string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Drive many users against a platform and judge what they saw",
		Long: `Drive many users with the real SDK, some of them restless, and judge by sets what happened:

  accepted ⊆ shown ⊆ sent, each message shown once, in its sender's order, and the inbox empty at the end.

--kinds adds uplinks, each of which is in its topic at the end, and pushes of an app-server, some of them made twice at once.
Every violation is named with the history of its message. The seed reproduces who sends what to whom and who leaves when.
Exit code 1 when the verdict is FAIL.

` + serversHelp,
		Example: `  gatepost audit --users 40 --duration 30s --crash 0.2
  gatepost audit --servers running --data-dir data --users 10 --duration 10s`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			var ok bool
			if cfg.Traffic, ok = traffics[traffic]; !ok {
				return usageError{fmt.Errorf("--traffic %s: must be pairs, talks or mixed", traffic)}
			}
			if cfg.Users < 2 {
				return usageError{fmt.Errorf("--users %d: must be at least 2, one who sends and one who receives", cfg.Users)}
			}
			if kinds, err = checkKinds(kinds, s); err != nil {
				return usageError{err}
			}
			o, err := s.open(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, o.Close()) }()
			if cfg.Dial, err = o.target.Dial(); err != nil {
				return err
			}
			closeApp, err := addKinds(cmd.Context(), &cfg, kinds, o.local)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, closeApp()) }()
			cfg.Domain = o.target.Domain
			cfg.Progress = progressTo(cmd.ErrOrStderr())
			result, err := audit.Run(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			if asJSON {
				return report(cmd.OutOrStdout(), true, result, result.Verdict)
			}
			for _, v := range result.Verdict.Violations {
				fmt.Fprintln(cmd.OutOrStdout(), v)
			}
			return report(cmd.OutOrStdout(), false, result.Verdict, result.Verdict)
		},
	}
	s.add(cmd, 2)
	cmd.Flags().IntVar(&cfg.Users, "users", 20, "number of users")
	cmd.Flags().StringSliceVar(&kinds, "kinds", nil, "what is sent: messages,uplinks,pushes (default: all with a standalone that is started for this run, else messages)")
	cmd.Flags().StringVar(&traffic, "traffic", "mixed", "who sends to whom: pairs (one way), talks (both ways), mixed (anybody to anybody)")
	cmd.Flags().IntVar(&cfg.Window, "window", 16, "messages of a user that are not accepted yet")
	cmd.Flags().IntVar(&cfg.Size, "size", 200, "bytes of content")
	cmd.Flags().DurationVar(&cfg.Pause, "pause", 5*time.Millisecond, "of a user between two messages")
	cmd.Flags().DurationVar(&cfg.Duration, "duration", 10*time.Second, "of the traffic")
	cmd.Flags().Float64Var(&cfg.Away, "away", 0.2, "share of the users who are away for a while, again and again")
	cmd.Flags().Float64Var(&cfg.Restart, "restart", 0.1, "share whose app is restarted again and again")
	cmd.Flags().Float64Var(&cfg.Crash, "crash", 0.1, "share whose app is killed again and again")
	cmd.Flags().DurationVar(&cfg.Settle, "settle", time.Minute, "how long the end may take, until all is confirmed")
	cmd.Flags().Uint64Var(&cfg.Seed, "seed", 1, "of everything that is drawn")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the report as JSON")
	return cmd
}
