package report

import (
	"cmp"
	"fmt"
	"io"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"tfofleet/internal/dataset"
	"tfofleet/internal/measure"
)

const (
	// defaultWidth is also the least: the tables need it.
	defaultWidth = 80
	// maxWidth is where lines of prose become too long to read.
	maxWidth = 120
	// topGroups is how many ports and probes are shown; all are in the JSON.
	topGroups = 10
	// spreadTargets is from how many targets a spread means anything.
	spreadTargets = 10
)

// RenderTable writes the summary for people. Without Color there is no escape
// code in it.
func RenderTable(w io.Writer, s *Summary, o Options) error {
	o.Width = min(max(o.Width, defaultWidth), maxWidth)
	p := &page{o: o}
	p.head(s)
	p.verdicts(s)
	p.groups(s)
	p.saved(s)
	p.attention(s)
	_, err := io.WriteString(w, p.b.String())
	return err
}

// page is the text as far as it is written.
type page struct {
	b strings.Builder
	o Options
}

func (p *page) printf(format string, args ...any) { fmt.Fprintf(&p.b, format, args...) }

// paint colors s where that is wanted, whatever the environment says: that was
// asked when the Options were made.
func (p *page) paint(s string, colors ...text.Color) string {
	if !p.o.Color {
		return s
	}
	return text.Escape(s, text.Colors(colors).EscapeSeq())
}

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

func (p *page) head(s *Summary) {
	const label = "%-8s "
	v := &s.Survey
	p.wrapped(p.paint(fmt.Sprintf(label, "survey"), text.Bold), join(", ",
		cmp.Or(v.Name, v.ID), v.Spec.Plan+" plan", string(v.State), v.Created.UTC().Format("2006-01-02 15:04 MST"), elapsed(v)))
	for i := range v.Probes[:min(len(v.Probes), topGroups)] {
		p.wrapped(p.paint(fmt.Sprintf(label, "probe"), text.Bold), probeFacts(&v.Probes[i]))
	}
	if n := len(v.Probes) - topGroups; n > 0 {
		p.printf(label+"and %d more\n", "", n)
	}
	counts := []string{number(s.Measured) + " measured"}
	for _, c := range []struct {
		n    uint64
		word string
	}{{s.Refused, "refused"}, {s.Interrupted, "interrupted"}, {s.Unknown, "unknown"}} {
		if c.n > 0 {
			counts = append(counts, number(c.n)+" "+c.word)
		}
	}
	p.wrapped(p.paint(fmt.Sprintf(label, "targets"), text.Bold), strings.Join(counts, ", "))
}

func elapsed(v *dataset.Survey) string {
	if v.Ended.IsZero() {
		return ""
	}
	return "took " + span(v.Ended.Sub(v.Created))
}

func probeFacts(p *dataset.Probe) string {
	facts := join(", ", strings.TrimSpace("Linux "+p.Kernel+" "+p.Arch), sysctl("tcp_fastopen", p.TCPFastOpen), sysctl("blackhole timeout", p.BlackholeTimeoutS))
	return p.Name + ": " + facts
}

func sysctl(name string, v *int) string {
	if v == nil {
		return ""
	}
	return fmt.Sprintf("%s %d", name, *v)
}

// join leaves out what is empty.
func join(sep string, parts ...string) string {
	var some []string
	for _, s := range parts {
		if s != "" {
			some = append(some, s)
		}
	}
	return strings.Join(some, sep)
}

// verdictColors tells what works, what is broken and what is not known.
func verdictColors(v measure.Verdict) []text.Color {
	switch {
	case v == measure.Supported:
		return []text.Color{text.FgGreen}
	case v.Fault():
		return []text.Color{text.FgRed}
	case v == measure.Unsupported:
		return nil
	}
	return []text.Color{text.FgYellow}
}

