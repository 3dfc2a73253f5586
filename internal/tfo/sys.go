package tfo

import (
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls below never block (the sockets are non-blocking), so they go to
// the kernel without telling the Go scheduler: RawSyscall saves about 60 ns
// each, ten times per attempt. x/sys offers no raw form of them.

func getsockopt(fd, level, opt int, buf []byte, n *uint32) syscall.Errno {
	_, _, e := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(opt),
		uintptr(unsafe.Pointer(&buf[0])), uintptr(unsafe.Pointer(n)), 0)
	return e
}

func soError(fd int) syscall.Errno {
	var v int32
	n := uint32(4)
	_, _, e := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_ERROR,
		uintptr(unsafe.Pointer(&v)), uintptr(unsafe.Pointer(&n)), 0)
	if e != 0 {
		return e
	}
	return syscall.Errno(v)
}

func socketTCP(family int) (int, syscall.Errno) {
	fd, _, e := unix.RawSyscall(unix.SYS_SOCKET, uintptr(family),
		unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if e != 0 {
		return -1, e
	}
	return int(fd), 0
}

func closeFD(fd int) { unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

// sockaddr is a struct sockaddr_in or sockaddr_in6 as the kernel wants it.
type sockaddr struct {
	raw unix.RawSockaddrAny
	len uint32
}

func makeSockaddr(ap netip.AddrPort) (sa sockaddr, family int) {
	port := ap.Port()<<8 | ap.Port()>>8 // network byte order on a little-endian machine
	if !littleEndian {
		port = ap.Port()
	}
	if ap.Addr().Is4() {
		p := (*unix.RawSockaddrInet4)(unsafe.Pointer(&sa.raw))
		p.Family, p.Port, p.Addr = unix.AF_INET, port, ap.Addr().As4()
		sa.len = unix.SizeofSockaddrInet4
		return sa, unix.AF_INET
	}
	p := (*unix.RawSockaddrInet6)(unsafe.Pointer(&sa.raw))
	p.Family, p.Port, p.Addr = unix.AF_INET6, port, ap.Addr().As16()
	sa.len = unix.SizeofSockaddrInet6
	return sa, unix.AF_INET6
}

// clearPort makes the address one for a raw socket.
func (sa *sockaddr) clearPort() {
	(*unix.RawSockaddrInet4)(unsafe.Pointer(&sa.raw)).Port = 0 // the same place in both families
}

var littleEndian = func() bool { x := uint16(1); return *(*byte)(unsafe.Pointer(&x)) == 1 }()

func connect(fd int, sa *sockaddr) syscall.Errno {
	_, _, e := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&sa.raw)), uintptr(sa.len))
	return e
}

// sendFastOpen is sendto(MSG_FASTOPEN): the number it returns is what the
// kernel put into the SYN. EINPROGRESS means a SYN without data.
func sendFastOpen(fd int, payload []byte, sa *sockaddr) (int, syscall.Errno) {
	n, _, e := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(payload))), uintptr(len(payload)),
		unix.MSG_FASTOPEN|unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT, uintptr(unsafe.Pointer(&sa.raw)), uintptr(sa.len))
	if e != 0 {
		return 0, e
	}
	return int(n), 0
}

// setNoCookie lets the SYN carry data without a cookie (71c02379c762, Linux 4.15).
func setNoCookie(fd int) syscall.Errno {
	on := int32(1)
	_, _, e := unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.IPPROTO_TCP, unix.TCP_FASTOPEN_NO_COOKIE, uintptr(unsafe.Pointer(&on)), 4, 0)
	return e
}

func send(fd int, payload []byte) (int, syscall.Errno) {
	n, _, e := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(payload))), uintptr(len(payload)),
		unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT, 0, 0)
	if e != 0 {
		return 0, e
	}
	return int(n), 0
}

func recv(fd int, buf []byte) (int, syscall.Errno) {
	n, _, e := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)), unix.MSG_DONTWAIT, 0, 0)
	if e != 0 {
		return 0, e
	}
	return int(n), 0
}

func localAddr(fd int) netip.AddrPort {
	var raw unix.RawSockaddrAny
	n := uint32(unix.SizeofSockaddrAny)
	if _, _, e := unix.RawSyscall(unix.SYS_GETSOCKNAME, uintptr(fd), uintptr(unsafe.Pointer(&raw)), uintptr(unsafe.Pointer(&n))); e != 0 {
		return netip.AddrPort{}
	}
	swap := func(p uint16) uint16 {
		if littleEndian {
			return p<<8 | p>>8
		}
		return p
	}
	switch raw.Addr.Family {
	case unix.AF_INET:
		p := (*unix.RawSockaddrInet4)(unsafe.Pointer(&raw))
		return netip.AddrPortFrom(netip.AddrFrom4(p.Addr), swap(p.Port))
	case unix.AF_INET6:
		p := (*unix.RawSockaddrInet6)(unsafe.Pointer(&raw))
		return netip.AddrPortFrom(netip.AddrFrom16(p.Addr), swap(p.Port))
	}
	return netip.AddrPort{}
}

// errnoName is the symbolic name of an errno, such as "ECONNREFUSED".
func errnoName(e syscall.Errno) string {
	switch e {
	case 0:
		return ""
	case unix.EOPNOTSUPP:
		return "EOPNOTSUPP" // one number, two names; sockets know it by this one
	}
	if name := unix.ErrnoName(e); name != "" {
		return name
	}
	return e.Error()
}

func epollAdd(epfd, fd int, ev *unix.EpollEvent) syscall.Errno {
	_, _, e := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(epfd), unix.EPOLL_CTL_ADD, uintptr(fd), uintptr(unsafe.Pointer(ev)), 0, 0)
	return e
}
