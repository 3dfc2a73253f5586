package fleettest

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tfofleet/internal/dataset"
	"tfofleet/internal/lab"
	"tfofleet/internal/lab/labtest"
)

// Mesh is a fleet of one controller, or two, whose probes measure each other: each is on
// a host of the fleet, from which it reaches the controller, and listens and
// measures on a host of a lab's mesh, by the same number.
type Mesh struct {
	*Fleet
	Lab        *lab.Mesh
	Controller *Controller // the one that is asked
}

// MeshPorts are those that the policies of the probes let them listen on.
var MeshPorts = []uint16{80, 443, 8443}

// NewMesh makes a mesh that lives as long as the test, and waits until all of
// its probes are connected. Their policies have the rates of the shipped ones.
// With flags of serve that controllers share there are two of them, and one half
// of the probes is at home at either.
func NewMesh(t testing.TB, cfg lab.MeshConfig, shared ...string) *Mesh {
	t.Helper()
	m := &Mesh{Lab: labtest.NewMesh(t, cfg), Fleet: &Fleet{t: t, Dir: t.TempDir()}}
	m.Net = NewNetwork(t)
	t.Cleanup(func() {
		if t.Failed() {
			m.tell()
		}
	})
	shared = append([]string{"--reflector", ""}, shared...)
	m.Controller = m.AddController(shared...)
	if len(shared) > 2 {
		m.AddController(append(shared, "--ca", m.Controller.CopyCA())...)
	}
	ports := strings.Trim(strings.ReplaceAll(fmt.Sprint(MeshPorts), " ", ", "), "[]")
	for k := range m.Lab.Hosts() {
		n := k % len(m.Controllers)
		home := slices.Concat(m.Controllers[n:], m.Controllers[:n])
		p := &Probe{Host: m.Net.Add(), Name: fmt.Sprintf("p%02d", k+1), f: m.Fleet, out: &output{}}
		m.mkdir(p.Data())
		m.Write(p.Name+".yaml", fmt.Sprintf(`nets: {allow: [198.18.0.0/16, "fd54:464f::/48"]}
ports: {allow: [%s]}
listen: {enabled: true, ports: [%s], sources: [0.0.0.0/0, "::/0"], max_duration: 10m}
contact_log: {path: %s}
`, ports, ports, p.contacts()))
		p.args = []string{
			"run", "--data", p.Data(), "--policy", p.Name + ".yaml", "--netns", m.Lab.Host(k).NetNS, "--log-level", "debug",
			"--join", m.Token(p.Name, home),
		}
		m.Probes = append(m.Probes, p)
		p.Launch()
	}
	m.Connected()
	return m
}

// Open is how many TCP ports are open on the hosts of the mesh.
func (m *Mesh) Open() (n int) {
	m.t.Helper()
	for k := range m.Lab.Hosts() {
		if err := lab.In(m.Lab.Host(k).NetNS, func() error {
			table, err := os.ReadFile("/proc/thread-self/net/tcp6")
			for line := range strings.Lines(string(table)) {
				if f := strings.Fields(line); len(f) > 3 && f[3] == "0A" { // TCP_LISTEN
					n++
				}
			}
			return err
		}); err != nil {
			m.t.Fatal(err)
		}
	}
	return n
}

// Meeting is "controller mesh" as it runs.
type Meeting struct {
	*Process
	m   *Mesh
	dir string // a copy of the dataset
}

// Meet has all probes measure each other.
func (m *Mesh) Meet(args ...string) *Meeting {
	m.t.Helper()
	r := &Meeting{m: m, dir: filepath.Join(m.t.TempDir(), "dataset")}
	command := append([]string{Program(m.t, "controller"), "mesh", "--controller", m.Controller.Socket(), "--out", r.dir}, args...)
	r.Process = start(m.t, m.Controller.Host, "mesh", m.Dir, &output{}, command)
	return r
}

// Measuring waits until all listen, and the probes have been told to connect.
func (r *Meeting) Measuring() {
	r.m.t.Helper()
	r.m.says(r.Process, "to make")
}

// Over waits for the end of the command, and is what it said and how it ended.
func (r *Meeting) Over(within time.Duration) (said string, err error) {
	r.m.t.Helper()
	select {
	case <-r.over:
	case <-time.After(within):
		r.m.t.Fatalf("the mesh is not over after %v; it said:\n%s", within, r.out.all())
	}
	return r.out.all(), r.err
}

// Rows are those of the dataset, of each pair one. Its measurements have to have
// the address that the controller sees their probe at.
func (r *Meeting) Rows() (rows []dataset.MeshRow) {
	r.m.t.Helper()
	at := make(map[string]netip.Addr)
	for _, p := range r.m.Probes {
		at[p.Info().GetName()] = p.Host.Addr
	}
	for rec, err := range dataset.Read(r.dir) {
		if err != nil {
			r.m.t.Fatal(err)
		}
		if rec.Observed != at[rec.Probe] {
			r.m.t.Errorf("a measurement of %s, which is at %v, is of one at %v", rec.Probe, at[rec.Probe], rec.Observed)
		}
	}
	for row, err := range dataset.ReadMesh(r.dir) {
		if err != nil {
			r.m.t.Fatal(err)
		}
		rows = append(rows, row)
	}
	return rows
}
