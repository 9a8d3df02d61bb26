package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gatepost/gatepost/audit/bench"
	"github.com/spf13/cobra"
)

func benchReportCommand() *cobra.Command {
	var from, out, date, commit string
	var notes []string
	cmd := &cobra.Command{
		Use:   "report",
		Short: "Make a page with pictures of many runs",
		Long: `Read what the benches printed with --json, from files NAME.RUN.json of one directory, and write a page with the goals and every run, and pictures
beside it: rate and times against load when there are runs at several rates, and the rate against the time of a commit.`,
		Example: `  gatepost bench report --from .cache/bench/runs --out docs/bench/2026-01-31-0123456789ab.md`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if from == "" || filepath.Ext(out) != ".md" {
				return usageError{errors.New("--from and --out FILE.md are needed")}
			}
			cases, err := bench.ReadRuns(from)
			if err != nil {
				return err
			}
			r := &bench.Report{Cases: cases, Notes: notes, Date: date, Commit: commit}
			prefix := strings.TrimSuffix(out, ".md") + "-"
			for _, p := range r.Pictures() {
				if err := os.WriteFile(prefix+p.Name+".svg", []byte(p.SVG), 0o644); err != nil {
					return err
				}
			}
			if err := os.WriteFile(out, []byte(r.Markdown(filepath.Base(prefix))), 0o644); err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), out)
			return err
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "directory of the runs")
	cmd.Flags().StringVar(&out, "out", "", "the page; its pictures lie beside it")
	cmd.Flags().StringVar(&date, "date", time.Now().Format(time.DateOnly), "of the page")
	cmd.Flags().StringVar(&commit, "commit", "", "where the runs do not tell theirs")
	cmd.Flags().StringArrayVar(&notes, "note", nil, "a sentence on the servers (repeatable)")
	return cmd
}
