package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/gatepost/gatepost/app"
	"github.com/spf13/cobra"
)

func keysCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "Make the secrets of a platform, and show their public halves",
		Long: `The keys file holds the static keys of the gates, whose public halves clients pin, and the secrets that sign tokens.
All nodes of a cluster have the same file. It is JSON, mode 0600; a file that others can read is refused.

Of each list the first entry is used for what is new and the others are still understood. To rotate: add an entry at the end on
all nodes, move it to the front on all nodes, and remove the old one when no client uses it any more.`,
		Example: "  gatepost keys init --keys-file keys.json\n  gatepost keys show-public --keys-file keys.json",
	}
	cmd.AddCommand(keysInitCommand(), keysShowPublicCommand())
	return cmd
}

func keysInitCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:     "init",
		Short:   "Make a keys file with new secrets; never overwrites one",
		Long:    "Make a keys file, mode 0600, with one new key for the gates and one new secret for tokens. What is there is never overwritten.",
		Example: "  gatepost keys init --keys-file keys.json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			keys, err := app.GenerateKeys()
			if err != nil {
				return err
			}
			if err := app.WriteKeys(path, keys); errors.Is(err, fs.ErrExist) {
				return fmt.Errorf("%s is there already and stays as it is: choose another file by --keys-file", path)
			} else if errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("the directory %s is not there: make it, or choose another file by --keys-file", filepath.Dir(path))
			} else if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is made; copy it to all nodes. Clients pin:\n", path)
			return showPublic(cmd, keys)
		},
	}
	cmd.Flags().StringVar(&path, "keys-file", "keys.json", "file to make")
	return cmd
}

func keysShowPublicCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:     "show-public",
		Short:   "Show the public keys that clients pin",
		Long:    "Show the public keys of a keys file, one a line, best first, in the form that SDKs take. Secrets are never shown.",
		Example: "  gatepost keys show-public --keys-file data/keys.json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			keys, err := app.ReadKeys(path)
			if errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("%s is not there: name another file by --keys-file, or make it by gatepost keys init --keys-file %s", path, path)
			}
			if err != nil {
				return err
			}
			return showPublic(cmd, keys)
		},
	}
	cmd.Flags().StringVar(&path, "keys-file", "keys.json", "file to read")
	return cmd
}

func showPublic(cmd *cobra.Command, keys app.Keys) error {
	for _, k := range keys.Public() {
		if _, err := fmt.Fprintln(cmd.OutOrStdout(), k); err != nil {
			return err
		}
	}
	return nil
}
