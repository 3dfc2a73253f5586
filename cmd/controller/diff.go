package main

import (
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"tfofleet/internal/report"
	"tfofleet/internal/report/change"
)

func (a *app) diffCommand() *cobra.Command {
	var format oneOf
	var targets bool
	cmd := &cobra.Command{
		Use:   "diff OLD NEW",
		Short: "Tell what changed from one dataset to another",
		Long: `Tell what changed from one dataset to another, target by target: how many went
from one verdict to which other, and how many of these changes chance can
explain. Chance flips as many targets one way as the other, so what counts is
the difference between the two (McNemar's exact test, adjusted by Holm's
method). Targets are the same by port and by name, or by address where the list
has no name; a name that is listed with several addresses is as many targets.
Where a probe is in both datasets each target is compared as that probe saw it.`,
		Example: `  controller diff monday/ tuesday/
  controller diff monday/ tuesday/ --targets > changed.csv`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 2 {
				return nil
			}
			return fail(exitUsage, fmt.Errorf("two datasets make a difference, got %d", len(args)), cmd.CommandPath()+" OLD NEW, with the directories that two surveys wrote")
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := needDatasets(args); err != nil {
				return err
			}
			if targets && cmd.Flags().Changed("format") {
				return usage("--targets writes CSV: leave out --format")
			}
			return a.results(func(w io.Writer) error {
				if targets {
					return writeChanged(cmd.Context(), w, args[0], args[1])
				}
				d, err := change.Compare(cmd.Context(), args[0], args[1], nil)
				if err != nil {
					return unreadableDataset(err)
				}
				return report.RenderDiff(w, d, format.value, report.OptionsFor(a.stdout))
			})
		},
	}
	addOneOf(cmd, &format, "format", "how it is written", report.ChangeFormats()...)
	cmd.Flags().BoolVar(&targets, "targets", false, "write each target that changed, as CSV")
	return cmd
}

// writeChanged writes each target that changed, as CSV.
func writeChanged(ctx context.Context, out io.Writer, old, new string) error {
	w := csv.NewWriter(out)
	_ = w.Write([]string{"address", "port", "hostname", "probe", "old", "new"}) // its errors stay: see below
	_, err := change.Compare(ctx, old, new, func(c *change.Changed) error {
		address := ""
		if c.Addr.IsValid() {
			address = c.Addr.String()
		}
		return w.Write([]string{address, strconv.Itoa(int(c.Port)), c.Hostname, c.Probe, c.Old.String(), c.New.String()})
	})
	if err != nil {
		return unreadableDataset(err)
	}
	w.Flush()
	return w.Error()
}
