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
	// OptionBytes is the options field as it came. It aliases Raw.
	OptionBytes []byte

	ID           uint16 // IPv4 identification; 0 over IPv6
	DontFragment bool   // IPv4; false over IPv6
	FlowLabel    uint32 // IPv6; 0 over IPv4
}

var errNotSYN = errors.New("not the headers of a TCP SYN")

// DecodeSYN decodes the headers of a SYN. It takes any bytes whatever. Raw,
// OptionBytes and the cookie in Options alias b.
func DecodeSYN(b []byte) (SavedSYN, error) {
	h, ok := decodeIP(b)
	var p packet
	if !ok || h.proto != unix.IPPROTO_TCP || !p.segment(h.body, h.length) || p.flags&flagSYN == 0 {
		return SavedSYN{}, errNotSYN
	}
	addr := func(a address, port uint16) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom16(a).Unmap(), port)
	}
	s := SavedSYN{
		Raw: b, Src: addr(h.src, p.sport), Dst: addr(h.dst, p.dport), TTL: h.ttl,
		Seq: p.seq, Flags: p.flags, Window: binary.BigEndian.Uint16(h.body[14:]),
		Payload: p.payload, Options: DecodeTCPOptions(p.options), OptionBytes: p.options,
	}
	if h.v6 {
		s.TOS = b[0]<<4 | b[1]>>4
		s.FlowLabel = binary.BigEndian.Uint32(b) & 0xfffff
	} else {
		s.TOS = b[1]
		s.ID = binary.BigEndian.Uint16(b[4:])
		s.DontFragment = b[6]&0x40 != 0
	}
	return s, nil
}
