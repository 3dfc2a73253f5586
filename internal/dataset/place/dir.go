package place

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// tempPrefix starts the name of every unfinished file. Nothing else in a place
// starts with a dot.
const tempPrefix = ".tmp-"

// abandoned is the age from which an unfinished file has nobody who will finish
// it: a chunk takes a second, a list of targets some minutes.
const abandoned = time.Hour

// directory is a place in a file system.
type directory string

func (d directory) Path(name string) string {
	return filepath.Join(string(d), filepath.FromSlash(name))
}

// Prepare makes the directories durable, each in the one above it.
func (d directory) Prepare(dirs ...string) error {
	if err := makeDirs(filepath.Clean(string(d))); err != nil {
		return err
	}
	if err := removeTemps(string(d)); err != nil {
		return err
	}
	for _, sub := range dirs {
		if err := os.MkdirAll(d.Path(sub), 0o755); err != nil {
			return err
		}
		if err := removeTemps(d.Path(sub)); err != nil {
			return err
		}
	}
	return syncDir(string(d))
}

// makeDirs is os.MkdirAll for a path that a loss of power does not take away
// again.
func makeDirs(path string) error {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return nil
	}
	parent := filepath.Dir(path)
	if parent != path {
		if err := makeDirs(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(parent)
}

func (d directory) New(dir string) (File, error) {
	// There already, so that publishing it never crosses a file system.
	f, err := os.CreateTemp(d.Path(dir), tempPrefix+"*")
	if err != nil {
		return nil, err
	}
	return &file{File: f, dir: d.Path(dir)}, nil
}

// file is a file that does not exist under its name until it is published.
type file struct {
	*os.File
	dir       string
	published bool
}

// Finish makes the content durable under the temporary name.
func (f *file) Finish() error {
	// CreateTemp makes files for the owner alone; these are for reading.
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}

func (f *file) Replace(name string) error {
	if err := os.Rename(f.Name(), filepath.Join(f.dir, name)); err != nil {
		return err
	}
	f.published = true
	return syncDir(f.dir)
}

func (f *file) Create(name string) error {
	path := filepath.Join(f.dir, name)
	err := os.Link(f.Name(), path)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		// A file system without hard links (FAT, some network mounts): there
		// one process at a time may create a name.
		if _, statErr := os.Lstat(path); errors.Is(statErr, fs.ErrNotExist) {
			return f.Replace(name)
		}
	}
	if err != nil {
		return err
	}
	f.published = true
	if err := os.Remove(f.Name()); err != nil {
		return err
	}
	return syncDir(f.dir)
}

func (f *file) Discard() {
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
		if !strings.HasPrefix(e.Name(), tempPrefix) {
			continue
		}
		info, err := e.Info()
		if err == nil && time.Since(info.ModTime()) > abandoned {
			err = os.Remove(filepath.Join(dir, e.Name()))
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// source is an open file of a known size.
type source struct {
	*os.File
	size int64
}

func (s *source) Size() int64 { return s.size }

func (d directory) Open(name string) (Source, error) {
	f, err := os.Open(d.Path(name))
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	return &source{f, info.Size()}, nil
}

func (d directory) Load(name string, buf []byte) ([]byte, error) {
	s, err := d.Open(name)
	if err != nil {
		return buf, err
	}
	defer s.Close()
	buf = sized(buf, s.Size())
	_, err = io.ReadFull(s.(*source).File, buf)
	return buf, err
}

func (d directory) Tail(name string, n int64) ([]byte, int64, error) {
	s, err := d.Open(name)
	if err != nil {
		return nil, 0, err
	}
	defer s.Close()
	tail := make([]byte, min(n, s.Size()))
	_, err = s.ReadAt(tail, s.Size()-int64(len(tail)))
	return tail, s.Size(), err
}

// sized is buf with length n and any content.
func sized(buf []byte, n int64) []byte {
	if int64(cap(buf)) < n {
		return make([]byte, n)
	}
	return buf[:n]
}

func (d directory) Has(name string) (bool, error) {
	_, err := os.Lstat(d.Path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func (d directory) List(dir string) ([]Info, error) {
	var infos []Info
	err := d.each(dir, func(e fs.DirEntry) error {
		if e.IsDir() {
			return nil
		}
		info, err := e.Info()
		if err == nil {
			infos = append(infos, Info{e.Name(), info.Size(), info.ModTime()})
		}
		return err
	})
	return infos, err
}

func (d directory) Dirs() ([]string, error) {
	var names []string
	err := d.each("", func(e fs.DirEntry) error {
		if e.IsDir() {
			names = append(names, e.Name())
		}
		return nil
	})
	return names, err
}

// each calls f for what is in dir. What goes meanwhile is left out.
func (d directory) each(dir string, f func(fs.DirEntry) error) error {
	entries, err := os.ReadDir(d.Path(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if err := f(e); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (d directory) Ahead() int { return 0 }

func (d directory) Remove(name string) error {
	err := os.Remove(d.Path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (d directory) RemoveEmpty() error {
	entries, err := os.ReadDir(string(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), tempPrefix) {
			return nil
		}
	}
	return os.RemoveAll(string(d))
}

func (d directory) Copy(from Place, name string) (bool, error) {
	other, ok := from.(directory)
	if !ok {
		return false, nil
	}
	err := os.Link(other.Path(name), d.Path(name))
	switch {
	case err == nil:
		return true, syncDir(filepath.Dir(d.Path(name)))
	case errors.Is(err, fs.ErrExist):
		return true, nil
	case errors.Is(err, fs.ErrNotExist):
		return false, err
	}
	return false, nil // another file system, or one without links
}
