package dataset

import (
	"encoding/binary"
	"net/netip"
	"time"

	"pgregory.net/rapid"

	"tfofleet/internal/measure"
	"tfofleet/internal/tfo"
)

// genAddr draws no address, IPv4, IPv6, with a zone and v4-mapped.
func genAddr() *rapid.Generator[netip.Addr] {
	return rapid.Custom(func(t *rapid.T) netip.Addr {
		v6 := func() netip.Addr {
			return netip.AddrFrom16([16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "v6")))
		}
		v4 := func() netip.Addr {
			return netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "v4")))
		}
		switch rapid.IntRange(0, 4).Draw(t, "addr") {
		case 0:
			return netip.Addr{}
		case 1:
			return v6()
		case 2:
			return v6().WithZone("eth0")
		case 3:
			return netip.AddrFrom16(v4().As16())
		}
		return v4()
	})
}

// genTime draws the zero time or one with the resolution the tables keep.
func genTime() *rapid.Generator[time.Time] {
	return rapid.Custom(func(t *rapid.T) time.Time {
		if rapid.IntRange(0, 9).Draw(t, "zero") == 0 {
			return time.Time{}
		}
		return time.UnixMicro(rapid.Int64Range(-1e15, 4e15).Draw(t, "time")).UTC()
	})
}

// genNS draws NotKnown or whole microseconds.
func genNS() *rapid.Generator[int64] {
	return rapid.Custom(func(t *rapid.T) int64 {
		us := rapid.Int64Range(-1, 1e9).Draw(t, "us")
		if us < 0 {
			return tfo.NotKnown
		}
		return us * 1000
	})
}

func genBlob(most int) *rapid.Generator[[]byte] {
	return rapid.Custom(func(t *rapid.T) []byte {
		b := rapid.SliceOfN(rapid.Byte(), 0, most).Draw(t, "blob")
		if len(b) == 0 {
			return nil
		}
		return b
	})
}

func genCookie() *rapid.Generator[tfo.Cookie] {
	return rapid.Custom(func(t *rapid.T) tfo.Cookie {
		c := tfo.Cookie{State: tfo.CookieState(rapid.IntRange(0, 2).Draw(t, "state"))}
		if c.State == tfo.CookiePresent {
			c.Bytes = rapid.SliceOfN(rapid.Byte(), 4, 16).Draw(t, "cookie")
		}
		return c
	})
}

var genWord = rapid.StringMatching(`[A-Za-z0-9_.-]{0,20}`)

func genEvidence(target netip.AddrPort) *rapid.Generator[tfo.Evidence] {
	return rapid.Custom(func(t *rapid.T) tfo.Evidence {
		e := tfo.Evidence{
			// Values of a version to come are among them.
			Kind:            tfo.Kind(rapid.IntRange(0, 5).Draw(t, "kind")),
			End:             tfo.End(rapid.IntRange(0, 10).Draw(t, "end")),
			CookieCleared:   tfo.Tri(rapid.IntRange(0, 2).Draw(t, "cleared")),
			Start:           genTime().Draw(t, "start"),
			Local:           netip.AddrPortFrom(genAddr().Draw(t, "local"), rapid.Uint16().Draw(t, "port")),
			Remote:          target,
			OptionKind:      rapid.SampledFrom([]uint8{0, 34, 254}).Draw(t, "option"),
			Offered:         rapid.IntRange(0, 500).Draw(t, "offered"),
			SynBytes:        rapid.IntRange(0, 500).Draw(t, "syn"),
			SynAcked:        rapid.IntRange(-1, 500).Draw(t, "acked"),
			Errno:           rapid.SampledFrom([]string{"", "ECONNREFUSED", "ETIMEDOUT"}).Draw(t, "errno"),
			ConnectNS:       genNS().Draw(t, "connect"),
			FirstByteNS:     genNS().Draw(t, "first"),
			TotalNS:         genNS().Draw(t, "total"),
			SynRetransmits:  rapid.IntRange(0, 7).Draw(t, "synrtx"),
			DataRetransmits: rapid.IntRange(0, 7).Draw(t, "rtx"),
			ClientFail:      rapid.Uint8Range(0, 3).Draw(t, "fail"),
			TCPIOptions:     rapid.Uint8().Draw(t, "options"),
			InfoHandshake:   genBlob(40).Draw(t, "info1"),
			InfoFinal:       genBlob(40).Draw(t, "info2"),
			CookieBefore:    genCookie().Draw(t, "before"),
			CookieAfter:     genCookie().Draw(t, "after"),
			ResponseBytes:   rapid.IntRange(0, 1<<20).Draw(t, "response"),
			ResponseHash:    rapid.Uint64().Draw(t, "hash"),
			WireAbsent:      genWord.Draw(t, "wire"),
			Wire:            genWire().Draw(t, "seen"),
		}
		if rapid.IntRange(0, 9).Draw(t, "elsewhere") == 0 {
			e.Remote = netip.AddrPortFrom(genAddr().Draw(t, "remote"), rapid.Uint16().Draw(t, "remote port"))
		}
		return e
	})
}

