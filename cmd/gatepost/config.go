package main

import (
	"fmt"
	"slices"

	"github.com/gatepost/gatepost/app"
	"github.com/spf13/cobra"
)

func configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Check and show settings",
		Long: `Settings come from a YAML file (--config), from the environment over it, and from flags over both.
A key in a section is a dotted path: gate.keepalive stands in the file as keepalive below gate, in the environment as
GATEPOST_GATE_KEEPALIVE, and on the command line as --set gate.keepalive=30s. Keys that do not exist are refused by name.`,
		Example: "  gatepost config print --role gate > gatepost.yaml\n  gatepost config check --role gate --config gatepost.yaml",
	}
	cmd.AddCommand(configCheckCommand(), configPrintCommand())
	return cmd
}

func configCheckCommand() *cobra.Command {
	var src sources
	var role string
	cmd := &cobra.Command{
		Use:     "check",
		Short:   "Say whether the settings are right; all faults at once",
		Long:    "Load the settings as a server process of that role would, and check them. Exit code 2 when they are wrong.",
		Example: "  gatepost config check --role logic --config gatepost.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadRole(cmd, &src, role)
			if err != nil {
				return err
			}
			if err := cfg.Validate(app.Role(role)); err != nil {
				return usageError{err}
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "the settings are right for %s\n", role)
			return err
		},
	}
	src.add(cmd)
	addRole(cmd, &role)
	return cmd
}

func configPrintCommand() *cobra.Command {
	var src sources
	var role string
	var env bool
	cmd := &cobra.Command{
		Use:     "print",
		Short:   "Show the settings of a role: values and meaning, secrets redacted",
		Long:    "Load the settings as a server process of that role would, and print all that it uses with their meaning: as a YAML file, or as environment variables.",
		Example: "  gatepost config print --role standalone\n  gatepost config print --role logic --env",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadRole(cmd, &src, role)
			if err != nil {
				return err
			}
			out := cfg.PrintEnv(app.Role(role))
			if !env {
				if out, err = cfg.Print(app.Role(role)); err != nil {
					return err
				}
			}
			_, err = cmd.OutOrStdout().Write(out)
			return err
		},
	}
	src.add(cmd)
	addRole(cmd, &role)
	cmd.Flags().BoolVar(&env, "env", false, "as environment variables")
	return cmd
}

func addRole(cmd *cobra.Command, role *string) {
	cmd.Flags().StringVar(role, "role", string(app.Standalone), fmt.Sprintf("whose settings: one of %v", app.Roles))
}

func loadRole(cmd *cobra.Command, src *sources, role string) (app.Config, error) {
	if !slices.Contains(app.Roles, app.Role(role)) {
		return app.Config{}, usageError{fmt.Errorf("--role %s: must be one of %v", role, app.Roles)}
	}
	return src.load(cmd, app.Role(role))
}
