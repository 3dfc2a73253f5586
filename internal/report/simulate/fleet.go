// Package simulate makes datasets of fleets that never were, and knows the truth
// of each: which vantage points are broken, which targets, which paths. The same
// seed makes the same dataset. Tests hold reports against the truth, and
// benchmarks make ten million measurements with it; nothing is kept in memory
// but a chunk.
//
// What may not enter: what reports find, and how.
package simulate

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"time"

	"tfofleet/internal/dataset"
	"tfofleet/internal/measure"
	"tfofleet/internal/tfo"
)

// Fleet is a survey of Targets by Probes.
type Fleet struct {
	Seed      uint64
	ID        string // of the survey; "" is "simulated"
	Targets   int
	Probes    int
	ChunkSize int   // 0 is 8192
	Only      []int // probes that measure; none: all
	Shard     bool  // each chunk is measured by one probe, else all by every one
	// Broken probes, by number.
	Broken map[int]Box
	// Per million: targets that break Fast Open, paths that do, measurements
	// that are inconclusive, and those that the noise makes transient.
	BadTargets, BadPaths, Inconclusive, Transient uint64
	// Attempts: supported measurements have a plain attempt and one with data.
	Attempts bool
}

// Box is something near a probe.
type Box int

const (
	DropsData    Box = iota + 1 // and nobody says so
	StripsOption                // and nobody says so
	SaidToStrip                 // and the probe's self-test found it
)

// Fault is what breaks Fast Open on one side.
type Fault int

const (
	Nothing Fault = iota
	AtTarget
	AtVantage
	OnPath
)

// hash is splitmix64 over all that tells one random number from another.
func (f *Fleet) hash(what string, n ...uint64) uint64 {
	h := f.Seed
	mix := func(v uint64) {
		h += v + 0x9e3779b97f4a7c15
		h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
		h = (h ^ h>>27) * 0x94d049bb133111eb
		h ^= h >> 31
	}
	for i := range len(what) {
		mix(uint64(what[i]))
	}
	for _, v := range n {
		mix(v)
	}
	return h
}

func (f *Fleet) chance(perMillion uint64, what string, n ...uint64) bool {
	return perMillion > 0 && f.hash(what, n...)%1_000_000 < perMillion
}

// Probe is the name of a probe.
func (f *Fleet) Probe(p int) string { return fmt.Sprintf("probe-%02d", p) }

var ports = [...]uint16{443, 443, 443, 443, 443, 443, 80, 80, 80, 53}

var suffixes = [...]string{"com", "com", "com", "org", "net", "de", "co.uk", "co.jp", "io", "at"}

// Target is the target of an item.
func (f *Fleet) Target(item int) measure.Target {
	n := uint64(item)
	h := f.hash("address", n)
	t := measure.Target{Item: n, Port: ports[f.hash("port", n)%uint64(len(ports))]}
	if h%5 == 0 {
		a := [16]byte{0x2a, 0x00, byte(0x10 | h>>8&15), byte(h >> 16)}
		binary.BigEndian.PutUint64(a[8:], n+1)
		t.Addr = netip.AddrFrom16(a)
	} else {
		t.Addr = netip.AddrFrom4([4]byte{byte(11 + h>>8%128), byte(h >> 16), byte(n >> 8), byte(n)})
	}
	if f.hash("named", n)%10 < 3 {
		t.Hostname = fmt.Sprintf("h%d.example.%s", item, suffixes[f.hash("suffix", n)%uint64(len(suffixes))])
	}
	return t
}

// AS is whose an address is: every /16 and /32 is announced by one of a few
// thousand, the same in every fleet.
func AS(p netip.Prefix) uint32 {
	b := p.Addr().As16()
	return 64512 + uint32(new(Fleet).hash("as", binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:]))%3000)
}

// Announced is the prefix that an address of a target is in.
func Announced(a netip.Addr) netip.Prefix {
	bits := 32
	if a.Is4() {
		bits = 16
	}
	p, err := a.Prefix(bits)
	if err != nil {
		panic(err) // the length fits the family
	}
	return p
}

