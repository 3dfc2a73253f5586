package identity

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Files with keys. They are complete or absent, durable before anybody relies
// on them, and nobody else's to read or to exchange.

// ErrMode: a file with keys, or its directory, is open to other users.
var ErrMode = errors.New("open to other users")

// maxFile is far above what any of our files needs.
const maxFile = 1 << 20

// readPrivate reads a file with keys. It is fs.ErrNotExist when there is none.
func readPrivate(path string) ([]byte, error) {
	if err := checkDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat() // of what was opened, not of what is there now
	if err != nil {
		return nil, err
	}
	switch {
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a file", path)
	case info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("%s holds keys and has mode %04o: %w; if nobody else can have read it: chmod 600 %s", path, info.Mode().Perm(), ErrMode, path)
	case info.Size() > maxFile:
		return nil, fmt.Errorf("%s has %d bytes, it cannot be ours", path, info.Size())
	}
	return io.ReadAll(io.LimitReader(f, maxFile))
}

// checkDir refuses a directory where others could exchange the files. It is no
// error when there is none.
func checkDir(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is not a directory", dir)
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("directory %s has mode %04o: %w; chmod go-w %s", dir, info.Mode().Perm(), ErrMode, dir)
	}
	return nil
}

// createPrivate writes a file that must not be there: fs.ErrExist when it is,
// also when another process was faster.
func createPrivate(path string, data []byte) error { return writePrivate(path, data, os.Link) }

// replacePrivate writes a file over the one that may be there.
func replacePrivate(path string, data []byte) error { return writePrivate(path, data, os.Rename) }

// writePrivate puts the data into a file beside path, makes it durable, and
// then gives it its name.
func writePrivate(path string, data []byte, place func(from, to string) error) (err error) {
	dir := filepath.Dir(path)
	if err := makeDir(dir); err != nil {
		return err
	}
	if err := checkDir(dir); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already when it was renamed
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := place(f.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

// makeDir makes the directory and what is missing above it, durably: a file is
// not durable in a directory that is not.
func makeDir(dir string) error {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(dir)
	if err := makeDir(parent); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(parent)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
