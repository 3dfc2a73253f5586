package tfo

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"
)

// SavedSYN is the SYN of an accepted connection as it arrived: what
// TCP_SAVED_SYN gives (Linux 4.2, cd8ae85299d5). That is the IP and the TCP
// header without the payload; how long the payload was is in the IP header.
type SavedSYN struct {
	Raw      []byte // nil when the kernel kept none, as under SYN cookies
	Src, Dst netip.AddrPort
	TTL      uint8 // IPv6: hop limit
	TOS      uint8 // DSCP and ECN; IPv6: traffic class
	Seq      uint32
	Flags    uint8 // of the TCP header: SYN is 2, ECE 0x40, CWR 0x80
	Window   uint16
	Payload  int // bytes of data behind the headers
	Options  TCPOptions
}

var errNotSYN = errors.New("not the headers of a TCP SYN")

// DecodeSYN decodes the headers of a SYN. It takes any bytes whatever. Raw and
// the cookie in Options alias b.
func DecodeSYN(b []byte) (SavedSYN, error) {
	h, ok := decodeIP(b)
	var p packet
	if !ok || h.proto != unix.IPPROTO_TCP || !p.segment(h.body, h.length) || p.flags&flagSYN == 0 {
		return SavedSYN{}, errNotSYN
	}
	tos := b[1]
	if h.v6 {
		tos = b[0]<<4 | b[1]>>4
	}
	addr := func(a address, port uint16) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom16(a).Unmap(), port)
	}
	return SavedSYN{
		Raw: b, Src: addr(h.src, p.sport), Dst: addr(h.dst, p.dport), TTL: h.ttl, TOS: tos,
		Seq: p.seq, Flags: p.flags, Window: binary.BigEndian.Uint16(h.body[14:]),
		Payload: p.payload, Options: DecodeTCPOptions(p.options),
	}, nil
}
