package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// lockDir holds one file per lab. Its owner holds a lock (flock) on it for as
// long as it lives; the kernel lets go when the process dies, however it dies.
const lockDir = "/run/tfolab"

const namePrefix = "tfolab-"

var labCount atomic.Int64

// lock is the right to a lab name.
type lock struct {
	name string
	file *os.File
}

// newLock takes a name that no lab has.
func newLock() (*lock, error) {
	if err := os.MkdirAll(lockDir, 0o755); err != nil {
		return nil, err
	}
	for range 1000 {
		name := fmt.Sprintf("%s%d-%d", namePrefix, os.Getpid(), labCount.Add(1))
		l, err := takeLock(name)
		if l != nil || err != nil {
			return l, err
		}
	}
	return nil, fmt.Errorf("no free lab name in %s", lockDir)
}

// takeLock locks a name; nil without error means that another process holds it.
func takeLock(name string) (*lock, error) {
	path := filepath.Join(lockDir, name)
	for {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return nil, err
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			f.Close()
			if err == unix.EWOULDBLOCK {
				return nil, nil
			}
			return nil, &os.PathError{Op: "flock", Path: path, Err: err}
		}
		// The file may have been removed between open and flock: then the lock
		// is on a file that nobody else will find.
		mine, err1 := f.Stat()
		there, err2 := os.Stat(path)
		if err1 == nil && err2 == nil && os.SameFile(mine, there) {
			return &lock{name: name, file: f}, nil
		}
		f.Close()
		if err2 != nil && !errors.Is(err2, os.ErrNotExist) {
			return nil, err2
		}
	}
}

// release gives the name back.
func (l *lock) release() error {
	err := os.Remove(l.file.Name())
	l.file.Close()
	return err
}

// labOf cuts the role from the name of a lab's namespace:
// tfolab-<pid>-<n>-<role>.
func labOf(namespace string) (lab string, ok bool) {
	i := strings.LastIndexByte(namespace, '-')
	if i < 0 || !strings.HasPrefix(namespace, namePrefix) || strings.Count(namespace, "-") != 3 {
		return "", false
	}
	return namespace[:i], true
}
