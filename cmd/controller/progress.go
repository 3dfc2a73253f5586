package main

import (
	"fmt"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jedib0t/go-pretty/v6/text"

	"tfofleet/internal/measure"
	pb "tfofleet/proto/tfofleet/v1"
)

// plainEvery is the time between two lines of progress where there is no
// terminal: often enough to see life, rare enough for a log.
const plainEvery = 10 * time.Second

// progress tells how far a survey is: a bar and the verdicts so far on a
// terminal, a line now and then elsewhere, nothing with --quiet.
type progress struct {
	term  *terminal
	quiet bool
	pace  pace
	last  time.Time // of the last plain line
	began time.Time // with so many done: not 0 where a survey is resumed
	had   uint64
}

// update takes the survey's state at a time.
func (p *progress) update(s *pb.SurveyState, now time.Time) {
	p.pace.add(now, done(s))
	if p.began.IsZero() {
		p.began, p.had = now, done(s)
	}
	perSecond := p.pace.perSecond()
	left := timeLeft(s, perSecond)
	switch {
	case p.quiet:
	case p.term.interactive():
		p.term.show(frame(s, perSecond, left, p.term.width(), p.term.color)...)
	case p.last.IsZero():
		p.last = now
	case now.Sub(p.last) >= plainEvery:
		p.last = now
		fmt.Fprintln(p.term, plainLine(s, perSecond, left))
	}
}

// end shows the last state and leaves it there.
func (p *progress) end(s *pb.SurveyState, now time.Time) {
	overall := 0.0
	if t := now.Sub(p.began).Seconds(); t > 0 && !p.began.IsZero() {
		overall = float64(done(s)-p.had) / t
	}
	switch {
	case p.quiet:
	case p.term.interactive():
		p.term.show(frame(s, overall, 0, p.term.width(), p.term.color)...)
		p.term.settle()
		fmt.Fprintln(p.term)
	default:
		fmt.Fprintln(p.term, plainLine(s, overall, 0))
	}
}

func done(s *pb.SurveyState) uint64 { return s.GetPlanned() - s.GetPending() }

// pace is the number of targets per second over the last few seconds.
type pace struct {
	at   []time.Time
	done []uint64
}

// paceWindow is long enough for a survey of a few targets per second to show a
// steady number.
const paceWindow = 15 * time.Second

func (p *pace) add(now time.Time, done uint64) {
	p.at, p.done = append(p.at, now), append(p.done, done)
	old := 0
	for old < len(p.at)-2 && now.Sub(p.at[old]) > paceWindow {
		old++
	}
	p.at, p.done = p.at[old:], p.done[old:]
}

func (p *pace) perSecond() float64 {
	n := len(p.at)
	if n < 2 {
		return 0
	}
	t := p.at[n-1].Sub(p.at[0]).Seconds()
	if t <= 0 {
		return 0
	}
	return float64(p.done[n-1]-p.done[0]) / t
}

// frame draws the live lines: how far, and what was found so far.
func frame(s *pb.SurveyState, perSecond float64, left time.Duration, width int, color bool) []string {
	facts := []string{
		fmt.Sprintf("%3.0f%%", 100*share(s)),
		fmt.Sprintf("%s/%s", count(done(s)), count(s.GetPlanned())),
		rate(perSecond),
		clock(s.GetElapsed().AsDuration()),
	}
	if left > 0 {
		facts = append(facts, clock(left)+" left")
	}
	line := strings.Join(facts, "  ")
	if room := width - 2 - utf8.RuneCountInString(line) - 2; room >= 10 {
		line = bar(share(s), min(room, 40), color) + "  " + line
	}
	lines := []string{cut(line, width-1)}

	var row string
	rowWidth := 0
	for _, c := range tally(s) {
		word := fmt.Sprintf("%s %s", c.name, count(c.n))
		if rowWidth > 0 && rowWidth+2+len(word) >= width {
			lines, row, rowWidth = append(lines, row), "", 0
		}
		if rowWidth > 0 {
			row, rowWidth = row+"  ", rowWidth+2
		}
		row, rowWidth = row+paint(c.color, word, color), rowWidth+len(word)
	}
	if row != "" {
		lines = append(lines, row)
	}
	for _, why := range hindered(s) {
		lines = append(lines, paint(text.FgYellow, cut(why, width-1), color))
	}
	return lines
}

