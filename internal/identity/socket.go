package identity

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
)

// ListenSocket opens the operator's unix socket. Who can open it is the
// operator: it and its directory are closed to other users. What a dead
// controller left is removed; a live one is an error.
func ListenSocket(path string) (net.Listener, error) {
	dir := filepath.Dir(path)
	if err := makeDir(dir); err != nil {
		return nil, err
	}
	// Until its mode is set only the directory guards the socket.
	if info, err := os.Stat(dir); err != nil {
		return nil, err
	} else if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("directory %s has mode %04o: %w; the operator's socket needs one of its own: chmod 700 %s", dir, info.Mode().Perm(), ErrMode, dir)
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return socketListener{l}, nil
}

func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s is there and is no socket", path)
	}
	if c, err := net.Dial("unix", path); err == nil {
		return errors.Join(fmt.Errorf("%s: another controller answers there", path), c.Close())
	}
	return os.Remove(path)
}

type socketListener struct{ net.Listener }

// socketConn marks a connection as the operator's.
type socketConn struct{ net.Conn }

// Accept implements net.Listener.
func (l socketListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return socketConn{c}, nil
}
