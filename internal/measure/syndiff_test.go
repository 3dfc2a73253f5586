package measure

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"tfofleet/internal/tfo"
)

// pairOf is a pair whose SYN left as sent and arrived as got; a nil sent was
// not seen.
func pairOf(t *testing.T, sent, got []byte, change func(*tfo.Evidence, *tfo.Arrival)) *Pair {
	t.Helper()
	ev := data(100, cookieA)
	ev.Local, ev.Remote = netip.MustParseAddrPort("192.0.2.7:40000"), roadListener
	if sent != nil {
		s, err := tfo.ParseSegment(sent)
		if err != nil {
			t.Fatal(err)
		}
		ev.Wire = &tfo.Wire{Syns: 1, Syn: s}
	}
	syn, err := tfo.DecodeSYN(got)
	if err != nil {
		t.Fatal(err)
	}
	a := &tfo.Arrival{Peer: syn.Src, Local: syn.Dst, SYN: syn, SynBytes: syn.Payload, SynTaken: syn.Payload, Request: make([]byte, 100)}
	if change != nil {
		change(&ev, a)
	}
	return &Pair{Attempt: &ev, Arrival: a, Bond: BondNonce}
}

// usual is a SYN with cookie A and 100 bytes of data; change sees its options
// split and its headers raw.
func usualSYN(change func(b []byte)) []byte {
	s := syn{kind: 34, cookie: cookieA, data: 100, seq: 1000, ts: 5000, mss: 1460, from: netip.MustParseAddrPort("192.0.2.7:40000")}
	b := s.raw()
	if change != nil {
		change(b)
	}
	return b
}

// put writes bytes at an offset of the SYN: 0 IP, 20 TCP, 40 options (MSS 40,
// SACK permitted 44, timestamps 46, NOP 56... as road_test.go lays them out).
func put(at int, v ...byte) func([]byte) { return func(b []byte) { copy(b[at:], v) } }

