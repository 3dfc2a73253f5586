package lab

import (
	"encoding/binary"
	"math/bits"
)

const (
	ethLen      = 14
	ethIPv4     = 0x0800
	ethIPv6     = 0x86dd
	protoTCP    = 6
	protoICMP   = 1
	protoICMPv6 = 58
	ipv4Len     = 20
	ipv6Len     = 40
	tcpLen      = 20
	maxTCPLen   = 60
)

const (
	flagFIN = 1 << iota
	flagSYN
	flagRST
	flagPSH
	flagACK
)

// frame is an Ethernet frame that holds one TCP segment over IPv4 or IPv6. It
// is parsed once; every edit keeps the offsets and the length fields true.
// Checksums are put right by seal.
type frame struct {
	b     []byte // capacity beyond the length is room to grow
	v6    bool
	l4    int  // offset of the TCP header
	pay   int  // offset of the payload
	dirty bool // the TCP checksum must be computed anew

	scratch [maxTCPLen]byte
}

// parse takes b over and reports whether it holds a whole, unfragmented TCP
// segment. Ethernet padding behind the IP packet is cut off.
func (f *frame) parse(b []byte) bool {
	f.b, f.dirty = b, false
	if len(b) < ethLen {
		return false
	}
	ip := b[ethLen:]
	var total int
	switch binary.BigEndian.Uint16(b[12:]) {
	case ethIPv4:
		if len(ip) < ipv4Len || ip[0]>>4 != 4 || ip[9] != protoTCP {
			return false
		}
		ihl := int(ip[0]&15) * 4
		total = int(binary.BigEndian.Uint16(ip[2:]))
		if ihl < ipv4Len || binary.BigEndian.Uint16(ip[6:])&0x3fff != 0 {
			return false
		}
		f.v6, f.l4 = false, ethLen+ihl
	case ethIPv6:
		if len(ip) < ipv6Len || ip[0]>>4 != 6 || ip[6] != protoTCP {
			return false
		}
		total = ipv6Len + int(binary.BigEndian.Uint16(ip[4:]))
		f.v6, f.l4 = true, ethLen+ipv6Len
	default:
		return false
	}
	end := ethLen + total
	if end > len(b) || f.l4+tcpLen > end {
		return false
	}
	f.b = b[:end]
	doff := int(b[f.l4+12]>>4) * 4
	if doff < tcpLen || f.l4+doff > end {
		return false
	}
	f.pay = f.l4 + doff
	return true
}

func (f *frame) flags() byte     { return f.b[f.l4+13] }
func (f *frame) srcPort() uint16 { return binary.BigEndian.Uint16(f.b[f.l4:]) }
func (f *frame) dstPort() uint16 { return binary.BigEndian.Uint16(f.b[f.l4+2:]) }
func (f *frame) seq() uint32     { return binary.BigEndian.Uint32(f.b[f.l4+4:]) }
func (f *frame) ack() uint32     { return binary.BigEndian.Uint32(f.b[f.l4+8:]) }
func (f *frame) payload() []byte { return f.b[f.pay:] }
func (f *frame) options() []byte { return f.b[f.l4+tcpLen : f.pay] }
func (f *frame) src() addrKey    { return f.addr(0) }
func (f *frame) dst() addrKey    { return f.addr(1) }
func (f *frame) isSYN() bool     { return f.flags()&(flagSYN|flagACK|flagRST|flagFIN) == flagSYN }
func (f *frame) isSYNACK() bool  { return f.flags()&(flagSYN|flagACK|flagRST) == flagSYN|flagACK }

// addrAt is the offset and length of the source (0) or destination (1).
func (f *frame) addrAt(i int) (off, n int) {
	if f.v6 {
		return ethLen + 8 + 16*i, 16
	}
	return ethLen + 12 + 4*i, 4
}

func (f *frame) addr(i int) (k addrKey) {
	off, n := f.addrAt(i)
	copy(k[:], f.b[off:off+n])
	return k
}

// setAddr rewrites the source (0) or destination (1), and both checksums
// incrementally (RFC 1624, eqn. 3).
func (f *frame) setAddr(i int, k addrKey) {
	off, n := f.addrAt(i)
	for j := 0; j < n; j += 2 {
		old, new := binary.BigEndian.Uint16(f.b[off+j:]), binary.BigEndian.Uint16(k[j:])
		if old == new {
			continue
		}
		adjust(f.b[f.l4+16:], old, new)
		if !f.v6 {
			adjust(f.b[ethLen+10:], old, new)
		}
		binary.BigEndian.PutUint16(f.b[off+j:], new)
	}
}

