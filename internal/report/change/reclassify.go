package change

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"strings"

	"tfofleet/internal/dataset"
	"tfofleet/internal/measure"
)

// Moves is what a new look at stored evidence changed. The JSON names are
// stable.
type Moves struct {
	Survey dataset.Survey `json:"survey"`
	// Measurements are all of them: Judged by their evidence again, or Skipped,
	// for they have none: not measured, not resolved, or another name's address.
	Measurements uint64 `json:"measurements"`
	Judged       uint64 `json:"judged"`
	Skipped      uint64 `json:"skipped"`
	Same         uint64 `json:"same"`    // of the judged: verdict and conditions
	Moved        uint64 `json:"moved"`   // of the judged: another verdict
	Relabel      uint64 `json:"relabel"` // of the judged: the verdict, other conditions
	// Verdicts are the moves from one to another, most first.
	Verdicts []Move `json:"verdicts"`
	// Added and Removed are conditions, most first.
	Added   []Count `json:"conditions_added"`
	Removed []Count `json:"conditions_removed"`
}

// Move is from one verdict to another.
type Move struct {
	Old   string `json:"old"`
	New   string `json:"new"`
	Count uint64 `json:"count"`
}

// Count is of a condition.
type Count struct {
	Condition string `json:"condition"`
	Count     uint64 `json:"count"`
}

// Moved is a measurement that got another verdict.
type Moved struct {
	dataset.ChunkKey
	measure.Target
	Old, New measure.Verdict
}

// Reclassify judges the stored evidence of the dataset in dir by today's
// [measure.Classify] and says what moved. moved, if it is not nil, is told each
// measurement whose verdict did, in the order of chunks. With out not empty, the
// same dataset with the new verdicts is made there; dir is only ever read.
func Reclassify(ctx context.Context, dir, out string, moved func(*Moved) error) (*Moves, error) {
	survey, err := dataset.ReadSurvey(dir)
	if err != nil {
		return nil, err
	}
	plan, err := measure.ParsePlan(survey.Spec.Plan)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	keys, err := dataset.Chunks(dir)
	if err != nil {
		return nil, err
	}
	late, err := dataset.FindSuperseded(dir, keys)
	if err != nil {
		return nil, err
	}
	r := &reclassification{late: late, plan: plan, moved: moved, verdicts: map[[2]measure.Verdict]uint64{}, added: map[measure.Condition]uint64{}, removed: map[measure.Condition]uint64{}, now: map[string]uint64{}}
	var copyTo *dataset.Writer
	if out != "" {
		if copyTo, err = dataset.Create(out, survey); err != nil {
			return nil, &WriteError{err}
		}
		if err := copyTargets(dir, out); err != nil {
			return nil, err
		}
	}
	for _, k := range keys {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		ms, err := r.chunk(dir, k, copyTo != nil)
		if err != nil {
			return nil, err
		}
		if copyTo == nil {
			continue
		}
		if err := copyTo.WriteChunk(k, ms); err != nil {
			return nil, &WriteError{err}
		}
	}
	if copyTo != nil {
		s := *survey
		s.Counts.Verdicts = r.now
		if err := copyTo.PutSurvey(&s); err != nil {
			return nil, &WriteError{err}
		}
	}
	return r.result(survey), nil
}

