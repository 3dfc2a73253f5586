package report

import (
	"net/netip"
	"strings"
	"testing"

	"tfofleet/internal/measure"
	"tfofleet/internal/tfo"
)

// TestTrace tells a measurement that has everything a trace can show: with and
// without facts from the wire, answers and failures of every kind.
func TestTrace(t *testing.T) {
	cookie := tfo.Cookie{State: tfo.CookiePresent, Bytes: []byte("\x01\x02\x03\x04\x05\x06\x07\x08")}
	none := tfo.Cookie{State: tfo.CookieNone}
	local := netip.MustParseAddrPort("192.0.2.9:40000")
	attempts := []tfo.Evidence{
		{Kind: tfo.KindPlain, Local: local, End: tfo.EndResponse, ConnectNS: 12_340_000, FirstByteNS: 25_000_000, ResponseBytes: 73, CookieBefore: none, CookieAfter: none, WireAbsent: tfo.WireNoRight},
		{
			Kind: tfo.KindRequest, Local: local, OptionKind: 34, End: tfo.EndResponse, ConnectNS: 12_340_000, FirstByteNS: 25_000_000, ResponseBytes: 73, ClientFail: 1,
			CookieCleared: tfo.Yes, CookieBefore: none, CookieAfter: cookie,
			Wire: &tfo.Wire{Syns: 1, Syn: tfo.Segment{OptionKind: 34}, SynAcks: 1, SynAck: tfo.Segment{OptionKind: 34, Cookie: cookie.Bytes}},
		},
		{
			Kind: tfo.KindData, Local: local, OptionKind: 34, Offered: 100, SynBytes: 100, SynAcked: 0, End: tfo.EndSilent, ConnectNS: 1_020_000_000, TotalNS: 6_000_000_000,
			SynRetransmits: 1, ClientFail: 3, CookieBefore: cookie, CookieAfter: cookie,
			Wire: &tfo.Wire{Syns: 2, RetransmitsBare: tfo.Yes, Syn: tfo.Segment{OptionKind: 34, Cookie: cookie.Bytes, Payload: 100}, SynAcks: 1},
		},
		{
			Kind: tfo.KindData, Local: local, OptionKind: 34, Offered: 100, SynBytes: 100, SynAcked: tfo.NotKnown, End: tfo.EndRefused, Errno: "EHOSTUNREACH", TotalNS: 3_000_000,
			CookieBefore: cookie, CookieAfter: cookie,
			Wire: &tfo.Wire{Syns: 1, Syn: tfo.Segment{OptionKind: 34, Cookie: cookie.Bytes, Payload: 100}, ICMPErrors: 1, ICMPType: 3, ICMPCode: 1, ICMPFrom: netip.MustParseAddr("192.0.2.1")},
		},
		{Kind: tfo.KindData, End: tfo.EndLocal, Errno: "ENETUNREACH"},
	}
	m := measure.Measurement{Target: measure.Target{Addr: netip.MustParseAddr("198.51.100.7"), Port: 443, Hostname: "www.example.com"}, Attempts: attempts}
	m.Verdict, m.Conditions = measure.Classify(measure.Standard, attempts)
	var b strings.Builder
	if err := Trace(&b, measure.Standard, m); err != nil {
		t.Fatal(err)
	}
	golden(t, "trace.txt", b.String())
}
