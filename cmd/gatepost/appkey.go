package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/gatepost/gatepost/app"
	"github.com/gatepost/gatepost/cmd/gatepost/internal/target"
	"github.com/spf13/cobra"
)

func appKeyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "app-key",
		Short: "Make and revoke the keys of app-servers",
		Long: `An app-server shows an app key with each call. A key belongs to one account system and has rights; the database keeps a hash of it only.

The commands work on the database itself: that of the standalone process in --data-dir, also while it runs, or the one of a cluster
that --mysql, GATEPOST_SQL_DSN or sql.dsn in the file names. A revoked key is refused from the next call on.`,
		Example: "  gatepost app-key add --data-dir data --domain default --rights push,presence --keep\n  gatepost app-key list --data-dir data --domain default",
	}
	cmd.AddCommand(appKeyAddCommand(), appKeyListCommand(), appKeyRevokeCommand())
	return cmd
}

// database are the flags that name the database of a platform.
type database struct{ src sources }

func (d *database) add(cmd *cobra.Command) {
	d.src.add(cmd)
	app.AddFlags(cmd.Flags(), app.Logic, "mysql")
	app.AddFlags(cmd.Flags(), app.Standalone, "data-dir")
}

// open opens the database. The caller closes it. dataDir is empty for that of a cluster.
func (d *database) open(cmd *cobra.Command) (keys *app.AppKeys, dataDir string, err error) {
	role := app.Logic
	cfg, err := d.src.load(cmd, role)
	if err == nil && cfg.SQL.DSN == "" {
		role = app.Standalone
		cfg, err = d.src.load(cmd, role)
		dataDir = cfg.DataDir
	}
	if err != nil {
		return nil, "", err
	}
	keys, err = app.OpenAppKeys(role, cfg)
	return keys, dataDir, err
}

func appKeyAddCommand() *cobra.Command {
	var d database
	var domain string
	var rights []string
	var keep, asJSON bool
	cmd := &cobra.Command{
		Use:   "add",
		Short: "Make an app key; it is shown once",
		Long: `Make an app key and show it. It cannot be shown again: who loses it makes another and revokes this one.

With --keep it is also written to app-keys/ in the data directory, mode 0600, where gatepost push finds it.`,
		Example: "  gatepost app-key add --data-dir data --domain default --rights push,presence --keep\n" +
			"  (umask 077; gatepost app-key add --config gatepost.yaml --domain shop --rights push >shop.key)",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			keys, dataDir, err := d.open(cmd)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, keys.Close()) }()
			if keep && dataDir == "" {
				return usageError{errors.New("--keep is for a data directory")}
			}
			text, key, err := keys.Add(cmd.Context(), domain, rights)
			if err != nil {
				return err
			}
			if keep {
				if err := keepAppKey(dataDir, domain, text); err != nil {
					return err
				}
			}
			if asJSON {
				return printJSON(cmd, struct {
					app.AppKey
					Key string `json:"key"`
				}{key, text})
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "key %s of domain %s, for %s. Keep it well: it is not shown again.\n", key.ID, domain, strings.Join(key.Rights, ", "))
			_, err = fmt.Fprintln(cmd.OutOrStdout(), text)
			return err
		},
	}
	d.add(cmd)
	cmd.Flags().StringVar(&domain, "domain", defaultDomain, "account system whose users it is for")
	cmd.Flags().StringSliceVar(&rights, "rights", nil, "what it may: "+strings.Join(app.AppRights(), ", "))
	cmd.Flags().BoolVar(&keep, "keep", false, "also write it into the data directory, for gatepost push")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	return cmd
}

// keptAppKey is where the key of a domain lies in a data directory.
func keptAppKey(dataDir, domain string) string {
	return filepath.Join(dataDir, "app-keys", target.FileName(domain))
}

func keepAppKey(dataDir, domain, text string) error {
	path := keptAppKey(dataDir, domain)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("keep the key: %w", err)
	}
	if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
		return fmt.Errorf("keep the key: %w", err)
	}
	return nil
}

func appKeyListCommand() *cobra.Command {
	var d database
	var domain string
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the app keys of an account system",
		Long:    "List the app keys of an account system, revoked ones too: ids, rights and times. Secrets are nowhere to be had.",
		Example: "  gatepost app-key list --data-dir data --domain default\n  gatepost app-key list --config gatepost.yaml --domain shop --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			keys, _, err := d.open(cmd)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, keys.Close()) }()
			list, err := keys.List(cmd.Context(), domain)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd, list)
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "ID\tRIGHTS\tCREATED\tSTATE")
			for _, k := range list {
				state := "valid"
				if !k.RevokedAt.IsZero() {
					state = "revoked " + k.RevokedAt.Local().Format(time.DateTime)
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", k.ID, strings.Join(k.Rights, ","), k.CreatedAt.Local().Format(time.DateTime), state)
			}
			return w.Flush()
		},
	}
	d.add(cmd)
	cmd.Flags().StringVar(&domain, "domain", defaultDomain, "account system")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print them as JSON")
	return cmd
}

func appKeyRevokeCommand() *cobra.Command {
	var d database
	cmd := &cobra.Command{
		Use:     "revoke ID",
		Short:   "Revoke an app key for good",
		Long:    "Revoke an app key for good. Calls with it are refused from now on, by every node. ID is what stands before the dot in the key.",
		Example: "  gatepost app-key revoke 0123456789abcdef --data-dir data",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			keys, _, err := d.open(cmd)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, keys.Close()) }()
			id, _, _ := strings.Cut(args[0], ".")
			if err := keys.Revoke(cmd.Context(), id); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is revoked\n", id)
			return err
		},
	}
	d.add(cmd)
	return cmd
}

func printJSON(cmd *cobra.Command, v any) error {
	enc := json.NewEncoder(cmd.OutOrStdout())
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
