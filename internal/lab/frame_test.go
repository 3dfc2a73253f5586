package lab

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"slices"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// segment builds a frame with gopacket, which shares no code with ours. opts
// are raw bytes of the option list.
func segment(t testing.TB, v6 bool, flags byte, opts, payload []byte) []byte {
	t.Helper()
	tcp := &layers.TCP{SrcPort: 40000, DstPort: 80, Seq: 1000, Ack: 2000, Window: 64240,
		SYN: flags&flagSYN != 0, ACK: flags&flagACK != 0, FIN: flags&flagFIN != 0, RST: flags&flagRST != 0}
	for len(opts) > 0 {
		o, rest, ok := nextOption(opts)
		if !ok {
			t.Fatal("bad options in a test")
		}
		opts = rest
		lo := layers.TCPOption{OptionType: layers.TCPOptionKind(o[0]), OptionLength: uint8(len(o))}
		if len(o) > 2 {
			lo.OptionData = o[2:]
		}
		tcp.Options = append(tcp.Options, lo)
	}
	eth := &layers.Ethernet{SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, DstMAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}, EthernetType: layers.EthernetTypeIPv4}
	var ip gopacket.SerializableLayer
	if v6 {
		eth.EthernetType = layers.EthernetTypeIPv6
		l := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolTCP, SrcIP: net.ParseIP("fd54:464f:2::1"), DstIP: net.ParseIP("fd54:464f::1")}
		_ = tcp.SetNetworkLayerForChecksum(l)
		ip = l
	} else {
		l := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: net.IP{198, 19, 128, 1}, DstIP: net.IP{198, 18, 0, 1}}
		_ = tcp.SetNetworkLayerForChecksum(l)
		ip = l
	}
	b := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, eth, ip, tcp, gopacket.Payload(payload))
	if err != nil {
		t.Fatal(err)
	}
	// Room to grow, as in the box's ring.
	return append(make([]byte, 0, ringFrame), b.Bytes()...)
}

// decoded reads a frame back with gopacket.
func decoded(t testing.TB, b []byte) (tcp *layers.TCP, payload []byte) {
	t.Helper()
	p := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.Default)
	if e := p.ErrorLayer(); e != nil {
		t.Fatalf("gopacket cannot read the frame: %v\n%x", e.Error(), b)
	}
	tcp, ok := p.Layer(layers.LayerTypeTCP).(*layers.TCP)
	if !ok {
		t.Fatalf("no TCP in %x", b)
	}
	if a := p.ApplicationLayer(); a != nil {
		payload = a.Payload()
	}
	return tcp, payload
}

// sound reports what is wrong with the lengths and checksums of a frame.
func sound(f *frame) string {
	if got := l4Checksum(f.b, f.v6, f.l4, protoTCP); got != 0 {
		return "TCP checksum"
	}
	if f.v6 {
		if int(binary.BigEndian.Uint16(f.b[ethLen+4:])) != len(f.b)-ethLen-ipv6Len {
			return "IPv6 payload length"
		}
		return ""
	}
	if int(binary.BigEndian.Uint16(f.b[ethLen+2:])) != len(f.b)-ethLen {
		return "IPv4 total length"
	}
	if ^fold(sum(f.b[ethLen:f.l4], 0)) != 0 {
		return "IPv4 header checksum"
	}
	return ""
}

var (
	mss    = []byte{2, 4, 5, 180}
	sackTS = []byte{4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0}
	wscale = []byte{1, 3, 3, 7}
	cookie = []byte{1, 2, 3, 4, 5, 6, 7, 8}
)

func synOptions(tfo []byte) []byte { return slices.Concat(mss, sackTS, wscale, tfo) }

