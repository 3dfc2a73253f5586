package tfo

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"unsafe"

	"github.com/mdlayher/genetlink"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Commands and attributes of the generic netlink family "tcp_metrics"
// (include/uapi/linux/tcp_metrics.h; x/sys has no names for them).
const (
	metricsFamily  = "tcp_metrics"
	metricsVersion = 1
	metricsCmdGet  = 1
	metricsCmdDel  = 2

	metricsAttrAddrIPv4   = 1
	metricsAttrAddrIPv6   = 2
	metricsAttrFopenDrops = 8
	metricsAttrCookie     = 10
	metricsAttrSaddrIPv4  = 11
	metricsAttrSaddrIPv6  = 12
)

// MetricsEntry is what the kernel holds for one (source, destination) pair.
type MetricsEntry struct {
	Cookie   Cookie
	SynDrops int // TFO SYNs lost in a row (fo_syn_drops)
}

// Metrics reads and empties the cookie cache over generic netlink. Reading
// needs no privilege; deleting needs CAP_NET_ADMIN in the initial user
// namespace (GENL_ADMIN_PERM). It is not safe for concurrent use.
//
// The kernel handles a request inside the send call, so an answer is there
// when send returns and nothing here ever waits.
type Metrics struct {
	fd  int
	seq uint32
	get [2]request // by family: v4, v6; source unset
	src [2]request // the same with the source set
	del [2]request
	buf [4096]byte
}

// request is a marshalled netlink message whose addresses are filled in place.
type request struct {
	b          []byte
	daddr, src int // offsets of the address bytes; src 0 when there is none
}

// OpenMetrics opens the cookie cache of the calling thread's network namespace.
func OpenMetrics() (*Metrics, error) {
	c, err := genetlink.Dial(nil)
	if err != nil {
		return nil, fmt.Errorf("generic netlink: %w", err)
	}
	fam, err := c.GetFamily(metricsFamily)
	c.Close()
	if err != nil {
		return nil, fmt.Errorf("generic netlink family %s: %w", metricsFamily, err)
	}
	m := &Metrics{}
	for v := range 2 {
		for _, t := range []struct {
			r   *request
			cmd uint8
			src bool
		}{{&m.get[v], metricsCmdGet, false}, {&m.src[v], metricsCmdGet, true}, {&m.del[v], metricsCmdDel, false}} {
			if *t.r, err = makeRequest(fam.ID, t.cmd, v == 1, t.src); err != nil {
				return nil, err
			}
		}
	}
	m.fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_GENERIC)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := unix.Bind(m.fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		unix.Close(m.fd)
		return nil, os.NewSyscallError("bind", err)
	}
	return m, nil
}

// Close releases the netlink socket.
func (m *Metrics) Close() error { return unix.Close(m.fd) }

func makeRequest(family uint16, cmd uint8, v6, withSource bool) (request, error) {
	// Marker bytes show where the encoder put the addresses.
	dst, src := netip.MustParseAddr("1.2.3.4").AsSlice(), netip.MustParseAddr("5.6.7.8").AsSlice()
	dAttr, sAttr := uint16(metricsAttrAddrIPv4), uint16(metricsAttrSaddrIPv4)
	if v6 {
		dst, src = netip.MustParseAddr("1111::2222").AsSlice(), netip.MustParseAddr("3333::4444").AsSlice()
		dAttr, sAttr = metricsAttrAddrIPv6, metricsAttrSaddrIPv6
	}
	enc := netlink.NewAttributeEncoder()
	enc.Bytes(dAttr, dst)
	if withSource {
		enc.Bytes(sAttr, src)
	}
	attrs, err := enc.Encode()
	if err != nil {
		return request{}, err
	}
	flags := netlink.Request
	if cmd == metricsCmdDel {
		flags |= netlink.Acknowledge
	}
	body := append([]byte{cmd, metricsVersion, 0, 0}, attrs...)
	b, err := netlink.Message{
		Header: netlink.Header{Length: uint32(unix.NLMSG_HDRLEN + len(body)), Type: netlink.HeaderType(family), Flags: flags},
		Data:   body,
	}.MarshalBinary()
	if err != nil {
		return request{}, err
	}
	const first = unix.NLMSG_HDRLEN + 4 + unix.NLA_HDRLEN
	r := request{b: b, daddr: first}
	if withSource {
		r.src = first + len(dst) + unix.NLA_HDRLEN
	}
	return r, nil
}

