package tfo

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Some questions need a SYN that no socket will send: one with a forged cookie,
// one with an option nobody knows. Such a SYN is built here and sent through a
// raw socket; what answers it is read from the capture; the kernel, which has
// no connection for the SYN-ACK, ends the matter with a RST by itself. It needs
// CAP_NET_RAW, and a capture.

// The option of KindUnknown: a shared experimental kind (RFC 4727, section 7)
// with an experiment identifier (RFC 6994) that is not assigned.
const (
	controlKind  = 253
	controlMagic = 0x7F0C
)

// rawPoll is how long to wait between two looks at the capture, doubled from
// the first to the last: a SYN-ACK on a short path is seen early, and one on a
// long path costs few looks.
const (
	rawPollFirst = time.Millisecond
	rawPollLast  = 32 * time.Millisecond
)

// raw is the state of a raw attempt of a flow.
type raw struct {
	holder   int // a bound socket that keeps the port from others; -1 without one
	poll     time.Duration
	deadline int64
}

// launchRaw sends the SYN of a raw attempt.
func (s *shard) launchRaw(f *flow) {
	ev := f.ev
	f.raw.holder = -1
	if e := s.sendRaw(f); e != 0 {
		s.settle(f, EndLocal, e)
		return
	}
	f.observed = s.capture.claim(ev.Local, f.remote)
	f.phase = phaseRaw
	f.raw.deadline = f.start + int64(f.att.Timeout)
	f.raw.poll = rawPollFirst
	s.timers.set(&f.timer, f.start+int64(f.raw.poll))
}

func (s *shard) sendRaw(f *flow) syscall.Errno {
	ev := f.ev
	f.start = s.now()
	if s.capture.absent != "" {
		return unix.EPERM // without the capture nobody would see the answer
	}
	fd, e := s.rawSocket(f.family)
	if e != 0 {
		return e
	}
	if f.raw.holder, ev.Local, e = reservePort(f.remote, f.family); e != 0 {
		return e
	}
	f.history.source = ev.Local.Addr()
	payload := f.att.forSyn()
	option := controlOption()
	if ev.Kind == KindForged {
		ev.OptionKind = f.history.optionKind(ev.CookieBefore)
		option = cookieOption(ev.OptionKind, forge(ev.CookieBefore))
		ev.SynBytes = len(payload)
	} else {
		payload = nil
	}
	syn := buildSYN(ev.Local, f.remote, rand.Uint32(), option, payload)
	to := f.sa
	to.clearPort() // the port of a raw socket's address is a protocol number
	_, _, e = unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&syn[0])), uintptr(len(syn)),
		unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, uintptr(unsafe.Pointer(&to.raw)), uintptr(to.len))
	return e
}

// lookRaw looks whether the SYN of a raw attempt was answered by now.
func (s *shard) lookRaw(f *flow) {
	now := s.now()
	switch synAck, refused := s.capture.peek(f.observed); {
	case refused:
		s.settle(f, EndRefused, unix.ECONNREFUSED)
	case synAck:
		f.ev.ConnectNS = now - f.start
		s.settle(f, EndSynAck, 0)
	case now >= f.raw.deadline:
		s.settle(f, EndTimeout, 0)
	default:
		f.raw.poll = min(2*f.raw.poll, rawPollLast)
		s.timers.set(&f.timer, min(now+int64(f.raw.poll), f.raw.deadline))
	}
}

// peek tells whether a claimed connection's SYN was answered, without ending
// the claim.
func (c *capture) peek(o *observed) (synAck, refused bool) {
	if o == nil {
		return false, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drain()
	if o.wire == nil {
		return false, false
	}
	return o.wire.SynAcks > 0, o.wire.SynAcks == 0 && (o.wire.Resets > 0 || o.wire.ICMPErrors > 0)
}

// endRaw closes what a raw attempt held.
func (f *flow) endRaw() {
	if f.raw.holder >= 0 {
		closeFD(f.raw.holder)
		f.raw.holder = -1
	}
}

// rawSocket opens the shard's socket for raw SYNs when it is first needed. It
// only sends: IPPROTO_RAW receives nothing.
func (s *shard) rawSocket(family int) (int, syscall.Errno) {
	i := 0
	if family == unix.AF_INET6 {
		i = 1
	}
	if s.rawfd[i] == 0 {
		fd, _, e := unix.RawSyscall(unix.SYS_SOCKET, uintptr(family), unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if e != 0 {
			return -1, e
		}
		s.rawfd[i] = int(fd)
	}
	return s.rawfd[i], 0
}

// reservePort binds a socket to the address the kernel would use towards
// remote, and to a free port, so that no connection gets the same one. It
// neither listens nor connects: a SYN-ACK to it is answered by a RST.
func reservePort(remote netip.AddrPort, family int) (fd int, local netip.AddrPort, e syscall.Errno) {
	u, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, local, err.(syscall.Errno)
	}
	defer closeFD(u)
	sa, _ := makeSockaddr(remote)
	if e := connect(u, &sa); e != 0 { // a datagram socket: this only asks for the route
		return -1, local, e
	}
	source := localAddr(u).Addr()
	if fd, e = socketTCP(family); e != 0 {
		return -1, local, e
	}
	from, _ := makeSockaddr(netip.AddrPortFrom(source, 0))
	if _, _, e := unix.RawSyscall(unix.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(&from.raw)), uintptr(from.len)); e != 0 {
		closeFD(fd)
		return -1, local, e
	}
	return fd, localAddr(fd), 0
}