// WriteASNs writes every prefix there is and its AS, one "prefix,asn" per line.
func WriteASNs(w io.Writer) error {
	for i := range 128 * 256 {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(11 + i>>8), byte(i)}), 16)
		if _, err := fmt.Fprintf(w, "%v,%d\n", p, AS(p)); err != nil {
			return err
		}
	}
	for i := range 16 * 256 {
		p := netip.PrefixFrom(netip.AddrFrom16([16]byte{0x2a, 0, byte(0x10 | i>>8), byte(i)}), 32)
		if _, err := fmt.Fprintf(w, "%v,%d\n", p, AS(p)); err != nil {
			return err
		}
	}
	return nil
}

// faults are those of targets.
var faults = [...]measure.Verdict{measure.DataDropped, measure.OptionDropped, measure.CookieOnly, measure.Reset, measure.CookieUnstable, measure.BlackholedAfterHandshake}

// Nature is what a target does when nothing is in the way.
func (f *Fleet) Nature(item int) measure.Verdict {
	n := uint64(item)
	switch h := f.hash("nature", n) % 1000; {
	case f.chance(f.BadTargets, "bad", n):
		return faults[f.hash("fault", n)%uint64(len(faults))]
	case h < 60:
		return measure.Supported
	case h < 95:
		return measure.Offline
	}
	return measure.Unsupported
}

// BadPath reports whether the path between a probe and a target loses SYNs with
// the option.
func (f *Fleet) BadPath(probe, item int) bool {
	return f.chance(f.BadPaths, "path", uint64(probe), uint64(item))
}

// See is what a probe finds of a target, and what side is the cause where it is
// not what the target is.
func (f *Fleet) See(probe, item int) (measure.Verdict, Fault) {
	v, cause := f.Nature(item), Nothing
	if v.Fault() {
		cause = AtTarget
	}
	switch {
	case f.chance(f.Inconclusive, "unclear", uint64(probe), uint64(item)):
		return measure.Inconclusive, Nothing
	case v == measure.Offline:
		return v, Nothing
	case f.Broken[probe] == StripsOption || f.Broken[probe] == SaidToStrip:
		if v != measure.Unsupported {
			return measure.Unsupported, AtVantage
		}
		return v, Nothing
	case f.BadPath(probe, item):
		return measure.OptionDropped, OnPath
	case f.Broken[probe] == DropsData && v != measure.Unsupported && v != measure.OptionDropped && v != measure.Reset:
		return measure.DataDropped, AtVantage
	}
	return v, cause
}

// start is when the survey was made.
var start = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// Measure is the measurement of a target by a probe.
func (f *Fleet) Measure(probe, item int) measure.Measurement {
	v, _ := f.See(probe, item)
	m := measure.Measurement{
		Target: f.Target(item), Outcome: measure.OutcomeMeasured, Verdict: v,
		Started:  start.Add(time.Duration(item)*time.Millisecond + time.Duration(probe)*time.Second),
		Duration: time.Duration(f.hash("duration", uint64(probe), uint64(item)) % uint64(time.Second)),
	}
	add := func(c measure.Condition) { m.Conditions = append(m.Conditions, c) }
	switch v {
	case measure.Inconclusive:
		add(measure.CondTriesDisagree)
	case measure.Offline:
		add(measure.CondOffline)
		add(measure.CondOfflineTimeout)
	case measure.Supported:
		if f.chance(f.Transient, "transient", uint64(probe), uint64(item)) {
			add(measure.CondTransient)
		}
		add(measure.CondWorks)
		add(measure.CondCookieReceived)
		add(measure.CondSynDataAcked)
		if f.Attempts {
			m.Attempts = f.attempts(probe, item, m.Addr, m.Port)
		}
	case measure.Unsupported:
		if f.chance(f.Transient, "transient", uint64(probe), uint64(item)) {
			add(measure.CondTransient)
		}
		add(measure.CondWorks)
		add(measure.CondCookieNotReceived)
	default:
		add(measure.CondBroken)
	}
	if f.Broken[probe] == SaidToStrip {
		add("tfo.vantage.near_path.strips_option")
	}
	return m
}

