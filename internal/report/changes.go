package report

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"tfofleet/internal/dataset"
	"tfofleet/internal/report/change"
)

// ChangeFormats lists the forms that [RenderDiff] and [RenderMoves] write, the
// default first.
func ChangeFormats() []string { return []string{"table", "json"} }

// RenderDiff writes what changed from one dataset to another.
func RenderDiff(w io.Writer, d *change.Diff, format string, o Options) error {
	if format == "json" {
		return renderJSON(w, d)
	}
	p := newPage(o)
	p.diff(d)
	_, err := io.WriteString(w, p.b.String())
	return err
}

// RenderMoves writes what a new look at stored evidence changed.
func RenderMoves(w io.Writer, m *change.Moves, format string, o Options) error {
	if format == "json" {
		return renderJSON(w, m)
	}
	p := newPage(o)
	p.moves(m)
	_, err := io.WriteString(w, p.b.String())
	return err
}

func renderJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func newPage(o Options) *page {
	o.Width = min(max(cmp.Or(o.Width, defaultWidth), leastWidth), maxWidth)
	return &page{o: o}
}

func surveyLine(v *dataset.Survey) string {
	return join(", ", cmp.Or(v.Name, v.ID), v.Spec.Plan+" plan", string(v.State), v.Created.UTC().Format("2006-01-02 15:04 MST"))
}

func (p *page) labelled(label, s string) {
	p.wrapped(p.paint(fmt.Sprintf("%-8s ", label), text.Bold), s)
}

func (p *page) diff(d *change.Diff) {
	for _, side := range []struct {
		label string
		*change.Side
	}{{"old", &d.Old}, {"new", &d.New}} {
		p.labelled(side.label, fmt.Sprintf("%s: %s measured, noise %s", surveyLine(&side.Survey), number(side.Measured), percent(side.Transient, side.Measured)))
	}
	unit := "targets, as all probes saw them"
	if len(d.Probes) > 0 {
		unit = "targets, each as one probe saw it (" + strings.Join(d.Probes, ", ") + ")"
	}
	p.labelled("paired", fmt.Sprintf("%s %s", number(d.Units), unit))
	left := []string{}
	for _, l := range []struct {
		n    uint64
		what string
	}{{d.OnlyIn[0], "only the old says something"}, {d.OnlyIn[1], "only the new says something"}, {d.Mixed, "not of one mind"}} {
		if l.n > 0 {
			left = append(left, number(l.n)+" "+l.what)
		}
	}
	if len(left) > 0 {
		p.labelled("left out", strings.Join(left, ", "))
	}
	changed := d.Units - d.Same
	switch {
	case d.Units == 0 && d.Mixed > 0:
		p.printf("\nNo target has one verdict in each dataset.\n")
		return
	case d.Units == 0:
		p.printf("\nThe datasets have no target in common.\n")
		return
	case changed == 0:
		p.printf("\nNothing changed.\n")
		return
	}
	p.labelled("changed", fmt.Sprintf("%s (%s); chance can explain %s (%s of them)", number(changed), percent(changed, d.Units), number(d.Chance), percent(d.Chance, changed)))

	t := p.table("verdict", "old", "new", "left", "came", "p")
	for _, v := range d.Verdicts {
		t.AppendRow(table.Row{v.Verdict, number(v.Old), number(v.New), number(v.Left), number(v.Came), probability(v.P)})
	}
	t.SetColumnConfigs([]table.ColumnConfig{right(2), right(3), right(4), right(5), right(6)})
	p.render(t)

	t = p.table("from", "to", "n", "chance", "p")
	for _, c := range d.Changes {
		t.AppendRow(table.Row{c.Old, c.New, number(c.Count), number(c.Chance), probability(c.P)})
	}
	t.SetColumnConfigs([]table.ColumnConfig{right(3), right(4), right(5)})
	p.render(t)
	p.printf("\n")
	p.wrapped("", "p: how likely so uneven a change is by chance (McNemar's exact test, adjusted by Holm's method). chance: changes with a counterpart the other way, or all of them where p is 0.05 or more.")
}

// probability is a p-value with the digits that count.
func probability(p float64) string {
	switch {
	case p < 0.0001:
		return "<0.0001"
	case p < 0.1:
		return fmt.Sprintf("%.4f", p)
	}
	return fmt.Sprintf("%.2f", p)
}

func (p *page) moves(m *change.Moves) {
	p.labelled("survey", surveyLine(&m.Survey))
	p.labelled("judged", join(", ", number(m.Judged)+" of "+number(m.Measurements)+" measurements again", without(m.Skipped)))
	p.labelled("moved", fmt.Sprintf("%s (%s); %s kept their verdict with other conditions", number(m.Moved), percent(m.Moved, m.Judged), number(m.Relabel)))
	if len(m.Verdicts) > 0 {
		t := p.table("from", "to", "n")
		for _, v := range m.Verdicts {
			t.AppendRow(table.Row{v.Old, v.New, number(v.Count)})
		}
		t.SetColumnConfigs([]table.ColumnConfig{right(3)})
		p.render(t)
	}
	if len(m.Added)+len(m.Removed) == 0 {
		return
	}
	t := p.table("condition", "added", "removed")
	seen := map[string][2]uint64{}
	var order []string
	for i, list := range [][]change.Count{m.Added, m.Removed} {
		for _, c := range list {
			n, ok := seen[c.Condition]
			if !ok {
				order = append(order, c.Condition)
			}
			n[i] = c.Count
			seen[c.Condition] = n
		}
	}
	for _, c := range order {
		t.AppendRow(table.Row{c, number(seen[c][0]), number(seen[c][1])})
	}
	t.SetColumnConfigs([]table.ColumnConfig{right(2), right(3)})
	p.render(t)
}

func without(n uint64) string {
	if n == 0 {
		return ""
	}
	return number(n) + " have no evidence"
}
