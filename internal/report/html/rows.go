package html

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"

	"tfofleet/internal/dataset"
	"tfofleet/internal/measure"
)

// table is the measurements in the file, by columns: what repeats is a number
// that stands for an entry of a list, and each target is there once, however
// many probes measured it.
type table struct {
	N       int         `json:"n"`
	Targets targetTable `json:"targets"`
	// Lists that columns count in.
	Probes     []string `json:"probes"`
	Conditions []string `json:"conditions"`
	Sets       [][]int  `json:"sets"` // of conditions
	// Columns, one value per measurement.
	Target  []int   `json:"target"`
	Probe   []int   `json:"probe"`
	Survey  []int   `json:"survey"`  // as Model.Surveys
	Verdict []int   `json:"verdict"` // as Model.Verdicts, -1 without; -2 refused, -3 interrupted
	Set     []int   `json:"set"`
	RTT     []int64 `json:"rtt"`   // median of plain attempts, µs; -1 not known
	Saved   []any   `json:"saved"` // µs; null not known
	Made    []int32 `json:"made"`  // attempts
	Block   []int   `json:"block"` // with the attempts; -1 when they are not in the file
	At      []int   `json:"at"`    // in the block
}

// targetTable is the targets of a table.
type targetTable struct {
	Item []uint64 `json:"item"`
	Addr []string `json:"addr"` // empty without
	Port []uint16 `json:"port"`
	Host []string `json:"host"` // empty without
	// Groups of the target by further properties, as numbers in a list.
	Groups []groupColumn `json:"groups"`
}

type groupColumn struct {
	By    string   `json:"by"`
	Names []string `json:"names"`
	Of    []int    `json:"of"` // -1: in none
}

// Numbers for what has no verdict.
const (
	noVerdict   = -1
	refused     = -2
	interrupted = -3
)

// rows fills a table.
type rows struct {
	table
	n         int
	groupings []grouping
	verdicts  [256]int
	targets   map[targetKey]int
	probes    index[string]
	sets      index[string]
	labels    index[uint32]
	names     []index[string]
}

type targetKey struct {
	dir  int
	item uint64
	addr netip.Addr // a name may lead probes to different ones
}

func newRows(c *collection) rows {
	r := rows{groupings: c.groupings(), targets: map[targetKey]int{}, probes: index[string]{}, sets: index[string]{}, labels: index[uint32]{}}
	// Lists are never null for the page.
	r.table = table{
		Targets: targetTable{Item: []uint64{}, Addr: []string{}, Port: []uint16{}, Host: []string{}, Groups: []groupColumn{}},
		Probes:  []string{}, Conditions: []string{}, Sets: [][]int{}, Target: []int{}, Probe: []int{}, Survey: []int{}, Verdict: []int{}, Set: []int{},
		RTT: []int64{}, Saved: []any{}, Made: []int32{}, Block: []int{}, At: []int{},
	}
	for v := range r.verdicts {
		r.verdicts[v] = slices.Index(c.verdicts, measure.Verdict(v).String()) // -1 is noVerdict
	}
	for _, g := range r.groupings {
		r.names = append(r.names, index[string]{})
		r.Targets.Groups = append(r.Targets.Groups, groupColumn{By: g.by, Names: []string{}, Of: []int{}})
	}
	return r
}

// grouping is a property of targets that the table has a column for.
type grouping struct {
	by string
	of func(measure.Target) string // empty where it is not known
}

func (c *collection) groupings() (gs []grouping) {
	table := c.Query.Origin
	if table.Knows().AS {
		gs = append(gs, grouping{"AS", func(t measure.Target) string {
			if n := table.Lookup(t.Addr).ASN; n != 0 {
				return fmt.Sprintf("AS%d", n)
			}
			return ""
		}})
	}
	if table.Knows().Country {
		gs = append(gs, grouping{"country", func(t measure.Target) string { return table.Lookup(t.Addr).Country }})
	}
	return gs
}

// index numbers what it is asked for, from 0 on.
type index[K comparable] map[K]int

func (x index[K]) of(k K, list func()) int {
	i, ok := x[k]
	if !ok {
		i = len(x)
		x[k] = i
		list()
	}
	return i
}

func (r *rows) add(s *dataset.Scan, b *dataset.Batch, i int, t measure.Target, probe string) {
	r.n++
	r.Target = append(r.Target, r.target(b.Dir, t))
	r.Probe = append(r.Probe, r.probes.of(probe, func() { r.Probes = append(r.Probes, probe) }))
	r.Survey = append(r.Survey, b.Dir)
	r.Verdict = append(r.Verdict, r.verdict(b.Outcome[i], b.Verdict[i]))
	r.Set = append(r.Set, r.set(s, b.Conditions.At(i)))
	rtt, saved := b.PlainConnectUS[i], any(nil)
	if rtt == dataset.Null {
		rtt = -1
	}
	if us := b.SavedUS[i]; us != dataset.Null {
		saved = us
	}
	r.RTT, r.Saved, r.Made = append(r.RTT, rtt), append(r.Saved, saved), append(r.Made, b.Attempts[i])
	r.Block, r.At = append(r.Block, -1), append(r.At, 0)
}

func (r *rows) target(dir int, t measure.Target) int {
	key := targetKey{dir, t.Item, t.Addr}
	if n, ok := r.targets[key]; ok {
		return n
	}
	n := len(r.Targets.Port)
	r.targets[key] = n
	addr := ""
	if t.Addr.IsValid() {
		addr = t.Addr.String()
	}
	r.Targets.Item = append(r.Targets.Item, t.Item)
	r.Targets.Addr, r.Targets.Port, r.Targets.Host = append(r.Targets.Addr, addr), append(r.Targets.Port, t.Port), append(r.Targets.Host, t.Hostname)
	for g := range r.groupings {
		col, of := &r.Targets.Groups[g], -1
		if name := r.groupings[g].of(t); name != "" {
			of = r.names[g].of(name, func() { col.Names = append(col.Names, name) })
		}
		col.Of = append(col.Of, of)
	}
	return n
}

// endOfTargets forgets targets that no later row is of.
func (r *rows) endOfTargets() { clear(r.targets) }

func (r *rows) verdict(o measure.Outcome, v measure.Verdict) int {
	switch o {
	case measure.OutcomeRefused:
		return refused
	case measure.OutcomeInterrupted:
		return interrupted
	}
	return r.verdicts[v]
}

func (r *rows) set(s *dataset.Scan, labels []uint32) int {
	set := make([]int, len(labels))
	for i, l := range labels {
		set[i] = r.labels.of(l, func() { r.Conditions = append(r.Conditions, string(s.Label(l))) })
	}
	key, _ := json.Marshal(set) // of numbers: cannot fail
	return r.sets.of(string(key), func() { r.Sets = append(r.Sets, set) })
}
