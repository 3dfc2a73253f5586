package matrix

import (
	"cmp"
	"iter"
	"maps"
	"slices"

	"tfofleet/internal/dataset"
	"tfofleet/internal/measure"
	"tfofleet/internal/tfo"
)

// Matrix is what the meshes of datasets say. The JSON names are stable.
type Matrix struct {
	Meshes   []string `json:"meshes"`
	Probes   []string `json:"probes"` // by name
	Pairs    int      `json:"pairs"`
	Verdicts []Count  `json:"verdicts"` // in the order of their values

	Unmatched int `json:"unmatched"` // sides without the other one

	Doubts     []Doubt     `json:"doubts"` // in the order of their values
	Tables     []Table     `json:"tables"`
	Asymmetric []Asymmetry `json:"asymmetric"`
	Near       []Near      `json:"near"`
	ByProbe    []ByProbe   `json:"by_probe"`
	NAT        NAT         `json:"nat"`
	Rewrites   []Rewrite   `json:"rewrites"`
}

// Count is how many pairs have a verdict.
type Count struct {
	Verdict string `json:"verdict"`
	Pairs   int    `json:"pairs"`
}

// Doubt is why pairs are inconclusive, of all that are.
type Doubt struct {
	Doubt string `json:"doubt"`
	Seen
}

// Place is a port in a family of a mesh: what a table is of.
type Place struct {
	Mesh   string `json:"mesh"`
	Port   uint16 `json:"port"`
	Family int    `json:"family"` // 4 or 6
}

// Table is what was found there.
type Table struct {
	Place
	Cells []Cell `json:"cells"` // by client and server
}

// Cell is one ordered pair.
type Cell struct {
	Client     string `json:"client"`
	Server     string `json:"server"`
	Verdict    string `json:"verdict"`
	Direction  string `json:"direction,omitempty"`
	Doubt      string `json:"doubt,omitempty"`
	NATAddress string `json:"nat_address"`
	NATPort    string `json:"nat_port"`
	Attempts   int    `json:"attempts"`
	Joined     int    `json:"joined"`
	Unmatched  int    `json:"unmatched"`
	Lost       string `json:"lost,omitempty"` // client, server or both

	row *dataset.MeshRow
}

// Half is what is found one way.
type Half struct {
	Verdict   string `json:"verdict"`
	Direction string `json:"direction,omitempty"`
}

// Asymmetry is a pair of probes that differ by who connects to whom, at all
// places where it is the same.
type Asymmetry struct {
	A      string  `json:"a"`
	B      string  `json:"b"`
	AToB   Half    `json:"a_to_b"`
	BToA   Half    `json:"b_to_a"`
	Places []Place `json:"places"`
	// From is whose packets the faults of both halves are on; empty when they do
	// not say the same. Of connections from A a fault on the way there is on A's
	// packets, of those from B one on the way back.
	From string `json:"packets_from,omitempty"`
}

// Near is a probe all of whose pairs in a role are faulty or offline.
type Near struct {
	Probe    string   `json:"probe"`
	Role     string   `json:"role"` // client or server
	Verdicts []string `json:"verdicts"`
	Pairs    int      `json:"pairs"`
	Places   []Place  `json:"places"`
	Whole    bool     `json:"whole"` // at every place it was measured at
}

// Share is how many of the conclusive pairs are faulty.
type Share struct {
	Faults int `json:"faults"`
	Of     int `json:"of"`
}

// ByProbe is the faults of a probe in both roles.
type ByProbe struct {
	Probe    string `json:"probe"`
	AsClient Share  `json:"as_client"`
	AsServer Share  `json:"as_server"`
}

// NAT counts the pairs with address translation, of those where it could be
// seen.
type NAT struct {
	Address  Seen `json:"address"`
	Port     Seen `json:"port"`
	Changing Seen `json:"changing"`
	Carrier  Seen `json:"carrier"`
}

// Seen is in how many pairs something was seen, and whose they are.
type Seen struct {
	Pairs   int      `json:"pairs"`
	Of      int      `json:"of"`
	Clients []string `json:"clients"`
}

