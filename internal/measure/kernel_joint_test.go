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
	host    lab.Host
	listens []*tfo.Listener

	mu       sync.Mutex
	arrivals []*tfo.Arrival
	alarms   []tfo.Alarm
}

func startProbe(t *testing.T, h lab.Host, key byte, ports []uint16) *probeAt {
	t.Helper()
	p := &probeAt{host: h}
	for _, port := range ports {
		l, err := tfo.Listen(tfo.ListenConfig{
			Addr: netip.AddrPortFrom(netip.IPv6Unspecified(), port), NetNS: tfo.NetNS(h.NetNS), Keys: []tfo.Key{{key}}, Patience: 2 * time.Second,
			Arrived: func(a *tfo.Arrival) { p.mu.Lock(); p.arrivals = append(p.arrivals, a); p.mu.Unlock() },
			Alarm:   func(a tfo.Alarm) { p.mu.Lock(); p.alarms = append(p.alarms, a); p.mu.Unlock() },
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		p.listens = append(p.listens, l)
	}
	return p
}

// meeting is one measurement of a mesh: from one host to another, in a family.
type meeting struct {
	lab.Way
	v6    bool
	port  uint16
	nonce measure.Nonce
	m     measure.Measurement
}

// measureAll lets the probe measure its meetings, all at once.
func (p *probeAt) measureAll(t *testing.T, mesh *lab.Mesh, ms []*meeting, plan measure.Plan, capture tfo.CaptureMode) {
	r, err := measure.NewRunner(measure.Settings{
		Plan: plan, Payload: measure.PayloadAuto, Timeout: 2 * time.Second,
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
		r.Submit(measure.Target{Item: uint64(i), Addr: addr, Port: m.port}, nil, func(got measure.Measurement) { m.m = got; wg.Done() })
	}
	wg.Wait()
}

// meet lets every host of a mesh measure every other, in both families and on
// all ports, and judges each meeting by what both ends recorded.
func meet(t *testing.T, mesh *lab.Mesh, plan measure.Plan, capture tfo.CaptureMode, ports ...uint16) ([]*meeting, []measure.Judgement) {
	t.Helper()
	var probes []*probeAt
	for k := range mesh.Hosts() {
		probes = append(probes, startProbe(t, mesh.Host(k), byte(k+1), ports))
	}
	var all []*meeting
	var work sync.WaitGroup
	for k, p := range probes {
		var ms []*meeting
		for to := range probes {
			if to != k {
				for _, port := range ports {
					for _, v6 := range []bool{false, true} {
						ms = append(ms, &meeting{Way: lab.Way{From: k, To: to}, v6: v6, port: port, nonce: measure.NewNonce()})
					}
				}
			}
		}
		all = append(all, ms...)
		work.Go(func() { p.measureAll(t, mesh, ms, plan, capture) })
	}
	work.Wait()
	for _, p := range probes {
		for _, l := range p.listens {
			work.Go(func() { l.Close() })
		}
	}
	work.Wait()
	tagged, rest := make([]map[measure.Nonce][]*tfo.Arrival, len(probes)), make([][]*tfo.Arrival, len(probes))
	for k, p := range probes {
		for _, a := range p.alarms {
			t.Errorf("host %d: alarm %+v", k, a)
		}
		tagged[k], rest[k] = measure.SortArrivals(p.arrivals)
	}
	js := make([]measure.Judgement, len(all))
	for i, m := range all {
		js[i] = measure.Joint(measure.Sides{
			Plan: plan, Nonce: m.nonce, Attempts: m.m.Attempts, Arrivals: slices.Concat(tagged[m.To][m.nonce], rest[m.To]), Alarms: probes[m.To].alarms,
			Payload: func(attempt int) []byte { // as long as it is not random
				if m.port != meshPort {
					return nil
				}
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
	ms, js := meet(t, mesh, measure.Standard, tfo.CaptureAuto, meshPort)
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

// TestMeshWithoutWire: a client that may not look at its wire gets the same
// names, but for a proxy without Fast Open.
func TestMeshWithoutWire(t *testing.T) {
	t.Parallel()
	hosts, ways := lab.SpreadOver(lab.MeshCatalogue())
	mesh := labtest.NewMesh(t, lab.MeshConfig{Seed: 2, Hosts: hosts, Paths: ways, Ports: []uint16{meshPort}})
	ms, js := meet(t, mesh, measure.Standard, tfo.CaptureOff, meshPort)
	for i, m := range ms {
		p, j := mesh.Path(m.Way), js[i]
		want, way := p.Truth, p.Direction
		if p.Name == "proxy-no-tfo" {
			want, way = measure.JointOptionStripped, measure.Forward
		}
		if (j.Verdict != want || j.Direction != way) && !(p.Name == "loss" && j.Verdict == measure.JointInconclusive) {
			t.Errorf("%s: want %v %v, got %s", p.Name, want, way, tell(m, j))
		}
		if p.Truth != measure.JointProxied && j.Unmatched > 0 {
			t.Errorf("%s, unmatched: %s", p.Name, tell(m, j))
		}
	}
}

// TestMeshThorough: the further questions of the thorough plan, some of them from
// raw sockets, leave no side unmatched and change no name.
func TestMeshThorough(t *testing.T) {
	t.Parallel()
	mesh := labtest.NewMesh(t, lab.MeshConfig{Hosts: 3})
	ms, js := meet(t, mesh, measure.Thorough, tfo.CaptureAuto, meshPort)
	for i, m := range ms {
		if j := js[i]; j.Verdict != measure.JointSupported || j.Unmatched > 0 || len(j.Differences) > 0 {
			t.Errorf("%d to %d: %s", m.From, m.To, tell(m, j))
		}
	}
}

// TestMeshPorts: the payloads of other protocols carry the nonce as well.
func TestMeshPorts(t *testing.T) {
	t.Parallel()
	mesh := labtest.NewMesh(t, lab.MeshConfig{Hosts: 3})
	ms, js := meet(t, mesh, measure.Standard, tfo.CaptureAuto, 53, 80, 443)
	for i, m := range ms {
		j := js[i]
		if j.Verdict != measure.JointSupported || j.Unmatched > 0 || len(j.Differences) > 0 {
			t.Errorf("%d to %d, port %d: %s", m.From, m.To, m.port, tell(m, j))
		}
		for _, p := range j.Pairs {
			if p.Bond != measure.BondNonce {
				t.Errorf("%d to %d, port %d: joined by %v", m.From, m.To, m.port, p.Bond)
			}
		}
	}
}

// TestMeshLossBlamesNobody: ten hosts that lose 2 % of all frames between each
// two of them, each way. Every side is joined, and no fault is named.
func TestMeshLossBlamesNobody(t *testing.T) {
	t.Parallel()
	loss := lab.MeshCatalogue()[0]
	if loss.Name != "loss" {
		t.Fatalf("the first path of the catalogue is %s", loss.Name)
	}
	cfg := lab.MeshConfig{Seed: uint64(time.Now().UnixNano()), Hosts: 10, Paths: map[lab.Way]lab.MeshPath{}}
	for from := range cfg.Hosts {
		for to := range cfg.Hosts {
			if from != to {
				cfg.Paths[lab.Way{From: from, To: to}] = loss
			}
		}
	}
	mesh := labtest.NewMesh(t, cfg)
	ms, js := meet(t, mesh, measure.Standard, tfo.CaptureAuto, meshPort)
	supported := 0
	for i, m := range ms {
		switch j := js[i]; {
		case j.Unmatched > 0:
			t.Errorf("seed %d, unmatched: %s", cfg.Seed, tell(m, j))
		case j.Verdict == measure.JointSupported:
			supported++
		case j.Verdict != measure.JointInconclusive:
			t.Errorf("seed %d: %s", cfg.Seed, tell(m, j))
		}
	}
	if supported*100 < 95*len(ms) {
		t.Errorf("seed %d: only %d of %d are supported", cfg.Seed, supported, len(ms))
	}
	t.Logf("%d of %d supported", supported, len(ms))
}
