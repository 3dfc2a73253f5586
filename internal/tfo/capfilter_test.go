package tfo

import (
	"net/netip"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// filterFor is the capture filter with the two facts filled in that are not in
// the packet: bpf.VM knows no kernel.
func filterFor(t *testing.T, proto, pkttype uint32) *bpf.VM {
	t.Helper()
	prog := captureFilter()
	for i, in := range prog {
		if ext, ok := in.(bpf.LoadExtension); ok {
			switch ext.Num {
			case bpf.ExtProto:
				prog[i] = bpf.LoadConstant{Dst: bpf.RegA, Val: proto}
			case bpf.ExtType:
				prog[i] = bpf.LoadConstant{Dst: bpf.RegA, Val: pkttype}
			}
		}
	}
	vm, err := bpf.NewVM(prog)
	if err != nil {
		t.Fatal(err)
	}
	return vm
}

func TestCaptureFilter(t *testing.T) {
	const in, out = unix.PACKET_HOST, unix.PACKET_OUTGOING
	for _, family := range []struct {
		name         string
		us, them, by netip.Addr
		proto        uint32
		unreachable  uint8
	}{
		{"IPv4", us4, them4, router4, unix.ETH_P_IP, 3},
		{"IPv6", us6, them6, router6, unix.ETH_P_IPV6, 1},
	} {
		us, them := port(family.us, 1000), port(family.them, 80)
		tcp := func(flags uint8) []byte { return seg(us, them, 7, 8, flags, linuxSYN, 20) }
		udp := ip(family.us, family.them, 17, make([]byte, 40), 40)
		for _, tt := range []struct {
			name    string
			packet  []byte
			pkttype uint32
			want    bool
		}{
			{"SYN leaves", tcp(flagSYN), out, true},
			{"SYN with ECN leaves", tcp(flagSYN | 0xc0), out, true},
			{"SYN comes in", tcp(flagSYN), in, false},
			{"SYN-ACK comes in", tcp(flagSYN | flagACK), in, true},
			{"SYN-ACK with ECN comes in", tcp(flagSYN | flagACK | 0x40), in, true},
			{"SYN-ACK leaves", tcp(flagSYN | flagACK), out, false},
			{"RST comes in", tcp(flagRST), in, true},
			{"RST with ACK comes in", tcp(flagRST | flagACK), in, true},
			{"RST leaves", tcp(flagRST | flagACK), out, false},
			{"ACK comes in", tcp(flagACK), in, false},
			{"data comes in", tcp(flagACK | 8), in, false},
			{"FIN comes in", tcp(flagACK | 1), in, false},
			{"data leaves", tcp(flagACK | 8), out, false},
			{"SYN-ACK for another host", tcp(flagSYN | flagACK), unix.PACKET_OTHERHOST, false},
			{"UDP comes in", udp, in, false},
			{"ICMP error comes in", icmpError(family.by, family.us, family.unreachable, 1, tcp(flagSYN)), in, true},
			{"ICMP error leaves", icmpError(family.us, family.by, family.unreachable, 1, tcp(flagSYN)), out, false},
			{"ICMP echo comes in", icmpError(family.by, family.us, map[bool]uint8{true: 8, false: 128}[family.us.Is4()], 0, tcp(flagSYN)), in, false},
			{"nothing but a header", tcp(flagSYN)[:20], out, false},
		} {
			t.Run(family.name+" "+tt.name, func(t *testing.T) {
				n, err := filterFor(t, family.proto, tt.pkttype).Run(tt.packet)
				if err != nil {
					t.Fatal(err)
				}
				if (n > 0) != tt.want {
					t.Errorf("filter returned %d", n)
				}
			})
		}
	}

	for _, tt := range []struct {
		name    string
		packet  []byte
		proto   uint32
		pkttype uint32
		want    bool
	}{
		{"ICMP error about UDP", icmpError(router4, us4, 3, 1, ip(us4, them4, 17, make([]byte, 40), 40)), unix.ETH_P_IP, in, false},
		{"a later fragment", func() []byte {
			b := seg(port(us4, 1), port(them4, 2), 0, 0, flagSYN, nil, 0)
			b[7] = 1
			return b
		}(), unix.ETH_P_IP, out, false},
		{"IPv4 options", func() []byte {
			b := seg(port(us4, 1), port(them4, 2), 0, 0, flagSYN, nil, 0)
			b = append(b[:20:20], append([]byte{1, 1, 1, 0}, b[20:]...)...)
			b[0] = 0x46
			return b
		}(), unix.ETH_P_IP, out, true},
		{"extension header", ip(us6, them6, 60, make([]byte, 40), 40), unix.ETH_P_IPV6, in, true},
		{"ARP", make([]byte, 60), unix.ETH_P_ARP, in, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n, err := filterFor(t, tt.proto, tt.pkttype).Run(tt.packet)
			if err != nil {
				t.Fatal(err)
			}
			if (n > 0) != tt.want {
				t.Errorf("filter returned %d", n)
			}
		})
	}
}
