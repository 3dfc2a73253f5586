package lab

import (
	"bytes"
	"slices"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// TestRewritings applies what is not about Fast Open to frames of both families
// and reads the result with another decoder.
func TestRewritings(t *testing.T) {
	ask := appendTFO(nil, Kind34, nil)
	ecn := func(p *passage) { p.b[p.l4+13] |= flagECE | flagCWR; p.dirty = true; p.seal() }
	marked := func(p *passage) { p.setTOS(0xb9) } // expedited forwarding, ECT(1)
	back := func(p *passage) { p.dir = Return }
	blocks := []byte{optNOP, optNOP, optSACKBlocks, 10, 0, 0, 0, 9, 0, 0, 0, 20}
	for _, tt := range []struct {
		name    string
		flags   byte
		opts    []byte
		prepare func(*passage)
		do      Action
		struck  bool
		options []byte // nil: unchanged
		check   func(ip gopacket.Layer, tcp *layers.TCP) bool
	}{
		{"clamp", flagSYN, synOptions(ask), nil, ClampMSS(1380), true, slices.Concat([]byte{2, 4, 5, 100}, sackTS, wscale, ask), nil},
		{"clamp what is low", flagSYN, synOptions(ask), nil, ClampMSS(1460), false, nil, nil},
		{"clamp nothing", flagSYN, wscale, nil, ClampMSS(1380), false, nil, nil},
		{"strip SACK", flagSYN, synOptions(ask), nil, StripOptions(optSACK), true, slices.Concat(mss, sackTS[2:], wscale, ask), nil},
		{"strip two", flagSYN, synOptions(ask), nil, StripOptions(optSACK, optTimestamps), true, slices.Concat(mss, wscale, ask), nil},
		{"strip what is not there", flagSYN, mss, nil, StripOptions(optWScale), false, nil, nil},
		{"bleach the offer", flagSYN, mss, ecn, BleachECN, true, nil, func(_ gopacket.Layer, tcp *layers.TCP) bool { return !tcp.ECE && !tcp.CWR }},
		{"bleach the mark", flagACK, nil, marked, BleachECN, true, nil, func(ip gopacket.Layer, _ *layers.TCP) bool { return tosOf(ip) == 0xb8 }},
		{"leave a congestion echo", flagACK, nil, ecn, BleachECN, false, nil, func(_ gopacket.Layer, tcp *layers.TCP) bool { return tcp.ECE && tcp.CWR }},
		{"DSCP", flagSYN, mss, marked, SetDSCP(10), true, nil, func(ip gopacket.Layer, _ *layers.TCP) bool { return tosOf(ip) == 0x29 }},
		{"the same DSCP", flagSYN, mss, marked, SetDSCP(46), false, nil, func(ip gopacket.Layer, _ *layers.TCP) bool { return tosOf(ip) == 0xb9 }},
		{"ISN", flagSYN, mss, nil, ShiftISN(5), true, nil, func(_ gopacket.Layer, tcp *layers.TCP) bool { return tcp.Seq == 1005 && tcp.Ack == 2000 }},
		{"ISN on the way back", flagACK, blocks, back, ShiftISN(5), true, []byte{optNOP, optNOP, optSACKBlocks, 10, 0, 0, 0, 4, 0, 0, 0, 15}, func(_ gopacket.Layer, tcp *layers.TCP) bool {
			return tcp.Seq == 1000 && tcp.Ack == 1995
		}},
	} {
		for _, v6 := range []bool{false, true} {
			var p passage
			p.path, p.dir = new(path), Forward
			if !p.parse(segment(t, v6, tt.flags, tt.opts, []byte("data"))) {
				t.Fatal("cannot parse", tt.name)
			}
			if tt.prepare != nil {
				tt.prepare(&p)
			}
			if got := tt.do.do(&p); got != tt.struck || p.path.modified.Load() > 0 != tt.struck {
				t.Errorf("%s: struck = %v", tt.name, got)
			}
			p.seal()
			if s := sound(&p.frame); s != "" {
				t.Errorf("%s v6=%v: %s wrong", tt.name, v6, s)
			}
			tcp, payload := decoded(t, p.b)
			want := tt.options
			if want == nil {
				want = tt.opts
			}
			if !bytes.Equal(trimPadding(p.options()), trimPadding(want)) || string(payload) != "data" {
				t.Errorf("%s v6=%v: options %v, want %v, payload %q", tt.name, v6, p.options(), want, payload)
			}
			ip := gopacket.NewPacket(p.b, layers.LayerTypeEthernet, gopacket.Default).NetworkLayer()
			if tt.check != nil && !tt.check(ip, tcp) {
				t.Errorf("%s v6=%v: %+v", tt.name, v6, tcp)
			}
		}
	}
}

func tosOf(ip gopacket.Layer) uint8 {
	switch l := ip.(type) {
	case *layers.IPv4:
		return l.TOS
	case *layers.IPv6:
		return l.TrafficClass
	}
	return 0
}
