package main

import (
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Show which build this is",
		Long:    "Show the version, the revision it was built from, and the compiler.",
		Example: "  gatepost version",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), buildVersion())
			return err
		},
	}
}

// buildVersion is "gatepost (version) revision (date, modified) go1.x platform", as far as the build knows.
func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "gatepost, of an unknown build"
	}
	settings := make(map[string]string)
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	out := "gatepost " + info.Main.Version
	if rev := settings["vcs.revision"]; rev != "" {
		out += " revision " + rev + " of " + settings["vcs.time"]
		if settings["vcs.modified"] == "true" {
			out += " with changes"
		}
	}
	return out + " " + info.GoVersion + " " + settings["GOOS"] + "/" + settings["GOARCH"]
}
