package dataset

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"os"
	"testing"
	"time"

	"tfofleet/internal/measure"
	"tfofleet/internal/tfo"
)

// tcpInfo makes a struct tcp_info as a kernel 6.x fills it: the state bytes,
// the MSS and the counters repeat, the times do not.
func tcpInfo(r *rand.Rand, final bool) []byte {
	b := make([]byte, 280)
	put := func(off int, v uint32) { binary.LittleEndian.PutUint32(b[off:], v) }
	rtt := 20000 + r.Uint32N(60000)
	b[0], b[5], b[6], b[7] = 1, 0x27, 0x77, 0x80
	put(8, rtt+200000)    // rto
	put(16, 1460)         // snd_mss
	put(20, 536)          // rcv_mss
	put(44, r.Uint32N(8)) // last_data_sent
	put(52, r.Uint32N(8))
	put(60, 1500)  // pmtu
	put(64, 64088) // rcv_ssthresh
	put(68, rtt)
	put(72, rtt/2)
	put(76, 0x7fffffff)
	put(80, 10)
	put(84, 1460)
	put(88, 3)
	put(96, 14600)
	put(104, uint32(10*1460*1000000/uint64(rtt))) // pacing_rate
	put(112, 0xffffffff)
	put(116, 0xffffffff)
	put(120, 200) // bytes_acked
	put(136, 3)
	put(140, 1)
	put(148, rtt)
	if final {
		put(128, 512+r.Uint32N(900)) // bytes_received
		put(140, 4)
		put(160, r.Uint32N(100)*1000)
		put(200, 517)
	}
	put(228, 64240)
	put(244, 65535)
	return b
}

// fullChunk is 8192 healthy measurements of 5 attempts each.
func fullChunk(r *rand.Rand) []measure.Measurement {
	const n = 8192
	ms := make([]measure.Measurement, n)
	start := time.Unix(1763668800, 0)
	for i := range ms {
		addr := netip.AddrFrom4([4]byte{byte(r.Uint32N(223) + 1), byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32())})
		remote := netip.AddrPortFrom(addr, 443)
		start = start.Add(time.Duration(r.Uint32N(500)) * time.Microsecond)
		cookie := binary.BigEndian.AppendUint64(nil, r.Uint64())
		m := measure.Measurement{
			Target:     measure.Target{Item: uint64(i), Addr: addr, Port: 443},
			Outcome:    measure.OutcomeMeasured,
			Verdict:    measure.Supported,
			Conditions: []measure.Condition{"tfo.connectivity.works", "tfo.cookie.received", "tfo.syndata.acked"},
			Cookie:     cookie,
			Started:    start,
			Duration:   time.Duration(r.Uint32N(1e9)),
		}
		for seq := range 5 {
			rtt := 20e6 + int64(r.Uint32N(60e6))
			e := tfo.Evidence{
				Kind: tfo.KindPlain, Start: start.Add(time.Duration(seq) * 100 * time.Millisecond),
				Local: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, 1}), uint16(32768+r.Uint32N(28000))), Remote: remote,
				Offered: 202, SynAcked: 0, End: tfo.EndResponse,
				ConnectNS: rtt, FirstByteNS: 2*rtt + int64(r.Uint32N(1e6)), TotalNS: 2*rtt + int64(r.Uint32N(2e6)),
				TCPIOptions: 7, InfoHandshake: tcpInfo(r, false), InfoFinal: tcpInfo(r, true),
				CookieCleared: tfo.NotTried,
				CookieBefore:  tfo.Cookie{State: tfo.CookieNone}, CookieAfter: tfo.Cookie{State: tfo.CookieNone},
				ResponseBytes: 1400 + int(r.Uint32N(40)), ResponseHash: r.Uint64(), WireAbsent: "not captured",
			}
			if seq == 1 {
				e.Kind, e.OptionKind, e.CookieCleared, e.CookieAfter = tfo.KindRequest, 34, tfo.Yes, tfo.Cookie{State: tfo.CookiePresent, Bytes: cookie}
			}
			if seq == 2 || seq == 3 {
				e.Kind, e.OptionKind, e.SynBytes, e.SynAcked, e.TCPIOptions = tfo.KindData, 34, 202, 202, 39
				e.CookieBefore = tfo.Cookie{State: tfo.CookiePresent, Bytes: cookie}
				e.CookieAfter = e.CookieBefore
			}
			m.Attempts = append(m.Attempts, e)
		}
		ms[i] = m
	}
	return ms
}