// plainLine says the same in one line.
func plainLine(s *pb.SurveyState, perSecond float64, left time.Duration) string {
	b := fmt.Sprintf("controller: %s of %s targets (%.0f%%) in %s, %s", count(done(s)), count(s.GetPlanned()),
		100*share(s), clock(s.GetElapsed().AsDuration()), rate(perSecond))
	if left > 0 {
		b += ", " + clock(left) + " left"
	}
	sep := ": "
	for _, c := range tally(s) {
		b += fmt.Sprintf("%s%s %d", sep, c.name, c.n)
		sep = ", "
	}
	for _, why := range hindered(s) {
		b += "; " + why
	}
	return b
}

func share(s *pb.SurveyState) float64 {
	if s.GetPlanned() == 0 {
		return 0
	}
	return float64(done(s)) / float64(s.GetPlanned())
}

// timeLeft is 0 when nobody can tell.
func timeLeft(s *pb.SurveyState, perSecond float64) time.Duration {
	if perSecond <= 0 {
		return 0
	}
	return time.Duration(min(float64(s.GetPending())/perSecond*float64(time.Second), math.MaxInt64/2))
}

func bar(share float64, width int, color bool) string {
	full := int(share * float64(width))
	return paint(text.FgCyan, strings.Repeat("█", full), color) + strings.Repeat("░", width-full)
}

// found is one number of the running tally.
type found struct {
	name  string
	n     uint64
	color text.Color
}

// tally lists what was found so far, in the order of reports.
func tally(s *pb.SurveyState) []found {
	byVerdict := map[pb.Verdict]uint64{}
	for _, c := range s.GetCounts() {
		if c.GetOutcome() == pb.Outcome_OUTCOME_MEASURED {
			byVerdict[c.GetVerdict()] += c.GetCount()
		}
	}
	var list []found
	add := func(name string, n uint64, color text.Color) {
		if n > 0 {
			list = append(list, found{name, n, color})
		}
	}
	for _, v := range measure.Verdicts() {
		add(v.String(), byVerdict[pb.Verdict(v)], verdictColor(v))
	}
	add("refused", s.GetRefused(), text.FgYellow)
	add("interrupted", s.GetInterrupted(), text.FgYellow)
	add("cancelled", s.GetCancelled(), text.FgYellow)
	add("lost", s.GetLost(), text.FgRed)
	return list
}

func verdictColor(v measure.Verdict) text.Color {
	switch {
	case v == measure.Supported:
		return text.FgGreen
	case v.Fault():
		return text.FgRed
	case v == measure.Inconclusive:
		return text.FgYellow
	}
	return text.Reset
}

func paint(c text.Color, s string, color bool) string {
	if !color || c == text.Reset || s == "" {
		return s
	}
	return c.EscapeSeq() + s + text.EscapeReset
}

// cut shortens a line that must not wrap.
func cut(s string, width int) string {
	return text.Trim(s, max(width, 1))
}

// count writes a number with its thousands apart.
func count(n uint64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// counted writes a number of things.
func counted(n uint64, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return count(n) + " " + thing
}

func rate(perSecond float64) string {
	if perSecond < 10 {
		return fmt.Sprintf("%.1f/s", perSecond)
	}
	return count(uint64(perSecond+0.5)) + "/s"
}

// clock writes a duration as people read it from one.
func clock(d time.Duration) string {
	if d < 9950*time.Millisecond {
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	s := int64(d.Round(time.Second) / time.Second)
	switch {
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return fmt.Sprintf("%dm%02ds", s/60, s%60)
	}
	return fmt.Sprintf("%dh%02dm", s/3600, s%3600/60)
}
