package dataset

import (
	"encoding/hex"
	"net/netip"
	"time"

	"tfofleet/internal/measure"
	"tfofleet/internal/tfo"
)

// supportedTarget is a measurement with one attempt of each kind.
func supportedTarget() measure.Measurement {
	at := time.Date(2026, 11, 20, 12, 0, 0, 123456000, time.UTC)
	remote := netip.MustParseAddrPort("192.0.2.7:443")
	local := netip.MustParseAddrPort("198.51.100.1:40000")
	cookie := tfo.Cookie{State: tfo.CookiePresent, Bytes: []byte{0xde, 0xad, 0xbe, 0xef}}
	return measure.Measurement{
		Target:     measure.Target{Item: 3, Addr: remote.Addr(), Port: 443, Hostname: "www.example"},
		Outcome:    measure.OutcomeMeasured,
		Verdict:    measure.Supported,
		Conditions: []measure.Condition{"tfo.connectivity.works", "tfo.syndata.acked"},
		Cookie:     cookie.Bytes,
		Started:    at,
		Duration:   90 * time.Millisecond,
		Attempts: []tfo.Evidence{
			{
				Kind: tfo.KindPlain, Start: at, Local: local, Remote: remote, Offered: 100, End: tfo.EndResponse,
				ConnectNS: 10_000_999, FirstByteNS: 20_000_000, TotalNS: 21_000_000, TCPIOptions: 7,
				InfoHandshake: []byte{1, 2, 3}, InfoFinal: []byte{4}, ResponseBytes: 10, ResponseHash: 0x0102030405060708,
				WireAbsent: "no_permission",
			},
			{
				Kind: tfo.KindRequest, Start: at, Remote: remote, OptionKind: 34, Offered: 100, SynAcked: tfo.NotKnown, End: tfo.EndRefused, Errno: "ECONNREFUSED",
				ConnectNS: tfo.NotKnown, FirstByteNS: tfo.NotKnown, TotalNS: 5_000_000, SynRetransmits: 1,
				CookieCleared: tfo.Yes, CookieBefore: tfo.Cookie{State: tfo.CookieNone}, CookieAfter: cookie,
			},
			{
				Kind: tfo.KindData, Start: at, Local: local, Remote: remote, OptionKind: 34, Offered: 100, SynBytes: 100, SynAcked: 100, End: tfo.EndResponse,
				ConnectNS: 10_000_000, FirstByteNS: 10_500_000, TotalNS: 11_000_000, TCPIOptions: 39, CookieCleared: tfo.No,
				CookieBefore: cookie, CookieAfter: cookie, ResponseBytes: 10, ResponseHash: 0x0102030405060708,
				Wire: &tfo.Wire{
					Syns: 1, Syn: segment("450000a80000400040060000c6336401c00002079c4001bb000003e800000000c002faf000000000020405b40402080a0000000100000000010303072206deadbeef0101"),
					SynAcks: 1, SynAck: segment("4500002c0000400040060000c0000207c633640101bb9c40000013880000044d6012faf000000000020405b4"), Acked: 100, AfterSyns: 1,
					Resets: 1, ResetTTL: 55, ResetHandshake: true,
				},
			},
		},
	}
}

// segment is the segment whose headers are given in hex.
func segment(headers string) tfo.Segment {
	raw, err := hex.DecodeString(headers)
	if err != nil {
		panic(err)
	}
	s, err := tfo.ParseSegment(raw)
	if err != nil {
		panic(err)
	}
	return s
}

// unresolvedTarget is a measurement that never had an address.
func unresolvedTarget() measure.Measurement {
	return measure.Measurement{
		Target:     measure.Target{Item: 4, Port: 443, Hostname: `a "quoted", name`},
		Outcome:    measure.OutcomeMeasured,
		Verdict:    measure.Offline,
		Conditions: []measure.Condition{"tfo.connectivity.offline"},
		Duration:   time.Millisecond,
	}
}
