package lab

import "encoding/binary"

const (
	replySize = 256
	quoteSize = 128  // of the refused packet in an ICMP error; the headers fit
	smallMTU  = 1280 // what TooBig says: the least that IPv6 allows
)

var icmpCodes = map[Answer]struct{ type4, code4, type6, code6 byte }{
	HostUnreachable: {3, 1, 1, 3},
	PortUnreachable: {3, 3, 1, 4},
	AdminProhibited: {3, 13, 1, 1},
	TooBig:          {3, 4, 2, 0},
}

// appendReply appends to dst the frame that refuses f and goes back to its
// sender: a reset from the address f was sent to, or an ICMP error from the
// router.
func appendReply(dst []byte, f *frame, with Answer, router4, router6 addrKey) []byte {
	// Back over the same link.
	dst = append(dst, f.b[6:12]...)
	dst = append(dst, f.b[0:6]...)
	dst = append(dst, f.b[12:14]...)
	if with == RST {
		dst = appendIP(dst, f.v6, f.dst(), f.src(), protoTCP, tcpLen)
		return appendReset(dst, f)
	}
	quote := f.b[ethLen:min(len(f.b), ethLen+quoteSize)]
	router, proto := router4, byte(protoICMP)
	if f.v6 {
		router, proto = router6, protoICMPv6
	}
	dst = appendIP(dst, f.v6, router, f.src(), proto, 8+len(quote))
	return appendICMP(dst, f.v6, with, quote)
}

func appendIP(dst []byte, v6 bool, from, to addrKey, proto byte, n int) []byte {
	if v6 {
		dst = append(dst, 0x60, 0, 0, 0)
		dst = binary.BigEndian.AppendUint16(dst, uint16(n))
		dst = append(dst, proto, 64)
		dst = append(dst, from[:]...)
		return append(dst, to[:]...)
	}
	at := len(dst)
	dst = append(dst, 0x45, 0)
	dst = binary.BigEndian.AppendUint16(dst, uint16(ipv4Len+n))
	dst = append(dst, 0, 0, 0x40, 0, 64, proto, 0, 0)
	dst = append(dst, from[:4]...)
	dst = append(dst, to[:4]...)
	binary.BigEndian.PutUint16(dst[at+10:], ^fold(sum(dst[at:], 0)))
	return dst
}

// appendReset follows RFC 9293, section 3.10.7.1: a segment without ACK is
// answered with RST and an ACK of all it held.
func appendReset(dst []byte, f *frame) []byte {
	at := len(dst)
	dst = binary.BigEndian.AppendUint16(dst, f.dstPort())
	dst = binary.BigEndian.AppendUint16(dst, f.srcPort())
	if f.flags()&flagACK != 0 {
		dst = binary.BigEndian.AppendUint32(dst, f.ack())
		dst = append(dst, 0, 0, 0, 0, tcpLen/4<<4, flagRST)
	} else {
		n := uint32(len(f.payload()))
		if f.flags()&flagSYN != 0 {
			n++
		}
		if f.flags()&flagFIN != 0 {
			n++
		}
		dst = append(dst, 0, 0, 0, 0)
		dst = binary.BigEndian.AppendUint32(dst, f.seq()+n)
		dst = append(dst, tcpLen/4<<4, flagRST|flagACK)
	}
	dst = append(dst, 0, 0, 0, 0, 0, 0)
	binary.BigEndian.PutUint16(dst[at+16:], l4Checksum(dst, f.v6, at, protoTCP))
	return dst
}

func appendICMP(dst []byte, v6 bool, with Answer, quote []byte) []byte {
	at := len(dst)
	c := icmpCodes[with]
	if v6 {
		dst = append(dst, c.type6, c.code6)
	} else {
		dst = append(dst, c.type4, c.code4)
	}
	dst = append(dst, 0, 0)
	mtu := uint32(0)
	if with == TooBig {
		mtu = smallMTU // in the low half of the word for ICMP (RFC 1191), the whole for ICMPv6
	}
	dst = binary.BigEndian.AppendUint32(dst, mtu)
	dst = append(dst, quote...)
	check := ^fold(sum(dst[at:], 0))
	if v6 {
		check = l4Checksum(dst, true, at, protoICMPv6)
	}
	binary.BigEndian.PutUint16(dst[at+2:], check)
	return dst
}
