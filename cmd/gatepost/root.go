package main

import "github.com/spf13/cobra"

const rootLong = `Gatepost is a message platform for apps whose users must not miss a message.

Begin with the whole platform in one process, and let it show what it promises:

  gatepost standalone --data-dir data
  gatepost demo --data-dir data

A cluster is made of gates (clients connect to them) and logic nodes (stateless, in front of MySQL or MariaDB and Redis):

  gatepost keys init --keys-file keys.json
  export GATEPOST_SQL_DSN="$(cat dsn)"   # dsn, mode 0600: gatepost:...@tcp(127.0.0.1:3306)/gatepost
  gatepost migrate up
  gatepost logic --keys-file keys.json --redis 127.0.0.1:6379 --domains default
  gatepost gate --keys-file keys.json --logic 127.0.0.1:7120

Settings come from a YAML file (--config), from the environment over it (GATEPOST_GATE_KEEPALIVE=30s), and from flags over both.

Exit codes: 0 it went well; 1 it failed; 2 the command line or the configuration is wrong; 3 an address to listen on is taken.`

// newRoot makes the tree of commands. started becomes true when a command has been found acceptable and runs.
func newRoot() (root *cobra.Command, started *bool) {
	started = new(bool)
	root = &cobra.Command{
		Use:               "gatepost",
		Short:             "A message platform for apps whose users must not miss a message",
		Long:              rootLong,
		SilenceErrors:     true, // main prints them
		SilenceUsage:      true,
		PersistentPreRun:  func(*cobra.Command, []string) { *started = true },
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.AddGroup(
		&cobra.Group{ID: "servers", Title: "Servers:"},
		&cobra.Group{ID: "setup", Title: "Setting up:"},
		&cobra.Group{ID: "clients", Title: "Trying and judging a running platform:"},
	)
	add := func(group string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("servers", standaloneCommand(), gateCommand(), logicCommand())
	add("setup", keysCommand(), migrateCommand(), configCommand(), tokenCommand(), appKeyCommand())
	add("clients", chatCommand(), pushCommand(), consumeCommand(), topicsCommand(), demoCommand(), auditCommand(), benchCommand())
	root.AddCommand(versionCommand(), demoClientCommand())
	for _, c := range root.Commands() {
		if c.HasSubCommands() {
			// Without these cobra would answer a command that does not exist with help, and with success.
			c.Args, c.RunE = cobra.NoArgs, func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
		}
	}
	return root, started
}
