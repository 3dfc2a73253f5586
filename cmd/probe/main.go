// Command probe looks at TCP Fast Open from one machine: what happens to a
// connection, what arrives at a listener of its own, and whether the machine is
// fit to be a vantage point.
//
// It holds flags and wiring only: every subcommand has a file of its own. What
// is measured is in internal/tfo.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"tfofleet/internal/settings"
)

func main() {
	os.Exit(run(context.Background(), os.Args, os.Stdin, os.Stdout, os.Stderr))
}

// run is the program. The first interrupt asks for an orderly end, the second
// ends the process at once, as it would without us.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, release := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer release()
	context.AfterFunc(ctx, func() { time.AfterFunc(time.Second, release) })

	a := &app{stdout: stdout, stderr: stderr}
	cmd := a.command()
	cmd.SetIn(stdin)
	cmd.SetArgs(args[1:])
	last, err := cmd.ExecuteContextC(ctx)
	return int(a.conclude(last, err))
}

// app is what the subcommands share.
type app struct {
	stdout io.Writer // results
	stderr io.Writer // everything else
}

// exitCode is what the process ends with. The values are stable. 0, 1 and 2 are
// the answers of "probe check", so nothing else ends with 1 or 2.
type exitCode int

const (
	exitOK          exitCode = 0 // also: fit to be a vantage point
	exitLimits      exitCode = 1 // fit with limits
	exitUnfit       exitCode = 2
	exitUsage       exitCode = 3   // a flag or an argument is wrong
	exitInterrupted exitCode = 130 // SIGINT, SIGTERM or SIGHUP, in the middle of probe connect

	exitFailure exitCode = 4 // our own failure, or the kernel refused what was asked for
)

// ending is how a command ends when it does not simply succeed.
type ending struct {
	code  exitCode
	err   error // nil when everything was said already
	hints []string
}

func (e *ending) Error() string { return fmt.Sprint(e.err) }
func (e *ending) Unwrap() error { return e.err }

// fail returns the ending of a command; each hint is a next step. That of a wrong
// flag or argument is the help of the command where nobody knew better.
func fail(code exitCode, err error, hints ...string) error {
	return &ending{code: code, err: err, hints: hints}
}

// conclude tells the user how a command ends and returns the code.
func (a *app) conclude(cmd *cobra.Command, err error) exitCode {
	if err == nil {
		return exitOK
	}
	end := &ending{code: exitFailure, err: err}
	errors.As(err, &end)
	if end.err != nil {
		a.say("error: %v", end.err)
	}
	if end.code == exitUsage && len(end.hints) == 0 {
		a.say("hint: %q shows how it is used", cmd.CommandPath()+" --help")
	}
	for _, h := range end.hints {
		a.say("hint: %s", h)
	}
	return end.code
}

// say writes one line to standard error.
func (a *app) say(format string, args ...any) {
	fmt.Fprintf(a.stderr, "probe: "+format+"\n", args...)
}

func (a *app) command() *cobra.Command {
	var example exampleFlags
	root := &cobra.Command{
		Use:   "probe",
		Short: "Look at TCP Fast Open from this machine",
		Example: `  probe check          # is this machine fit to be a vantage point?
  probe connect www.example.com
  probe listen 8080    # show what arrives`,
		Args:          noArguments,
		RunE:          func(cmd *cobra.Command, _ []string) error { return a.example(cmd, &example) },
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.PersistentPreRun = func(cmd *cobra.Command, _ []string) {
		if cmd.Name() == "run" {
			return // SIGHUP means something else to it
		}
		ctx, release := signal.NotifyContext(cmd.Context(), syscall.SIGHUP)
		context.AfterFunc(ctx, release)
		cmd.SetContext(ctx)
	}
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fail(exitUsage, settings.Plain(err), fmt.Sprintf("%q lists the flags", cmd.CommandPath()+" --help"))
	})
	example.add(root)
	root.AddCommand(a.connectCommand(), a.listenCommand(), a.checkCommand(), a.runCommand(), a.spoolCommand(), a.policyCommand(), a.versionCommand(), a.selfTestCommand())
	return root
}

func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if cmd.HasSubCommands() {
		return fail(exitUsage, fmt.Errorf("unknown command %q", args[0]), fmt.Sprintf("%q lists the commands", cmd.CommandPath()+" --help"))
	}
	return fail(exitUsage, fmt.Errorf("%s takes no argument, got %q", cmd.CommandPath(), args[0]))
}

func atMostOne(cmd *cobra.Command, args []string) error {
	if len(args) <= 1 {
		return nil
	}
	return fail(exitUsage, fmt.Errorf("%s takes one argument, got %d", cmd.CommandPath(), len(args)))
}
