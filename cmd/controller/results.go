package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// results has f write to standard output, and tells what goes wrong there from
// a damaged dataset. A reader that goes away, as "head" does, has what it wants.
// That it went is an error of writing to f, which takes away what f made for the
// time being: that can be as large as a dataset.
func (a *app) results(f func(w io.Writer) error) error {
	out := &outlet{w: a.stdout}
	err := f(out)
	switch {
	case errors.Is(out.err, syscall.EPIPE):
		return nil
	case errors.Is(out.err, syscall.ENOSPC):
		return fail(exitDiskFull, reason(out.err), "make room where the results go")
	case out.err != nil:
		return out.err
	}
	return err
}

// outlet remembers the first error of writing.
type outlet struct {
	w   io.Writer
	err error
}

func (o *outlet) Write(b []byte) (int, error) {
	n, err := o.w.Write(b)
	if err != nil && o.err == nil {
		o.err = err
	}
	return n, err
}

// noRoom is the ending for a report that has no room for what it sorts.
func noRoom() error {
	return fail(exitDiskFull, fmt.Errorf("no space left in %s", os.TempDir()), "several datasets are sorted in files there: make room, or name a directory on another disk in TMPDIR")
}
