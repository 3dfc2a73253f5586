// Command controller runs surveys of TCP Fast Open and reads what they found.
//
// It holds flags and wiring only: every subcommand has a file of its own, what
// they share has a file named after it. What a survey does is in internal/;
// what ends the program, and with which code, is in exit.go.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"
)

func main() {
	// A survey of ten million targets is to fit into 200 MB. What lives is a
	// third of that; let the heap not grow to twice as much before it is looked
	// through. It costs nothing where there is little garbage.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
	// A reader that left ends nothing: not the survey whose progress it saw, nor
	// what else is in the middle of something. Writing fails, and says why.
	signal.Ignore(syscall.SIGPIPE)
	os.Exit(run(context.Background(), os.Args, os.Stdin, os.Stdout, os.Stderr))
}

// run is the program. The first interrupt asks for an orderly end, the second
// ends the process at once, as it would without us.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, release := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer release()
	context.AfterFunc(ctx, func() { time.AfterFunc(time.Second, release) })

	a := &app{stdin: stdin, stdout: stdout, term: newTerminal(stderr), program: programName(args[0])}
	cmd := a.command()
	cmd.SetArgs(args[1:])
	last, err := cmd.ExecuteContextC(ctx)
	return int(a.conclude(last, err))
}

// app is what the subcommands share.
type app struct {
	stdin   io.Reader
	stdout  io.Writer // results
	term    *terminal // everything else
	program string    // how it was called

	log      hclog.Logger
	logLevel string
	logJSON  bool
}

// programName is what people type to call the program.
func programName(arg0 string) string {
	if strings.Contains(arg0, "/go-build") {
		return "go run ./cmd/controller"
	}
	return quote(arg0)
}

// conclude tells the user how a command ends and returns the code.
func (a *app) conclude(cmd *cobra.Command, err error) exitCode {
	if err == nil || readerLeft(err) {
		return exitOK
	}
	var end *ending
	if !errors.As(err, &end) {
		end = fail(exitFailure, err)
	}
	if end.err != nil {
		word := "error"
		if end.code.complete() {
			word = "warning"
		}
		a.say(word, end.err.Error(), end.nextSteps(cmd)...)
	}
	return end.code
}

func (a *app) warn(text string, hints ...string) { a.say("warning", text, hints...) }

// say tells the user something: no capital at its start and no full stop at its
// end, then the next steps.
func (a *app) say(word, text string, hints ...string) {
	fmt.Fprintf(a.term, "controller: %s: %s\n", word, text)
	for _, h := range hints {
		fmt.Fprintf(a.term, "controller: hint: %s\n", h)
	}
}
