package tfo

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
)

// The builders below write packets byte by byte, so that a test can spoil any
// of them.

var (
	us4, them4 = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("198.51.100.9")
	us6, them6 = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8:9::9")
	router4    = netip.MustParseAddr("203.0.113.5")
	router6    = netip.MustParseAddr("2001:db8:5::5")
)

// tcpHeader is a segment's header with options, padded.
func tcpHeader(sport, dport uint16, seq, ack uint32, flags uint8, options []byte) []byte {
	for len(options)%4 != 0 {
		options = append(options[:len(options):len(options)], 0)
	}
	b := make([]byte, 20, 60)
	binary.BigEndian.PutUint16(b, sport)
	binary.BigEndian.PutUint16(b[2:], dport)
	binary.BigEndian.PutUint32(b[4:], seq)
	binary.BigEndian.PutUint32(b[8:], ack)
	b[12] = byte(20+len(options)) / 4 << 4
	b[13] = flags
	return append(b, options...)
}

// ip wraps what is captured of a body that is length bytes long.
func ip(src, dst netip.Addr, proto uint8, body []byte, length int) []byte {
	if src.Is4() {
		b := make([]byte, 20)
		b[0], b[8], b[9] = 0x45, 64, proto
		binary.BigEndian.PutUint16(b[2:], uint16(20+length))
		copy(b[12:], src.AsSlice())
		copy(b[16:], dst.AsSlice())
		return append(b, body...)
	}
	b := make([]byte, 40)
	b[0], b[6], b[7] = 0x60, proto, 64
	binary.BigEndian.PutUint16(b[4:], uint16(length))
	copy(b[8:], src.AsSlice())
	copy(b[24:], dst.AsSlice())
	return append(b, body...)
}

// seg is a whole segment over IP.
func seg(src, dst netip.AddrPort, seq, ack uint32, flags uint8, options []byte, payload int) []byte {
	h := tcpHeader(src.Port(), dst.Port(), seq, ack, flags, options)
	return ip(src.Addr(), dst.Addr(), 6, append(h, make([]byte, payload)...), len(h)+payload)
}

func icmpError(from, to netip.Addr, typ, code uint8, quoted []byte) []byte {
	proto := uint8(1)
	if from.Is6() {
		proto = 58
	}
	body := append([]byte{typ, code, 0, 0, 0, 0, 0, 0}, quoted...)
	return ip(from, to, proto, body, len(body))
}

func port(a netip.Addr, p uint16) netip.AddrPort { return netip.AddrPortFrom(a, p) }

// synPacket is a SYN with 100 bytes, as captured: cut behind the header.
func synPacket() []byte {
	b := seg(port(us4, 1000), port(them4, 80), 7, 0, flagSYN, linuxSYN, 100)
	return b[:len(b)-100]
}