// Rewrite is a change to SYNs on their way. Before and After are the most
// frequent values.
type Rewrite struct {
	Field  string `json:"field"`
	Option uint8  `json:"option,omitempty"`
	Change string `json:"change"`
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
	Values int    `json:"values"` // how many different ones
	Seen
}

// Collect reads the meshes of datasets.
func Collect(dirs ...string) (*Matrix, error) {
	return From(func(yield func(dataset.MeshRow, error) bool) {
		for _, dir := range dirs {
			for r, err := range dataset.ReadMesh(dir) {
				if !yield(r, err) {
					return
				}
			}
		}
	})
}

// From makes a matrix of rows, in any order. Of a pair that is there twice the
// later row counts.
func From(rows iter.Seq2[dataset.MeshRow, error]) (*Matrix, error) {
	places := map[Place]map[[2]string]*dataset.MeshRow{}
	for r, err := range rows {
		if err != nil {
			return nil, err
		}
		r.Evidence = nil // the bulk of it
		at := Place{r.Mesh, r.Port, r.Family}
		if places[at] == nil {
			places[at] = map[[2]string]*dataset.MeshRow{}
		}
		places[at][[2]string{r.Client, r.Server}] = &r
	}
	m := &Matrix{
		Meshes: []string{}, Probes: []string{}, Verdicts: []Count{}, Doubts: []Doubt{}, Tables: []Table{}, Asymmetric: []Asymmetry{}, Near: []Near{}, ByProbe: []ByProbe{}, Rewrites: []Rewrite{},
	}
	probes, meshes := map[string]bool{}, map[string]bool{}
	verdicts := map[measure.JointVerdict]int{}
	for _, at := range slices.SortedFunc(maps.Keys(places), Place.compare) {
		t := Table{Place: at}
		for _, r := range places[at] {
			probes[r.Client], probes[r.Server], meshes[r.Mesh] = true, true, true
			verdicts[r.Verdict]++
			m.Pairs++
			m.Unmatched += r.Unmatched
			t.Cells = append(t.Cells, cellOf(r))
		}
		slices.SortFunc(t.Cells, func(a, b Cell) int { return cmp.Or(cmp.Compare(a.Client, b.Client), cmp.Compare(a.Server, b.Server)) })
		m.Tables = append(m.Tables, t)
	}
	m.Meshes = append(m.Meshes, slices.Sorted(maps.Keys(meshes))...)
	m.Probes = append(m.Probes, slices.Sorted(maps.Keys(probes))...)
	for _, v := range slices.Sorted(maps.Keys(verdicts)) {
		m.Verdicts = append(m.Verdicts, Count{v.String(), verdicts[v]})
	}
	m.doubts(verdicts[measure.JointInconclusive])
	m.asymmetric()
	m.near()
	m.translation()
	m.rewrites()
	return m, nil
}

func (p Place) compare(q Place) int {
	return cmp.Or(cmp.Compare(p.Mesh, q.Mesh), cmp.Compare(p.Port, q.Port), cmp.Compare(p.Family, q.Family))
}

func cellOf(r *dataset.MeshRow) Cell {
	c := Cell{
		Client: r.Client, Server: r.Server, Verdict: r.Verdict.String(), NATAddress: r.NAT.Address.String(), NATPort: r.NAT.Port.String(),
		Attempts: r.Attempts, Joined: r.Joined, Unmatched: r.Unmatched, row: r,
	}
	c.Direction = wayOf(r)
	if r.Doubt != measure.DoubtNone {
		c.Doubt = r.Doubt.String()
	}
	switch {
	case r.ClientLost && r.ServerLost:
		c.Lost = "both"
	case r.ClientLost:
		c.Lost = "client"
	case r.ServerLost:
		c.Lost = "server"
	}
	return c
}

func wayOf(r *dataset.MeshRow) string {
	if r.Direction == measure.DirectionUnknown {
		return ""
	}
	return r.Direction.String()
}