// TestEdits applies every edit to frames of both families and reads the result
// with another decoder.
func TestEdits(t *testing.T) {
	tfo34, tfo254 := appendTFO(nil, Kind34, cookie), appendTFO(nil, Kind254, cookie)
	ask34, ask254 := appendTFO(nil, Kind34, nil), appendTFO(nil, Kind254, nil)
	nops := func(n int) []byte { return bytes.Repeat([]byte{optNOP}, n) }
	flip := make([]byte, len(cookie))
	for i, b := range cookie {
		flip[i] = ^b
	}
	for _, tt := range []struct {
		name    string
		opts    []byte
		do      Action
		struck  bool
		want    []byte // options, without padding
		payload string // "" means unchanged
	}{
		{"strip 34", tfo34, Strip(Kind34), true, nil, ""},
		{"strip 34 of a request", ask34, Strip(AnyKind), true, nil, ""},
		{"strip 34 where 254 is", tfo254, Strip(Kind34), false, tfo254, ""},
		{"strip 254", tfo254, Strip(Kind254), true, nil, ""},
		{"strip one of both", slices.Concat(tfo34, ask254), Strip(Kind254), true, tfo34, ""},
		{"strip both", slices.Concat(ask34, ask254), Strip(AnyKind), true, nil, ""},
		{"blank", tfo34, Blank(AnyKind), true, nops(10), ""},
		{"empty 34", tfo34, Empty(AnyKind), true, ask34, ""},
		{"empty 254", tfo254, Empty(AnyKind), true, ask254, ""},
		{"empty a request", ask34, Empty(AnyKind), false, ask34, ""},
		{"34 to 254", tfo34, SetKind(Kind34, Kind254), true, tfo254, ""},
		{"254 to 34", tfo254, SetKind(Kind254, Kind34), true, tfo34, ""},
		{"flip", tfo34, FlipCookie, true, appendTFO(nil, Kind34, flip), ""},
		{"flip nothing", ask34, FlipCookie, false, ask34, ""},
		{"shorten", tfo254, ResizeCookie(6), true, appendTFO(nil, Kind254, cookie[:6]), ""},
		{"odd", tfo34, ResizeCookie(7), true, appendTFO(nil, Kind34, cookie[:7]), ""},
		{"lengthen", tfo34, ResizeCookie(16), true, appendTFO(nil, Kind34, append(slices.Clone(cookie), make([]byte, 8)...)), ""},
		{"lengthen too far", tfo34, ResizeCookie(24), false, tfo34, ""},
		{"truncate", tfo34, Truncate(3), true, tfo34, "GET"},
		{"truncate to more", tfo34, Truncate(300), false, tfo34, ""},
		{"strip data", tfo34, StripData, true, tfo34, "-"},
		{"no option at all", nil, Strip(AnyKind), false, nil, ""},
	} {
		for _, v6 := range []bool{false, true} {
			opts := synOptions(tt.opts)
			raw := segment(t, v6, flagSYN, opts, []byte("GET / HTTP/1.0\r\n\r\n"))
			var p passage
			p.path = new(path)
			if !p.parse(raw) {
				t.Fatal("cannot parse", tt.name)
			}
			if got := tt.do.do(&p); got != tt.struck {
				t.Errorf("%s: struck = %v", tt.name, got)
			}
			if n := p.path.modified.Load(); n > 0 != tt.struck {
				t.Errorf("%s: %d modified", tt.name, n)
			}
			p.seal()
			if s := sound(&p.frame); s != "" {
				t.Errorf("%s v6=%v: %s wrong", tt.name, v6, s)
			}
			tcp, payload := decoded(t, p.b)
			want := "GET / HTTP/1.0\r\n\r\n"
			if tt.payload == "-" {
				want = ""
			} else if tt.payload != "" {
				want = tt.payload
			}
			if string(payload) != want {
				t.Errorf("%s v6=%v: payload %q", tt.name, v6, payload)
			}
			if got := trimPadding(p.options()); !bytes.Equal(got, trimPadding(synOptions(tt.want))) {
				t.Errorf("%s v6=%v: options\n got %v\nwant %v", tt.name, v6, got, synOptions(tt.want))
			}
			if tcp.Seq != 1000 || tcp.SrcPort != 40000 || !tcp.SYN || tcp.Window != 64240 {
				t.Errorf("%s v6=%v: header changed: %+v", tt.name, v6, tcp)
			}
		}
	}
}

// trimPadding cuts end-of-list bytes.
func trimPadding(opts []byte) []byte { return bytes.TrimRight(opts, "\x00") }