func TestDecodePacket(t *testing.T) {
	extend := func(b []byte, headers ...[]byte) []byte {
		// A chain of extension headers between IPv6 and TCP.
		ext := bytes.Join(headers, nil)
		out := append(bytes.Clone(b[:40]), append(ext, b[40:]...)...)
		out[6] = 60
		binary.BigEndian.PutUint16(out[4:], binary.BigEndian.Uint16(b[4:])+uint16(len(ext)))
		return out
	}
	syn4 := seg(port(us4, 1000), port(them4, 80), 7, 0, flagSYN, linuxSYN, 100)
	syn6 := seg(port(us6, 1000), port(them6, 80), 7, 0, flagSYN, linuxSYN, 100)
	withOptions := func() []byte {
		b := append(bytes.Clone(syn4[:20]), append([]byte{1, 1, 1, 0}, syn4[20:]...)...)
		b[0] = 0x46
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
		return b
	}()
	next := func(proto byte) []byte { return []byte{proto, 0, 0, 0, 0, 0, 0, 0} }

	for _, tt := range []struct {
		name string
		in   []byte
		want packet
	}{
		{"IPv4", syn4, packet{sport: 1000, dport: 80, seq: 7, flags: flagSYN, ttl: 64, payload: 100}},
		{"IPv4 cut behind the header", syn4[:len(syn4)-100], packet{sport: 1000, dport: 80, seq: 7, flags: flagSYN, ttl: 64, payload: 100}},
		{"IPv4 with options", withOptions, packet{sport: 1000, dport: 80, seq: 7, flags: flagSYN, ttl: 64, payload: 100}},
		{"padded by the link", append(seg(port(us4, 1000), port(them4, 80), 7, 0, flagSYN, linuxSYN, 0), 0, 0, 0, 0, 0, 0), packet{sport: 1000, dport: 80, seq: 7, flags: flagSYN, ttl: 64}},
		{"IPv6", syn6, packet{sport: 1000, dport: 80, seq: 7, flags: flagSYN, ttl: 64, payload: 100}},
		{"IPv6 with extension headers", extend(syn6, next(43), next(44), next(6)), packet{sport: 1000, dport: 80, seq: 7, flags: flagSYN, ttl: 64, payload: 100}},
		{"ICMP", icmpError(router4, us4, 3, 13, syn4[:28]), packet{sport: 1000, dport: 80, seq: 7, icmp: true, icmpType: 3, icmpCode: 13}},
		{"ICMPv6", icmpError(router6, us6, 1, 1, syn6), packet{sport: 1000, dport: 80, seq: 7, icmp: true, icmpType: 1, icmpCode: 1}},
		{"ICMPv6 about a packet with extension headers", icmpError(router6, us6, 4, 1, extend(syn6, next(6))), packet{sport: 1000, dport: 80, seq: 7, icmp: true, icmpType: 4, icmpCode: 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var p packet
			if !decodePacket(tt.in, &p) {
				t.Fatal("not decoded")
			}
			src, dst, from := us4, them4, router4
			if bytes.Equal(p.src[:], us6.AsSlice()) {
				src, dst, from = us6, them6, router6
			}
			if p.src != src.As16() || p.dst != dst.As16() {
				t.Errorf("from %v to %v", netip.AddrFrom16(p.src), netip.AddrFrom16(p.dst))
			}
			if p.icmp && p.icmpFrom != from.As16() {
				t.Errorf("ICMP from %v", netip.AddrFrom16(p.icmpFrom))
			}
			if !p.icmp && (!bytes.Equal(p.options, linuxSYN) || !bytes.Equal(p.headers, tt.in[:bytes.Index(tt.in, linuxSYN)+len(linuxSYN)])) {
				t.Errorf("options % x of % x", p.options, p.headers)
			}
			p.src, p.dst, p.icmpFrom, p.headers, p.options = address{}, address{}, address{}, nil, nil
			if p.sport != tt.want.sport || p.dport != tt.want.dport || p.seq != tt.want.seq || p.flags != tt.want.flags || p.ttl != tt.want.ttl ||
				p.payload != tt.want.payload || p.icmp != tt.want.icmp || p.icmpType != tt.want.icmpType || p.icmpCode != tt.want.icmpCode {
				t.Errorf("got %+v, want %+v", p, tt.want)
			}
		})
	}

	spoil := func(b []byte, at int, v byte) []byte { c := bytes.Clone(b); c[at] = v; return c }
	var endless [][]byte
	for range maxExtensions {
		endless = append(endless, next(60))
	}
	for _, tt := range []struct {
		name string
		in   []byte
	}{
		{"nothing", nil},
		{"a lone byte", syn4[:1]},
		{"IP version 5", spoil(syn4, 0, 0x55)},
		{"IPv4 header shorter than it can be", spoil(syn4, 0, 0x44)},
		{"IPv4 header past the end", spoil(syn4[:24], 0, 0x4f)},
		{"IPv4 shorter than its header", spoil(spoil(syn4, 2, 0), 3, 19)},
		{"IPv4 shorter than its TCP header", spoil(spoil(syn4, 2, 0), 3, 40)},
		{"a later fragment", spoil(syn4, 7, 1)},
		{"UDP", spoil(syn4, 9, 17)},
		{"TCP header cut off", syn4[:30]},
		{"TCP options cut off", syn4[:50]},
		{"data offset below 5", spoil(syn4, 32, 0x40)},
		{"IPv6 header cut off", syn6[:39]},
		{"a later fragment over IPv6", spoil(extend(syn6, next(44), []byte{6, 0, 1, 0, 0, 0, 0, 0}), 6, 60)},
		{"extension header past the end", spoil(extend(syn6, next(6)), 41, 255)},
		{"extension headers without end", extend(syn6, endless...)},
		{"ICMP cut off", icmpError(router4, us4, 3, 1, nil)[:25]},
		{"ICMP echo", icmpError(router4, us4, 8, 0, syn4)},
		{"ICMP redirect", icmpError(router4, us4, 5, 0, syn4)},
		{"ICMP about UDP", icmpError(router4, us4, 3, 1, spoil(syn4, 9, 17))},
		{"ICMP about less than the ports", icmpError(router4, us4, 3, 1, syn4[:27])},
		{"ICMP about IPv6", icmpError(router4, us4, 3, 1, syn6)},
		{"ICMPv6 over IPv4", spoil(icmpError(router4, us4, 3, 1, syn4), 9, 58)},
		{"ICMPv6 neighbour solicitation", icmpError(router6, us6, 135, 0, syn6)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var p packet
			if decodePacket(tt.in, &p) {
				t.Errorf("decoded as %+v", p)
			}
		})
	}
}

// FuzzDecodePacket checks that no bytes make the decoder step out of them or
// report lengths that cannot be.
func FuzzDecodePacket(f *testing.F) {
	f.Add(synPacket())
	f.Add(seg(port(us6, 1000), port(them6, 80), 7, 0, flagSYN, linuxSYN, 10))
	f.Add(icmpError(router4, us4, 3, 1, synPacket()))
	f.Add(icmpError(router6, us6, 4, 0, seg(port(us6, 1), port(them6, 2), 3, 4, flagSYN, nil, 0)))
	f.Fuzz(func(t *testing.T, b []byte) {
		b = b[:min(len(b), snapLen)]
		var p packet
		if !decodePacket(b, &p) {
			return
		}
		if p.payload < 0 || p.payload > 65535 || len(p.options) > maxTCPOptions || len(p.options)%4 != 0 || !p.icmp && (len(p.headers) < 40 || len(p.headers) > len(b)) {
			t.Fatalf("decoded %+v", p)
		}
		if p.icmp {
			return
		}
		w := Wire{Acked: NotKnown}
		w.sawSYN(&p)
		w.sawAnswer(&p)
		if !bytes.Equal(w.Syn.Raw, p.headers) || w.Syn.Payload != p.payload || w.Syn.TTL != p.ttl || w.Syn.Seq != p.seq {
			t.Fatalf("decoded %+v, read again %+v", p, w.Syn)
		}
		if len(w.Syn.Cookie) > 38 || len(w.SynAck.Cookie) > 38 {
			t.Fatalf("facts %+v", w)
		}
	})
}
