package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	"tfofleet/internal/dataset"
	"tfofleet/internal/report/export"
)

func (a *app) exportCommand() *cobra.Command {
	var (
		format oneOf
		o      operator
		out    string
	)
	cmd := &cobra.Command{
		Use:   "export DIR|SURVEY",
		Short: "Stream a dataset, one measurement per line, or in the form of another tool",
		Long: `Stream a dataset to standard output: as jsonl or csv, one measurement per line
with nothing left out, of a mesh with --format mesh one pair per line, with what
the listener saw of every connection, or in the form of another tool, with what
that has words for: pathspider (result records with conditions), pto (an observation set file
of the Path Transparency Observatory), pcapng (the SYN and SYN-ACK of every
attempt that was captured).

A survey of a fleet is named by its id; its dataset is fetched from the controller.
With --out the dataset itself is copied, again only what is missing there.`,
		Example: `  controller export tfo-survey-20260131T120000Z | jq -c 'select(.verdict == "option_dropped")'
  controller export tfo-survey-20260131T120000Z --format csv > measurements.csv
  controller export tfo-survey-20260131T120000Z --format pcapng > handshakes.pcapng
  controller export k3ozxw2mdpqra --format mesh | jq -c 'select(.verdict != "supported") | .arrivals[].syn'
  controller export k3ozxw2mdpqra --out ./dataset`,
		Args: oneDirectory,
		RunE: func(cmd *cobra.Command, args []string) error {
			if out != "" {
				return a.copyDataset(cmd.Context(), o, args[0], out)
			}
			return o.withDatasets(cmd.Context(), args, func(dirs []string) error {
				if err := needDataset(dirs[0]); err != nil {
					return err
				}
				if format.value == "mesh" {
					if m, err := meshOf(dirs); m == nil {
						return cmp.Or(err, error(fail(exitUsage, fmt.Errorf("%s is no mesh", args[0]), "--format jsonl writes the measurements of a survey")))
					}
				}
				return a.results(func(w io.Writer) error { return unreadableDataset(writeExport(dirs[0], format.value, w)) })
			})
		},
	}
	o.addTo(cmd, false)
	cmd.Flags().StringVar(&out, "out", "", "copy the dataset itself to `DIR`")
	if err := cmd.MarkFlagDirname("out"); err != nil {
		panic(err)
	}
	addOneOf(cmd, &format, "format", "how a measurement is written", append([]string{"jsonl", "csv", "mesh"}, words(export.Formats())...)...)
	return cmd
}

func writeExport(dir, format string, w io.Writer) error {
	if slices.Contains(export.Formats(), export.Format(format)) {
		return export.Write(dir, export.Format(format), w)
	}
	return dataset.Export(dir, dataset.Format(format), w)
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

const hintReadable = "check that it is yours to read; of a bucket also its address, the credentials in the environment, and that the store answers"

// needDataset refuses a directory that holds no dataset, or none that can be
// read.
func needDataset(dir string) error {
	_, err := dataset.ReadSurvey(dir)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return fail(exitNoDataset, err, "give the directory that a survey wrote: it holds survey.json",
			`report and export take the id of a survey of a fleet as well: "controller surveys list" tells it, --controller names the controller`)
	case errors.Is(err, dataset.ErrVersion):
		return fail(exitNoDataset, err, "use the version of this program that wrote it, or a later one")
	case errors.Is(err, dataset.ErrDamaged):
		return fail(exitNoDataset, err, "take survey.json from where the dataset was copied from")
	}
	return unreadable(err, hintReadable)
}
