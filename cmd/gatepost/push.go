package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/gatepost/gatepost/app"
	"github.com/gatepost/gatepost/sdk/go/appserver"
	"github.com/spf13/cobra"
)

// appKeyVariable holds an app key for gatepost push.
const appKeyVariable = "GATEPOST_APP_KEY"

// errNotReached: a push went through, and not to all of its targets. It has been printed to which.
var errNotReached = errors.New("not every target was reached: see above")

func pushCommand() *cobra.Command {
	var dataDir, address, keyFile string
	var to []string
	var p appserver.Push
	var content string
	cmd := &cobra.Command{
		Use:   "push",
		Short: "Push a message to users, as an app-server does",
		Long: `Push a message to users, and print what became of it for each. It waits for those who are away, unless --online-only.

The app key comes from --app-key-file, from ` + appKeyVariable + `, or from where gatepost app-key add --keep has put it.
The same --id again reaches nobody twice. Exit code 1 when a target was refused or, with --online-only, is not online.`,
		Example: `  gatepost push --data-dir data --to default/bob --type order --content 'two parcels'
  gatepost push --app 10.0.0.11:7130 --app-key-file shop.key --to shop/ann --to shop/joe --content hello --ttl 1h`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, t := range to {
				domain, uid, ok := strings.Cut(t, "/")
				if !ok || domain == "" || uid == "" || p.Domain != "" && p.Domain != domain {
					return usageError{fmt.Errorf("--to %s: want DOMAIN/UID, all of one domain", t)}
				}
				p.Domain, p.UIDs = domain, append(p.UIDs, uid)
			}
			if len(to) == 0 {
				return usageError{errors.New("--to is missing: to whom?")}
			}
			key, err := findAppKey(dataDir, p.Domain, keyFile)
			if err != nil {
				return err
			}
			if address == "" {
				rt, err := app.ReadRuntime(dataDir)
				if err != nil {
					return err
				}
				if address = rt.App; address == "" {
					return fmt.Errorf("the %s in %s has no port for app-servers: name one by --app", rt.Role, dataDir)
				}
			}
			client, err := appserver.New(appserver.Config{Addresses: strings.Split(address, ","), Key: key})
			if err != nil {
				return err
			}
			defer client.Close()
			p.Content = []byte(content)
			results, err := client.Push(cmd.Context(), p)
			if results != nil {
				fmt.Fprintf(cmd.OutOrStdout(), "push %s\n", results.ID)
				for _, r := range results.Users {
					fmt.Fprintf(cmd.OutOrStdout(), "  %s/%s  %v", p.Domain, r.UID, r.Outcome)
					switch {
					case r.Reason != "":
						fmt.Fprintf(cmd.OutOrStdout(), "  %v: %s", r.Status, r.Reason)
					case r.Duplicate:
						fmt.Fprintf(cmd.OutOrStdout(), "  message %d, accepted before", r.MsgID)
					case r.MsgID != 0:
						fmt.Fprintf(cmd.OutOrStdout(), "  message %d", r.MsgID)
					}
					fmt.Fprintln(cmd.OutOrStdout())
				}
			}
			if err != nil {
				return err
			}
			for _, r := range results.Users {
				if r.Outcome != appserver.Accepted && r.Outcome != appserver.Sent {
					return errNotReached
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&dataDir, "data-dir", "data", "data directory of a platform that runs on this machine")
	cmd.Flags().StringVar(&address, "app", "", "addresses for app-servers, comma separated, instead of what --data-dir tells")
	cmd.Flags().StringVar(&keyFile, "app-key-file", "", "file with the app key")
	cmd.Flags().StringArrayVar(&to, "to", nil, "receiver, DOMAIN/UID; may be repeated")
	cmd.Flags().StringVar(&p.Type, "type", "text", "type of the message")
	cmd.Flags().StringVar(&content, "content", "", "the message")
	cmd.Flags().DurationVar(&p.TTL, "ttl", 0, "how long it waits for who is away (0: seven days)")
	cmd.Flags().BoolVar(&p.OnlineOnly, "online-only", false, "only for who is online now")
	cmd.Flags().StringVar(&p.ID, "id", "", "UUID of the push, kept over retries (default: a new one)")
	return cmd
}

// findAppKey is the app key for domain.
func findAppKey(dataDir, domain, file string) (string, error) {
	if file == "" {
		if key := os.Getenv(appKeyVariable); key != "" {
			return key, nil
		}
		file = keptAppKey(dataDir, domain)
		if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("there is no app key for %s: make one by gatepost app-key add --data-dir %s --domain %s --rights push --keep", domain, dataDir, domain)
		}
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("app key: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}
