package lab_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"
	"time"
	"unsafe"

	"github.com/mdlayher/genetlink"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// The client of these tests is written on bare system calls: the lab must not
// be judged by the engine that is judged by the lab.

var request = []byte("HEAD / HTTP/1.1\r\nHost: lab.example\r\nUser-Agent: lab\r\n\r\n")

// outcome is what one connection showed, in one line; see connect.
type outcome string

// client makes connections on a thread inside the client's namespace.
type client struct {
	metrics *genetlink.Conn
	family  uint16
	patient time.Duration // for a handshake
	listen  time.Duration // for an answer
}

func newClient() (*client, error) {
	c, err := genetlink.Dial(nil)
	if err != nil {
		return nil, err
	}
	f, err := c.GetFamily("tcp_metrics")
	if err != nil {
		return nil, err
	}
	return &client{metrics: c, family: f.ID, patient: 1900 * time.Millisecond, listen: time.Second}, nil
}

func (c *client) close() { c.metrics.Close() }

// cookie reads the kernel's cookie for an address.
func (c *client) cookie(a netip.Addr) []byte {
	attr := netlink.Attribute{Type: 1, Data: a.AsSlice()} // TCP_METRICS_ATTR_ADDR_IPV4
	if a.Is6() {
		attr.Type = 2
	}
	data, err := netlink.MarshalAttributes([]netlink.Attribute{attr})
	if err != nil {
		panic(err)
	}
	msgs, err := c.metrics.Execute(genetlink.Message{Header: genetlink.Header{Command: 1, Version: 1}, Data: data}, c.family, netlink.Request)
	if err != nil {
		return nil // ESRCH: the kernel knows nothing of it
	}
	for _, m := range msgs {
		attrs, err := netlink.UnmarshalAttributes(m.Data)
		if err != nil {
			panic(err)
		}
		for _, a := range attrs {
			if a.Type&^netlink.Nested == 10 { // TCP_METRICS_ATTR_FOPEN_COOKIE
				return a.Data
			}
		}
	}
	return nil
}

func sockaddr(to netip.AddrPort) (int, unix.Sockaddr) {
	if to.Addr().Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
}

// connect makes one connection, with TFO or without, sends the request and
// waits for an answer. The outcome is a line such as
//
//	syn ok answer            data in the SYN, all acked, a response
//	syn 20 fail 2 answer     20 bytes acked, client_fail 2
//	request 8 answer         a cookie request, and a cookie of 8 bytes is there now
//	request none rto 1 answer
//	plain silent, plain closed, plain ECONNREFUSED, plain timeout
//
// where the cookie that was there has changed, "new cookie" stands behind.
func (c *client) connect(to netip.AddrPort, fastOpen bool, payload []byte) outcome {
	domain, addr := sockaddr(to)
	fd, err := unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		panic(err)
	}
	defer unix.Close(fd)
	before := c.cookie(to.Addr())
	var b bytes.Buffer
	sent := 0
	if fastOpen {
		sent, err = unix.SendmsgN(fd, payload, nil, addr, unix.MSG_FASTOPEN|unix.MSG_NOSIGNAL)
	} else {
		err = unix.Connect(fd, addr)
	}
	if err != nil && err != unix.EINPROGRESS {
		panic(fmt.Sprintf("%s: %v", to, err))
	}
	sent = max(sent, 0)
	switch {
	case sent > 0:
		b.WriteString("syn")
	case fastOpen:
		b.WriteString("request")
	default:
		b.WriteString("plain")
	}
	// Not writable in SYN_SENT, with data in the SYN or without (tcp_poll).
	if !wait(fd, unix.POLLOUT, time.Now().Add(c.patient)) {
		b.WriteString(" timeout")
		return outcome(b.String())
	}
	if errno, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR); errno != 0 {
		fmt.Fprintf(&b, " %s", unix.ErrnoName(unix.Errno(errno)))
		return outcome(b.String())
	}
	info, raw := tcpInfo(fd)
	after := c.cookie(to.Addr())
	fail := raw[7] >> 1 & 3
	switch {
	case sent > 0:
		// On a busy machine this is read late, when the data has already been
		// sent a third time.
		acked := sent - min(sent, int(info.Bytes_retrans))
		if acked == sent {
			b.WriteString(" ok")
		} else {
			fmt.Fprintf(&b, " %d", acked)
		}
		if (acked == sent) != (raw[5]&32 != 0) {
			b.WriteString(" and TCPI_OPT_SYN_DATA disagrees")
		}
		if fail != 0 {
			fmt.Fprintf(&b, " fail %d", fail)
		}
	case fastOpen && len(after) == 0:
		b.WriteString(" none")
	case fastOpen:
		fmt.Fprintf(&b, " %d", len(after))
	}
	if info.Total_rto > 0 && fail != 2 { // 2: the SYN did not time out, data may have since
		fmt.Fprintf(&b, " rto %d", info.Total_rto)
	}
	if sent < len(payload) {
		if _, err := unix.Write(fd, payload[sent:]); err != nil {
			fmt.Fprintf(&b, " %s", unix.ErrnoName(err.(unix.Errno)))
			return outcome(b.String())
		}
	}
	b.WriteString(" " + readAnswer(fd, time.Now().Add(c.listen)))
	if len(before) > 0 && !bytes.Equal(before, after) {
		b.WriteString(" new cookie")
	}
	return outcome(b.String())
}

func readAnswer(fd int, deadline time.Time) string {
	if !wait(fd, unix.POLLIN, deadline) {
		return "silent"
	}
	buf := make([]byte, 4096)
	n, err := unix.Read(fd, buf)
	switch {
	case err != nil:
		return unix.ErrnoName(err.(unix.Errno))
	case n == 0:
		return "closed"
	}
	return "answer"
}

func wait(fd int, events int16, deadline time.Time) bool {
	for {
		left := time.Until(deadline)
		if left < 0 {
			return false
		}
		p := []unix.PollFd{{Fd: int32(fd), Events: events}}
		n, err := unix.Poll(p, int(left.Milliseconds())+1)
		if err == unix.EINTR {
			continue
		}
		return n > 0
	}
}

// tcpInfo returns TCP_INFO, and its bytes for what the struct leaves out.
func tcpInfo(fd int) (*unix.TCPInfo, []byte) {
	raw := make([]byte, unsafe.Sizeof(unix.TCPInfo{}))
	n := uint32(len(raw))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.IPPROTO_TCP, unix.TCP_INFO,
		uintptr(unsafe.Pointer(&raw[0])), uintptr(unsafe.Pointer(&n)), 0)
	if errno != 0 {
		panic(errno)
	}
	return (*unix.TCPInfo)(unsafe.Pointer(&raw[0])), raw
}

// savedSYN reads the SYN of an accepted connection: IP and TCP header.
func savedSYN(fd int) []byte {
	b := make([]byte, 256)
	n := uint32(len(b))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.IPPROTO_TCP, unix.TCP_SAVED_SYN,
		uintptr(unsafe.Pointer(&b[0])), uintptr(unsafe.Pointer(&n)), 0)
	if errno != 0 {
		panic(errno)
	}
	return b[:n]
}

// waitUntil waits for something that another process or the kernel does.
func waitUntil(t testing.TB, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited in vain")
		}
	}
}
