package report

import (
	"cmp"
	"fmt"
	"io"
	"strings"

	"tfofleet/internal/measure"
)

// RenderMarkdown writes the summary with tables as GitHub's dialect has them, for
// an issue, a wiki or a paper's appendix. All groups are in it.
func RenderMarkdown(w io.Writer, s *Summary) error {
	m := &markdown{}
	m.head(s)
	m.verdicts(s)
	for _, t := range s.tables()[1:] {
		if s.Measured > 0 {
			m.groups(t)
		}
	}
	m.more(s)
	_, err := io.WriteString(w, m.b.String())
	return err
}

type markdown struct{ b strings.Builder }

func (m *markdown) printf(format string, args ...any) { fmt.Fprintf(&m.b, format, args...) }

// escape keeps a word from being taken for markup.
var escape = strings.NewReplacer("|", `\|`, "*", `\*`, "_", `\_`, "<", "&lt;", "`", "\\`", "\n", " ")

// row writes a line of a table, its first cell as it is.
func (m *markdown) row(cells ...string) { m.printf("| %s |\n", strings.Join(cells, " | ")) }

// table begins a table whose columns but the first left ones are numbers.
func (m *markdown) table(left int, header ...string) {
	m.printf("\n")
	m.row(header...)
	rule := make([]string, len(header))
	for i := range rule {
		rule[i] = "---"
		if i >= left {
			rule[i] = "---:"
		}
	}
	m.row(rule...)
}

func (m *markdown) head(s *Summary) {
	for i := range s.Surveys {
		v := &s.Surveys[i]
		m.printf("- survey %s\n", escape.Replace(join(", ", cmp.Or(v.Name, v.ID), v.Spec.Plan+" plan", string(v.State), v.Created.UTC().Format("2006-01-02 15:04 MST"), elapsed(v))))
		for j := range v.Probes {
			m.printf("- probe %s\n", escape.Replace(probeFacts(&v.Probes[j])))
		}
	}
	m.printf("- %s measured of %s\n", number(s.Measured), number(s.Measurements))
}

func (m *markdown) verdicts(s *Summary) {
	m.table(1, "verdict", "targets", "share", "95 % CI")
	for _, v := range s.Verdicts {
		m.row("`"+v.Verdict+"`", number(v.Count), percent(v.Count, s.Measured), interval(v.Part))
	}
	m.row("any fault", number(s.Fault.Count), percent(s.Fault.Count, s.Measured), interval(s.Fault))
	m.row("noise (plain failed, Fast Open worked)", number(s.Transient.Count), percent(s.Transient.Count, s.Measured), interval(s.Transient))
}

func (m *markdown) groups(t grouping) {
	m.table(1, "by "+strings.ReplaceAll(t.by, ",", ", "), "n", "supported", "unsupported", "fault", "fault, 95 % CI", "noise", "offline", "inconclusive")
	for _, g := range t.groups {
		if g.Measured == 0 {
			continue
		}
		of := func(v measure.Verdict) string { return percent(g.Counts.Count(v.String()), g.Measured) }
		m.row(escape.Replace(strings.Join(g.Values, ", ")), number(g.Measured), of(measure.Supported), of(measure.Unsupported), percent(g.Fault.Count, g.Measured),
			interval(g.Fault), percent(g.Transient.Count, g.Measured), of(measure.Offline), of(measure.Inconclusive))
	}
}

// more is what follows the tables.
func (m *markdown) more(s *Summary) {
	if v := s.Saved; v != nil {
		m.printf("\nTime saved to first byte: %s.\n", join(", ", "median "+millis(v.MedianUS), ofRTT(v), "n = "+number(v.N)))
	}
	if s.Targets.N > 0 {
		m.printf("\nTargets: %s. Blame: %s.\n", escape.Replace(sentence(s.Targets.Stability, s.Targets.N)), escape.Replace(sentence(s.Targets.Blame, s.Targets.N)))
	}
	for i, n := range s.Attention {
		if i == 0 {
			m.printf("\n")
		}
		m.printf("- %s\n", escape.Replace(n.Text))
	}
}
