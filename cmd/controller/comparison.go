package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"tfofleet/internal/dataset"
	"tfofleet/internal/lab"
	"tfofleet/internal/measure"
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

	path lab.Path
	addr netip.Addr
}

// newComparison takes the first address of each family on every path.
func newComparison(l *lab.Lab, family string) *comparison {
	c := &comparison{}
	for _, p := range l.Targets() {
		for _, addr := range []netip.Addr{p.V4, p.V6} {
			if !addr.IsValid() || addr.Is4() && family == "6" || addr.Is6() && family == "4" {
				continue
			}
			t := labTarget{
				Path: p.Name, Description: p.About, Taxonomy: append([]string{}, p.Taxonomy...), Note: p.Note,
				Target: addr.String(), Port: p.Port, Family: 6, Truth: p.Truth[0].String(), AlsoTrue: []string{},
				Conditions: []measure.Condition{}, path: p.Path, addr: addr,
			}
			if addr.Is4() {
				t.Family = 4
			}
			for _, v := range p.Truth[1:] {
				t.AlsoTrue = append(t.AlsoTrue, v.String())
			}
			c.rows = append(c.rows, t)
		}
	}
	return c
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
		if err := emit(measure.Target{Addr: t.addr, Port: t.Port, Hostname: t.Path + ".lab"}); err != nil {
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
			t.Verdict, t.OK = m.Verdict.String(), t.path.Is(m.Verdict)
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

// writeTable writes one line per path, with a column per family.
func (c *comparison) writeTable(w io.Writer, color bool) error {
	t := table.NewWriter()
	style := table.StyleDefault
	style.Box = table.BoxStyle{PaddingRight: "  "}
	style.Options = table.OptionsNoBordersAndSeparators
	style.Format = table.FormatOptions{}
	t.SetStyle(style)
	t.SuppressTrailingSpaces()
	t.AppendHeader(table.Row{"path", "truth", "IPv4", "IPv6", "what happens there"})
	var notes []string
	for i := 0; i < len(c.rows); {
		first, cells := &c.rows[i], map[int]string{}
		for ; i < len(c.rows) && c.rows[i].Path == first.Path; i++ {
			r := &c.rows[i]
			cells[r.Family] = r.cell(color)
			if !r.OK && len(r.Conditions) > 0 {
				notes = append(notes, fmt.Sprintf("%s, %s: %v", r.Path, r.Target, r.Conditions))
			}
		}
		truth := strings.Join(append([]string{first.Truth}, first.AlsoTrue...), " or ")
		t.AppendRow(table.Row{first.Path, truth, cells[4], cells[6], first.Description})
	}
	ok := len(c.rows) - c.differing()
	_, err := fmt.Fprintf(w, "%s\n\n%d of %d verdicts are true\n", t.Render(), ok, len(c.rows))
	for _, n := range notes {
		if err == nil {
			_, err = fmt.Fprintln(w, n)
		}
	}
	return err
}

func (t *labTarget) cell(color bool) string {
	switch {
	case t.OK:
		return paint(text.FgGreen, t.Verdict, color)
	case t.Verdict == "":
		return paint(text.FgYellow, "not measured", color)
	}
	return paint(text.FgRed, t.Verdict+" (!)", color)
}
