package main

import (
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/gatepost/gatepost/app"
	"github.com/spf13/cobra"
)

func migrateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Bring the schema of a database up to date",
		Long: `The schema of the database is made and changed by these commands only; a logic node whose database has another one does not start.
A standalone process brings its own database up to date.

The database itself must be there: CREATE DATABASE gatepost. It is named as for a logic node: by GATEPOST_SQL_DSN, by
sql.dsn in the file, or by --mysql, which other users of the machine can read in the list of processes. When it is not there, or
refuses the user, the error says what to do.`,
		Example: migrateExample("up") + "\n  gatepost migrate status",
	}
	cmd.AddCommand(
		migrateSubcommand("up", "Apply the migrations that are missing", migrateUp),
		migrateSubcommand("status", "List the migrations and when each was applied", migrateStatus),
	)
	return cmd
}

func migrateSubcommand(use, short string, do func(*cobra.Command, app.Config) error) *cobra.Command {
	var src sources
	cmd := &cobra.Command{
		Use: use, Short: short, Long: short + ".",
		Example: migrateExample(use),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := src.load(cmd, app.Logic)
			if err != nil {
				return err
			}
			if cfg.SQL.DSN == "" {
				return usageError{errors.New("no database is named: set GATEPOST_SQL_DSN, sql.dsn in the file, or --mysql")}
			}
			if err := cfg.SQL.Validate(); err != nil {
				return usageError{err}
			}
			return do(cmd, cfg)
		},
	}
	src.add(cmd)
	app.AddFlags(cmd.Flags(), app.Logic, "mysql")
	return cmd
}

// migrateExample leaves the password in the data source name neither in the history of the shell nor in the list of processes.
func migrateExample(use string) string {
	return "  export GATEPOST_SQL_DSN=\"$(cat dsn)\"   # dsn, mode 0600: gatepost:...@tcp(127.0.0.1:3306)/gatepost\n  gatepost migrate " + use +
		"\n  gatepost migrate " + use + " --config gatepost.yaml   # sql.dsn stands there, mode 0600"
}

func migrateUp(cmd *cobra.Command, cfg app.Config) error {
	if err := app.Migrate(cmd.Context(), cfg); err != nil {
		return err
	}
	_, err := fmt.Fprintln(cmd.OutOrStdout(), "the schema is up to date")
	return err
}

func migrateStatus(cmd *cobra.Command, cfg app.Config) error {
	states, err := app.MigrationStatus(cmd.Context(), cfg)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	for _, s := range states {
		applied := "missing"
		if !s.AppliedAt.IsZero() {
			applied = s.AppliedAt.Format(time.DateTime)
		}
		fmt.Fprintf(w, "%d\t%s\t%s\n", s.Version, s.Name, applied)
	}
	return w.Flush()
}
