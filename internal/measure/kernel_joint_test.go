package measure_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tfofleet/internal/lab"
	"tfofleet/internal/lab/labtest"
	"tfofleet/internal/measure"
	"tfofleet/internal/tfo"
)

const meshPort = 8080

// probeAt is what a probe is on a host of a mesh: a listener, and an engine
// that measures those of others.
type probeAt struct {
	host   lab.Host
	listen *tfo.Listener

	mu       sync.Mutex
	arrivals []*tfo.Arrival
	alarms   []tfo.Alarm
}

func startProbe(t *testing.T, h lab.Host, key byte) *probeAt {
	t.Helper()
	p := &probeAt{host: h}
	var err error
	p.listen, err = tfo.Listen(tfo.ListenConfig{
		Addr: netip.AddrPortFrom(netip.IPv6Unspecified(), meshPort), NetNS: tfo.NetNS(h.NetNS), Keys: []tfo.Key{{key}}, Patience: 2 * time.Second,
		Arrived: func(a *tfo.Arrival) { p.mu.Lock(); p.arrivals = append(p.arrivals, a); p.mu.Unlock() },
		Alarm:   func(a tfo.Alarm) { p.mu.Lock(); p.alarms = append(p.alarms, a); p.mu.Unlock() },
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// meeting is one measurement of a mesh: from one host to another, in a family.
type meeting struct {
	lab.Way
	v6    bool
	nonce measure.Nonce
	m     measure.Measurement
}

// measureAll lets the probe measure its meetings, all at once.
func (p *probeAt) measureAll(t *testing.T, mesh *lab.Mesh, ms []*meeting, capture tfo.CaptureMode) {
	r, err := measure.NewRunner(measure.Settings{
		Plan: measure.Standard, Payload: measure.PayloadHTTP, Timeout: 2 * time.Second,
		Nonce: func(target measure.Target) measure.Nonce { return ms[target.Item].nonce },
	}, tfo.Config{Concurrency: len(ms), NetNS: tfo.NetNS(p.host.NetNS), Shards: 1, Capture: capture})
	if err != nil {
		t.Error(err)
		return
	}
	defer r.Stop()
	var wg sync.WaitGroup
	for i, m := range ms {
		to := mesh.Host(m.To)
		addr := to.V4
		if m.v6 {
			addr = to.V6
		}
		wg.Add(1)
		r.Submit(measure.Target{Item: uint64(i), Addr: addr, Port: meshPort}, func(got measure.Measurement) { m.m = got; wg.Done() })
	}
	wg.Wait()
}

// meet lets every host of a mesh measure every other, in both families, and
// judges each meeting by what both ends recorded.
func meet(t *testing.T, mesh *lab.Mesh, capture tfo.CaptureMode) ([]*meeting, []measure.Judgement) {
	t.Helper()
	var probes []*probeAt
	for k := range mesh.Hosts() {
		probes = append(probes, startProbe(t, mesh.Host(k), byte(k+1)))
	}
	var all []*meeting
	var work sync.WaitGroup
	for k, p := range probes {
		var ms []*meeting
		for to := range probes {
			if to != k {
				for _, v6 := range []bool{false, true} {
					ms = append(ms, &meeting{Way: lab.Way{From: k, To: to}, v6: v6, nonce: measure.NewNonce()})
				}
			}
		}
		all = append(all, ms...)
		work.Go(func() { p.measureAll(t, mesh, ms, capture) })
	}
	work.Wait()
	for _, p := range probes {
		work.Go(func() { p.listen.Close() })
	}
	work.Wait()
	js := make([]measure.Judgement, len(all))
	for i, m := range all {
		far := probes[m.To]
		for _, a := range far.alarms {
			t.Errorf("host %d: alarm %+v", m.To, a)
		}
		js[i] = measure.Joint(measure.Sides{
			Plan: measure.Standard, Nonce: m.nonce, Attempts: m.m.Attempts, Arrivals: far.arrivals, Alarms: far.alarms,
			Payload: func(attempt int) []byte {
				return measure.TaggedPayload(measure.PayloadHTTP, nil, m.m.Target, measure.Tag{Nonce: m.nonce, Attempt: attempt}).Bytes
			},
		})
	}
	return all, js
}

func tell(m *meeting, j measure.Judgement) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v %v %v, NAT %+v, CGN %v, %d unmatched; client: %s", j.Verdict, j.Direction, j.Doubt, j.NAT, j.CarrierNAT, j.Unmatched, describe(m.m))
	for _, p := range j.Pairs {
		fmt.Fprintf(&b, "\n\t%-8v by %-5v %s", p.Attempt.Kind, p.Bond, p.Sight.Text())
	}
	for _, d := range j.Differences {
		fmt.Fprintf(&b, "\n\t%v (%d of %d)", d, d.Seen, d.Of)
	}
	return b.String()
}

// TestEveryMeshPath lets eight hosts measure each other over every path of the
// mesh, real kernels and the box between them, and holds what both ends
// together show to the ground truth: the verdict, the way the fault is on,
// address translation, and every field of the SYN that differs.
func TestEveryMeshPath(t *testing.T) {
	t.Parallel()
	paths := lab.MeshCatalogue()
	hosts, ways := lab.SpreadOver(paths)
	mesh := labtest.NewMesh(t, lab.MeshConfig{Seed: 1, Hosts: hosts, Paths: ways, Ports: []uint16{meshPort}})
	ms, js := meet(t, mesh, tfo.CaptureAuto)
	covered := map[measure.JointVerdict]bool{}
	for i, m := range ms {
		p, j := mesh.Path(m.Way), js[i]
		family := "v4"
		if m.v6 {
			family = "v6"
		}
		t.Run(fmt.Sprintf("%s/%d-%d/%s", p.Name, m.From, m.To, family), func(t *testing.T) {
			covered[j.Verdict] = true
			right := j.Verdict == p.Truth && j.Direction == p.Direction
			if p.Name == "loss" {
				right = right || j.Verdict == measure.JointInconclusive
			}
			if !right {
				t.Errorf("%s: want %v %v, got %s", p.About, p.Truth, p.Direction, tell(m, j))
			}
			if len(p.Rules) > 0 {
				for n, struck := range mesh.Counters(m.Way).Rules {
					if struck == 0 {
						t.Errorf("rule %q never struck", p.Rules[n])
					}
				}
			}
			if p.Truth == measure.JointProxied {
				return // another SYN: nothing of it is to be compared
			}
			if j.Unmatched > 0 {
				t.Errorf("unmatched: %s", tell(m, j))
			}
			for _, n := range []struct {
				name      string
				got, want tfo.Tri
			}{{"address", j.NAT.Address, p.NAT.Address}, {"port", j.NAT.Port, p.NAT.Port}, {"changing", j.NAT.Changing, p.NAT.Changing}} {
				if (n.got == tfo.Yes) != (n.want == tfo.Yes) {
					t.Errorf("NAT, %s: %v, want %v: %s", n.name, n.got, n.want, tell(m, j))
				}
			}
			if j.CarrierNAT != (p.Name == "cgn") {
				t.Errorf("CGN: %v", j.CarrierNAT)
			}
			var got []measure.SynField
			for _, d := range j.Differences {
				got = append(got, d.Field)
			}
			if !slices.Equal(slices.Compact(got), p.Differences) {
				t.Errorf("differences %v, want %v: %s", got, p.Differences, tell(m, j))
			}
		})
	}
	for _, p := range paths {
		if !covered[p.Truth] {
			t.Errorf("%v was never found", p.Truth)
		}
	}
}
