// Package htmltest generates datasets to test reports with: every verdict there
// is, with the attempts that lead to it.
//
// The targets are simulated one attempt at a time, as [measure.Next] asks, and
// judged by [measure.Classify]: nothing in a dataset contradicts anything else
// in it. Nothing of it was ever measured.
package htmltest

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"tfofleet/internal/dataset"
	"tfofleet/internal/measure"
	"tfofleet/internal/tfo"
)

// Config is what a generated survey looks like.
type Config struct {
	Seed    uint64
	ID      string // of the survey; empty: one that goes with the seed
	Targets int
	Probes  []string // every probe measures every target; the network of the last of three or more drops options
	Plan    measure.Plan
	Fault   float64 // share of targets with a fault, of all kinds; the rest is supported, unsupported or offline
	// Hosts, when given, replaces the generated host name of target i.
	Hosts func(i int) string
}

// chunkSize is that of a survey's default.
const chunkSize = 1000

// Write makes a dataset in dir.
func Write(dir string, c Config) error {
	bits, timeout := 1, 0
	s := &dataset.Survey{
		ID: cmp.Or(c.ID, fmt.Sprintf("gen%d", c.Seed)), Name: "generated survey", State: dataset.StateDone,
		Created:  time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC),
		Ended:    time.Date(2026, 11, 20, 13, 7, 0, 0, time.UTC),
		Spec:     dataset.Spec{Plan: c.Plan.String(), Family: "any", Payload: "auto", Seed: c.Seed, ChunkSize: chunkSize},
		Versions: map[string]string{"controller": "test"},
		Counts:   dataset.Counts{Planned: uint64(c.Targets * len(c.Probes)), Measured: uint64(c.Targets * len(c.Probes))},
	}
	for _, p := range c.Probes {
		s.Probes = append(s.Probes, dataset.Probe{Name: p, Kernel: "6.18.0", Arch: "amd64", TCPFastOpen: &bits, BlackholeTimeoutS: &timeout})
	}
	if _, err := dataset.WriteTargets(dir, chunkSize, func(yield func(measure.Target, error) bool) {
		for i := range c.Targets {
			if t, _ := c.target(i); !yield(t, nil) {
				return
			}
		}
	}); err != nil {
		return err
	}
	w, err := dataset.Create(dir, s)
	if err != nil {
		return err
	}
	for first := 0; first < c.Targets; first += chunkSize {
		for p, probe := range c.Probes {
			ms := make([]measure.Measurement, 0, chunkSize)
			for i := first; i < min(first+chunkSize, c.Targets); i++ {
				ms = append(ms, c.measurement(i, p))
			}
			if err := w.WriteChunk(dataset.ChunkKey{Survey: s.ID, Probe: probe, Chunk: uint32(first / chunkSize)}, ms); err != nil {
				return err
			}
		}
	}
	return nil
}

var (
	tlds  = []string{"com", "org", "net", "de", "co.uk", "io", "jp", "com.br", "fr", "nl"}
	words = []string{"north", "river", "cloud", "shop", "mail", "data", "photo", "news", "game", "bank", "city", "stone", "light", "blue", "fast", "travel", "health", "school", "music", "green"}
	ports = []uint16{443, 443, 443, 80, 80, 853, 53}
)

// target is target i, and where chance goes on with it.
func (c Config) target(i int) (measure.Target, *rand.Rand) {
	r := rand.New(rand.NewPCG(c.Seed, uint64(i)))
	var a [16]byte
	binary.BigEndian.PutUint32(a[:], 0x05000000+r.Uint32()%0xc0000000)
	addr := netip.AddrFrom4([4]byte(a[:4]))
	if r.IntN(5) == 0 {
		binary.BigEndian.PutUint64(a[:], 0x2001_0db8_0000_0000+r.Uint64()%(1<<32))
		binary.BigEndian.PutUint64(a[8:], r.Uint64())
		addr = netip.AddrFrom16(a)
	}
	host := fmt.Sprintf("www.%s%s%d.%s", words[r.IntN(len(words))], words[r.IntN(len(words))], r.IntN(100000), tlds[min(r.IntN(len(tlds)), r.IntN(len(tlds)))])
	if r.IntN(10) == 0 {
		host = ""
	}
	if c.Hosts != nil {
		host = c.Hosts(i)
	}
	return measure.Target{Item: uint64(i), Addr: addr, Port: ports[r.IntN(len(ports))], Hostname: host}, r
}

// measurement is what probe p saw of target i. The target is the same for every
// probe, but for one whose own network drops options.
func (c Config) measurement(i, p int) measure.Measurement {
	target, r := c.target(i)
	m := measure.Measurement{
		Target:  target,
		Outcome: measure.OutcomeMeasured,
		Started: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC).Add(time.Duration(i) * 40 * time.Millisecond),
	}
	t := &peer{does: c.behaviour(r), rtt: time.Duration(5+r.ExpFloat64()*60+float64(p)*11) * time.Millisecond, mss: 1300 + 20*r.IntN(8)}
	t.r = rand.New(rand.NewPCG(c.Seed+uint64(p)+1, uint64(i)))
	r.Uint64()
	for n := range t.cookie {
		t.cookie[n] = byte(r.Uint32())
	}
	if len(c.Probes) > 2 && p == len(c.Probes)-1 && t.r.IntN(3) > 0 && t.does != measure.Offline {
		t.does = measure.OptionDropped // the network of the last probe
	}
	if i%997 == 13 {
		m.Outcome = measure.OutcomeRefused
		m.Conditions = []measure.Condition{measure.CondRefused("range")}
		return m
	}
	for {
		step, more := measure.Next(c.Plan, m.Attempts)
		if !more {
			break
		}
		ev := t.attempt(step, netip.AddrPortFrom(m.Addr, m.Port))
		ev.Start = m.Started.Add(m.Duration)
		m.Duration += time.Duration(max(ev.TotalNS, 0)) + time.Millisecond
		m.Attempts = append(m.Attempts, ev)
	}
	m.Verdict, m.Conditions = measure.Classify(c.Plan, m.Attempts)
	for n := range m.Attempts {
		if ck := m.Attempts[n].CookieAfter; ck.State == tfo.CookiePresent {
			m.Cookie = ck.Bytes
		}
	}
	return m
}

var faults = []measure.Verdict{
	measure.CookieOnly, measure.CookieOnly, measure.DataTruncated, measure.CookieUnstable, measure.OptionDropped, measure.OptionDropped, measure.DataDropped,
	measure.Reset, measure.FlowBlackholed, measure.BlackholedAfterHandshake, measure.ClientBlocked, measure.Inconclusive,
}

func (c Config) behaviour(r *rand.Rand) measure.Verdict {
	switch x := r.Float64(); {
	case x < c.Fault:
		return faults[r.IntN(len(faults))]
	case x < c.Fault+0.08:
		return measure.Offline
	case x < c.Fault+0.28:
		return measure.Supported
	}
	return measure.Unsupported
}
