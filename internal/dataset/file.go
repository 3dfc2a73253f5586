package dataset

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// tempPrefix starts the name of every unfinished file. Nothing else in a
// dataset starts with a dot.
const tempPrefix = ".tmp-"

// file is a file that does not exist under its name until it is published.
type file struct {
	*os.File
	path      string
	published bool
}

// createTemp makes an unfinished file beside path, so that publishing it never
// crosses a file system.
func createTemp(path string) (*file, error) {
	f, err := os.CreateTemp(filepath.Dir(path), tempPrefix+"*")
	if err != nil {
		return nil, err
	}
	return &file{File: f, path: path}, nil
}

// finish makes the content durable under the temporary name.
func (f *file) finish() error {
	// CreateTemp makes files for the owner alone; a dataset is for reading.
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}

// replace publishes a finished file in place of what is there.
func (f *file) replace() error {
	if err := os.Rename(f.Name(), f.path); err != nil {
		return err
	}
	f.published = true
	return syncDir(filepath.Dir(f.path))
}

// create publishes a finished file. It fails with fs.ErrExist, and changes
// nothing, when the name is taken.
func (f *file) create() error {
	err := os.Link(f.Name(), f.path)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		// A file system without hard links (FAT, some network mounts). The
		// one writer of a dataset is the only one to create names in it.
		if _, statErr := os.Lstat(f.path); errors.Is(statErr, fs.ErrNotExist) {
			return f.replace()
		}
	}
	if err != nil {
		return err
	}
	f.published = true
	if err := os.Remove(f.Name()); err != nil {
		return err
	}
	return syncDir(filepath.Dir(f.path))
}

// discard drops an unfinished file; after publishing it does nothing.
func (f *file) discard() {
	if f.published {
		return
	}
	f.Close()
	os.Remove(f.Name())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// removeTemps removes what a crash left behind in dir.
func removeTemps(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), tempPrefix) {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}
