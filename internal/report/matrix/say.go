package matrix

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// What the terminal and Markdown say in the same words.

func (m *Matrix) placeName(p Place) string {
	name := fmt.Sprintf("%d/IPv%d", p.Port, p.Family)
	if len(m.Meshes) > 1 {
		name = p.Mesh + " " + name
	}
	return name
}

// at names places; all of them in a word.
func (m *Matrix) at(places []Place) string {
	if len(places) == len(m.Tables) {
		return "everywhere"
	}
	return "on " + list(places, m.placeName)
}

// most is how many names a line has.
const most = 8

func list[T any](all []T, name func(T) string) string {
	var names []string
	for i, v := range all {
		if i == most && len(all) > most+1 {
			names = append(names, fmt.Sprintf("%d more", len(all)-most))
			break
		}
		names = append(names, name(v))
	}
	return strings.Join(names, ", ")
}

func same(s string) string { return s }

func (m *Matrix) verdictsText() string {
	return list(m.Verdicts, func(c Count) string { return fmt.Sprintf("%d %s", c.Pairs, c.Verdict) })
}

func (h Half) String() string {
	if h.Direction == "" {
		return h.Verdict
	}
	return h.Verdict + " " + h.Direction
}

func doubtText(d Doubt) string {
	name := strings.ReplaceAll(d.Doubt, "_", " ")
	if meaning := doubtMeanings[d.Doubt]; meaning != "" {
		name += ", " + meaning
	}
	return fmt.Sprintf("%s: %d of %d pairs, of %s", name, d.Pairs, d.Of, list(d.Clients, same))
}

func (m *Matrix) asymmetryText(a Asymmetry) string {
	s := fmt.Sprintf("%s -> %s %s, %s -> %s %s", a.A, a.B, a.AToB, a.B, a.A, a.BToA)
	if a.From != "" {
		s += fmt.Sprintf(": the packets of %s", a.From)
	}
	return s + "; " + m.at(a.Places)
}

// shownPairs is how many pairs are told one by one; all are in the JSON.
const shownPairs = 30

// asymmetries are lines on the pairs that differ by direction. Those with a probe
// that Near names everywhere they differ are only counted: there would be one
// with every other probe.
func (m *Matrix) asymmetries() (lines []string) {
	nearAt := map[string]map[Place]bool{}
	for _, n := range m.Near {
		if nearAt[n.Probe] == nil {
			nearAt[n.Probe] = map[Place]bool{}
		}
		for _, at := range n.Places {
			nearAt[n.Probe][at] = true
		}
	}
	explained := 0
	for _, a := range m.Asymmetric {
		if slices.ContainsFunc(a.Places, func(at Place) bool { return !nearAt[a.A][at] && !nearAt[a.B][at] }) {
			lines = append(lines, m.asymmetryText(a))
		} else {
			explained++
		}
	}
	if n := len(lines) - shownPairs; n > 0 {
		lines = append(lines[:shownPairs], fmt.Sprintf("and %d more", n))
	}
	switch {
	case explained == 1:
		lines = append(lines, "and 1 pair with a probe named above")
	case explained > 1:
		lines = append(lines, fmt.Sprintf("and %d pairs with a probe named above", explained))
	}
	return lines
}

func (m *Matrix) nearText(n Near) string {
	return fmt.Sprintf("%s as %s: all %d pairs, %s; %s", n.Probe, n.Role, n.Pairs, strings.Join(n.Verdicts, ", "), m.at(n.Places))
}

// rewriteText tells a change by its most frequent values.
func rewriteText(r Rewrite) string {
	name := strings.ReplaceAll(r.Field, "_", " ")
	if r.Field == "option" {
		name = fmt.Sprintf("option %d", r.Option)
	}
	var what string
	switch r.Change {
	case "removed":
		what = "removed"
	case "added":
		what = "added: " + r.After
	default:
		what = r.Before + " -> " + r.After
	}
	if r.Values > 1 && r.Change != "removed" { // what is gone from timestamps is never the same
		what += fmt.Sprintf(" and %d more", r.Values-1)
	}
	return name + " " + what
}

// pathLines are the lines on address translation and on what else is rewritten:
// what, in how many pairs, and whose.
func (m *Matrix) pathLines() (lines [][3]string) {
	add := func(what string, s Seen) {
		if s.Pairs > 0 {
			lines = append(lines, [3]string{what, fmt.Sprintf("%d of %d", s.Pairs, s.Of), list(s.Clients, same)})
		}
	}
	add("address translated", m.NAT.Address)
	add("port translated", m.NAT.Port)
	add("address changes", m.NAT.Changing)
	add("cookies refused for it", m.NAT.Carrier)
	for _, r := range m.Rewrites {
		add(rewriteText(r), r.Seen)
	}
	return lines
}

// used are the verdicts that occur, in the order of their values.
func (m *Matrix) used() (rows []Cell) {
	seen := map[string]bool{}
	for _, c := range m.cells {
		if !seen[c.Verdict] {
			seen[c.Verdict] = true
			rows = append(rows, *c)
		}
	}
	slices.SortFunc(rows, func(a, b Cell) int { return cmp.Compare(a.row.Verdict, b.row.Verdict) })
	return rows
}

// alike is the verdict that all cells of a table have, or "".
func (t *Table) alike() string {
	for i := range t.Cells {
		if t.Cells[i].Verdict != t.Cells[0].Verdict {
			return ""
		}
	}
	return t.Cells[0].Verdict
}

func (s Share) String() string { return fmt.Sprintf("%d of %d", s.Faults, s.Of) }
