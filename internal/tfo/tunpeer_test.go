package tfo_test

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	"tfofleet/internal/tfo"
)

// tunPeer is a host behind a TUN device, played packet by packet: it answers
// nothing of its own accord, so a handshake stays as incomplete, and a SYN
// comes as often, as a test wants.
type tunPeer struct {
	t    testing.TB
	tun  *os.File
	host netip.Addr // the machine's address on the device
	addr netip.Addr // the peer's
}

func newTunPeer(t testing.TB, ns tfo.NetNS) *tunPeer {
	t.Helper()
	p := &tunPeer{t: t, host: netip.MustParseAddr("198.51.100.1"), addr: netip.MustParseAddr("198.51.100.2")}
	err := ns.Do(func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		dev, err := unix.NewIfreq("tfo0")
		if err != nil {
			return err
		}
		dev.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, dev); err != nil {
			return err
		}
		p.tun = os.NewFile(uintptr(fd), "tun")
		s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(s)
		host := p.host.As4()
		if err := dev.SetInet4Addr(host[:]); err != nil {
			return err
		}
		if err := unix.IoctlIfreq(s, unix.SIOCSIFADDR, dev); err != nil {
			return err
		}
		if err := dev.SetInet4Addr([]byte{255, 255, 255, 0}); err != nil {
			return err
		}
		if err := unix.IoctlIfreq(s, unix.SIOCSIFNETMASK, dev); err != nil {
			return err
		}
		dev.SetUint16(unix.IFF_UP)
		return unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, dev)
	})
	if err != nil {
		t.Fatalf("tun device: %v", err)
	}
	t.Cleanup(func() { p.tun.Close() })
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
func (p *tunPeer) packet(to uint16, s segment) []byte {
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

func (p *tunPeer) inject(packet []byte) {
	p.t.Helper()
	if _, err := p.tun.Write(packet); err != nil {
		p.t.Fatal(err)
	}
}

func (p *tunPeer) send(to uint16, s segment) {
	p.t.Helper()
	p.inject(p.packet(to, s))
}

// expect returns the next segment to the port that ok accepts; the kernel may
// repeat itself.
func (p *tunPeer) expect(port uint16, what string, ok func(segment) bool) segment {
	p.t.Helper()
	if err := p.tun.SetReadDeadline(time.Now().Add(patience)); err != nil {
		p.t.Fatal(err)
	}
	buf := make([]byte, 2048)
	for {
		n, err := p.tun.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			p.t.Fatalf("port %d: waited %v for %s", port, patience, what)
		}
		if err != nil {
			p.t.Fatal(err)
		}
		pkt := gopacket.NewPacket(buf[:n], layers.LayerTypeIPv4, gopacket.Default)
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
func (p *tunPeer) dataSYN(port uint16, key tfo.Key, payload string) segment {
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
