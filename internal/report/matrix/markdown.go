package matrix

import (
	"fmt"
	"io"
	"strings"
)

// renderMarkdown writes the matrix with tables as GitHub's dialect has them.
func renderMarkdown(w io.Writer, m *Matrix) error {
	d := &markdown{m: m}
	d.printf("- mesh %s\n- %d probes, %d pairs: %s\n", escape.Replace(list(m.Meshes, same)), len(m.Probes), m.Pairs, escape.Replace(m.verdictsText()))
	if m.Unmatched > 0 {
		d.printf("- %d connections are known at one end only\n", m.Unmatched)
	}
	for i := range m.Tables {
		d.grid(&m.Tables[i])
	}
	d.legend()
	bullets(d, "Why inconclusive", m.Doubts, doubtText)
	bullets(d, "Near one probe", m.Near, m.nearText)
	bullets(d, "Differs by direction", m.asymmetries(), same)
	if len(m.ByProbe) > 0 {
		d.printf("\n")
		d.row("faults by probe", "as client", "as server")
		d.row("---", "---:", "---:")
		for _, b := range m.ByProbe {
			d.row(escape.Replace(b.Probe), b.AsClient.String(), b.AsServer.String())
		}
	}
	if lines := m.pathLines(); len(lines) > 0 {
		d.printf("\n")
		d.row("what paths change", "pairs", "clients")
		d.row("---", "---:", "---")
		for _, l := range lines {
			d.row(escape.Replace(l[0]), l[1], escape.Replace(l[2]))
		}
	}
	_, err := io.WriteString(w, d.b.String())
	return err
}

type markdown struct {
	b strings.Builder
	m *Matrix
}

func (d *markdown) printf(format string, args ...any) { fmt.Fprintf(&d.b, format, args...) }

func (d *markdown) row(cells ...string) { d.printf("| %s |\n", strings.Join(cells, " | ")) }

// escape keeps a word from being taken for markup.
var escape = strings.NewReplacer("|", `\|`, "*", `\*`, "_", `\_`, "<", "&lt;", "`", "\\`", "\n", " ")

func (d *markdown) grid(t *Table) {
	if v := t.alike(); v != "" {
		d.printf("\n%s: all %d pairs `%s`\n", escape.Replace(d.m.placeName(t.Place)), len(t.Cells), v)
		return
	}
	d.printf("\n")
	at := map[[2]string]string{}
	for i := range t.Cells {
		c := &t.Cells[i]
		at[[2]string{c.Client, c.Server}] = codeOf(c.row.Verdict).short
	}
	head, rule := []string{escape.Replace(d.m.placeName(t.Place)) + ", client to server"}, []string{"---"}
	for _, s := range d.m.Probes {
		head, rule = append(head, escape.Replace(s)), append(rule, ":-:")
	}
	d.row(head...)
	d.row(rule...)
	for _, c := range d.m.Probes {
		cells := []string{escape.Replace(c)}
		for _, s := range d.m.Probes {
			cells = append(cells, at[[2]string{c, s}])
		}
		d.row(cells...)
	}
}

func (d *markdown) legend() {
	d.printf("\n")
	for _, c := range d.m.used() {
		k := codeOf(c.row.Verdict)
		d.printf("- %s: `%s`, %s\n", k.short, c.Verdict, k.meaning)
	}
}

func bullets[T any](d *markdown, title string, items []T, text func(T) string) {
	if len(items) == 0 {
		return
	}
	d.printf("\n%s:\n\n", title)
	for _, i := range items {
		d.printf("- %s\n", escape.Replace(text(i)))
	}
}