// setPort rewrites the source (0) or destination (1) port and the checksum.
func (f *frame) setPort(i int, port uint16) {
	at := f.b[f.l4+2*i:]
	old := binary.BigEndian.Uint16(at)
	if old == port {
		return
	}
	adjust(f.b[f.l4+16:], old, port)
	binary.BigEndian.PutUint16(at, port)
}

// addAck adds n to the acknowledged sequence number.
func (f *frame) addAck(n uint32) {
	binary.BigEndian.PutUint32(f.b[f.l4+8:], f.ack()+n)
	f.dirty = true
}

// truncate keeps the first n bytes of the payload. Sequence numbers stay: the
// far end acknowledges less and the sender sends the rest again.
func (f *frame) truncate(n int) bool {
	if n >= len(f.payload()) {
		return false
	}
	f.b = f.b[:f.pay+n]
	f.lengthChanged()
	return true
}

// lengthChanged writes the length fields after len(f.b) changed.
func (f *frame) lengthChanged() {
	n := len(f.b) - ethLen
	if f.v6 {
		binary.BigEndian.PutUint16(f.b[ethLen+4:], uint16(n-ipv6Len))
	} else {
		old := binary.BigEndian.Uint16(f.b[ethLen+2:])
		adjust(f.b[ethLen+10:], old, uint16(n))
		binary.BigEndian.PutUint16(f.b[ethLen+2:], uint16(n))
	}
	f.dirty = true
}

// setOptions replaces the option list, padded with end-of-list bytes to whole
// words, and moves the payload. It reports whether the list fits.
func (f *frame) setOptions(opts []byte) bool {
	n := (len(opts) + 3) &^ 3
	grow := n - (f.pay - f.l4 - tcpLen)
	if n > maxTCPLen-tcpLen || len(f.b)+grow > cap(f.b) || len(f.b)+grow > ethLen+linkMTU {
		return false
	}
	old := f.b
	f.b = f.b[:len(f.b)+grow]
	copy(f.b[f.pay+grow:], old[f.pay:])
	at := copy(f.b[f.l4+tcpLen:], opts)
	clear(f.b[f.l4+tcpLen+at : f.l4+tcpLen+n])
	f.pay += grow
	f.b[f.l4+12] = byte((tcpLen+n)/4)<<4 | f.b[f.l4+12]&15
	f.dirty = true
	if grow != 0 {
		f.lengthChanged()
	}
	return true
}

// seal puts the TCP checksum right after edits that did not keep it.
func (f *frame) seal() {
	if !f.dirty {
		return
	}
	f.dirty = false
	f.b[f.l4+16], f.b[f.l4+17] = 0, 0
	binary.BigEndian.PutUint16(f.b[f.l4+16:], f.checksum())
}

// checksum computes the TCP checksum over what is there now. With the right
// checksum in place the answer is 0.
func (f *frame) checksum() uint16 {
	return l4Checksum(f.b, f.v6, f.l4, protoTCP)
}

// l4Checksum is the checksum of a TCP or ICMPv6 packet with its pseudo header
// (RFC 793, section 3.1; RFC 8200, section 8.1).
func l4Checksum(b []byte, v6 bool, l4 int, proto byte) uint16 {
	off, n := ethLen+12, 8
	if v6 {
		off, n = ethLen+8, 32
	}
	s := sum(b[off:off+n], 0)
	s = sum(b[l4:], uint64(fold(s))+uint64(proto)+uint64(len(b)-l4))
	return ^fold(s)
}

// sum adds the big-endian 16-bit words of b to acc, eight bytes at a time; fold
// brings the result to 16 bits. Odd lengths are padded with zero, so only the
// last of several slices may be odd.
func sum(b []byte, acc uint64) uint64 {
	var carry uint64
	for len(b) >= 8 {
		acc, carry = bits.Add64(acc, binary.BigEndian.Uint64(b), 0)
		acc += carry // cannot overflow again: a sum that carried is not all ones
		b = b[8:]
	}
	var tail [8]byte
	copy(tail[:], b)
	acc, carry = bits.Add64(acc, binary.BigEndian.Uint64(tail[:]), 0)
	return acc + carry
}

func fold(s uint64) uint16 {
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

// adjust updates the checksum at sum for one word that changed (RFC 1624).
func adjust(sum []byte, old, new uint16) {
	s := uint64(^binary.BigEndian.Uint16(sum)) + uint64(^old) + uint64(new)
	binary.BigEndian.PutUint16(sum, ^fold(s))
}
