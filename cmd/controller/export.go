package main

import (
	"github.com/spf13/cobra"

	"tfofleet/internal/dataset"
)

func (a *app) exportCommand() *cobra.Command {
	var format oneOf
	cmd := &cobra.Command{
		Use:   "export DIR",
		Short: "Stream a dataset, one measurement per line",
		Example: `  controller export tfo-survey-20260131T120000Z | jq -c 'select(.verdict == "option_dropped")'
  controller export tfo-survey-20260131T120000Z --format csv > measurements.csv`,
		Args: oneDirectory,
		RunE: func(_ *cobra.Command, args []string) error {
			if err := needDataset(args[0]); err != nil {
				return err
			}
			return dataset.Export(args[0], dataset.Format(format.value), a.stdout)
		},
	}
	addOneOf(cmd, &format, "format", "how a measurement is written", "jsonl", "csv")
	return cmd
}

// needDataset refuses a directory that holds no dataset.
func needDataset(dir string) error {
	if _, err := dataset.ReadSurvey(dir); err != nil {
		return fail(exitNoDataset, err, "give the directory that a survey wrote: it holds survey.json")
	}
	return nil
}
