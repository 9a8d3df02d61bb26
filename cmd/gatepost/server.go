package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/gatepost/gatepost/app"
	"github.com/spf13/cobra"
)

// sources are the flags that say where settings come from.
type sources struct {
	file string
	set  []string
}

func (s *sources) add(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&s.file, "config", "c", "", "YAML file with settings (gatepost config print shows all there are)")
	cmd.Flags().StringArrayVar(&s.set, "set", nil, "any setting as key=value, over everything else; may be repeated")
}

// load reads the settings of role.
func (s *sources) load(cmd *cobra.Command, role app.Role) (app.Config, error) {
	cfg, err := app.Load(role, app.Sources{File: s.file, Environ: os.Environ(), Flags: cmd.Flags(), Set: s.set})
	if err != nil {
		return app.Config{}, usageError{err}
	}
	return cfg, nil
}

// serverCommand completes the command of a server process of role.
func serverCommand(cmd *cobra.Command, role app.Role, build func(app.Config, io.Writer) (*app.Process, error)) *cobra.Command {
	var src sources
	var untilEOF bool
	src.add(cmd)
	app.AddFlags(cmd.Flags(), role)
	cmd.Flags().BoolVar(&untilEOF, "exit-on-stdin-eof", false, "stop when stdin ends, so that no server outlives the program that started it")
	cmd.Args = cobra.NoArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := src.load(cmd, role)
		if err != nil {
			return err
		}
		if err := cfg.Validate(role); err != nil {
			return usageError{err}
		}
		process, err := build(cfg, cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		ctx := cmd.Context()
		if untilEOF {
			var cancel context.CancelFunc
			ctx, cancel = context.WithCancel(ctx)
			defer cancel()
			go func() {
				io.Copy(io.Discard, cmd.InOrStdin())
				cancel()
			}()
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		go reloadOnHangup(ctx, process, func() (app.Config, error) { return src.load(cmd, role) })
		return process.Run(ctx, func(rt app.Runtime) { fmt.Fprintln(cmd.OutOrStdout(), rt.Ready()) })
	}
	return cmd
}

// reloadOnHangup has process read its settings again at each SIGHUP, until ctx ends.
func reloadOnHangup(ctx context.Context, process *app.Process, load func() (app.Config, error)) {
	hangups := make(chan os.Signal, 1) // one that comes while settings are read is heard after that
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	for {
		select {
		case <-hangups:
			process.Reload(ctx, load)
		case <-ctx.Done():
			return
		}
	}
}