func copyTargets(from, to string) error {
	list, err := dataset.OpenTargets(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer list.Close()
	if _, err := dataset.WriteTargets(to, list.ChunkSize(), targetsOf(list)); err != nil {
		return &WriteError{err}
	}
	return nil
}

// WriteError is of the copy that [Reclassify] makes, not of the dataset it
// reads.
type WriteError struct{ Err error }

func (e *WriteError) Error() string { return "write the copy: " + e.Err.Error() }
func (e *WriteError) Unwrap() error { return e.Err }

func targetsOf(list *dataset.Targets) iter.Seq2[measure.Target, error] {
	return func(yield func(measure.Target, error) bool) {
		for i := range list.Chunks() {
			ts, err := list.Chunk(i)
			if err != nil {
				yield(measure.Target{}, err)
				return
			}
			for _, t := range ts {
				if !yield(t, nil) {
					return
				}
			}
		}
	}
}

type reclassification struct {
	late  *dataset.Superseded
	plan  measure.Plan
	moved func(*Moved) error

	n              Moves
	verdicts       map[[2]measure.Verdict]uint64
	added, removed map[measure.Condition]uint64
	now            map[string]uint64 // measured targets by their verdict today
}

// chunk judges a chunk, and returns its measurements as they are now, if they
// are to be kept.
func (r *reclassification) chunk(dir string, k dataset.ChunkKey, keep bool) ([]measure.Measurement, error) {
	var ms []measure.Measurement
	for rec, err := range dataset.ReadChunk(dir, k) {
		if err != nil {
			return nil, err
		}
		m := rec.Measurement
		if !r.late.Row(k, m.Item) {
			if err := r.measurement(k, &m); err != nil {
				return nil, err
			}
		}
		if keep {
			ms = append(ms, m)
		}
	}
	return ms, nil
}

// measurement judges m and puts what is found today in it.
func (r *reclassification) measurement(k dataset.ChunkKey, m *measure.Measurement) error {
	r.n.Measurements++
	if m.Outcome != measure.OutcomeMeasured || len(m.Attempts) == 0 {
		r.n.Skipped++
		if m.Outcome == measure.OutcomeMeasured {
			r.now[m.Verdict.String()]++
		}
		return nil
	}
	r.n.Judged++
	old, labels := m.Verdict, m.Conditions
	m.Verdict, m.Conditions = Again(r.plan, m)
	r.now[m.Verdict.String()]++
	relabelled := false
	for _, c := range m.Conditions {
		if !slices.Contains(labels, c) {
			r.added[c]++
			relabelled = true
		}
	}
	for _, c := range labels {
		if !slices.Contains(m.Conditions, c) {
			r.removed[c]++
			relabelled = true
		}
	}
	switch {
	case old != m.Verdict:
		r.n.Moved++
		r.verdicts[[2]measure.Verdict{old, m.Verdict}]++
		if r.moved != nil {
			return r.moved(&Moved{k, m.Target, old, m.Verdict})
		}
	case relabelled:
		r.n.Relabel++
	default:
		r.n.Same++
	}
	return nil
}

// Again is the verdict and the conditions of a measurement by its evidence
// today. What was said beside the evidence stays.
func Again(plan measure.Plan, m *measure.Measurement) (measure.Verdict, []measure.Condition) {
	v, cs := measure.Classify(plan, m.Attempts)
	for _, c := range m.Conditions {
		if beside(c) && !slices.Contains(cs, c) {
			cs = append(cs, c)
		}
	}
	slices.Sort(cs)
	return v, cs
}

// beside reports whether a condition does not come from the evidence: the probe
// or the controller said it.
func beside(c measure.Condition) bool {
	switch c {
	case measure.CondVantageRepeated, measure.CondVantageLate, measure.CondVantageNoResolver:
		return true
	}
	for _, prefix := range []string{"tfo.resolve.", "tfo.target.", "tfo.vantage.near_path.", "tfo.vantage.refused_"} {
		if strings.HasPrefix(string(c), prefix) {
			return true
		}
	}
	return false
}

func (r *reclassification) result(s *dataset.Survey) *Moves {
	n := r.n
	n.Survey, n.Verdicts, n.Added, n.Removed = *s, []Move{}, sorted(r.added), sorted(r.removed)
	for v, k := range r.verdicts {
		n.Verdicts = append(n.Verdicts, Move{v[0].String(), v[1].String(), k})
	}
	slices.SortFunc(n.Verdicts, func(a, b Move) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Old, b.Old), cmp.Compare(a.New, b.New))
	})
	return &n
}

func sorted(m map[measure.Condition]uint64) []Count {
	out := []Count{}
	for c, n := range m {
		out = append(out, Count{string(c), n})
	}
	slices.SortFunc(out, func(a, b Count) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Condition, b.Condition))
	})
	return out
}
