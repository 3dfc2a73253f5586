package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

var (
	// ErrFull: the spool is at its limit. Leases are to be refused, targets
	// not to be started, until records were acknowledged.
	ErrFull = errors.New("the spool is full")
	// ErrLocked: another process has the file open.
	ErrLocked = errors.New("the spool is in use by another process")
	// ErrClosed: Close was called.
	ErrClosed = errors.New("the spool is closed")
	// ErrUnknownLease: the lease was never accepted, or is over.
	ErrUnknownLease = errors.New("the lease is not in the journal")
	// ErrStarted: a target was started before. It is not to be run again.
	ErrStarted = errors.New("the target was started before")
	// ErrNewer: the file is of a later version of the probe.
	ErrNewer = errors.New("the spool was written by a newer probe")
	// ErrTooLarge: a record or lease no controller could be sent.
	ErrTooLarge = errors.New("larger than a message may be")
)

// CorruptError: the file is not what was written. It is never repaired nor
// replaced by itself, because what it holds may exist nowhere else.
type CorruptError struct {
	Path   string
	Reason string
}

func (e *CorruptError) Error() string { return fmt.Sprintf("%s is corrupt: %s", e.Path, e.Reason) }

// Hint says what the operator can do.
func (e *CorruptError) Hint() string {
	return fmt.Sprintf("check the disk, then move %s away and start again; the controller counts what was in it as interrupted", e.Path)
}

// DiskError: the file could not be written. Err has the reason, such as
// syscall.ENOSPC.
type DiskError struct {
	// Final: what is on the disk is not known any more, so no further
	// attempt is made. Otherwise the file is as it was before.
	Final bool
	Err   error
}

func (e *DiskError) Error() string {
	if e.Final {
		return fmt.Sprintf("the spool cannot be trusted until the probe is started again: %v", e.Err)
	}
	return fmt.Sprintf("the spool cannot be written: %v", e.Err)
}

func (e *DiskError) Unwrap() error { return e.Err }

// diskError sorts an error of a commit. A write that fails leaves the last
// transaction in force: the pages it reached were free, a torn meta page is
// told by its checksum. After a failed sync the kernel takes the lost pages for
// clean, and what a later sync says is worth nothing (as PostgreSQL learned in
// 2018).
func diskError(err error) *DiskError {
	var path *fs.PathError
	wrote := errors.As(err, &path) && path.Op == "write"
	// bbolt formats this one with %s.
	resized := strings.HasPrefix(err.Error(), "file resize error")
	return &DiskError{Final: !wrote && !resized, Err: err}
}
