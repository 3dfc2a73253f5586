package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/spf13/cobra"

	"tfofleet/internal/store"
)

// exitCode is what the process ends with. The values are stable: README.md
// lists them, and a test holds the two together.
type exitCode int

const (
	exitOK           exitCode = 0
	exitFailure      exitCode = 1   // our own failure, or a lab path with another verdict than its truth
	exitUsage        exitCode = 2   // a flag or an argument is wrong
	exitEmptyList    exitCode = 3   // the list holds no target
	exitOnlyBadLines exitCode = 4   // no line of the list can be used
	exitUnreadable   exitCode = 5   // a file given as input cannot be read
	exitBadLine      exitCode = 6   // --strict, and a line is bad
	exitOutExists    exitCode = 7   // --out names something that exists
	exitCannotWrite  exitCode = 8   // the dataset cannot be written where it should be
	exitDiskFull     exitCode = 9   // the disk is full
	exitNoDataset    exitCode = 10  // the directory is not a dataset
	exitNoFastOpen   exitCode = 11  // the kernel's TCP Fast Open client is switched off
	exitPrivileges   exitCode = 12  // the lab, or a network namespace, needs privileges that are missing
	exitUnresolved   exitCode = 13  // not one name of the list could be resolved
	exitNoRoute      exitCode = 14  // this machine has no route to any target
	exitAllRefused   exitCode = 15  // the probe's policy refused every target
	exitBlackhole    exitCode = 16  // complete, with limits: the kernel may have switched Fast Open off by itself
	exitStaleCookies exitCode = 17  // complete, with limits: old cookies could not be deleted
	exitInterrupted  exitCode = 130 // SIGINT or SIGTERM
)

// complete reports whether the survey was made all the same.
func (c exitCode) complete() bool { return c == exitBlackhole || c == exitStaleCookies }

// ending is how a command ends when it does not simply succeed.
type ending struct {
	code    exitCode
	err     error // nil when everything was said already
	hints   []string
	unknown bool // the controller knows nothing of that name
}

func (e *ending) Error() string { return fmt.Sprint(e.err) }
func (e *ending) Unwrap() error { return e.err }

// fail returns the ending of a command; each hint is a next step, and one of a
// wrong flag or argument is given by nextSteps. An err that is an ending already
// stays as it is: who knew more spoke first.
func fail(code exitCode, err error, hints ...string) *ending {
	var e *ending
	if errors.As(err, &e) {
		return e
	}
	return &ending{code: code, err: err, hints: hints}
}

// nextSteps is the hints of the ending of cmd: where nobody knew better, its help,
// or the list that has the name.
func (e *ending) nextSteps(cmd *cobra.Command) []string {
	switch {
	case len(e.hints) > 0:
		return e.hints
	case e.unknown:
		lists := "controller surveys list"
		if l, _, err := cmd.Parent().Find([]string{"list"}); err == nil && l != cmd.Parent() {
			lists = l.CommandPath()
		}
		return []string{fmt.Sprintf("%q tells what there is; --controller names another controller", lists)}
	case e.code == exitUsage:
		return []string{fmt.Sprintf("%q shows how it is used", cmd.CommandPath()+" --help")}
	}
	return nil
}

// readerLeft reports whether err is that nobody reads standard output any more.
func readerLeft(err error) bool {
	var p *fs.PathError
	return errors.As(err, &p) && p.Path == os.Stdout.Name() && errors.Is(p, syscall.EPIPE)
}

// unreadable is the ending for an input file that cannot be read.
func unreadable(err error, hints ...string) *ending {
	if len(hints) == 0 {
		hints = []string{"check that the file is whole"}
	}
	return fail(exitUnreadable, reason(err), hints...)
}

// unwritable is the ending for a dataset that cannot be written.
func unwritable(dir string, err error) *ending {
	if errors.Is(err, store.ErrFull) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return diskFull(dir)
	}
	return fail(exitCannotWrite, reason(err), "name a directory that can be written with --out DIR")
}

func diskFull(dir string) *ending {
	return fail(exitDiskFull, fmt.Errorf("no space left for %s", dir), "make room, or name a directory on another disk with --out DIR")
}

// reason drops the system call from an error of a path: people know what they
// asked for.
func reason(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return fmt.Errorf("%s: %w", p.Path, p.Err)
	}
	return err
}
