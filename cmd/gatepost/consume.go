package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/gatepost/gatepost/app"
	"github.com/gatepost/gatepost/sdk/go/appserver"
	"github.com/google/uuid"
	"github.com/spf13/cobra"
)

// Values of --from.
const (
	fromBeginning = "beginning"
	fromEnd       = "end"
)

func consumeCommand() *cobra.Command {
	var dataDir, topic, group, from string
	var brokers []string
	var count int
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "consume",
		Short: "Print the reports in a topic, as a business service reads them",
		Long: `Print the events of a topic as they come, until it is interrupted or --count of them are printed.

Without --group each run begins anew: at the oldest record that is kept, or with --from end behind the last one, to see only what comes
from now on. With --group, what was printed is committed, and the next run of that group goes on behind it: --from counts where the
group has committed nothing yet, as in its first run.`,
		Example: `  gatepost consume --data-dir data --topic uplinks
  gatepost consume --data-dir data --topic uplinks --from end
  gatepost consume --kafka 10.0.0.7:9092 --topic orders --group billing --count 10 --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if from != fromBeginning && from != fromEnd {
				return usageError{fmt.Errorf("--from %s: must be %s or %s", from, fromBeginning, fromEnd)}
			}
			if len(brokers) == 0 {
				rt, err := app.ReadRuntime(dataDir)
				if err != nil {
					return err
				}
				if brokers = rt.Kafka; len(brokers) == 0 {
					return fmt.Errorf("the %s in %s has no Kafka: name one by --kafka", rt.Role, dataDir)
				}
			}
			if group == "" {
				group = "gatepost-consume-" + uuid.NewString()
			}
			ctx, cancel := context.WithCancel(cmd.Context())
			defer cancel()
			var mu sync.Mutex // partitions are handled side by side
			seen := 0
			consumer, err := appserver.NewConsumer(appserver.ConsumerConfig{
				Brokers: brokers, Group: group, Topics: []string{topic}, CommitEvery: -1, FromEnd: from == fromEnd,
				Logger: slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn})), // why nothing comes
				Handler: func(_ context.Context, e *appserver.Event) error {
					mu.Lock()
					defer mu.Unlock()
					if count > 0 && seen >= count {
						return context.Canceled // not ours to print: it stays uncommitted
					}
					if asJSON {
						if err := json.NewEncoder(cmd.OutOrStdout()).Encode(e); err != nil {
							return err
						}
					} else {
						fmt.Fprintf(cmd.OutOrStdout(), "%s  %s/%s  %s  %s  id %s\n", e.Time.Local().Format(time.TimeOnly), e.Domain, e.UID, e.Type, e.Content, e.ID)
					}
					if seen++; count > 0 && seen >= count {
						cancel()
					}
					return nil
				},
			})
			if err != nil {
				return err
			}
			if err := consumer.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
				return err
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&dataDir, "data-dir", "data", "data directory of a platform that runs on this machine")
	cmd.Flags().StringSliceVar(&brokers, "kafka", nil, "brokers, instead of what --data-dir tells")
	cmd.Flags().StringVar(&topic, "topic", app.DefaultTopic, "topic to read")
	cmd.Flags().StringVar(&group, "group", "", "consumer group whose place is kept")
	cmd.Flags().StringVar(&from, "from", fromBeginning, "where to begin when the group has no place yet: "+fromBeginning+" or "+fromEnd)
	cmd.Flags().IntVar(&count, "count", 0, "end after so many events (0: never)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print each event as a line of JSON")
	return cmd
}