func TestMirror(t *testing.T) {
	for _, empty := range []bool{false, true} {
		var p passage
		p.path, p.flow = new(path), new(flow)
		syn := segment(t, false, flagSYN, synOptions(appendTFO(nil, Kind254, cookie)), nil)
		p.parse(syn)
		p.flow.rememberOption(p.options())
		p.parse(segment(t, false, flagSYN|flagACK, mss, nil))
		if !Mirror(empty).do(&p) {
			t.Fatal("did not strike")
		}
		p.seal()
		want := appendTFO(nil, Kind254, cookie)
		if empty {
			want = appendTFO(nil, Kind254, nil)
		}
		if opt, _ := findTFO(p.options(), AnyKind); !bytes.Equal(opt, want) || sound(&p.frame) != "" {
			t.Errorf("empty=%v: %v, %s", empty, p.options(), sound(&p.frame))
		}
	}
}

// TestTranslate rewrites addresses and ports, which keeps the checksum
// incrementally, and compares with the checksum computed anew.
func TestTranslate(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	for i := range 2000 {
		v6 := i%2 == 0
		payload := make([]byte, r.IntN(100))
		for i := range payload {
			payload[i] = byte(r.Uint32())
		}
		var f frame
		f.parse(segment(t, v6, flagACK, nil, payload))
		for range 3 {
			var k addrKey
			for i := range k {
				// Zero and all ones are where one's complement sums go wrong.
				k[i] = []byte{0, 0xff, byte(r.Uint32())}[r.IntN(3)]
			}
			f.setAddr(r.IntN(2), k)
			f.setPort(r.IntN(2), uint16(r.Uint32()))
		}
		if f.dirty {
			t.Fatal("not incremental")
		}
		if s := sound(&f); s != "" {
			t.Fatalf("%s wrong (seed %d, frame %d)", s, seed, i)
		}
	}
}

func TestReply(t *testing.T) {
	router4, router6 := keyOf(boxLink.servers4.Addr()), keyOf(boxLink.servers6.Addr())
	for _, v6 := range []bool{false, true} {
		var f frame
		f.parse(segment(t, v6, flagSYN, synOptions(nil), []byte("hello")))
		rst := appendReply(nil, &f, RST, router4, router6)
		var g frame
		if !g.parse(rst) || sound(&g) != "" || g.flags() != flagRST|flagACK || g.ack() != f.seq()+6 ||
			g.src() != f.dst() || g.dst() != f.src() || g.srcPort() != 80 || g.dstPort() != 40000 {
			t.Errorf("v6=%v: bad RST %x", v6, rst)
		}
		var h frame
		h.parse(segment(t, v6, flagACK, nil, []byte("hello")))
		if g.parse(appendReply(nil, &h, RST, router4, router6)); g.flags() != flagRST || g.seq() != h.ack() {
			t.Errorf("v6=%v: bad RST to a segment with ACK", v6)
		}
		for _, a := range []Answer{HostUnreachable, PortUnreachable, AdminProhibited, TooBig} {
			b := appendReply(make([]byte, 0, replySize), &f, a, router4, router6)
			if len(b) > replySize {
				t.Errorf("%s is longer than its buffer", a)
			}
			p := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.Default)
			if v6 {
				l, ok := p.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6)
				if !ok || l4Checksum(b, true, ethLen+ipv6Len, protoICMPv6) != 0 {
					t.Errorf("bad ICMPv6 %s: %v", a, p)
				} else if l.TypeCode.Type() != icmpCodes[a].type6 || l.TypeCode.Code() != icmpCodes[a].code6 {
					t.Errorf("%s: %s", a, l.TypeCode)
				}
				continue
			}
			l, ok := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
			if !ok || ^fold(sum(b[ethLen+ipv4Len:], 0)) != 0 || ^fold(sum(b[ethLen:ethLen+ipv4Len], 0)) != 0 {
				t.Errorf("bad ICMP %s: %v", a, p)
			} else if l.TypeCode.Type() != 3 || l.TypeCode.Code() != icmpCodes[a].code4 {
				t.Errorf("%s: %s", a, l.TypeCode)
			} else if a == TooBig && l.Seq != smallMTU {
				t.Errorf("MTU %d", l.Seq)
			}
		}
	}
}

// everyEdit are the actions that rewrite bytes.
var everyEdit = []Action{
	Strip(Kind34), Strip(Kind254), Strip(AnyKind), Blank(AnyKind), Empty(AnyKind), SetKind(Kind34, Kind254), SetKind(Kind254, Kind34),
	FlipCookie, RandomCookie, ResizeCookie(0), ResizeCookie(7), ResizeCookie(16), ResizeCookie(250), Mirror(true), Mirror(false),
	Truncate(5), StripData, AddAck(1 << 31),
}

