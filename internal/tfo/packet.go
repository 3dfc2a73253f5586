package tfo

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

const (
	// Flags of the TCP header.
	flagSYN = 0x02
	flagRST = 0x04
	flagACK = 0x10

	ipv4HeaderLen = 20
	ipv6HeaderLen = 40
	tcpHeaderLen  = 20
	icmpHeaderLen = 8

	// maxExtensions bounds the walk over IPv6 extension headers; a packet with
	// more has no business here.
	maxExtensions = 8
)

// address is an IP address in 16 bytes, IPv4 as IPv4-mapped.
type address [16]byte

func mapped(v4 []byte) (a address) {
	a[10], a[11] = 0xff, 0xff
	copy(a[12:], v4)
	return a
}

// packet is what a captured packet says: a TCP segment, or an ICMP error and
// the TCP segment it quotes.
type packet struct {
	src, dst     address
	sport, dport uint16
	seq          uint32

	// Of a segment that is not quoted.
	ack     uint32
	flags   uint8
	ttl     uint8  // or hop limit
	payload int    // bytes behind the TCP header, by the length in the IP header
	options []byte // aliases the packet
	headers []byte // the packet up to the end of the options

	// Of an ICMP error. The fields above are those of the quoted segment, of
	// which only the ports and the sequence number are sure to be there.
	icmp               bool
	icmpType, icmpCode uint8
	icmpFrom           address
}

// decodePacket decodes a packet that starts with its IP header and may be cut
// off behind its TCP header. It reports false for everything that is not a TCP
// segment with a whole header, or an ICMP error that quotes the start of one.
// It takes any bytes whatever and does not allocate.
func decodePacket(b []byte, p *packet) bool {
	*p = packet{}
	h, ok := decodeIP(b)
	if !ok {
		return false
	}
	switch h.proto {
	case unix.IPPROTO_TCP:
		p.src, p.dst, p.ttl = h.src, h.dst, h.ttl
		if !p.segment(h.body, h.length) {
			return false
		}
		end := h.header + tcpHeaderLen + len(p.options)
		p.headers = b[:end:end]
		return true
	case unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6:
		if len(h.body) < icmpHeaderLen || h.v6 != (h.proto == unix.IPPROTO_ICMPV6) || !isError(h.v6, h.body[0]) {
			return false
		}
		p.icmp, p.icmpType, p.icmpCode, p.icmpFrom = true, h.body[0], h.body[1], h.src
		q, ok := decodeIP(h.body[icmpHeaderLen:])
		if !ok || q.v6 != h.v6 || q.proto != unix.IPPROTO_TCP || len(q.body) < 8 {
			return false
		}
		p.src, p.dst = q.src, q.dst
		p.ports(q.body)
		return true
	}
	return false
}

// isError tells ICMP errors that quote a packet from everything else: IPv4
// unreachable, source quench, time exceeded, parameter problem (RFC 792); IPv6
// types below 5 (RFC 4443, section 2.1).
func isError(v6 bool, typ uint8) bool {
	if v6 {
		return typ >= 1 && typ <= 4
	}
	return typ == 3 || typ == 4 || typ == 11 || typ == 12
}

// move makes the packet share b, a copy of its headers, instead of what it was
// decoded from.
func (p *packet) move(b []byte) {
	p.headers, p.options = b, b[len(b)-len(p.options):]
}

func (p *packet) ports(b []byte) {
	p.sport, p.dport = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	p.seq = binary.BigEndian.Uint32(b[4:])
}

// segment decodes the TCP header in b, of a segment that had length bytes on
// the wire.
func (p *packet) segment(b []byte, length int) bool {
	if len(b) < tcpHeaderLen {
		return false
	}
	header := int(b[12]>>4) * 4
	if header < tcpHeaderLen || header > len(b) || header > length {
		return false
	}
	p.ports(b)
	p.ack = binary.BigEndian.Uint32(b[8:])
	p.flags = b[13]
	p.payload = length - header
	p.options = b[tcpHeaderLen:header:header]
	return true
}

// ipHeader is what an IP header says, extension headers skipped.
type ipHeader struct {
	src, dst address
	v6       bool
	ttl      uint8
	proto    uint8
	header   int    // bytes before the body
	body     []byte // as much as was captured
	length   int    // of the body on the wire
}

func decodeIP(b []byte) (h ipHeader, ok bool) {
	if len(b) < ipv4HeaderLen {
		return h, false
	}
	switch b[0] >> 4 {
	case 4:
		n := int(b[0]&15) * 4
		h.length = int(binary.BigEndian.Uint16(b[2:])) - n
		if n < ipv4HeaderLen || n > len(b) || h.length < 0 || binary.BigEndian.Uint16(b[6:])&0x1fff != 0 {
			return h, false // the last: not the first fragment
		}
		h.src, h.dst, h.ttl, h.proto = mapped(b[12:16]), mapped(b[16:20]), b[8], b[9]
		h.header, h.body = n, b[n:]
	case 6:
		if len(b) < ipv6HeaderLen {
			return h, false
		}
		h.v6, h.ttl, h.proto = true, b[7], b[6]
		h.src, h.dst = address(b[8:24]), address(b[24:40])
		h.length = int(binary.BigEndian.Uint16(b[4:]))
		h.header, h.body = ipv6HeaderLen, b[ipv6HeaderLen:]
		if !h.skipExtensions() {
			return h, false
		}
	default:
		return h, false
	}
	// Bytes behind the end of the IP packet are padding of the link.
	h.body = h.body[:min(len(h.body), h.length)]
	return h, true
}

// skipExtensions moves to what follows the extension headers (RFC 8200,
// section 4). It reports false when that is out of reach.
func (h *ipHeader) skipExtensions() bool {
	for range maxExtensions {
		n := 8
		switch h.proto {
		case unix.IPPROTO_HOPOPTS, unix.IPPROTO_ROUTING, unix.IPPROTO_DSTOPTS:
			if len(h.body) < 8 {
				return false
			}
			n = (int(h.body[1]) + 1) * 8
		case unix.IPPROTO_FRAGMENT:
			if len(h.body) < 8 || binary.BigEndian.Uint16(h.body[2:])>>3 != 0 {
				return false
			}
		default:
			return true
		}
		if n > len(h.body) || n > h.length {
			return false
		}
		h.proto = h.body[0]
		h.header, h.body, h.length = h.header+n, h.body[n:], h.length-n
	}
	return false
}
