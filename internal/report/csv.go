package report

import (
	"encoding/csv"
	"io"
	"strconv"
	"strings"
)

// csvHeader names the columns of [RenderCSV]. They are stable.
var csvHeader = []string{"by", "key", "measurements", "measured", "refused", "interrupted", "unknown", "verdict", "count", "share", "low", "high"}

// RenderCSV writes the summary as a table for programs (RFC 4180): one line for
// each verdict of each group, and for fault and transient as if they were
// verdicts. by is empty over all; the keys of a crossing are joined by blanks.
func RenderCSV(w io.Writer, s *Summary) error {
	c := csv.NewWriter(w)
	if err := c.Write(csvHeader); err != nil {
		return err
	}
	n := func(v uint64) string { return strconv.FormatUint(v, 10) }
	f := func(v float64) string { return strconv.FormatFloat(v, 'f', 6, 64) }
	for _, t := range s.tables() {
		for _, g := range t.groups {
			head := []string{t.by, strings.Join(g.Values, " "), n(g.Measurements), n(g.Measured), n(g.Refused), n(g.Interrupted), n(g.Unknown)}
			for _, v := range append(g.Verdicts[:len(g.Verdicts):len(g.Verdicts)], Share{"fault", g.Fault}, Share{"transient", g.Transient}) {
				// The writer keeps its first error.
				_ = c.Write(append(head[:len(head):len(head)], v.Verdict, n(v.Count), f(v.Share), f(v.Low), f(v.High)))
			}
		}
	}
	c.Flush()
	return c.Error()
}

// grouping is the groups of one table, as every form of a summary shows them.
type grouping struct {
	by     string
	groups []Crossed
}

// tables lists all there are, over all first.
func (s *Summary) tables() []grouping {
	ts := []grouping{{"", []Crossed{{nil, s.Counts}}}, {"probe", single(s.ByProbe)}, {"port", single(s.ByPort)}, {"family", single(s.ByFamily)}}
	for _, c := range s.By {
		ts = append(ts, grouping{strings.Join(c.Keys, ","), c.Groups})
	}
	return ts
}