// forge makes a cookie that is wrong for certain: no byte is that of the real
// one, nor its inverse, which a box might turn back.
func forge(real Cookie) []byte {
	if real.State != CookiePresent {
		return []byte{0xde, 0xad, 0xbe, 0xef, 0xde, 0xad, 0xbe, 0xef}
	}
	c := make([]byte, len(real.Bytes))
	for i, b := range real.Bytes {
		c[i] = b ^ byte(0x5a+i)
	}
	return c
}

func cookieOption(kind uint8, cookie []byte) []byte {
	if kind == OptionKindExp {
		return append([]byte{OptionKindExp, byte(4 + len(cookie)), expMagic >> 8, expMagic & 0xff}, cookie...)
	}
	return append([]byte{OptionKindTFO, byte(2 + len(cookie))}, cookie...)
}

func controlOption() []byte {
	b := []byte{controlKind, 8, controlMagic >> 8, controlMagic & 0xff, 0, 0, 0, 0}
	binary.BigEndian.PutUint32(b[4:], rand.Uint32())
	return b
}

// buildSYN is a whole IP packet: a SYN as Linux would send it (MSS, SACK
// permitted, timestamps, window scale), with one more option and data.
func buildSYN(local, remote netip.AddrPort, seq uint32, option, payload []byte) []byte {
	mss := uint16(1460)
	header := ipv4HeaderLen
	if local.Addr().Is6() {
		mss, header = 1440, ipv6HeaderLen
	}
	opts := []byte{
		tcpOptMSS, 4, byte(mss >> 8), byte(mss),
		tcpOptSACK, 2, tcpOptTimestamps, 10, 0, 0, 0, 1, 0, 0, 0, 0,
		tcpOptNOP, tcpOptWScale, 3, 7,
	}
	opts = append(opts, option...)
	for len(opts)%4 != 0 {
		opts = append(opts, tcpOptNOP)
	}
	b := make([]byte, header+tcpHeaderLen, header+tcpHeaderLen+len(opts)+len(payload))
	tcp := b[header:]
	binary.BigEndian.PutUint16(tcp, local.Port())
	binary.BigEndian.PutUint16(tcp[2:], remote.Port())
	binary.BigEndian.PutUint32(tcp[4:], seq)
	tcp[12] = byte((tcpHeaderLen+len(opts))/4) << 4
	tcp[13] = flagSYN
	binary.BigEndian.PutUint16(tcp[14:], 64240)
	b = append(append(b, opts...), payload...)
	tcp = b[header:]
	src, dst := local.Addr().AsSlice(), remote.Addr().AsSlice()
	binary.BigEndian.PutUint16(tcp[16:], checksum(src, dst, tcp))
	if header == ipv4HeaderLen {
		// The kernel fills in the identification and the checksum (raw(7)).
		b[0] = 0x45
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
		b[6] = 0x40 // do not fragment
		b[8], b[9] = 64, unix.IPPROTO_TCP
		copy(b[12:], src)
		copy(b[16:], dst)
		return b
	}
	b[0] = 0x60
	binary.BigEndian.PutUint16(b[4:], uint16(len(tcp)))
	b[6], b[7] = unix.IPPROTO_TCP, 64
	copy(b[8:], src)
	copy(b[24:], dst)
	return b
}

// checksum is that of a TCP segment with its pseudo header (RFC 9293, section
// 3.1), whose checksum field is zero.
func checksum(src, dst, segment []byte) uint16 {
	sum := uint32(unix.IPPROTO_TCP) + uint32(len(segment))
	for _, part := range [][]byte{src, dst, segment} {
		for i := 0; i+1 < len(part); i += 2 {
			sum += uint32(part[i])<<8 | uint32(part[i+1])
		}
		if len(part)%2 == 1 {
			sum += uint32(part[len(part)-1]) << 8
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
