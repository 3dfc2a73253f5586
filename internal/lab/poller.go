package lab

import (
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// poller waits for any of several file descriptors through the runtime's own
// poller: its epoll descriptor is itself registered there, so no thread stands
// in a system call while the lab is idle.
type poller struct {
	fd   int
	file *os.File
	raw  syscall.RawConn
	due  time.Time // the deadline set last
}

func newPoller() (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	// Only a non-blocking descriptor is given to the runtime's poller.
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	p := &poller{fd: fd, file: os.NewFile(uintptr(fd), "epoll")}
	if p.raw, err = p.file.SyscallConn(); err == nil {
		err = p.file.SetDeadline(time.Time{}) // fails if it is not in the poller
	}
	if err != nil {
		p.file.Close()
		return nil, err
	}
	return p, nil
}

func (p *poller) add(fd int, events uint32) error {
	var err error
	// Control keeps the descriptor open while it is used.
	closed := p.raw.Control(func(epoll uintptr) {
		err = unix.EpollCtl(int(epoll), unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)})
	})
	if closed != nil {
		return closed
	}
	return os.NewSyscallError("epoll_ctl", err)
}

// wait returns when ready says so; ready is asked after every wakeup. With a
// deadline it returns os.ErrDeadlineExceeded, after close os.ErrClosed.
func (p *poller) wait(deadline time.Time, ready func() bool) error {
	if !deadline.Equal(p.due) {
		if err := p.file.SetReadDeadline(deadline); err != nil {
			return err
		}
		p.due = deadline
	}
	return p.raw.Read(func(uintptr) bool { return ready() })
}

// events reads what is ready without waiting. Call it from within wait, which
// keeps the descriptor open.
func (p *poller) events(ev []unix.EpollEvent) int {
	n, err := unix.EpollWait(p.fd, ev, 0)
	if err != nil {
		return 0 // EINTR; anything else is a closed poller, which wait reports
	}
	return n
}

func (p *poller) close() error { return p.file.Close() }