// FuzzFrame feeds hostile frames to the parser and, where it takes them, to
// every edit: nothing panics, and what comes out is sound.
func FuzzFrame(f *testing.F) {
	for _, opts := range [][]byte{
		nil, {34, 0}, {34, 1}, {34, 2}, {34, 255}, {34}, {254}, {254, 2}, {254, 3, 0xf9}, {254, 4, 0xf9, 0x89}, {254, 4, 0xf9, 0x88},
		{1, 1, 1, 34, 10, 1, 2, 3, 4, 5, 6, 7, 8}, {0, 34, 2, 0}, {34, 2, 34, 4, 1, 2, 254, 6, 0xf9, 0x89, 1, 2}, {2, 4, 5},
		bytes.Repeat([]byte{1}, 40), append([]byte{34, 40}, make([]byte, 38)...),
	} {
		for _, v6 := range []bool{false, true} {
			b := segment(f, v6, flagSYN, nil, []byte("data"))
			var fr frame
			fr.parse(b)
			// Options as they are, however wrong.
			n := (len(opts) + 3) &^ 3
			raw := append(append(append([]byte(nil), fr.b[:fr.pay]...), append(slices.Clone(opts), make([]byte, n-len(opts))...)...), fr.b[fr.pay:]...)
			raw[fr.l4+12] = byte((tcpLen + n) / 4 << 4)
			if v6 {
				binary.BigEndian.PutUint16(raw[ethLen+4:], uint16(len(raw)-ethLen-ipv6Len))
			} else {
				binary.BigEndian.PutUint16(raw[ethLen+2:], uint16(len(raw)-ethLen))
			}
			f.Add(raw)
			f.Add(raw[:len(raw)-3])
		}
	}
	b := &box{rand: rand.New(rand.NewPCG(1, 2))}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > ethLen+linkMTU {
			return
		}
		for _, a := range everyEdit {
			p := passage{box: b, path: new(path), flow: new(flow)}
			if !p.parse(append(make([]byte, 0, ringFrame), data...)) {
				return
			}
			p.flow.rememberOption(p.options())
			var flags, payload = p.flags(), len(p.payload())
			a.do(&p)
			// The sender's IPv4 header checksum is the sender's business.
			if !p.v6 {
				p.b[ethLen+10], p.b[ethLen+11] = 0, 0
				binary.BigEndian.PutUint16(p.b[ethLen+10:], ^fold(sum(p.b[ethLen:p.l4], 0)))
			}
			p.dirty = true
			p.seal()
			if s := sound(&p.frame); s != "" {
				t.Fatalf("%s: %s wrong", a, s)
			}
			if p.flags() != flags || len(p.payload()) > payload {
				t.Fatalf("%s: flags or payload damaged", a)
			}
			var again frame
			if !again.parse(p.b) || again.pay != p.pay || len(again.b) != len(p.b) {
				t.Fatalf("%s: the result does not parse as itself", a)
			}
			for _, with := range []Answer{RST, HostUnreachable, TooBig} {
				if n := len(appendReply(nil, &p.frame, with, addrKey{}, addrKey{})); n > replySize {
					t.Fatalf("reply of %d bytes", n)
				}
			}
		}
	})
}

// BenchmarkTranslate is the work done on every frame: parse, translate, seal.
func BenchmarkTranslate(b *testing.B) {
	raw := segment(b, false, flagACK, nil, make([]byte, 500))
	var f frame
	b.ReportAllocs()
	for i := range b.N {
		f.parse(raw)
		f.setPort(1, uint16(i))
		f.setAddr(0, addrKey{198, 19, 129, byte(i)})
		f.seal()
	}
}

// BenchmarkRewrite is the work done on a SYN whose option is taken out.
func BenchmarkRewrite(b *testing.B) {
	raw := segment(b, false, flagSYN, synOptions(appendTFO(nil, Kind34, cookie)), make([]byte, 500))
	buf := make([]byte, 0, ringFrame)
	var p passage
	p.path = new(path)
	strip := Strip(AnyKind)
	b.ReportAllocs()
	for b.Loop() {
		p.parse(append(buf[:0], raw...))
		strip.do(&p)
		p.seal()
	}
}
