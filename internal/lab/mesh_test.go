package lab_test

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"tfofleet/internal/lab"
	"tfofleet/internal/lab/labtest"
	"tfofleet/internal/measure"
)

// echoOn answers every connection to a port of a host with the address it came
// from.
func echoOn(t *testing.T, h lab.Host, port uint16) {
	t.Helper()
	if err := lab.In(h.NetNS, func() error {
		l, err := net.ListenTCP("tcp", &net.TCPAddr{Port: int(port)})
		if err != nil {
			return err
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.AcceptTCP()
				if err != nil {
					return
				}
				_, _ = io.WriteString(c, c.RemoteAddr().String())
				c.Close()
			}
		}()
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// ask connects from a host and returns its own address and the one that the
// other saw.
func ask(t *testing.T, h lab.Host, to netip.AddrPort) (own, seen netip.AddrPort, err error) {
	t.Helper()
	err = lab.In(h.NetNS, func() error {
		c, err := net.DialTimeout("tcp", to.String(), time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		b, err := io.ReadAll(c)
		if err != nil {
			return err
		}
		own = c.LocalAddr().(*net.TCPAddr).AddrPort()
		seen, err = netip.ParseAddrPort(string(b))
		seen = netip.AddrPortFrom(seen.Addr().Unmap(), seen.Port())
		return err
	})
	return own, seen, err
}

// TestMeshWays: every host reaches every other in both families, and what
// happens on a way happens to the connections of that way only.
func TestMeshWays(t *testing.T) {
	t.Parallel()
	const port, proxied = 7000, 7001
	byName := map[string]lab.MeshPath{}
	for _, p := range lab.MeshCatalogue() {
		byName[p.Name] = p
	}
	dead := lab.MeshPath{Name: "dead", Truth: measure.JointOffline, Rules: []lab.Rule{{On: lab.Forward, Do: lab.Drop}}}
	m := labtest.NewMesh(t, lab.MeshConfig{Hosts: 4, Ports: []uint16{proxied}, Paths: map[lab.Way]lab.MeshPath{
		{From: 0, To: 1}: dead, {From: 1, To: 2}: byName["nat"], {From: 2, To: 3}: byName["nat-ports"], {From: 3, To: 0}: byName["cgn"], {From: 2, To: 0}: byName["proxy"],
	}})
	for k := range m.Hosts() {
		echoOn(t, m.Host(k), port)
		echoOn(t, m.Host(k), proxied)
	}
	for from := range m.Hosts() {
		for to := range m.Hosts() {
			if from == to {
				continue
			}
			for _, a := range []netip.Addr{m.Host(to).V4, m.Host(to).V6} {
				var outside []netip.AddrPort
				for range 3 {
					own, seen, err := ask(t, m.Host(from), netip.AddrPortFrom(a, port))
					p := m.Path(lab.Way{From: from, To: to})
					if (err != nil) != (p.Name == "dead") {
						t.Errorf("%d to %v, %s: %v", from, a, p.Name, err)
						break
					}
					if err != nil {
						break
					}
					moved, ports := seen.Addr() != own.Addr(), seen.Port() != own.Port()
					if moved != (p.Name == "nat" || p.Name == "nat-ports" || p.Name == "cgn") || ports != (p.Name == "nat-ports") {
						t.Errorf("%d to %v, %s: %v is seen as %v", from, a, p.Name, own, seen)
					}
					outside = append(outside, netip.AddrPortFrom(seen.Addr(), 0))
				}
				name := m.Path(lab.Way{From: from, To: to}).Name
				if n := len(slices.Compact(outside)); n > 0 && (n == 3) != (name == "cgn") {
					t.Errorf("%d to %v, %s: seen as %v", from, a, name, outside)
				}
			}
		}
	}
	// A proxy stands before the ports given, and before no other.
	for _, want := range []struct {
		from int
		port uint16
		same bool
	}{{2, port, true}, {2, proxied, false}, {3, proxied, true}} {
		to := m.Host(0)
		if want.from == 3 {
			to = m.Host(1)
		}
		own, seen, err := ask(t, m.Host(want.from), netip.AddrPortFrom(to.V4, want.port))
		if err != nil || (own == seen) != want.same {
			t.Errorf("%d to port %d: %v is seen as %v, %v", want.from, want.port, own, seen, err)
		}
	}
	// Nobody is at an address without a host; nobody hears of it.
	before := m.Stats().Unrouted
	if _, _, err := ask(t, m.Host(0), netip.MustParseAddrPort("198.18.9.1:7000")); err == nil || m.Stats().Unrouted == before {
		t.Errorf("an address of no host: %v", err)
	}
	if c := m.Counters(lab.Way{From: 0, To: 1}); c.Dropped == 0 || c.SYNACK != 0 {
		t.Errorf("counters of the dead way: %+v", c)
	}
	if c := m.Counters(lab.Way{From: 1, To: 0}); c.Dropped != 0 || c.SYN != 6 || c.SYNACK != 6 {
		t.Errorf("counters of the way back: %+v", c)
	}
	if c := m.Counters(lab.Way{From: 7, To: 0}); c.Frames != 0 {
		t.Errorf("counters of no way: %+v", c)
	}
}

// TestMeshBulk passes a megabyte through a path that rewrites sequence numbers
// and loses frames, so that SACK blocks must be right.
func TestMeshBulk(t *testing.T) {
	t.Parallel()
	rules := []lab.Rule{{On: lab.Both, Do: lab.ShiftISN(0xfffffff0)}, {On: lab.Both, If: lab.Chance(0.02), Do: lab.Drop}}
	m := labtest.NewMesh(t, lab.MeshConfig{Hosts: 2, Seed: 3, Paths: map[lab.Way]lab.MeshPath{{From: 0, To: 1}: {Name: "shifted", Rules: rules}}})
	want := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	got := make(chan []byte, 1)
	if err := lab.In(m.Host(1).NetNS, func() error {
		l, err := net.ListenTCP("tcp", &net.TCPAddr{Port: 7000})
		if err != nil {
			return err
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			c, err := l.AcceptTCP()
			if err != nil {
				return
			}
			_ = c.SetDeadline(time.Now().Add(20 * time.Second))
			b, _ := io.ReadAll(c)
			got <- b
		}()
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := lab.In(m.Host(0).NetNS, func() error {
		c, err := net.DialTimeout("tcp", netip.AddrPortFrom(m.Host(1).V4, 7000).String(), 10*time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		_, err = c.Write(want)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if b := <-got; !bytes.Equal(b, want) {
		t.Errorf("%d bytes came of %d", len(b), len(want))
	}
	if c := m.Counters(lab.Way{From: 0, To: 1}); c.Dropped == 0 {
		t.Error("nothing was lost")
	}
}

// TestMeshCatalogue: every path says what it does, and every fault of both ends
// has a path.
func TestMeshCatalogue(t *testing.T) {
	paths := lab.MeshCatalogue()
	hosts, ways := lab.SpreadOver(paths)
	if len(ways) != len(paths) {
		t.Fatalf("%d ways for %d paths", len(ways), len(paths))
	}
	names := map[string]bool{}
	for w, p := range ways {
		if _, both := ways[lab.Way{From: w.To, To: w.From}]; both || w.From == w.To || w.From >= hosts || w.To >= hosts {
			t.Errorf("%s is from %d to %d of %d hosts", p.Name, w.From, w.To, hosts)
		}
		if p.Name == "" || p.About == "" || names[p.Name] || strings.ContainsAny(p.Name, " _") {
			t.Errorf("path %q: %q", p.Name, p.About)
		}
		names[p.Name] = true
		if p.Truth.Fault() && p.Truth != measure.JointProxied && p.Direction == measure.DirectionUnknown {
			t.Errorf("%s: a fault without a direction", p.Name)
		}
	}
	for _, v := range measure.JointVerdicts() {
		switch v {
		case measure.JointUnsupported, measure.JointInconclusive, measure.JointPeerLost, measure.JointClientBlocked, measure.JointOffline:
			continue // not the path's doing, or nothing of it is known to the listener
		}
		if !slices.ContainsFunc(paths, func(p lab.MeshPath) bool { return p.Truth == v }) {
			t.Errorf("no path for %v", v)
		}
	}
	if hosts, ways := lab.SpreadOver(nil); hosts != 2 || len(ways) != 0 {
		t.Errorf("nothing takes %d hosts", hosts)
	}
}

// TestMeshEnds: a mesh that cannot be is refused, and one that was leaves
// nothing.
func TestMeshEnds(t *testing.T) {
	labtest.Need(t)
	for _, cfg := range []lab.MeshConfig{
		{}, {Hosts: lab.MaxHosts + 1}, {Hosts: 2, Paths: map[lab.Way]lab.MeshPath{{From: 0, To: 2}: {}}}, {Hosts: 2, Paths: map[lab.Way]lab.MeshPath{{From: 1, To: 1}: {}}},
	} {
		if m, err := lab.NewMesh(t.Context(), cfg); err == nil {
			m.Close()
			t.Errorf("a mesh of %+v", cfg)
		}
	}
	m, err := lab.NewMesh(t.Context(), lab.MeshConfig{Hosts: 3, Ports: []uint16{7000}, Paths: map[lab.Way]lab.MeshPath{{From: 0, To: 1}: {Name: "p", Proxy: &lab.Proxy{}}}})
	if err != nil {
		t.Fatal(err)
	}
	name := m.Host(0).NetNS
	name = name[strings.LastIndex(name, "/")+1 : strings.LastIndex(name, "-")]
	if got := namespacesOf(name); len(got) != 4 {
		t.Errorf("namespaces %v", got)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if got := namespacesOf(name); len(got) != 0 {
		t.Errorf("left %v", got)
	}
}
