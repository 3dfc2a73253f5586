package matrix

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/text"

	"tfofleet/internal/measure"
	"tfofleet/internal/report"
)

const (
	// leastWidth is that of a terminal nobody asked.
	leastWidth = 80
	// nameWidth is the most a probe's name gets.
	nameWidth = 14
)

// renderTable writes the matrix for people, in the width given. Without Color
// there is no escape code in it.
func renderTable(w io.Writer, m *Matrix, o report.Options) error {
	o.Width = max(o.Width, leastWidth)
	p := &page{m: m, o: o}
	if m.Pairs == 0 {
		_, err := io.WriteString(w, "There is no mesh.\n")
		return err
	}
	p.head()
	p.tables()
	p.legend()
	p.findings()
	_, err := io.WriteString(w, p.b.String())
	return err
}

// page is the text as far as it is written.
type page struct {
	b strings.Builder
	m *Matrix
	o report.Options
}

func (p *page) printf(format string, args ...any) { fmt.Fprintf(&p.b, format, args...) }

func (p *page) paint(s string, c text.Colors) string {
	if !p.o.Color || c == nil {
		return s
	}
	return text.Escape(s, c.EscapeSeq())
}

func (p *page) bold(s string) string { return p.paint(s, text.Colors{text.Bold}) }

// wrapped writes s behind first, its further lines indented as far.
func (p *page) wrapped(first, s string) {
	indent := strings.Repeat(" ", text.StringWidthWithoutEscSequences(first))
	for i, line := range strings.Split(text.WrapSoft(s, p.o.Width-len(indent)), "\n") {
		if i > 0 {
			first = indent
		}
		p.printf("%s%s\n", first, strings.TrimRight(line, " "))
	}
}

func (p *page) head() {
	p.wrapped(p.bold("mesh")+"    ", list(p.m.Meshes, same))
	p.wrapped(p.bold("probes")+"  ", fmt.Sprint(len(p.m.Probes)))
	p.wrapped(p.bold("pairs")+"   ", fmt.Sprintf("%d: %s", p.m.Pairs, p.m.verdictsText()))
	if p.m.Unmatched > 0 {
		p.wrapped(p.paint("!", text.Colors{text.FgYellow})+"       ", fmt.Sprintf("%d connections are known at one end only", p.m.Unmatched))
	}
}

func (p *page) tables() {
	for i := range p.m.Tables {
		t := &p.m.Tables[i]
		name := p.m.placeName(t.Place)
		if v := t.alike(); v != "" {
			p.printf("\n")
			p.wrapped(p.bold(name)+"  ", fmt.Sprintf("all %d pairs: %s", len(t.Cells), p.paint(v, colors(t.Cells[0].row.Verdict))))
			continue
		}
		p.printf("\n%s  client (row) to server (column)\n", p.bold(name))
		p.grid(t)
	}
}

// grid writes a table with the servers side by side, in as many pages as the
// width takes. Columns are headed by the number of their row.
func (p *page) grid(t *Table) {
	var probes []string // of this table, by name
	at := map[[2]string]measure.JointVerdict{}
	for i := range t.Cells {
		c := &t.Cells[i]
		at[[2]string{c.Client, c.Server}] = c.row.Verdict
		for _, name := range []string{c.Client, c.Server} {
			if n, there := slices.BinarySearch(probes, name); !there {
				probes = slices.Insert(probes, n, name)
			}
		}
	}
	digits := len(fmt.Sprint(len(probes)))
	column := max(2, digits)
	name := 0
	for _, s := range probes {
		name = max(name, text.StringWidthWithoutEscSequences(s))
	}
	name = min(name, nameWidth)
	label := digits + 1 + name
	perPage := max(1, (p.o.Width-label)/(column+1))
	for from := 0; from < len(probes); from += perPage {
		to := min(from+perPage, len(probes))
		if from > 0 {
			p.printf("\n")
		}
		head := strings.Repeat(" ", label)
		for n := from; n < to; n++ {
			head += " " + p.bold(fmt.Sprintf("%*d", column, n+1))
		}
		p.printf("%s\n", head)
		for r, client := range probes {
			line := fmt.Sprintf("%*d %s", digits, r+1, text.Pad(text.Snip(client, name, "~"), name, ' '))
			for n := from; n < to; n++ {
				v, there := at[[2]string{client, probes[n]}]
				switch {
				case n == r:
					line += " " + strings.Repeat(" ", column-1) + "\\"
				case !there:
					line += " " + strings.Repeat(" ", column-1) + "."
				default:
					line += " " + strings.Repeat(" ", column-2) + p.paint(codeOf(v).short, colors(v))
				}
			}
			p.printf("%s\n", line)
		}
	}
}

func (p *page) legend() {
	grids := false
	for i := range p.m.Tables {
		grids = grids || p.m.Tables[i].alike() == ""
	}
	if !grids {
		return
	}
	p.printf("\n")
	for _, c := range p.m.used() {
		k := codeOf(c.row.Verdict)
		p.wrapped(p.paint(k.short, colors(c.row.Verdict))+"  ", c.Verdict+": "+k.meaning)
	}
}

// findings are lists of what the tables say together.
func (p *page) findings() {
	section(p, "why inconclusive", p.m.Doubts, doubtText)
	section(p, "near one probe", p.m.Near, p.m.nearText)
	section(p, "differs by direction", p.m.asymmetries(), same)
	if len(p.m.ByProbe) > 0 {
		p.printf("\n%s\n", p.bold("faults by probe"))
		for _, b := range p.m.ByProbe {
			p.printf("  %s  as client %s, as server %s\n", text.Pad(text.Snip(b.Probe, nameWidth, "~"), nameWidth, ' '), b.AsClient, b.AsServer)
		}
	}
	section(p, "what paths change", p.m.pathLines(), func(l [3]string) string {
		return fmt.Sprintf("%s: %s pairs, of %s", l[0], l[1], l[2])
	})
}

func section[T any](p *page, title string, items []T, text func(T) string) {
	if len(items) == 0 {
		return
	}
	p.printf("\n%s\n", p.bold(title))
	for _, i := range items {
		p.wrapped("  ", text(i))
	}
}
