package report

import (
	"cmp"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"tfofleet/internal/dataset"
	"tfofleet/internal/measure"
	"tfofleet/internal/report/blame"
)

const (
	// defaultWidth is that of a terminal nobody asked, and leastWidth what the
	// tables need, without the columns that can be done without.
	defaultWidth = 80
	leastWidth   = 60
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
	p := newPage(o)
	p.head(s)
	p.verdicts(s)
	p.groups(s)
	p.saved(s)
	p.together(s)
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
	list := func(word string, n int, line func(i int) string) {
		for i := range min(n, topGroups) {
			p.wrapped(p.paint(fmt.Sprintf(label, word), text.Bold), line(i))
		}
		if n > topGroups {
			p.printf(label+"and %d more\n", "", n-topGroups)
		}
	}
	list("survey", len(s.Surveys), func(i int) string {
		v := &s.Surveys[i]
		return join(", ", cmp.Or(v.Name, v.ID), v.Spec.Plan+" plan", string(v.State), v.Created.UTC().Format("2006-01-02 15:04 MST"), elapsed(v))
	})
	var probes []string
	for i := range s.Surveys {
		for j := range s.Surveys[i].Probes {
			if facts := probeFacts(&s.Surveys[i].Probes[j]); !slices.Contains(probes, facts) {
				probes = append(probes, facts)
			}
		}
	}
	list("probe", len(probes), func(i int) string { return probes[i] })
	counts := []string{number(s.Measured) + " measured"}
	if s.several() {
		counts = []string{fmt.Sprintf("%s, %s measurements", number(s.Targets.N), number(s.Measured))}
	}
	cancelled, lost := s.unmeasured()
	for _, c := range []struct {
		n    uint64
		word string
	}{{s.Refused, "refused"}, {s.Interrupted, "interrupted"}, {s.Unknown, "unknown"}, {cancelled, "cancelled"}, {lost, "lost"}} {
		if c.n > 0 {
			counts = append(counts, number(c.n)+" "+c.word)
		}
	}
	p.wrapped(p.paint(fmt.Sprintf(label, "targets"), text.Bold), strings.Join(counts, ", "))
}

// unmeasured is how many targets have no row in a dataset, as survey.json has it.
func (s *Summary) unmeasured() (cancelled, lost uint64) {
	for i := range s.Surveys {
		cancelled += s.Surveys[i].Counts.Cancelled
		lost += s.Surveys[i].Counts.Lost
	}
	return cancelled, lost
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
	unit := "targets"
	if s.several() {
		unit = "n"
	}
	used, wide := 0, len("95 % CI")
	for _, c := range s.Verdicts {
		used, wide = max(used, len(c.Verdict)), max(wide, len(interval(c.Part)))
	}
	// The meaning gets what the other columns and the gaps between leave, if that
	// is room for words.
	const words = 12
	used += max(len("targets"), len(number(s.Measured))) + len(">99.9%") + wide + 4*len(gap)
	header := []string{"verdict", unit, "share", "95 % CI", "meaning"}
	if p.o.Width-used < words {
		header = header[:4]
	}
	t := p.table(header...)
	for _, c := range s.Verdicts {
		v, _ := measure.ParseVerdict(c.Verdict) // 0 for one of a later version
		name := c.Verdict
		if colors := verdictColors(v); colors != nil {
			name = p.paint(name, colors...)
		}
		row := table.Row{name, number(c.Count), percent(c.Count, s.Measured), interval(c.Part), cmp.Or(Meaning(v), "of a later version")}
		t.AppendRow(row[:len(header)])
	}
	t.SetColumnConfigs([]table.ColumnConfig{right(2), right(3), right(4), {Number: 5, WidthMax: p.o.Width - used, WidthMaxEnforcer: text.WrapSoft}})
	p.render(t)
	p.printf("\n")
	share := func(c Part) string {
		return fmt.Sprintf("%s, %s (%s)", number(c.Count), percent(c.Count, s.Measured), interval(c))
	}
	p.wrapped(p.paint("any fault", text.Bold)+"  ", share(s.Fault))
	p.wrapped(p.paint("noise", text.Bold)+"      ", share(s.Transient)+": plain failed and Fast Open worked")
}

func (p *page) groups(s *Summary) {
	if s.Measured == 0 {
		return
	}
	if len(s.ByProbe) > 1 {
		p.grouped("by probe", single(s.ByProbe))
	}
	p.grouped("by port", single(s.ByPort))
	p.grouped("by family", single(s.ByFamily))
	for _, c := range s.By {
		p.grouped("by "+strings.Join(c.Keys, ", "), c.Groups)
	}
}

// several reports whether targets were measured more than once each.
func (s *Summary) several() bool { return s.Targets.N > 0 && s.Targets.N < s.Measurements }

// single is groups by one property as if they were crossed.
func single(gs []Group) []Crossed {
	out := make([]Crossed, len(gs))
	for i, g := range gs {
		out[i] = Crossed{[]string{g.Key}, g.Counts}
	}
	return out
}

// groupColumn is one thing that is shown of a group.
type groupColumn struct {
	header, widest string
	from, to       int // widths of the page that it is for
	cell           func(*Counts) string
}

