package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/gatepost/gatepost/app"
	"github.com/spf13/cobra"
)

func tokenCommand() *cobra.Command {
	var keysFile, dataDir, domain, uid string
	var ttl time.Duration
	cmd := &cobra.Command{
		Use:   "token [DOMAIN/UID]",
		Short: "Make a token with which a user logs in",
		Long: `Make a token of the platform's own kind, a JWT signed with the first secret in the keys file, and print it.
In production an app's own backend does this for the users whom it knows.`,
		Example: "  gatepost token --data-dir data --uid alice\n  gatepost token --keys-file keys.json --domain shop --uid alice --ttl 24h\n  gatepost token --keys-file keys.json shop/alice",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				var ok bool
				if domain, uid, ok = strings.Cut(args[0], "/"); !ok {
					return usageError{fmt.Errorf("%s: want DOMAIN/UID", args[0])}
				}
			}
			if uid == "" {
				return usageError{errors.New("--uid is missing: whose token is it to be?")}
			}
			if ttl <= 0 {
				return usageError{errors.New("--ttl must be above zero")}
			}
			if keysFile == "" {
				keysFile = filepath.Join(dataDir, app.KeysName)
			}
			keys, err := app.ReadKeys(keysFile)
			if err != nil {
				return err
			}
			token, err := app.MintToken(keys, domain, uid, ttl)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), token)
			return err
		},
	}
	cmd.Flags().StringVar(&dataDir, "data-dir", "data", "data directory whose keys.json signs the token")
	cmd.Flags().StringVar(&keysFile, "keys-file", "", "keys file that signs the token, instead of the data directory's")
	cmd.Flags().StringVar(&domain, "domain", defaultDomain, "account system of the user")
	cmd.Flags().StringVar(&uid, "uid", "", "the user")
	cmd.Flags().DurationVar(&ttl, "ttl", time.Hour, "how long the token is valid")
	return cmd
}

// defaultDomain is the account system of the commands that were told none.
const defaultDomain = "default"