// attempts is a plain one and one that saves about a round trip.
func (f *Fleet) attempts(probe, item int, addr netip.Addr, port uint16) []tfo.Evidence {
	h := f.hash("rtt", uint64(probe), uint64(item))
	rtt := int64(5_000_000 + h%150_000_000)
	serve := int64(1_000_000 + h>>32%20_000_000)
	remote := netip.AddrPortFrom(addr, port)
	return []tfo.Evidence{
		{Kind: tfo.KindPlain, Remote: remote, End: tfo.EndResponse, ConnectNS: rtt, FirstByteNS: 2*rtt + serve, TotalNS: 2*rtt + serve, ResponseBytes: 100},
		{Kind: tfo.KindData, Remote: remote, OptionKind: 34, Offered: 100, SynBytes: 100, SynAcked: 100, End: tfo.EndResponse, ConnectNS: rtt, FirstByteNS: rtt + serve + int64(h>>16%2_000_000), TotalNS: 2 * rtt, ResponseBytes: 100},
	}
}

// Survey is the survey.json of the fleet.
func (f *Fleet) Survey() *dataset.Survey {
	s := &dataset.Survey{
		ID: "simulated", Name: "simulated", State: dataset.StateDone, Created: start, Ended: start.Add(time.Hour),
		Spec: dataset.Spec{Plan: "standard", Family: "any", Payload: "auto", Seed: f.Seed, ChunkSize: f.chunkSize()},
	}
	if f.ID != "" {
		s.ID, s.Name = f.ID, f.ID
	}
	for p := range f.Probes {
		s.Probes = append(s.Probes, dataset.Probe{Name: f.Probe(p), Hostname: f.Probe(p) + ".example", Kernel: [...]string{"6.18.0", "6.12.3", "5.15.0"}[p%3], Arch: "amd64"})
	}
	s.Counts.Planned = uint64(f.Targets)
	if !f.Shard {
		s.Counts.Planned *= uint64(f.Probes)
	}
	s.Counts.Measured = s.Counts.Planned
	return s
}

func (f *Fleet) chunkSize() int {
	if f.ChunkSize > 0 {
		return f.ChunkSize
	}
	return 8192
}

// Write makes the dataset in dir. Copies of the list are numbered as a
// controller numbers them: the chunk of copy c is c times the chunks of the list
// further on.
func (f *Fleet) Write(dir string) error {
	size := f.chunkSize()
	if _, err := dataset.WriteTargets(dir, size, func(yield func(measure.Target, error) bool) {
		for i := range f.Targets {
			t := f.Target(i)
			if t.Hostname != "" {
				t.Addr = netip.Addr{} // the list has the name alone
			}
			if !yield(t, nil) {
				return
			}
		}
	}); err != nil {
		return err
	}
	s := f.Survey()
	w, err := dataset.Create(dir, s)
	if err != nil {
		return err
	}
	chunks := (f.Targets + size - 1) / size
	ms := make([]measure.Measurement, 0, size)
	for chunk := range chunks {
		for p := range f.Probes {
			if len(f.Only) > 0 && !slices.Contains(f.Only, p) {
				continue
			}
			number := p*chunks + chunk
			if f.Shard {
				if chunk%f.Probes != p {
					continue
				}
				number = chunk
			}
			ms = ms[:0]
			for item := chunk * size; item < min((chunk+1)*size, f.Targets); item++ {
				ms = append(ms, f.Measure(p, item))
			}
			if err := w.WriteChunk(dataset.ChunkKey{Survey: s.ID, Probe: f.Probe(p), Chunk: uint32(number)}, ms); err != nil {
				return err
			}
		}
	}
	return nil
}