func (p *page) verdicts(s *Summary) {
	if s.Measured == 0 {
		p.printf("\nNothing was measured.\n")
		return
	}
	t := p.table("verdict", "targets", "share", "meaning")
	for _, c := range s.Verdicts {
		v, _ := measure.ParseVerdict(c.Verdict) // 0 for one of a later version
		name := c.Verdict
		if colors := verdictColors(v); colors != nil {
			name = p.paint(name, colors...)
		}
		t.AppendRow(table.Row{name, number(c.Count), percent(c.Count, s.Measured), cmp.Or(Meaning(v), "of a later version")})
	}
	// The meaning gets what the other columns and the gaps between leave.
	used := 0
	for _, c := range s.Verdicts {
		used = max(used, len(c.Verdict))
	}
	used += max(len("targets"), len(number(s.Measured))) + len(">99.9%") + 3*len(gap)
	t.SetColumnConfigs([]table.ColumnConfig{right(2), right(3), {Number: 4, WidthMax: p.o.Width - used, WidthMaxEnforcer: text.WrapSoft}})
	p.render(t)
}

func (p *page) groups(s *Summary) {
	if s.Measured == 0 {
		return
	}
	header := []string{"", "measured", "supported", "unsupported", "fault", "offline", "inconclusive"}
	t := p.table(header...)
	rows := func(word string, groups []Group, name func(string) string) {
		for i, g := range groups {
			if i == topGroups {
				t.AppendRow(table.Row{fmt.Sprintf("and %d more", len(groups)-i)})
				break
			}
			if g.Measured > 0 {
				t.AppendRow(groupRow(join(" ", word, name(g.Key)), &g.Counts))
			}
		}
	}
	same := func(key string) string { return key }
	rows("port", s.ByPort, same)
	rows("", s.ByFamily, familyName)
	if len(s.ByProbe) > 1 {
		rows("probe", s.ByProbe, same)
	}
	// The name gets what the other columns and the gaps between leave.
	name := p.o.Width - len(number(s.Measured))
	configs := []table.ColumnConfig{{Number: 1}}
	for i, h := range header[1:] {
		configs = append(configs, right(i+2))
		name -= len(gap) + max(len(h), len("100.0%"))
	}
	name += min(len("measured"), len(number(s.Measured)))
	configs[0].WidthMax, configs[0].WidthMaxEnforcer = name, text.WrapHard
	t.SetColumnConfigs(configs)
	p.render(t)
}

func groupRow(name string, c *Counts) table.Row {
	var fault uint64
	for _, s := range c.Verdicts {
		if v, err := measure.ParseVerdict(s.Verdict); err == nil && v.Fault() {
			fault += s.Count
		}
	}
	share := func(n uint64) string { return percent(n, c.Measured) }
	of := func(v measure.Verdict) string { return share(c.Count(v.String())) }
	return table.Row{name, number(c.Measured), of(measure.Supported), of(measure.Unsupported), share(fault), of(measure.Offline), of(measure.Inconclusive)}
}

func (p *page) saved(s *Summary) {
	if s.Saved == nil {
		return
	}
	v := s.Saved
	p.printf("\n")
	most := ""
	if v.N >= spreadTargets {
		most = fmt.Sprintf("80%% of targets between %s and %s", millis(v.P10US), millis(v.P90US))
	}
	p.wrapped(p.paint("time saved to first byte", text.Bold)+"  ", join(", ", "median "+millis(v.MedianUS), most,
		fmt.Sprintf("n = %s (plain minus Fast Open, supported targets)", number(v.N))))
}

func (p *page) attention(s *Summary) {
	if len(s.Attention) == 0 {
		return
	}
	p.printf("\n%s\n", p.paint("needs attention", text.Bold))
	for _, n := range s.Attention {
		p.wrapped("  "+p.paint("!", text.FgYellow)+" ", n.Text)
	}
}

// gap is what stands between columns.
const gap = "  "

// table is one without lines, its header in bold.
func (p *page) table(header ...string) table.Writer {
	t := table.NewWriter()
	style := table.StyleDefault
	style.Box = table.BoxStyle{PaddingRight: gap}
	style.Options = table.OptionsNoBordersAndSeparators
	style.Format = table.FormatOptions{}
	t.SetStyle(style)
	t.SuppressTrailingSpaces()
	row := make(table.Row, len(header))
	for i, h := range header {
		row[i] = p.paint(h, text.Bold)
	}
	t.AppendHeader(row)
	return t
}

func (p *page) render(t table.Writer) { p.printf("\n%s\n", t.Render()) }

func right(column int) table.ColumnConfig {
	return table.ColumnConfig{Number: column, Align: text.AlignRight, AlignHeader: text.AlignRight}
}