// groupColumns is what is shown of a group; the other formats have all of it.
// Noise is the share of what can only be chance, and the measure of the faults
// beside it.
var groupColumns = []groupColumn{
	{"n", "", 0, maxWidth, func(c *Counts) string { return number(c.Measured) }},
	{"supported", "100.0%", 0, maxWidth, func(c *Counts) string { return c.percent(measure.Supported) }},
	{"unsupp.", "100.0%", 0, maxWidth, func(c *Counts) string { return c.percent(measure.Unsupported) }},
	{"fault", "100.0%", 0, maxWidth, func(c *Counts) string { return percent(c.Fault.Count, c.Measured) }},
	{"95 % CI", "10.0-20.0%", defaultWidth, maxWidth, func(c *Counts) string { return interval(c.Fault) }},
	{"noise", "100.0%", 0, maxWidth, func(c *Counts) string { return percent(c.Transient.Count, c.Measured) }},
	{"other", "100.0%", 0, 89, func(c *Counts) string {
		return percent(c.Measured-c.Fault.Count-c.Count(measure.Supported.String())-c.Count(measure.Unsupported.String()), c.Measured)
	}},
	{"offline", "100.0%", 90, maxWidth, func(c *Counts) string { return c.percent(measure.Offline) }},
	{"unclear", "100.0%", 90, maxWidth, func(c *Counts) string { return c.percent(measure.Inconclusive) }},
}

// percent is the share of a verdict.
func (c *Counts) percent(v measure.Verdict) string { return percent(c.Count(v.String()), c.Measured) }

func (p *page) grouped(title string, groups []Crossed) {
	groups = slices.DeleteFunc(slices.Clone(groups), func(g Crossed) bool { return g.Measured == 0 })
	columns := slices.DeleteFunc(slices.Clone(groupColumns), func(c groupColumn) bool { return p.o.Width < c.from || p.o.Width > c.to })
	header, configs := []string{title}, []table.ColumnConfig{{Number: 1}}
	// The name gets what the other columns and the gaps between leave.
	name := p.o.Width
	for i, c := range columns {
		header, configs = append(header, c.header), append(configs, right(i+2))
		wide := max(len(c.header), len(c.widest))
		for _, g := range groups[:min(len(groups), topGroups)] {
			wide = max(wide, len(c.cell(&g.Counts)))
		}
		name -= len(gap) + wide
	}
	configs[0].WidthMax, configs[0].WidthMaxEnforcer = name, text.WrapSoft
	t := p.table(header...)
	t.SetColumnConfigs(configs)
	for i, g := range groups {
		if i == topGroups {
			t.AppendRow(table.Row{fmt.Sprintf("and %s more", number(uint64(len(groups)-i)))})
			break
		}
		row := table.Row{strings.Join(g.Values, ", ")}
		for _, c := range columns {
			row = append(row, c.cell(&g.Counts))
		}
		t.AppendRow(row)
	}
	p.render(t)
}

// together is what all vantage points say of targets, where there are several.
func (p *page) together(s *Summary) {
	t := &s.Targets
	several := named(t.Stability, blame.Once)+named(t.Stability, blame.NotSeen) < t.N
	if !several && named(t.Blame, blame.Vantage) == 0 {
		return
	}
	p.printf("\n")
	p.wrapped(p.paint("targets", text.Bold)+"  ", sentence(t.Stability, t.N))
	p.wrapped(p.paint("blame", text.Bold)+"    ", sentence(t.Blame, t.N))
	for i := range t.Examples {
		e := &t.Examples[i]
		var seen []string
		for _, o := range e.Seen {
			if o.Counts {
				word := o.Probe + " " + o.Verdict
				if len(s.Surveys) > 1 {
					word = o.Dataset + " " + word
				}
				seen = append(seen, word)
			}
		}
		if n := len(seen) - topGroups; n > 0 {
			seen = append(seen[:topGroups], fmt.Sprintf("and %d more", n))
		}
		p.wrapped("  ", fmt.Sprintf("%s %s: %s", e.name(), e.Blame, strings.Join(seen, ", ")))
	}
}

// named is the count of a name.
func named(list []Named, name fmt.Stringer) uint64 {
	for _, n := range list {
		if n.Name == name.String() {
			return n.Count
		}
	}
	return 0
}

func sentence(list []Named, of uint64) string {
	var parts []string
	for _, n := range list {
		if n.Count > 0 {
			parts = append(parts, fmt.Sprintf("%s %s (%s)", number(n.Count), n.Name, percent(n.Count, of)))
		}
	}
	if len(parts) == 0 {
		return "nobody"
	}
	return strings.Join(parts, ", ")
}

// name is the target as its list has it.
func (t *Target) name() string {
	host := cmp.Or(t.Hostname, t.Address)
	if host == "" {
		return fmt.Sprintf("item %d", t.Item)
	}
	return net.JoinHostPort(host, strconv.Itoa(int(t.Port)))
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
		ofRTT(v), fmt.Sprintf("n = %s (plain minus Fast Open, supported targets)", number(v.N))))
}

// ofRTT is what was saved as a part of a round trip.
func ofRTT(v *Saved) string {
	if v.Share.N == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f of a round trip of %s", v.Share.Tenths[5], millis(int64(v.RTT.Tenths[5])))
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
