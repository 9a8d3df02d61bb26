package main

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/gatepost/gatepost/app"
	"github.com/spf13/cobra"
)

func topicsCommand() *cobra.Command {
	var src sources
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "topics",
		Short: "Show which reports go to which topic, and how full those are",
		Long: `Show which topic the reports of each account system go to, and what Kafka says of that topic.

With --data-dir it is asked of the platform that runs there, and shows what holds in it now, after a SIGHUP as well. For a cluster the
account systems and the brokers stand in the configuration of its logic nodes: --config.`,
		Example: "  gatepost topics --data-dir data\n  gatepost topics --config gatepost.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			from, err := findTopics(cmd, &src)
			if err != nil {
				return err
			}
			byName := make(map[string]app.TopicState)
			for _, r := range from.routes {
				byName[r.Topic] = app.TopicState{}
			}
			states, err := app.ListTopics(cmd.Context(), from.kafka, slices.Sorted(maps.Keys(byName)))
			if err != nil {
				return err
			}
			for _, s := range states {
				byName[s.Name] = s
			}
			lines := make([]topicLine, len(from.routes))
			for i, r := range from.routes {
				s := byName[r.Topic]
				lines[i] = topicLine{
					Route: r, Exists: s.Exists, Partitions: s.Partitions, Replication: s.Replication, MinInsync: s.MinInsync,
					Retention: retentionText(s.Retention), EndOffsets: s.EndOffsets,
				}
				if from.retention != "" {
					lines[i].Retention = from.retention
				}
			}
			if asJSON {
				return printJSON(cmd, lines)
			}
			for _, l := range lines {
				fmt.Fprintf(cmd.OutOrStdout(), "%s  %s → %s  ", l.Domain, l.Type, l.Topic)
				if l.Exists {
					fmt.Fprintf(cmd.OutOrStdout(), "partitions %d, replication %d, retention %s, end offsets %v\n", l.Partitions, l.Replication, l.Retention, l.EndOffsets)
				} else {
					fmt.Fprintln(cmd.OutOrStdout(), "is not there yet")
				}
			}
			return nil
		},
	}
	src.add(cmd)
	app.AddFlags(cmd.Flags(), app.Standalone, "data-dir", "kafka")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print them as JSON")
	return cmd
}

// topicLine is a route with what Kafka says of its topic.
type topicLine struct {
	app.Route
	Exists      bool    `json:"exists"`
	Partitions  int     `json:"partitions,omitempty"`
	Replication int     `json:"replication,omitempty"`
	MinInsync   int     `json:"min_insync_replicas,omitempty"`
	Retention   string  `json:"retention,omitempty"`
	EndOffsets  []int64 `json:"end_offsets,omitempty"` // by partition; -1: it has no leader
}

// topicsFrom is where reports go, and the Kafka that has the topics.
type topicsFrom struct {
	routes    []app.Route
	kafka     app.Kafka
	retention string // of a Kafka whose brokers do not know it; "": they do
}

// findTopics finds them by the flags: in a configuration that names brokers, else in the platform that runs in the data directory.
func findTopics(cmd *cobra.Command, src *sources) (topicsFrom, error) {
	cfg, err := src.load(cmd, app.Logic)
	if err != nil {
		return topicsFrom{}, err
	}
	if len(cfg.Kafka.Brokers) > 0 && !cmd.Flags().Changed("data-dir") {
		from := topicsFrom{routes: cfg.Routes(), kafka: cfg.Kafka}
		if len(from.routes) == 0 {
			return topicsFrom{}, usageError{fmt.Errorf("no account system in the configuration names a topic: domains is to have uplinks or events")}
		}
		return from, nil
	}
	if cfg, err = src.load(cmd, app.Standalone); err != nil {
		return topicsFrom{}, err
	}
	rt, err := app.ReadRuntime(cfg.DataDir)
	if err != nil {
		return topicsFrom{}, fmt.Errorf("%w; for a cluster, name the configuration of its logic nodes, with kafka.brokers, by --config", err)
	}
	if len(rt.Kafka) == 0 {
		return topicsFrom{}, fmt.Errorf("the %s in %s has no Kafka", rt.Role, cfg.DataDir)
	}
	cfg.Kafka.Brokers = rt.Kafka
	return topicsFrom{routes: rt.Topics, kafka: cfg.Kafka, retention: rt.Retention}, nil
}

// retentionText is how long records are kept, as people read it.
func retentionText(d time.Duration) string {
	switch {
	case d < 0:
		return app.ForEver
	case d == 0:
		return "not told"
	}
	return d.Round(time.Second).String()
}
