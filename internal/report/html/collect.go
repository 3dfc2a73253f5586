package html

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"tfofleet/internal/dataset"
	"tfofleet/internal/measure"
	"tfofleet/internal/report"
)

// Limits of what a person can look at.
const (
	barGroups  = 40 // of one property
	heatGroups = 24 // columns of a heat map
	heatProbes = 40 // rows of one
)

// Collect reads the datasets in dirs, three times: to count ([report.Summarize]),
// to choose what is kept, and for its attempts. Memory grows with what is kept
// and with the number of groups, not with that of targets. A dataset may be
// that of a survey that still runs.
func Collect(ctx context.Context, o Options, dirs ...string) (*Model, error) {
	c := &collection{Options: o.withDefaults(), dirs: dirs}
	s, err := report.Summarize(ctx, c.query(), dirs...)
	if err != nil {
		return nil, err
	}
	m := c.model(s)
	if err := c.choose(ctx, m); err != nil {
		return nil, err
	}
	if err := c.attempts(ctx, m); err != nil {
		return nil, err
	}
	return m, c.mesh(m)
}

// collection is the state of Collect.
type collection struct {
	Options
	dirs     []string
	surveys  []dataset.Survey
	verdicts []string // that occur, in the order of reports
	byClass  [classes]uint64
	rows     rows
	keep     map[chunk][]kept
}

// model is what the summary says of all.
func (c *collection) model(s *report.Summary) *Model {
	c.surveys = s.Surveys
	for _, v := range s.Verdicts {
		c.verdicts = append(c.verdicts, v.Verdict)
		verdict, _ := measure.ParseVerdict(v.Verdict) // 0 for one of a later version
		c.byClass[classOf(measure.OutcomeMeasured, verdict)] += v.Count
	}
	c.byClass[trouble] += s.Interrupted
	c.byClass[nothing] += s.Refused + s.Unknown
	m := &Model{
		Title: c.title(), Counts: c.counts(&s.Counts), Transient: s.Transient, Fault: s.Fault, Verdicts: []Verdict{}, Attention: s.Attention, Targets: s.Targets,
		Shares: c.shares(s), Heat: c.heat(s), Saved: []Curve{}, Sizes: []Size{}, Mesh: []Pair{},
	}
	if m.Attention == nil {
		m.Attention = []report.Note{}
	}
	for _, v := range s.Verdicts {
		verdict, _ := measure.ParseVerdict(v.Verdict)
		m.Verdicts = append(m.Verdicts, Verdict{v.Verdict, meaning(verdict), verdict.Fault(), v.Part})
	}
	for i := range s.Surveys {
		m.Surveys = append(m.Surveys, surveyOf(&s.Surveys[i]))
	}
	return m
}

func (c *collection) title() string {
	s := &c.surveys[0]
	title := s.Name
	if title == "" {
		title = s.ID
	}
	if n := len(c.surveys) - 1; n > 0 {
		title += fmt.Sprintf(" and %s more", plural(n, "survey"))
	}
	return title
}

func surveyOf(s *dataset.Survey) Survey {
	r := Survey{
		ID: s.ID, Name: s.Name, State: string(s.State), Reason: s.Reason, Plan: s.Spec.Plan,
		Created: s.Created, Ended: s.Ended, Planned: s.Counts.Planned, Probes: []Probe{},
	}
	for _, p := range s.Probes {
		r.Probes = append(r.Probes, Probe{p.Name, p.Kernel, p.Version})
	}
	return r
}

// counts has the verdicts in the order of the model's.
func (c *collection) counts(r *report.Counts) Counts {
	out := Counts{Measurements: r.Measurements, Measured: r.Measured, Refused: r.Refused, Interrupted: r.Interrupted, Noise: r.Transient.Count, By: make([]uint64, len(c.verdicts))}
	for _, v := range r.Verdicts {
		out.By[slices.Index(c.verdicts, v.Verdict)] = v.Count
	}
	return out
}

// mesh is what probes saw of each other, where a dataset has it.
func (c *collection) mesh(m *Model) error {
	for _, dir := range c.dirs {
		for r, err := range dataset.ReadMesh(dir) {
			if err != nil {
				return err
			}
			m.Mesh = append(m.Mesh, pairOf(&r))
		}
	}
	return nil
}

func pairOf(r *dataset.MeshRow) Pair {
	p := Pair{Mesh: r.Mesh, From: r.Client, To: r.Server, Port: r.Port, Family: r.Family, Verdict: r.Verdict.String(), Fault: r.Verdict.Fault()}
	if r.Direction != measure.DirectionUnknown {
		p.Direction = r.Direction.String()
	}
	var why []string
	if r.Doubt != measure.DoubtNone {
		why = append(why, "doubt: "+r.Doubt.String())
	}
	if r.ClientLost || r.ServerLost {
		why = append(why, "an end was lost")
	}
	for _, d := range r.Differences {
		why = append(why, fmt.Sprintf("%s changed in %d of %d SYNs", strings.ReplaceAll(d.Field.String(), "_", " "), d.Seen, d.Of))
	}
	p.Detail = strings.Join(why, "; ")
	return p
}
