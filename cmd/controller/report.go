package main

import (
	"github.com/spf13/cobra"

	"tfofleet/internal/report"
)

func (a *app) reportCommand() *cobra.Command {
	var format oneOf
	cmd := &cobra.Command{
		Use:     "report DIR",
		Short:   "Sum up a dataset",
		Example: "  controller report tfo-survey-20260131T120000Z\n  controller report tfo-survey-20260131T120000Z --format json | jq .verdicts",
		Args:    oneDirectory,
		RunE: func(_ *cobra.Command, args []string) error {
			if err := needDataset(args[0]); err != nil {
				return err
			}
			_, err := a.report(args[0], format.value)
			return err
		},
	}
	addOneOf(cmd, &format, "format", "how the summary is written", "table", "json")
	return cmd
}

// report sums up a dataset and writes the summary.
func (a *app) report(dir, format string) (*report.Summary, error) {
	s, err := report.Aggregate(dir)
	if err != nil {
		return nil, err
	}
	if format == "json" {
		return s, report.RenderJSON(a.stdout, s)
	}
	return s, report.RenderTable(a.stdout, s, report.OptionsFor(a.stdout))
}
