package main

import (
	"errors"
	"os"

	"github.com/spf13/cobra"

	"tfofleet/internal/report"
	"tfofleet/internal/report/change"
)

func (a *app) reclassifyCommand() *cobra.Command {
	var format oneOf
	var out string
	cmd := &cobra.Command{
		Use:   "reclassify DIR",
		Short: "Judge the stored evidence of a dataset again",
		Long: `Judge the stored evidence of a dataset by the rules of this version, and tell
which verdicts and conditions would move. The dataset is only read; --out makes
a copy of it with the new verdicts.`,
		Example: "  controller reclassify tfo-survey-20260131T120000Z\n  controller reclassify tfo-survey-20260131T120000Z --out again/",
		Args:    oneDirectory,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := needDataset(args[0]); err != nil {
				return err
			}
			if out != "" {
				if _, err := makeOut(out); err != nil {
					return err
				}
			}
			m, err := change.Reclassify(cmd.Context(), args[0], out, nil)
			if err != nil && out != "" {
				os.RemoveAll(out) // it was made for this
			}
			var wrong *change.WriteError
			switch {
			case errors.As(err, &wrong):
				return unwritable(out, wrong.Err)
			case err != nil:
				return unreadableDataset(err)
			}
			return report.RenderMoves(a.stdout, m, format.value, report.OptionsFor(a.stdout))
		},
	}
	addOneOf(cmd, &format, "format", "how it is written", report.ChangeFormats()...)
	cmd.Flags().StringVar(&out, "out", "", "`DIR` to make for a copy with the new verdicts")
	if err := cmd.MarkFlagDirname("out"); err != nil {
		panic(err)
	}
	return cmd
}
