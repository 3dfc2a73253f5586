package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// The buckets of the file. Numbers are big-endian, so that keys sort.
var (
	bucketState      = []byte("state")      // see the keys below
	bucketRuns       = []byte("runs")       // first sequence number -> run
	bucketLeases     = []byte("leases")     // lease -> its targets and the offer
	bucketMarks      = []byte("marks")      // lease -> which are started and settled
	bucketQueue      = []byte("queue")      // sequence number -> record
	bucketQuarantine = []byte("quarantine") // sequence number -> rejected record
	buckets          = [][]byte{bucketState, bucketRuns, bucketLeases, bucketMarks, bucketQueue, bucketQuarantine}
)

// format is the version of all of this.
const format = 1

var formatKey, counterKey, ballastKey = []byte("format"), []byte("counters"), []byte("ballast")

// lockWait is how long another process may take to let go of the file.
const lockWait = 100 * time.Millisecond

func options(readOnly bool) *bolt.Options {
	return &bolt.Options{
		Timeout: lockWait, ReadOnly: readOnly,
		// After a long absence the file is mostly free pages, and the list
		// of them would be written with every transaction.
		NoFreelistSync: true, FreelistType: bolt.FreelistMapType,
	}
}

// openFile opens the file, or creates it where there is none. A file that is
// there is read as a whole before anything is written to it.
func openFile(path string) (db *bolt.DB, created bool, err error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := create(path); err != nil {
			return nil, false, fmt.Errorf("create %s: %w", path, err)
		}
		created = true
	case err != nil:
		return nil, false, err
	case info.Size() == 0:
		// bbolt would take it for a new one. Ours are never empty: see create.
		return nil, false, &CorruptError{path, "it is empty"}
	}
	if err := readFile(path, func(tx *bolt.Tx) error { _, err := load(tx); return err }); err != nil {
		return nil, false, err
	}
	err = guard(path, func() error {
		db, err = bolt.Open(path, 0o600, options(false))
		return openError(path, err)
	})
	return db, created, err
}

// readFile runs f on a file that nobody writes.
func readFile(path string, f func(*bolt.Tx) error) error {
	return guard(path, func() error {
		db, err := bolt.Open(path, 0o600, options(true))
		if err != nil {
			return openError(path, err)
		}
		err = db.View(func(tx *bolt.Tx) error {
			if info, err := os.Stat(path); err != nil {
				return err
			} else if info.Size() < tx.Size() {
				return &CorruptError{path, fmt.Sprintf("it has %d bytes of %d", info.Size(), tx.Size())}
			}
			err := f(tx)
			var bad *badValue
			if errors.As(err, &bad) {
				return &CorruptError{path, bad.Error()}
			}
			return err
		})
		return errors.Join(err, db.Close())
	})
}

// create makes a file with its buckets and only then gives it its name, so that
// a half-made file is never met again.
func create(path string) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if err := f.Close(); err != nil {
		return err
	}
	db, err := bolt.Open(f.Name(), 0o600, options(false))
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range buckets {
			if _, err := tx.CreateBucket(name); err != nil {
				return err
			}
		}
		return tx.Bucket(bucketState).Put(formatKey, seal([]byte{format}))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func openError(path string, err error) error {
	var errno *fs.PathError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, berrors.ErrTimeout):
		return fmt.Errorf("%s: %w", path, ErrLocked)
	case errors.As(err, &errno):
		return err
	}
	return &CorruptError{path, err.Error()}
}

// badValue is a value that cannot be read.
type badValue struct {
	bucket, key []byte
	err         error
}

func (e *badValue) Error() string { return fmt.Sprintf("%s %x: %v", e.bucket, e.key, e.err) }

// guard runs what reads the file. bbolt maps the file into memory and panics
// where it is not what it wrote, or is not there any more.
func guard(path string, f func() error) (err error) {
	fault := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(fault)
		if r := recover(); r != nil {
			err = &CorruptError{path, fmt.Sprint(r)}
		}
	}()
	return f()
}
