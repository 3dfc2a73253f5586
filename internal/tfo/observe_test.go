package tfo

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var (
	isn uint32 = 0xfffffff0 // wraps within the SYN's data
	irs uint32 = 0x7000
)

// A wireTest says what a peer does to one SYN, and what must be seen of it. The
// names in brackets are packetdrill scripts that play the same peer
// (google/packetdrill, tcp/fastopen).
type wireTest struct {
	name   string
	syns   []packet // the first is sent before the answers, the others after
	answer []packet
	want   Wire // Syn and SynAck are compared by their TFO facts only
}

func decoded(b []byte) (p packet) {
	if !decodePacket(b, &p) {
		panic("not a packet")
	}
	return p
}

func syn(options []byte, payload int) packet {
	return decoded(seg(us, them, isn, 0, flagSYN, options, payload))
}

// synAck acknowledges the SYN and n bytes of its payload.
func synAck(n int, options []byte, payload int) packet {
	b := seg(them, us, irs, isn+1+uint32(n), flagSYN|flagACK, options, payload)
	b[8] = 55 // TTL
	return decoded(b)
}

func TestWire(t *testing.T) {
	cookie := []byte("ABCDEFGH")
	request, data := syn(tfo34(), 0), syn(tfo34(cookie...), 100)
	wireTo := func(kind uint8, cookie []byte, payload int, then func(*Wire)) Wire {
		w := Wire{Syns: 1, Syn: Segment{OptionKind: kind, Cookie: cookie, Payload: payload}, Acked: NotKnown}
		then(&w)
		return w
	}
	asked := func(then func(*Wire)) Wire { return wireTo(34, nil, 0, then) }
	sent := func(then func(*Wire)) Wire { return wireTo(34, cookie, 100, then) }
	got := func(acked int, s Segment) func(*Wire) {
		return func(w *Wire) { w.SynAcks, w.Acked, w.AfterSyns, w.SynAck = 1, acked, 1, s }
	}
	nothing := func(*Wire) {}

	tests := []wireTest{
		{"no answer", []packet{request}, nil, asked(nothing)},
		{"request, cookie", []packet{request}, []packet{synAck(0, tfo34(cookie...), 0)}, asked(got(0, Segment{OptionKind: 34, Cookie: cookie}))},
		{"request, no option", []packet{request}, []packet{synAck(0, linuxSYN[:20], 0)}, asked(got(0, Segment{}))},
		{"request, mirrored", []packet{request}, []packet{synAck(0, tfo34(), 0)}, asked(got(0, Segment{OptionKind: 34}))},
		{"request of kind 254 [fallback-exp-opt]", []packet{syn(tfo254(), 0)}, []packet{synAck(0, tfo254(cookie...), 0)}, wireTo(254, nil, 0, got(0, Segment{OptionKind: 254, Cookie: cookie}))},
		{"request, odd cookie [valid-cookie-format]", []packet{request}, []packet{synAck(0, tfo34(cookie[:7]...), 0)}, asked(got(0, Segment{OptionKind: 34, Cookie: cookie[:7]}))},
		{"request, both kinds", []packet{request}, []packet{synAck(0, append(tfo34(1, 2, 3, 4), tfo254(cookie...)...), 0)}, asked(got(0, Segment{OptionKind: 254, Cookie: cookie, BothKinds: true}))},
		{"request, the option twice", []packet{request}, []packet{synAck(0, append(tfo34(1, 2, 3, 4), tfo34(cookie...)...), 0)}, asked(got(0, Segment{OptionKind: 34, Cookie: cookie, Repeated: true}))},
		{"request, an option past the end", []packet{request}, []packet{synAck(0, []byte{34, 10, 1, 1}, 0)}, asked(got(0, Segment{Malformed: true}))},
		{"plain SYN, unsolicited cookie", []packet{syn(linuxSYN[:20], 0)}, []packet{synAck(0, tfo34(cookie...), 0)}, wireTo(0, nil, 0, got(0, Segment{OptionKind: 34, Cookie: cookie}))},
		{"all data acked", []packet{data}, []packet{synAck(100, nil, 0)}, sent(got(100, Segment{}))},
		{"data not acked [syn-data-only-syn-acked]", []packet{data}, []packet{synAck(0, nil, 0)}, sent(got(0, Segment{}))},
		{"part of the data acked [syn-data-partial-or-over-ack]", []packet{data}, []packet{synAck(60, nil, 0)}, sent(got(60, Segment{}))},
		{"over-acked [syn-data-partial-or-over-ack]", []packet{data}, []packet{synAck(101, nil, 0)}, sent(func(w *Wire) { got(101, Segment{})(w); w.OverAcked = true })},
		{"over-acked, then right", []packet{data}, []packet{synAck(200, nil, 0), synAck(100, tfo34(cookie...), 0)}, sent(func(w *Wire) {
			got(100, Segment{OptionKind: 34, Cookie: cookie})(w)
			w.SynAcks, w.OverAcked = 2, true
		})},
		{"data on the SYN-ACK [synack-data]", []packet{data}, []packet{synAck(100, nil, 400)}, sent(got(100, Segment{Payload: 400}))},
		{"SYN-ACK sent again, without its cookie", []packet{request}, []packet{synAck(0, tfo34(cookie...), 0), synAck(0, nil, 0)}, asked(func(w *Wire) {
			got(0, Segment{OptionKind: 34, Cookie: cookie})(w)
			w.SynAcks = 2
		})},
		{"data lost, sent again bare [syn-data-timeout]", []packet{data, syn(nil, 0)}, nil, sent(func(w *Wire) { w.Syns, w.RetransmitsBare = 2, Yes })},
		{"sent again as it was", []packet{data, data, syn(nil, 0)}, nil, sent(func(w *Wire) { w.Syns, w.RetransmitsBare = 3, No })},

		{"SYN-ACK of another connection", []packet{data}, []packet{{seq: irs, ack: isn + 0x20000, flags: flagSYN | flagACK}}, sent(nothing)},
		{"SYN-ACK that does not acknowledge the SYN", []packet{data}, []packet{{seq: irs, ack: isn, flags: flagSYN | flagACK}}, sent(nothing)},

		{"RST to the SYN", []packet{data}, []packet{{ack: isn + 101, flags: flagRST | flagACK, ttl: 50}}, sent(func(w *Wire) { w.Resets, w.ResetTTL = 1, 50 })},
		{"RST to the SYN only", []packet{data}, []packet{{ack: isn + 1, flags: flagRST | flagACK, ttl: 50}}, sent(func(w *Wire) { w.Resets, w.ResetTTL = 1, 50 })},
		{"blind RST", []packet{data}, []packet{{seq: 5, flags: flagRST, ttl: 50}}, sent(nothing)},
		{"RST with a stale acknowledgement", []packet{data}, []packet{{ack: isn + 102, flags: flagRST | flagACK, ttl: 50}}, sent(nothing)},
		{"RST after the handshake, twice", []packet{data}, []packet{synAck(100, nil, 0), {seq: irs + 1, flags: flagRST, ttl: 50}, {seq: irs + 900, flags: flagRST, ttl: 51}}, sent(func(w *Wire) {
			got(100, Segment{})(w)
			w.Resets, w.ResetTTL, w.ResetHandshake = 2, 50, true
		})},
		{"RST far outside after the handshake", []packet{data}, []packet{synAck(100, nil, 0), {seq: irs - 9, flags: flagRST, ttl: 50}}, sent(got(100, Segment{}))},
		{"RST to an over-acked handshake", []packet{data}, []packet{synAck(101, nil, 0), {ack: isn + 1, flags: flagRST | flagACK, ttl: 50}}, sent(func(w *Wire) {
			got(101, Segment{})(w)
			w.OverAcked, w.Resets, w.ResetTTL = true, 1, 50
		})},

		{"ICMP about the SYN [syn-data-icmp-unreach-frag-needed-with-seq]", []packet{data}, []packet{
			{seq: isn, icmp: true, icmpType: 3, icmpCode: 4, icmpFrom: router4.As16()},
			{seq: isn + 1, icmp: true, icmpType: 3, icmpCode: 1},
		}, sent(func(w *Wire) { w.ICMPErrors, w.ICMPType, w.ICMPCode, w.ICMPFrom = 2, 3, 4, router4 })},
		{"ICMP about an old connection", []packet{data}, []packet{{seq: isn - 1, icmp: true, icmpType: 3, icmpCode: 4}}, sent(nothing)},
		{"answers before the SYN", nil, []packet{synAck(0, nil, 0), {ack: 1, flags: flagRST | flagACK}, {icmp: true}}, Wire{Acked: NotKnown}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := Wire{Acked: NotKnown}
			for i, p := range tt.syns {
				if i == 0 {
					w.sawSYN(&p)
				}
			}
			for _, p := range tt.answer {
				w.sawAnswer(&p)
			}
			for i, p := range tt.syns {
				if i > 0 {
					w.sawSYN(&p)
				}
			}
			if w.Syns > 0 && (w.Syn.Seq != isn || w.Syn.TTL != 64) || w.SynAcks > 0 && (w.SynAck.Seq != irs || w.SynAck.TTL != 55) {
				t.Errorf("SYN %+v, SYN-ACK %+v", w.Syn, w.SynAck)
			}
			for _, s := range []*Segment{&w.Syn, &w.SynAck} {
				*s = Segment{Payload: s.Payload, OptionKind: s.OptionKind, Cookie: s.Cookie, BothKinds: s.BothKinds, Repeated: s.Repeated, Malformed: s.Malformed}
			}
			if diff := cmp.Diff(tt.want, w, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestLateCookie(t *testing.T) {
	// The SYN-ACK to the first SYN is late, the second SYN is on its way
	// [cookie-req-timeout].
	w := Wire{Acked: NotKnown}
	first, again := syn(tfo34(), 0), syn(nil, 0)
	late := synAck(0, tfo34(1, 2, 3, 4), 0)
	w.sawSYN(&first)
	w.sawSYN(&again)
	w.sawAnswer(&late)
	if w.AfterSyns != 2 || !w.SynAck.CookieUsable() || w.RetransmitsBare != Yes {
		t.Errorf("%+v", w)
	}
}

func TestSegmentWords(t *testing.T) {
	for n, usable := range map[int]bool{0: false, 2: false, 3: false, 4: true, 5: false, 6: true, 8: true, 16: true, 18: false, 38: false} {
		s := Segment{OptionKind: 34, Cookie: make([]byte, n)}
		if s.CookieUsable() != usable || s.Mirrored() != (n == 0) {
			t.Errorf("cookie of %d bytes: usable %v, mirrored %v", n, s.CookieUsable(), s.Mirrored())
		}
	}
	if (&Segment{}).Mirrored() {
		t.Error("no option is mirrored")
	}
}

func TestParseSegment(t *testing.T) {
	w := Wire{Acked: NotKnown}
	p := syn(linuxSYN, 30)
	w.sawSYN(&p)
	raw := w.Syn.Raw
	got, err := ParseSegment(raw)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(w.Syn, got); diff != "" {
		t.Errorf("-seen +parsed:\n%s", diff)
	}
	if none, err := ParseSegment(nil); err != nil || none.Raw != nil || none.WindowScale != 0 {
		t.Errorf("no segment: %+v, %v", none, err)
	}
	for _, bad := range [][]byte{raw[:1], raw[:39], raw[:40], append(bytes.Clone(raw), 0), make([]byte, 40), icmpError(router4, us4, 3, 1, raw)} {
		if s, err := ParseSegment(bad); err == nil {
			t.Errorf("%d bytes: %+v", len(bad), s)
		}
	}
}
