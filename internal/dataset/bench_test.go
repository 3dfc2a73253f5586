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

// BenchmarkWriteChunk writes full chunks durably and gives measurements per
// second and bytes per measurement.
func BenchmarkWriteChunk(b *testing.B) {
	ms := fullChunk(rand.New(rand.NewPCG(1, 2)))
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
		info, err := os.Stat(ChunkKey{Survey: "s1", Probe: "local"}.path(w.Dir(), table))
		if err != nil {
			b.Fatal(err)
		}
		size += info.Size()
	}
	b.ReportMetric(float64(size)/float64(len(ms)), "bytes/measurement")
}
