package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"tfofleet/internal/dataset"
	"tfofleet/internal/lab"
	"tfofleet/internal/measure"
	"tfofleet/internal/report"
	"tfofleet/internal/targets"
)

// comparison holds the verdicts of a survey of the lab against its truth.
type comparison struct {
	rows []labTarget
}

// labTarget is one address of a path. The JSON names are stable.
type labTarget struct {
	Path        string   `json:"path"`
	Description string   `json:"description"`
	Taxonomy    []string `json:"taxonomy"` // rows of the taxonomy of misbehaviours, such as M5
	Note        string   `json:"note,omitempty"`
	Target      string   `json:"target"`
	Port        uint16   `json:"port"`
	Family      int      `json:"family"` // 4 or 6
	Truth       string   `json:"truth"`
	// AlsoTrue are verdicts that are no mistake either; Note says why.
	AlsoTrue   []string            `json:"also_true"`
	Verdict    string              `json:"verdict"` // empty: not measured
	Conditions []measure.Condition `json:"conditions"`
	OK         bool                `json:"ok"`

	truth []measure.Verdict
	host  string // the name that leads to addr
	addr  netip.Addr
}

// newComparison takes the first address of each family on every path.
func newComparison(l *lab.Lab, family string, plan measure.Plan) *comparison {
	c := &comparison{}
	for _, p := range l.Targets() {
		for _, addr := range []netip.Addr{p.V4, p.V6} {
			if !addr.IsValid() || addr.Is4() && family == "6" || addr.Is6() && family == "4" {
				continue
			}
			c.add(p, addr, p.TruthFor(plan))
		}
	}
	return c
}

func (c *comparison) add(p lab.Placed, addr netip.Addr, truth []measure.Verdict) {
	t := labTarget{
		Path: p.Name, Description: p.About, Taxonomy: append([]string{}, p.Taxonomy...), Note: p.Note,
		Target: addr.String(), Port: p.Port, Family: 6, Truth: truth[0].String(), AlsoTrue: []string{},
		Conditions: []measure.Condition{}, truth: truth, host: p.Host, addr: addr,
	}
	if addr.Is4() {
		t.Family = 4
	}
	for _, v := range truth[1:] {
		t.AlsoTrue = append(t.AlsoTrue, v.String())
	}
	c.rows = append(c.rows, t)
}

// addresses is what a probe must be allowed to measure.
func (c *comparison) addresses() *targets.Prefixes {
	var ps []netip.Prefix
	for _, t := range c.rows {
		ps = append(ps, netip.PrefixFrom(t.addr, t.addr.BitLen()))
	}
	return targets.NewPrefixes(ps...)
}

// read is the lab as a target list.
func (c *comparison) read(emit func(measure.Target) error) (targets.ReadStats, error) {
	var st targets.ReadStats
	for _, t := range c.rows {
		if err := emit(measure.Target{Addr: t.addr, Port: t.Port, Hostname: t.host}); err != nil {
			return st, err
		}
		st.Lines++
		st.Targets++
	}
	return st, nil
}

// load takes the verdicts from a dataset.
func (c *comparison) load(dir string) error {
	found := map[netip.AddrPort]measure.Measurement{}
	for r, err := range dataset.Rows(dir) {
		if err != nil {
			return err
		}
		if r.Outcome == measure.OutcomeMeasured {
			found[netip.AddrPortFrom(r.Addr, r.Port)] = r.Measurement
		}
	}
	for i := range c.rows {
		t := &c.rows[i]
		if m, ok := found[netip.AddrPortFrom(t.addr, t.Port)]; ok {
			t.Verdict, t.OK = m.Verdict.String(), slices.Contains(t.truth, m.Verdict)
			t.Conditions = append(t.Conditions, m.Conditions...)
		}
	}
	return nil
}

func (c *comparison) differing() (n int) {
	for _, t := range c.rows {
		if !t.OK {
			n++
		}
	}
	return n
}

// count says how many verdicts are true, of those that were found.
func (c *comparison) count() string {
	measured := 0
	for _, t := range c.rows {
		if t.Verdict != "" {
			measured++
		}
	}
	missing := len(c.rows) - measured
	s := fmt.Sprintf("%d of %d verdicts are true", measured-(c.differing()-missing), measured)
	if missing > 0 {
		s += fmt.Sprintf("; %d targets were not measured", missing)
	}
	return s
}

// writeJSON writes one line per target.
func (c *comparison) writeJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	for _, t := range c.rows {
		if err := enc.Encode(t); err != nil {
			return err
		}
	}
	return nil
}

const (
	verdictWidth = len("blackholed_after_handshake")
	leastProse   = 36 // columns below which prose is left out
)

func (c *comparison) pathWidth() (w int) {
	for _, t := range c.rows {
		w = max(w, len(t.Path))
	}
	return w
}

// writeTable writes one line per path.
func (c *comparison) writeTable(w io.Writer, o report.Options) error {
	t := table.NewWriter()
	style := table.StyleDefault
	style.Box = table.BoxStyle{PaddingRight: "  "}
	style.Options = table.OptionsNoBordersAndSeparators
	style.Format = table.FormatOptions{}
	t.SetStyle(style)
	t.SuppressTrailingSpaces()
	t.AppendHeader(table.Row{"path", "truth", "verdict", "what happens there"})
	var notes []string
	for _, path := range c.byPath() {
		first := path[0]
		truth := strings.Join(append([]string{first.Truth}, first.AlsoTrue...), " or ")
		t.AppendRow(table.Row{first.Path, truth, verdicts(path, o.Color), first.Description})
		for _, r := range path {
			if !r.OK && r.Verdict != "" {
				notes = append(notes, fmt.Sprintf("%s, %s: %s instead of %s: %v\n", r.Path, r.Target, r.Verdict, truth, r.Conditions))
			}
		}
	}
	columns := []table.ColumnConfig{{Number: 2, WidthMax: verdictWidth, WidthMaxEnforcer: text.WrapSoft}}
	if o.Width > 0 {
		rest := o.Width - c.pathWidth() - 2*verdictWidth - 3*len(style.Box.PaddingRight)
		columns = append(columns, table.ColumnConfig{Number: 4, Hidden: rest < leastProse, WidthMax: rest, WidthMaxEnforcer: text.WrapSoft})
	}
	t.SetColumnConfigs(columns)
	_, err := fmt.Fprintf(w, "%s\n\n%s%s\n", t.Render(), strings.Join(notes, ""), c.count())
	return err
}

// verdicts is one word where the families agree.
func verdicts(path []labTarget, color bool) string {
	word := func(t labTarget) string {
		switch {
		case t.OK:
			return paint(text.FgGreen, t.Verdict, color)
		case t.Verdict == "":
			return paint(text.FgYellow, "not measured", color)
		}
		return paint(text.FgRed, t.Verdict+" (!)", color)
	}
	if len(path) == 2 && path[0].Verdict != path[1].Verdict {
		return fmt.Sprintf("IPv4 %s, IPv6 %s", word(path[0]), word(path[1]))
	}
	return word(path[0])
}

// byPath divides the rows; those of a path are neighbours.
func (c *comparison) byPath() (paths [][]labTarget) {
	for i := 0; i < len(c.rows); {
		n := i + 1
		for n < len(c.rows) && c.rows[n].Path == c.rows[i].Path {
			n++
		}
		paths, i = append(paths, c.rows[i:n]), n
	}
	return paths
}