// genWire draws facts from the wire that go together, or none.
func genWire() *rapid.Generator[*tfo.Wire] {
	return rapid.Custom(func(t *rapid.T) *tfo.Wire {
		if rapid.Bool().Draw(t, "absent") {
			return nil
		}
		w := &tfo.Wire{
			Syns:            rapid.IntRange(1, 9).Draw(t, "syns"),
			Syn:             genSegment().Draw(t, "syn"),
			RetransmitsBare: tfo.Tri(rapid.IntRange(0, 2).Draw(t, "bare")),
			SynAcks:         rapid.IntRange(0, 3).Draw(t, "syn-acks"),
			Acked:           tfo.NotKnown,
			OverAcked:       rapid.Bool().Draw(t, "over"),
			Resets:          rapid.IntRange(0, 2).Draw(t, "resets"),
			ICMPErrors:      rapid.IntRange(0, 2).Draw(t, "icmp"),
			Incomplete:      rapid.Bool().Draw(t, "incomplete"),
		}
		if w.SynAcks > 0 {
			w.SynAck = genSegment().Draw(t, "syn-ack")
			w.Acked = rapid.IntRange(0, 65535).Draw(t, "acked")
			w.AfterSyns = rapid.IntRange(1, w.Syns).Draw(t, "after")
		}
		if w.Resets > 0 {
			w.ResetTTL, w.ResetHandshake = rapid.Byte().Draw(t, "ttl"), rapid.Bool().Draw(t, "handshake")
		}
		if w.ICMPErrors > 0 {
			w.ICMPType, w.ICMPCode = rapid.Byte().Draw(t, "type"), rapid.Byte().Draw(t, "code")
			w.ICMPFrom = genAddr().Draw(t, "from")
		}
		return w
	})
}

// genSegment draws the headers of an IPv4 segment with any options.
func genSegment() *rapid.Generator[tfo.Segment] {
	return rapid.Custom(func(t *rapid.T) tfo.Segment {
		raw := make([]byte, 40, 80)
		raw[0], raw[8], raw[9] = 0x45, rapid.Byte().Draw(t, "ttl"), 6
		raw = append(raw, make([]byte, 4*rapid.IntRange(0, 10).Draw(t, "options"))...)
		copy(raw[40:], rapid.SliceOfN(rapid.Byte(), 0, len(raw)-40).Draw(t, "bytes"))
		binary.BigEndian.PutUint16(raw[2:], uint16(len(raw)+rapid.IntRange(0, 1400).Draw(t, "payload")))
		raw[32] = byte(len(raw)-20) / 4 << 4
		s, err := tfo.ParseSegment(raw)
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}

func genMeasurement() *rapid.Generator[measure.Measurement] {
	return rapid.Custom(func(t *rapid.T) measure.Measurement {
		m := measure.Measurement{
			Target: measure.Target{
				Item:     rapid.Uint64().Draw(t, "item"),
				Addr:     genAddr().Draw(t, "addr"),
				Port:     rapid.Uint16().Draw(t, "port"),
				Hostname: genWord.Draw(t, "host"),
			},
			Outcome:  measure.Outcome(rapid.IntRange(0, 4).Draw(t, "outcome")),
			Verdict:  measure.Verdict(rapid.IntRange(0, 14).Draw(t, "verdict")),
			Cookie:   genBlob(16).Draw(t, "cookie"),
			Observed: genAddr().Draw(t, "observed"),
			Started:  genTime().Draw(t, "started"),
			Duration: time.Duration(rapid.Int64Range(0, 1e8).Draw(t, "duration")) * time.Microsecond,
		}
		for range rapid.IntRange(0, 4).Draw(t, "conditions") {
			m.Conditions = append(m.Conditions, measure.Condition(rapid.String().Draw(t, "condition")))
		}
		for range rapid.IntRange(0, 6).Draw(t, "attempts") {
			m.Attempts = append(m.Attempts, genEvidence(netip.AddrPortFrom(m.Addr, m.Port)).Draw(t, "attempt"))
		}
		return m
	})
}
