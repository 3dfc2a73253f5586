package tfo

import (
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// More calls that never block; see sys.go.

func bind(fd int, sa *sockaddr) syscall.Errno {
	_, _, e := unix.RawSyscall(unix.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(&sa.raw)), uintptr(sa.len))
	return e
}

func accept(fd int) (int, netip.AddrPort, syscall.Errno) {
	var raw unix.RawSockaddrAny
	n := uint32(unix.SizeofSockaddrAny)
	c, _, e := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(fd), uintptr(unsafe.Pointer(&raw)), uintptr(unsafe.Pointer(&n)),
		unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	if e != 0 {
		return -1, netip.AddrPort{}, e
	}
	port := func(p *uint16) uint16 { b := (*[2]byte)(unsafe.Pointer(p)); return uint16(b[0])<<8 | uint16(b[1]) }
	var peer netip.AddrPort
	switch raw.Addr.Family {
	case unix.AF_INET:
		p := (*unix.RawSockaddrInet4)(unsafe.Pointer(&raw))
		peer = netip.AddrPortFrom(netip.AddrFrom4(p.Addr), port(&p.Port))
	case unix.AF_INET6:
		p := (*unix.RawSockaddrInet6)(unsafe.Pointer(&raw))
		peer = netip.AddrPortFrom(netip.AddrFrom16(p.Addr).Unmap(), port(&p.Port))
	}
	return int(c), peer, 0
}

// shutdownWrite ends our direction: the kernel sends a FIN behind the data.
func shutdownWrite(fd int) { unix.RawSyscall(unix.SYS_SHUTDOWN, uintptr(fd), unix.SHUT_WR, 0) }

// resetClose closes with a reset: no FIN, no waiting, and a TFO child that is
// still pending leaves the queue.
func resetClose(fd int) {
	l := unix.Linger{Onoff: 1}
	unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_LINGER, uintptr(unsafe.Pointer(&l)), unsafe.Sizeof(l), 0)
	closeFD(fd)
}

// savedSYNMax is more than any SYN's headers: IPv6 with extension headers and
// 60 bytes of TCP.
const savedSYNMax = 512

// savedSYN reads the headers of the SYN, once: the kernel forgets them. Nil
// when it kept none.
func savedSYN(fd int, buf *[savedSYNMax]byte) []byte {
	n := uint32(len(buf))
	if e := getsockopt(fd, unix.IPPROTO_TCP, unix.TCP_SAVED_SYN, buf[:], &n); e != 0 || n == 0 {
		return nil
	}
	return buf[:n]
}