// conclusive tells verdicts that say something of the path.
func conclusive(r *dataset.MeshRow) bool {
	switch r.Verdict {
	case measure.JointInconclusive, measure.JointPeerLost, 0:
		return false
	}
	return true
}

// broken tells verdicts that say something bad: faults, and a listener that
// cannot be reached at all. That is no fault, and yet near a probe when it is
// so from everywhere.
func broken(r *dataset.MeshRow) bool { return r.Verdict.Fault() || r.Verdict == measure.JointOffline }

// cells yields every cell with its table.
func (m *Matrix) cells(yield func(*Table, *Cell) bool) {
	for i := range m.Tables {
		for j := range m.Tables[i].Cells {
			if !yield(&m.Tables[i], &m.Tables[i].Cells[j]) {
				return
			}
		}
	}
}

func (m *Matrix) doubts(inconclusive int) {
	of := map[measure.Doubt]*Seen{}
	for _, c := range m.cells {
		d := c.row.Doubt
		if c.row.Verdict != measure.JointInconclusive || d == measure.DoubtNone {
			continue
		}
		if of[d] == nil {
			of[d] = &Seen{Of: inconclusive}
		}
		of[d].add(c.Client)
	}
	for _, d := range slices.Sorted(maps.Keys(of)) {
		m.Doubts = append(m.Doubts, Doubt{d.String(), *of[d]})
	}
}

func (m *Matrix) asymmetric() {
	type key struct {
		a, b       string
		aToB, bToA Half
		from       string
	}
	at := map[key]int{}
	for i := range m.Tables {
		t := &m.Tables[i]
		rows := map[[2]string]*dataset.MeshRow{}
		for j := range t.Cells {
			rows[[2]string{t.Cells[j].Client, t.Cells[j].Server}] = t.Cells[j].row
		}
		for _, c := range t.Cells {
			there, back := c.row, rows[[2]string{c.Server, c.Client}]
			if c.Client > c.Server || back == nil || !conclusive(there) || !conclusive(back) || there.Verdict == back.Verdict && there.Direction == back.Direction {
				continue
			}
			k := key{c.Client, c.Server, Half{there.Verdict.String(), wayOf(there)}, Half{back.Verdict.String(), wayOf(back)}, ""}
			switch {
			case there.Direction == measure.Forward && back.Direction == measure.Return:
				k.from = k.a
			case there.Direction == measure.Return && back.Direction == measure.Forward:
				k.from = k.b
			}
			n, ok := at[k]
			if !ok {
				n = len(m.Asymmetric)
				at[k] = n
				m.Asymmetric = append(m.Asymmetric, Asymmetry{A: k.a, B: k.b, AToB: k.aToB, BToA: k.bToA, From: k.from})
			}
			m.Asymmetric[n].Places = append(m.Asymmetric[n].Places, t.Place)
		}
	}
	slices.SortStableFunc(m.Asymmetric, func(a, b Asymmetry) int { return cmp.Or(cmp.Compare(a.A, b.A), cmp.Compare(a.B, b.B)) })
}

// Roles of a probe.
const (
	client = "client"
	server = "server"
)

// enough is how many others a probe must be measured with before all of them can
// say that something is near it: with one it may as well be near that.
const enough = 2

