package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"tfofleet/internal/settings"
)

func (a *app) command() *cobra.Command {
	root := &cobra.Command{
		Use:   "controller",
		Short: "Find out what really happens to TCP Fast Open, and who is to blame",
		Long: `controller measures TCP Fast Open between this machine and a list of targets.

It opens a handful of TCP connections to every target, with and without Fast
Open, reads from the kernel what became of each, and names one verdict per
target. The evidence is kept, as Parquet files.`,
		Example: `  controller survey --lab                  # an emulated internet: nothing leaves this machine
  controller survey --targets list.txt     # a real list
  controller report tfo-survey-20260131T120000Z`,
		Args:                       noCommand,
		RunE:                       func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		SuggestionsMinimumDistance: 2,
		SilenceErrors:              true,
		SilenceUsage:               true,
	}
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.term)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fail(exitUsage, settings.Plain(err), fmt.Sprintf("%q lists the flags", cmd.CommandPath()+" --help"))
	})
	root.PersistentFlags().StringVar(&a.logLevel, "log-level", "off", "log to standard error: off, error, warn, info, debug, trace")
	root.PersistentFlags().BoolVar(&a.logJSON, "log-json", false, "log in JSON")
	completeWords(root, "log-level", logLevels...)
	root.PersistentPreRunE = func(*cobra.Command, []string) error { return a.startLog() }
	root.AddCommand(a.surveyCommand(), a.serveCommand(), a.tokenCommand(), a.probesCommand(), a.surveysCommand(), a.meshCommand(), a.dashboardCommand(), a.operatorCommand(), a.caCommand(), a.reportCommand(), a.diffCommand(), a.reclassifyCommand(), a.exportCommand(), a.labCommand(), a.versionCommand())
	return root
}

var logLevels = []string{"off", "error", "warn", "info", "debug", "trace"}

func (a *app) startLog() error {
	level := hclog.LevelFromString(a.logLevel)
	if level == hclog.NoLevel {
		return fail(exitUsage, fmt.Errorf("unknown log level %q", a.logLevel), "want one of "+strings.Join(logLevels, ", "))
	}
	a.log = hclog.New(&hclog.LoggerOptions{Name: "controller", Level: level, JSONFormat: a.logJSON, Output: a.term})
	return nil
}

func noCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hints := []string{fmt.Sprintf("%q lists the commands", cmd.CommandPath()+" --help")}
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hints = []string{fmt.Sprintf("did you mean %q?", cmd.CommandPath()+" "+near[0])}
	}
	return fail(exitUsage, fmt.Errorf("unknown command %q", args[0]), hints...)
}

func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return fail(exitUsage, fmt.Errorf("%s takes no argument, got %q", cmd.CommandPath(), args[0]))
}

func oneDirectory(cmd *cobra.Command, args []string) error {
	if len(args) == 1 {
		return nil
	}
	err := errors.New("no dataset given")
	if len(args) > 1 {
		err = fmt.Errorf("one dataset at a time, got %d", len(args))
	}
	return fail(exitUsage, err, fmt.Sprintf("%s DIR, with the directory that a survey wrote", cmd.CommandPath()))
}