// Get reads the entry of (src, dst). A zero src takes the first entry of dst
// whatever its source. No entry is not an error: the cookie's state is then
// CookieNone.
func (m *Metrics) Get(src, dst netip.Addr) (MetricsEntry, error) {
	e := MetricsEntry{Cookie: Cookie{State: CookieNone}}
	r := &m.get[fam(dst)]
	if src.IsValid() {
		r = &m.src[fam(dst)]
	}
	reply, err := m.do(r, src, dst)
	if errors.Is(err, unix.ESRCH) {
		return e, nil
	}
	if err != nil {
		return MetricsEntry{}, os.NewSyscallError("tcp_metrics get", err)
	}
	return parseEntry(reply)
}

// parseEntry decodes the body of a TCP_METRICS_CMD_GET reply, genetlink header
// included.
func parseEntry(reply []byte) (MetricsEntry, error) {
	e := MetricsEntry{Cookie: Cookie{State: CookieNone}}
	if len(reply) < 4 {
		return MetricsEntry{}, fmt.Errorf("tcp_metrics get: short reply of %d bytes", len(reply))
	}
	ad, err := netlink.NewAttributeDecoder(reply[4:])
	if err != nil {
		return MetricsEntry{}, fmt.Errorf("tcp_metrics get: %w", err)
	}
	for ad.Next() {
		switch ad.Type() {
		case metricsAttrCookie:
			e.Cookie = Cookie{State: CookiePresent, Bytes: ad.Bytes()}
		case metricsAttrFopenDrops:
			e.SynDrops = int(ad.Uint16())
		}
	}
	if err := ad.Err(); err != nil {
		return MetricsEntry{}, fmt.Errorf("tcp_metrics get: %w", err)
	}
	return e, nil
}

// Delete removes every entry of dst, whatever its source. Deleting what is not
// there succeeds. Without the privilege the error is EPERM.
func (m *Metrics) Delete(dst netip.Addr) error {
	_, err := m.do(&m.del[fam(dst)], netip.Addr{}, dst)
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return os.NewSyscallError("tcp_metrics delete", err)
	}
	return nil
}

func fam(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

// do sends one request and returns the body of its answer; nil for a bare
// acknowledgement.
func (m *Metrics) do(r *request, src, dst netip.Addr) ([]byte, error) {
	put := func(off int, a netip.Addr) {
		if a.Is4() {
			b := a.As4()
			copy(r.b[off:], b[:])
		} else {
			b := a.As16()
			copy(r.b[off:], b[:])
		}
	}
	put(r.daddr, dst)
	if r.src != 0 {
		put(r.src, src)
	}
	m.seq++
	binary.NativeEndian.PutUint32(r.b[8:], m.seq)
	if _, _, e := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(m.fd), uintptr(unsafe.Pointer(&r.b[0])), uintptr(len(r.b)), 0, 0, 0); e != 0 {
		return nil, e
	}
	for {
		n, e := recv(m.fd, m.buf[:])
		if e != 0 {
			return nil, e
		}
		msg := m.buf[:n]
		if len(msg) < unix.NLMSG_HDRLEN {
			return nil, unix.EBADMSG
		}
		if binary.NativeEndian.Uint32(msg[8:]) != m.seq {
			continue // the answer to a request given up earlier
		}
		length := int(binary.NativeEndian.Uint32(msg))
		if length < unix.NLMSG_HDRLEN || length > len(msg) {
			return nil, unix.EBADMSG
		}
		body := msg[unix.NLMSG_HDRLEN:length]
		if binary.NativeEndian.Uint16(msg[4:]) == unix.NLMSG_ERROR {
			if len(body) < 4 {
				return nil, unix.EBADMSG
			}
			if code := -int32(binary.NativeEndian.Uint32(body)); code != 0 {
				return nil, syscall.Errno(code)
			}
			return nil, nil
		}
		return body, nil
	}
}