// near counts the faults of each probe, and finds what is near one.
func (m *Matrix) near() {
	type part struct{ probe, role string }
	type tally struct {
		Share
		broken   int
		verdicts map[string]bool // of the broken
	}
	all := map[part]map[Place]*tally{}
	for t, c := range m.cells {
		for _, p := range []part{{c.Client, client}, {c.Server, server}} {
			if all[p] == nil {
				all[p] = map[Place]*tally{}
			}
			if all[p][t.Place] == nil {
				all[p][t.Place] = &tally{verdicts: map[string]bool{}}
			}
			if !conclusive(c.row) {
				continue
			}
			n := all[p][t.Place]
			n.Of++
			if c.row.Verdict.Fault() {
				n.Faults++
			}
			if broken(c.row) {
				n.broken++
				n.verdicts[c.Verdict] = true
			}
		}
	}
	for _, probe := range m.Probes {
		by := ByProbe{Probe: probe}
		for role, sum := range map[string]*Share{client: &by.AsClient, server: &by.AsServer} {
			for _, n := range all[part{probe, role}] {
				sum.Faults, sum.Of = sum.Faults+n.Faults, sum.Of+n.Of
			}
		}
		if by.AsClient.Faults+by.AsServer.Faults > 0 {
			m.ByProbe = append(m.ByProbe, by)
		}
		for _, role := range []string{client, server} {
			near := Near{Probe: probe, Role: role}
			verdicts := map[string]bool{}
			places := all[part{probe, role}]
			for _, at := range slices.SortedFunc(maps.Keys(places), Place.compare) {
				if n := places[at]; n.Of >= enough && n.broken == n.Of {
					near.Places = append(near.Places, at)
					near.Pairs += n.Of
					maps.Copy(verdicts, n.verdicts)
				}
			}
			if near.Pairs > 0 {
				near.Whole = len(near.Places) == len(places)
				near.Verdicts = slices.Sorted(maps.Keys(verdicts))
				m.Near = append(m.Near, near)
			}
		}
	}
}

func (s *Seen) add(client string) {
	s.Pairs++
	if at, there := slices.BinarySearch(s.Clients, client); !there {
		s.Clients = slices.Insert(s.Clients, at, client)
	}
}

func (m *Matrix) translation() {
	n := &m.NAT
	for _, s := range []*Seen{&n.Address, &n.Port, &n.Changing, &n.Carrier} {
		s.Clients = []string{}
	}
	for _, c := range m.cells {
		for _, f := range []struct {
			tri tfo.Tri
			to  *Seen
		}{{c.row.NAT.Address, &n.Address}, {c.row.NAT.Port, &n.Port}, {c.row.NAT.Changing, &n.Changing}} {
			if f.tri != tfo.NotTried {
				f.to.Of++
			}
			if f.tri == tfo.Yes {
				f.to.add(c.Client)
			}
		}
		if c.row.NAT.Changing != tfo.NotTried {
			n.Carrier.Of++
		}
		if c.row.CarrierNAT {
			n.Carrier.add(c.Client)
		}
	}
}

// rewrites gathers what paths do to SYNs, the most frequent first. Addresses are
// NAT's, and of a proxied pair nothing is the client's.
func (m *Matrix) rewrites() {
	type key struct {
		field  measure.SynField
		option uint8
		change measure.Change
	}
	type values struct{ before, after string }
	type found struct {
		Rewrite
		of map[values]int
	}
	all := map[key]*found{}
	joined := 0
	for _, c := range m.cells {
		if c.row.Joined == 0 || c.row.Verdict == measure.JointProxied {
			continue
		}
		joined++
		had := map[key]bool{}
		for _, d := range c.row.Differences {
			switch {
			case !d.Rewrite(), d.Field == measure.FieldSourceAddress, d.Field == measure.FieldSourcePort:
				continue
			}
			k := key{d.Field, d.Option, d.Change}
			f := all[k]
			if f == nil {
				f = &found{Rewrite{Field: d.Field.String(), Option: d.Option, Change: d.Change.String()}, map[values]int{}}
				all[k] = f
			}
			f.of[values{d.Before, d.After}]++
			if !had[k] {
				had[k] = true
				f.add(c.Client)
			}
		}
	}
	for _, f := range all {
		var most values
		for v, n := range f.of {
			if n > f.of[most] || n == f.of[most] && cmp.Or(cmp.Compare(v.before, most.before), cmp.Compare(v.after, most.after)) < 0 {
				most = v
			}
		}
		f.Before, f.After, f.Values, f.Of = most.before, most.after, len(f.of), joined
		m.Rewrites = append(m.Rewrites, f.Rewrite)
	}
	slices.SortFunc(m.Rewrites, func(a, b Rewrite) int {
		return cmp.Or(-cmp.Compare(a.Pairs, b.Pairs), cmp.Compare(a.Field, b.Field), cmp.Compare(a.Option, b.Option), cmp.Compare(a.Change, b.Change))
	})
}
