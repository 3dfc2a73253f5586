package main

import (
	"bytes"
	"errors"
	"testing"

	"github.com/spf13/pflag"

	"tfofleet/internal/doctest"
)

// Every command that a document shows exists, with its flags and the number of
// its arguments.
func TestDocumentedCommands(t *testing.T) {
	for _, c := range doctest.Commands(t, "probe") {
		var out bytes.Buffer
		a := &app{stdout: &out, stderr: &out}
		root := a.command()
		root.InitDefaultCompletionCmd()
		cmd, rest, err := root.Find(c.Args)
		if err == nil {
			err = cmd.ParseFlags(rest)
		}
		if err == nil && !c.Mentioned {
			err = cmd.ValidateArgs(cmd.Flags().Args())
		}
		if err != nil && !errors.Is(err, pflag.ErrHelp) {
			t.Errorf("%s\n%v", c.Where, err)
		}
	}
}
