package tfo_test

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tfofleet/internal/tfo"
)

// rawPeer is a host at the far end of a veth pair, played packet by packet: it
// answers nothing of its own accord, so a handshake stays as incomplete, and a
// SYN comes as often, as a test wants. Both ends are in one namespace; nobody
// but the test listens at the peer's.
type rawPeer struct {
	t    testing.TB
	link *os.File   // frames
	host netip.Addr // the machine's address on the link
	addr netip.Addr // the peer's
}

// The two ends of the link.
const hostLink, peerLink = "host0", "peer0"

var hostMAC, peerMAC = net.HardwareAddr{2, 0, 0, 0, 0, 1}, net.HardwareAddr{2, 0, 0, 0, 0, 2}

func newRawPeer(t testing.TB, ns tfo.NetNS) *rawPeer {
	t.Helper()
	p := &rawPeer{t: t, host: netip.MustParseAddr("198.51.100.1"), addr: netip.MustParseAddr("198.51.100.2")}
	err := ns.Do(func() error {
		h, err := netlink.NewHandle()
		if err != nil {
			return err
		}
		defer h.Close()
		pair := netlink.NewVeth(netlink.NewLinkAttrs())
		pair.Name, pair.HardwareAddr, pair.PeerName, pair.PeerHardwareAddr = hostLink, hostMAC, peerLink, peerMAC
		if err := h.LinkAdd(pair); err != nil {
			return err
		}
		// The host's end comes up last, with its carrier there, and is ready
		// when LinkSetUp returns. The peer's end has its carrier too by then,
		// but its queue is made ready some time later (linkwatch): frames go
		// around it.
		index := map[string]int{}
		for _, name := range []string{peerLink, hostLink} {
			// No address of the kernel's own making, and so no packet of its own.
			if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/addr_gen_mode", []byte("1"), 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			l, err := h.LinkByName(name)
			if err != nil {
				return err
			}
			if err := h.LinkSetUp(l); err != nil {
				return err
			}
			index[name] = l.Attrs().Index
		}
		if err := h.AddrAdd(pair, &netlink.Addr{IPNet: &net.IPNet{IP: p.host.AsSlice(), Mask: net.CIDRMask(24, 32)}}); err != nil {
			return err
		}
		if err := h.NeighSet(&netlink.Neigh{LinkIndex: index[hostLink], State: netlink.NUD_PERMANENT, IP: p.addr.AsSlice(), HardwareAddr: peerMAC}); err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		p.link = os.NewFile(uintptr(fd), peerLink)
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: unix.ETH_P_IP>>8 | unix.ETH_P_IP<<8&0xff00, Ifindex: index[peerLink]})
	})
	if err != nil {
		t.Fatalf("raw peer: %v", err)
	}
	t.Cleanup(func() { p.link.Close() })
	return p
}

// segment is what a peer sends of a TCP segment, and sees of one.
type segment struct {
	port          uint16 // the peer's
	flags         string // of S A F R P
	seq, ack      uint32
	options       []layers.TCPOption
	payload       string
	cookie        []byte // seen only
	cookieOptions int    // seen only: TFO options of kind 34
}

// packet builds the bytes of a segment from the peer to a port of the host.
func (p *rawPeer) packet(to uint16, s segment) []byte {
	ip := &layers.IPv4{Version: 4, TTL: 61, TOS: 0x28, Protocol: layers.IPProtocolTCP, SrcIP: p.addr.AsSlice(), DstIP: p.host.AsSlice()}
	tcp := &layers.TCP{SrcPort: layers.TCPPort(s.port), DstPort: layers.TCPPort(to), Seq: s.seq, Ack: s.ack, Window: 65000, Options: s.options}
	for _, f := range s.flags {
		switch f {
		case 'S':
			tcp.SYN = true
		case 'A':
			tcp.ACK = true
		case 'F':
			tcp.FIN = true
		case 'R':
			tcp.RST = true
		case 'P':
			tcp.PSH = true
		}
	}
	if err := tcp.SetNetworkLayerForChecksum(ip); err != nil {
		p.t.Fatal(err)
	}
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ip, tcp, gopacket.Payload(s.payload)); err != nil {
		p.t.Fatal(err)
	}
	return buf.Bytes()
}

func (p *rawPeer) inject(packet []byte) {
	p.t.Helper()
	frame := slices.Concat(hostMAC, peerMAC, []byte{8, 0}, packet)
	if _, err := p.link.Write(frame); err != nil {
		p.t.Fatal(err)
	}
}

func (p *rawPeer) send(to uint16, s segment) {
	p.t.Helper()
	p.inject(p.packet(to, s))
}

// expect returns the next segment to the port that ok accepts; the kernel may
// repeat itself.
func (p *rawPeer) expect(port uint16, what string, ok func(segment) bool) segment {
	p.t.Helper()
	if err := p.link.SetReadDeadline(time.Now().Add(patience)); err != nil {
		p.t.Fatal(err)
	}
	buf := make([]byte, 2048)
	for {
		n, err := p.link.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			p.t.Fatalf("port %d: waited %v for %s", port, patience, what)
		}
		if err != nil {
			p.t.Fatal(err)
		}
		pkt := gopacket.NewPacket(buf[:n], layers.LayerTypeEthernet, gopacket.Default)
		tcp, is := pkt.TransportLayer().(*layers.TCP)
		if !is || uint16(tcp.DstPort) != port {
			continue
		}
		s := segment{port: port, seq: tcp.Seq, ack: tcp.Ack, payload: string(tcp.Payload)}
		for _, f := range []struct {
			set  bool
			name string
		}{{tcp.SYN, "S"}, {tcp.ACK, "A"}, {tcp.FIN, "F"}, {tcp.RST, "R"}} {
			if f.set {
				s.flags += f.name
			}
		}
		for _, o := range tcp.Options {
			if o.OptionType == tfo.OptionKindTFO {
				s.cookieOptions++
				s.cookie = o.OptionData
			}
		}
		if ok(s) {
			return s
		}
	}
}

func synAck(s segment) bool { return s.flags == "SA" }

// dataSYN is the SYN of a client that holds the cookie.
func (p *rawPeer) dataSYN(port uint16, key tfo.Key, payload string) segment {
	c := key.Cookie(p.addr, p.host)
	return segment{port: port, flags: "S", seq: 1000 * uint32(port), options: append(usual(), cookieOption(c[:])), payload: payload}
}

// usual are the options of a Linux client, timestamps left out.
func usual() []layers.TCPOption {
	return []layers.TCPOption{
		{OptionType: layers.TCPOptionKindMSS, OptionLength: 4, OptionData: binary.BigEndian.AppendUint16(nil, 1400)},
		{OptionType: layers.TCPOptionKindSACKPermitted, OptionLength: 2},
		{OptionType: layers.TCPOptionKindWindowScale, OptionLength: 3, OptionData: []byte{7}},
	}
}

func cookieOption(cookie []byte) layers.TCPOption {
	return layers.TCPOption{OptionType: tfo.OptionKindTFO, OptionLength: uint8(2 + len(cookie)), OptionData: cookie}
}

func expOption(cookie []byte) layers.TCPOption {
	return layers.TCPOption{OptionType: tfo.OptionKindExp, OptionLength: uint8(4 + len(cookie)), OptionData: append([]byte{0xf9, 0x89}, cookie...)}
}
