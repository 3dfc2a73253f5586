package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// netnsDir is where iproute2 looks for names of network namespaces.
const netnsDir = "/run/netns"

// namespace is a named network namespace of the lab.
type namespace struct {
	path string
	fd   int
}

// newNamespace makes a network namespace and binds it to a name in netnsDir.
func newNamespace(name string) (*namespace, error) {
	if err := os.MkdirAll(netnsDir, 0o755); err != nil {
		return nil, err
	}
	ns := &namespace{path: filepath.Join(netnsDir, name), fd: -1}
	f, err := os.OpenFile(ns.path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444)
	if err != nil {
		return nil, err
	}
	f.Close()
	err = onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return os.NewSyscallError("unshare", err)
		}
		self := fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid())
		if err := unix.Mount(self, ns.path, "", unix.MS_BIND, ""); err != nil {
			return os.NewSyscallError("mount", err)
		}
		ns.fd, err = unix.Open(self, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		return os.NewSyscallError("open", err)
	})
	if err != nil {
		removeNamespace(ns.path)
		return nil, fmt.Errorf("make network namespace %s: %w", name, err)
	}
	return ns, nil
}

// do runs f on a thread inside the namespace. Sockets made there stay there.
func (ns *namespace) do(f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(ns.fd, unix.CLONE_NEWNET); err != nil {
			return os.NewSyscallError("setns", err)
		}
		return f()
	})
}

func (ns *namespace) close() error {
	if ns.fd >= 0 {
		unix.Close(ns.fd)
		ns.fd = -1
	}
	return removeNamespace(ns.path)
}

// removeNamespace takes a name away; the kernel frees the namespace, and the
// veth pairs in it, when its last socket and thread are gone.
func removeNamespace(path string) error {
	// EINVAL: nothing is mounted there, a crash came between file and mount.
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && err != unix.EINVAL && err != unix.ENOENT {
		return &os.PathError{Op: "unmount", Path: path, Err: err}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// In runs f on a thread of its own inside the network namespace at path, such
// as [Lab.ClientNetNS]. What f opens there stays there; goroutines that f
// starts do not.
func In(path string, f func() error) error {
	return onThread(func() error {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return &os.PathError{Op: "open", Path: path, Err: err}
		}
		defer unix.Close(fd)
		if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
			return os.NewSyscallError("setns", err)
		}
		return f()
	})
}

// onThread runs f on a thread that no other goroutine has used or will use: it
// is never unlocked, so the runtime ends the thread, changed namespace and
// all, with the goroutine.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		ok := false
		defer func() {
			if !ok { // f panicked, or left by runtime.Goexit (t.FailNow)
				done <- errors.New("lab: function on a locked thread did not return")
			}
		}()
		err := f()
		ok = true
		done <- err
	}()
	return <-done
}

// setSysctl writes a value below /proc/sys/net, which shows the network
// namespace of the calling thread. Only call it inside a lab namespace.
func setSysctl(name, value string) error {
	return os.WriteFile("/proc/sys/net/"+name, []byte(value), 0)
}
