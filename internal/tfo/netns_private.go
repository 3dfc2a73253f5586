package tfo

import (
	"fmt"
	"io"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// NewNetNS makes a network namespace with nothing in it but a loopback
// interface that is up, and both bits of Fast Open set. It ends when closed
// and its last socket is gone. It needs CAP_SYS_ADMIN.
func NewNetNS() (NetNS, io.Closer, error) {
	type result struct {
		f   *os.File
		err error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		f, err := func() (*os.File, error) {
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				return nil, os.NewSyscallError("unshare", err)
			}
			if err := furnishNetNS(); err != nil {
				return nil, err
			}
			return os.Open("/proc/thread-self/ns/net")
		}()
		done <- result{f, err}
	}()
	r := <-done
	if r.err != nil {
		return "", nil, fmt.Errorf("make a network namespace: %w", r.err)
	}
	return NetNS(fmt.Sprintf("/proc/self/fd/%d", r.f.Fd())), r.f, nil
}

// furnishNetNS makes the calling thread's fresh namespace usable.
func furnishNetNS() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr); err != nil {
		return os.NewSyscallError("ioctl SIOCSIFFLAGS", err)
	}
	return os.WriteFile("/proc/sys/net/ipv4/tcp_fastopen", fmt.Append(nil, SysctlClient|SysctlServer), 0)
}