func TestSynDiff(t *testing.T) {
	diff := func(f SynField, before, after string) Difference {
		return Difference{Field: f, Change: Rewritten, Before: before, After: after}
	}
	opt := func(kind uint8, d Difference) Difference { d.Option = kind; return d }
	removed := func(f SynField, kind uint8, before string) Difference {
		return Difference{Field: f, Change: Removed, Option: kind, Before: before}
	}
	usual := usualSYN(nil)
	if o := splitOptions(usual[40:]); len(o) != 5 || o[3].kind != kindWScale || o[4].kind != 34 {
		t.Fatalf("options %v", o)
	}
	const mss, sack, times, wscale, fast = 40, 44, 46, 56, 60
	tests := []struct {
		name string
		got  func([]byte)
		want []Difference
		text string
	}{
		{"the same", nil, nil, ""},
		{"source address", put(12, 203, 0, 113, 9), []Difference{diff(FieldSourceAddress, "192.0.2.7", "203.0.113.9")}, "source address from 192.0.2.7 to 203.0.113.9"},
		{"source port", put(20, 0, 99), []Difference{diff(FieldSourcePort, "40000", "99")}, "source port from 40000 to 99"},
		{"destination", put(16, 10, 0, 0, 1), []Difference{diff(FieldDestinationAddress, "198.51.100.1", "10.0.0.1")}, ""},
		{"destination port", put(22, 31, 144), []Difference{diff(FieldDestinationPort, "80", "8080")}, ""},
		{"DSCP", put(1, 0x28), []Difference{diff(FieldDSCP, "0", "10")}, "dscp from 0 to 10"},
		{"ECN of the IP header", put(1, 2), []Difference{diff(FieldECN, "0", "2")}, ""},
		{"TTL", put(8, 57), []Difference{diff(FieldTTL, "64", "57")}, "ttl from 64 to 57"},
		{"identification", put(4, 0, 7), []Difference{diff(FieldIPID, "0", "7")}, ""},
		{"don't fragment", put(6, 0), []Difference{diff(FieldDontFragment, "true", "false")}, ""},
		{"ISN", put(24, 0, 0, 9, 9), []Difference{diff(FieldISN, "1000", "2313")}, ""},
		{"ECE and CWR", put(33, 0xc2), []Difference{diff(FieldECNFlags, "0", "192")}, ""},
		{"PSH", put(33, 0x0a), []Difference{diff(FieldFlags, "2", "10")}, ""},
		{"window", put(34, 1, 0), []Difference{diff(FieldWindow, "64240", "256")}, ""},
		{"MSS clamped", put(mss+2, 5, 100), []Difference{opt(2, diff(FieldMSS, "1460", "1380"))}, "mss from 1460 to 1380"},
		{"MSS blanked", put(mss, 1, 1, 1, 1), []Difference{removed(FieldMSS, 2, "1460")}, "mss removed (it was 1460)"},
		{"SACK blanked", put(sack, 1, 1), []Difference{removed(FieldSACKPermitted, 4, "yes")}, "sack permitted removed (it was yes)"},
		{"timestamps blanked", put(times, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1), []Difference{removed(FieldTimestamps, 8, "0000138800000000")}, ""},
		{"timestamps rewritten", put(times+5, 0x89), []Difference{opt(8, diff(FieldTimestamps, "0000138800000000", "0000138900000000"))}, ""},
		{"window scale", put(wscale+3, 2), []Difference{opt(3, diff(FieldWindowScale, "7", "2"))}, ""},
		{"window scale blanked", put(wscale, 1, 1, 1, 1), []Difference{removed(FieldWindowScale, 3, "7")}, ""},
		{"cookie", put(fast+2, 'B'), []Difference{opt(34, diff(FieldFastOpen, "34 4141414141414141", "34 4241414141414141"))}, ""},
		{"TFO blanked", put(fast, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1), []Difference{removed(FieldFastOpen, 34, "34 4141414141414141")}, "fast open removed (it was 34 4141414141414141)"},
		{"another option in its place", put(fast, 200), []Difference{
			removed(FieldFastOpen, 34, "34 4141414141414141"),
			{Field: FieldOption, Change: Added, Option: 200, After: "4141414141414141"},
		}, ""},
		{"MSS behind SACK", put(mss, 4, 2, 2, 4, 5, 180), []Difference{diff(FieldOptionOrder, "2 4 8 3", "4 2 8 3")}, "option order from 2 4 8 3 to 4 2 8 3"},
		{"payload cut", func(b []byte) { binary.BigEndian.PutUint16(b[2:], uint16(len(b)+20)) }, []Difference{diff(FieldPayloadLength, "100", "20")}, ""},
	}
	covered := map[SynField]bool{FieldPayload: true, FieldFlowLabel: true} // below
	for _, tt := range tests {
		p := pairOf(t, usual, usualSYN(tt.got), nil)
		c := SynDiff(p, make([]byte, 100))
		if !slices.Equal(c.Differences, tt.want) || c.Unknown != tfo.NotTried || !slices.Equal(c.NotKnown, []SynField{FieldFlowLabel}) {
			t.Errorf("%s: %+v, want %+v", tt.name, c, tt.want)
		}
		for i, d := range c.Differences {
			covered[d.Field] = true
			if i == 0 && tt.text != "" && d.String() != tt.text {
				t.Errorf("%s: %q, want %q", tt.name, d, tt.text)
			}
			if d.Rewrite() == (d.Field == FieldTTL) {
				t.Errorf("%s: rewritten: %v", tt.name, d.Rewrite())
			}
		}
	}
	for f := FieldSourceAddress; f <= FieldOptionOrder; f++ {
		if !covered[f] {
			t.Errorf("no row for %v", f)
		}
	}
}

