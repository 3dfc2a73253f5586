package tfo_test

import (
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"tfofleet/internal/tfo"
)

// BenchmarkListen makes TFO connections with data in the SYN, one operation
// each, from an engine in the same process, and reports connections per
// second: both ends together. It fails if one lacks its evidence.
func BenchmarkListen(b *testing.B) {
	ns := newNetNS(b)
	var full atomic.Int64
	var seen atomic.Int64
	l, err := tfo.Listen(tfo.ListenConfig{Addr: netip.MustParseAddrPort("0.0.0.0:0"), NetNS: ns, Keys: []tfo.Key{testKey}, Arrived: func(a *tfo.Arrival) {
		seen.Add(1)
		if a.Claim == tfo.ClaimValid && a.Child == tfo.Yes && a.SynTaken == a.SynBytes && a.SynBytes > 0 && a.End == tfo.ArrivalServed {
			full.Add(1)
		}
	}})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	e, err := tfo.NewEngine(tfo.Config{Concurrency: 128, Shards: 1, NetNS: ns})
	if err != nil {
		b.Fatal(err)
	}
	const addresses = 250
	run := func(attempts []tfo.Attempt) {
		seqs := make([]*sequence, addresses)
		for i := range seqs {
			to := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 1, byte(1 + i)}), l.Addr().Port())
			seqs[i] = &sequence{remote: to, attempts: attempts, over: make(chan struct{})}
			e.Start(seqs[i])
		}
		for _, s := range seqs {
			<-s.over
		}
	}
	run([]tfo.Attempt{tryRequest("hello")})
	each := make([]tfo.Attempt, (b.N+addresses-1)/addresses)
	for i := range each {
		each[i] = tryData("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n")
	}
	before := readMIB(b, ns)
	begun := time.Now()
	b.ResetTimer()
	run(each)
	b.StopTimer()
	d := time.Since(begun)
	e.Stop()
	l.Close()
	n := int64(len(each) * addresses)
	if full.Load() != n || seen.Load() != n+addresses {
		b.Errorf("%d of %d connections with full evidence", full.Load(), n)
	}
	if over := readMIB(b, ns).Since(before)[tfo.CountListenOverflow]; over != 0 {
		b.Errorf("TCPFastOpenListenOverflow moved by %d", over)
	}
	b.ReportMetric(float64(n)/d.Seconds(), "conn/s")
}
