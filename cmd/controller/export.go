package main

import (
	"errors"
	"io/fs"

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

// needDatasets refuses directories of which one holds no dataset.
func needDatasets(dirs []string) error {
	for _, dir := range dirs {
		if err := needDataset(dir); err != nil {
			return err
		}
	}
	return nil
}

// needDataset refuses a directory that holds no dataset, or none that can be
// read.
func needDataset(dir string) error {
	_, err := dataset.ReadSurvey(dir)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return fail(exitNoDataset, err, "give the directory that a survey wrote: it holds survey.json")
	}
	return fail(exitNoDataset, err, "use the version of this program that wrote it, or a later one", "a damaged survey.json can be taken from where the dataset was copied from")
}