// What can be told without the client's wire, of a repetition, without the SYN,
// and of a payload whose bytes are known.
func TestSynDiffKnowsLess(t *testing.T) {
	usual := usualSYN(nil)
	changed := usualSYN(func(b []byte) {
		put(12, 203, 0, 113, 9)(b)
		put(42, 5, 100)(b)
		put(62, 'B')(b)
	})
	wirelessly := SynDiff(pairOf(t, nil, changed, nil), make([]byte, 100))
	if got := fields(wirelessly.Differences); !slices.Equal(got, []SynField{FieldSourceAddress, FieldFastOpen}) || !slices.Contains(wirelessly.NotKnown, FieldMSS) || slices.Contains(wirelessly.NotKnown, FieldPayload) {
		t.Errorf("without the wire: %+v", wirelessly)
	}

	// Sent again a second later: bare, and a packet of its own.
	again := func(ev *tfo.Evidence, _ *tfo.Arrival) { ev.SynRetransmits, ev.Wire.Syns = 1, 2 }
	s := syn{seq: 1000, ts: 6000, mss: 1380, from: netip.MustParseAddrPort("192.0.2.7:40000")}
	c := SynDiff(pairOf(t, usual, s.raw(), again), nil)
	if got := fields(c.Differences); !slices.Equal(got, []SynField{FieldMSS}) || !slices.Contains(c.NotKnown, FieldFastOpen) || !slices.Contains(c.NotKnown, FieldPayloadLength) {
		t.Errorf("a repetition: %+v", c)
	}

	p := pairOf(t, usual, usual, func(_ *tfo.Evidence, a *tfo.Arrival) { a.Request[7] = 'x' })
	if got := fields(SynDiff(p, make([]byte, 100)).Differences); !slices.Equal(got, []SynField{FieldPayload}) {
		t.Errorf("a byte of the payload changed: %v", got)
	}
	if c := SynDiff(p, nil); len(c.Differences) > 0 || !slices.Contains(c.NotKnown, FieldPayload) {
		t.Errorf("the payload is not known: %+v", c)
	}

	none := pairOf(t, usual, usual, func(_ *tfo.Evidence, a *tfo.Arrival) { a.SYN, a.SynBytes = tfo.SavedSYN{}, tfo.NotKnown })
	if c := SynDiff(none, nil); len(c.Differences) > 0 || len(c.NotKnown) != len(fieldNames)-1-4 {
		t.Errorf("no SYN was kept: %+v", c)
	}
	if c := SynDiff(&Pair{Attempt: none.Attempt}, nil); len(c.Differences) > 0 || len(c.NotKnown) != len(fieldNames)-1 {
		t.Errorf("nothing arrived: %+v", c)
	}

	strange := usualSYN(put(60, 200))
	if c := SynDiff(pairOf(t, strange, strange, nil), nil); c.Unknown != tfo.Yes {
		t.Errorf("an unknown option that survived: %+v", c)
	}
	if c := SynDiff(pairOf(t, strange, usual, nil), nil); c.Unknown != tfo.No {
		t.Errorf("one that did not: %+v", c)
	}

	// IPv6: the flow label.
	six := func(label byte) []byte {
		b := make([]byte, 60)
		b[0], b[3], b[5], b[6], b[7] = 0x60, label, 20, 6, 64
		b[8], b[24], b[52], b[53] = 0x20, 0x20, 0x50, 2
		return b
	}
	if c := SynDiff(pairOf(t, six(1), six(2), func(ev *tfo.Evidence, a *tfo.Arrival) {
		ev.Local, ev.Remote, ev.OptionKind, ev.SynBytes = a.Peer, a.Local, 0, 0
		ev.Kind = tfo.KindPlain
	}), nil); !slices.Equal(fields(c.Differences), []SynField{FieldFlowLabel}) {
		t.Errorf("another flow label: %+v", c)
	}
}

func fields(ds []Difference) (fs []SynField) {
	for _, d := range ds {
		fs = append(fs, d.Field)
	}
	return fs
}

func FuzzSynDiff(f *testing.F) {
	f.Add(usualSYN(nil), usualSYN(put(60, 200)))
	f.Add(usualSYN(put(40, 0)), usualSYN(put(40, 2, 0)))
	f.Fuzz(func(t *testing.T, sent, got []byte) {
		s, err := tfo.ParseSegment(sent)
		syn, err2 := tfo.DecodeSYN(got)
		if err != nil || err2 != nil {
			return
		}
		ev := data(100, cookieA)
		ev.Wire = &tfo.Wire{Syns: 1, Syn: s}
		p := &Pair{Attempt: &ev, Arrival: &tfo.Arrival{SYN: syn, SynBytes: syn.Payload, Peer: syn.Src, Local: syn.Dst}}
		c := SynDiff(p, nil)
		for _, d := range c.Differences {
			if d.Field == 0 || d.Change == 0 || d.String() == "" || d.Before == d.After && d.Field != FieldFastOpen {
				t.Fatalf("%+v", d)
			}
		}
		Joint(Sides{Plan: Standard, Attempts: []tfo.Evidence{ev}, Arrivals: []*tfo.Arrival{p.Arrival}})
	})
}