// headers are those of a segment as a capture sees it: ports, sequence numbers,
// clocks and checksums are never the same twice.
func headers(r *rand.Rand, e *tfo.Evidence, options []byte) tfo.Segment {
	raw := make([]byte, 40, 100)
	raw[0], raw[6], raw[8], raw[9] = 0x45, 0x40, 64, 6
	src, dst := e.Local.Addr().As4(), e.Remote.Addr().As4()
	copy(raw[12:], src[:])
	copy(raw[16:], dst[:])
	binary.BigEndian.PutUint16(raw[20:], e.Local.Port())
	binary.BigEndian.PutUint16(raw[22:], 443)
	binary.BigEndian.PutUint32(raw[24:], r.Uint32())
	raw = append(raw, 2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0, 1, 3, 3, 7)
	binary.BigEndian.PutUint32(raw[48:], r.Uint32())
	raw = append(raw, options...)
	binary.BigEndian.PutUint16(raw[2:], uint16(len(raw)+e.SynBytes))
	binary.BigEndian.PutUint32(raw[10:], r.Uint32()&0xffff0000|uint32(raw[12])<<8|uint32(raw[13]))
	raw[32], raw[33] = byte(len(raw)-20)/4<<4, 2
	binary.BigEndian.PutUint16(raw[36:], uint16(r.Uint32()))
	s, err := tfo.ParseSegment(raw)
	if err != nil {
		panic(err)
	}
	return s
}

// addWire adds what the wire shows of a healthy measurement.
func addWire(r *rand.Rand, ms []measure.Measurement) {
	for i := range ms {
		for j := range ms[i].Attempts {
			e := &ms[i].Attempts[j]
			w := &tfo.Wire{Syns: 1, SynAcks: 1, Acked: e.SynAcked, AfterSyns: 1}
			var ours, theirs []byte
			if e.OptionKind != 0 {
				ours = append([]byte{34, byte(2 + len(e.CookieBefore.Bytes))}, append(e.CookieBefore.Bytes, 1, 1)...)
			}
			if e.Kind == tfo.KindRequest {
				theirs = append([]byte{34, 10}, append(e.CookieAfter.Bytes, 1, 1)...)
			}
			w.Syn, w.SynAck = headers(r, e, ours), headers(r, e, theirs)
			e.Wire, e.WireAbsent = w, ""
		}
	}
}

// BenchmarkWriteChunk writes full chunks durably and gives measurements per
// second and bytes per measurement, with and without facts from the wire.
func BenchmarkWriteChunk(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	ms := fullChunk(r)
	b.Run("no wire", func(b *testing.B) { benchmarkWriteChunk(b, ms) })
	addWire(r, ms)
	b.Run("wire", func(b *testing.B) { benchmarkWriteChunk(b, ms) })
}

func benchmarkWriteChunk(b *testing.B, ms []measure.Measurement) {
	w := newDataset(b)
	b.ReportAllocs()
	k := ChunkKey{Survey: "s1", Probe: "local"}
	for b.Loop() {
		if err := w.WriteChunk(k, ms); err != nil {
			b.Fatal(err)
		}
		k.Chunk++
	}
	b.ReportMetric(float64(len(ms))*float64(b.N)/b.Elapsed().Seconds(), "measurements/s")
	size := int64(0)
	for _, table := range []string{measurementsDir, attemptsDir} {
		info, err := os.Stat(pathOf(b, w.Dir(), ChunkKey{Survey: "s1", Probe: "local"}, table))
		if err != nil {
			b.Fatal(err)
		}
		size += info.Size()
	}
	b.ReportMetric(float64(size)/float64(len(ms)), "bytes/measurement")
}
