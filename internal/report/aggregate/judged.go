package aggregate

import (
	"cmp"
	"errors"
	"io/fs"
	"slices"
	"time"

	"tfofleet/internal/dataset"
	"tfofleet/internal/measure"
	"tfofleet/internal/report/blame"
)

// Judged is a target and what all measurements say of it together.
type Judged struct {
	Target
	blame.Judgement
	Seen []Seen // in the order of datasets and vantage points
}

// Seen is one measurement of a target.
type Seen struct {
	Dataset int
	Vantage string
	Verdict measure.Verdict // 0 without one, as that of a target that was refused
	Started time.Time       // zero when it was not
	// Counts: the measurement says something of the target.
	Counts bool
	// Wrong: the blame stands on it.
	Wrong bool
}

// Targets counts what was judged.
type Targets struct {
	blame.Tally
	// Broken is what vantage points are broken for; Vantage of each is a place
	// in Result.Vantages.
	Broken blame.Broken
	// Examples are the first targets for each side that is to blame, a few.
	Examples []Judged
}

// examples is how many targets are kept for each side.
const examples = 3

// jury judges targets for one worker.
type jury struct {
	scene  *scene
	broken blame.Broken
	Targets
	kept map[blame.Side][]Judged
	obs  []blame.Observation
	bad  []bool
}

func newJury(s *scene, broken blame.Broken) *jury {
	return &jury{scene: s, Targets: Targets{Broken: broken}, broken: broken, kept: map[blame.Side][]Judged{}}
}

// target judges one; it is a [judge].
func (y *jury) target(of []seen) error {
	j := y.judge(of)
	y.Add(j)
	if j.Blame != blame.Nobody {
		y.keep(of, j)
	}
	return nil
}

func (y *jury) judge(of []seen) blame.Judgement {
	y.obs = observations(y.obs, of)
	y.bad = slices.Grow(y.bad[:0], len(y.obs))[:len(y.obs)]
	return blame.Judge(y.obs, y.broken, y.bad)
}

// keep makes an example of a target if it is before those that are.
func (y *jury) keep(of []seen, j blame.Judgement) {
	kept := y.kept[j.Blame]
	if len(kept) == examples && compareTargets(&kept[examples-1].Target, of[0].target()) <= 0 {
		return
	}
	y.kept[j.Blame] = trim(append(kept, y.judged(of, j)))
}

func trim(kept []Judged) []Judged {
	slices.SortFunc(kept, func(a, b Judged) int { return compareTargets(&a.Target, &b.Target) })
	return kept[:min(len(kept), examples)]
}

func compareTargets(a, b *Target) int {
	return cmp.Or(cmp.Compare(a.Dataset, b.Dataset), cmp.Compare(a.Item, b.Item))
}

// judged is a copy of it all.
func (y *jury) judged(of []seen, j blame.Judgement) Judged {
	t := Judged{Target: *of[0].target(), Judgement: j}
	for _, s := range of {
		if s.name != nil && !t.Addr.IsValid() {
			t.Addr = s.name.Addr
		}
	}
	n := 0
	for _, s := range of {
		o := Seen{Dataset: int(s.dataset), Vantage: y.scene.vantages[s.Vantage], Verdict: s.verdict, Counts: s.Verdict != 0}
		if s.name != nil && s.name.started != dataset.Null {
			o.Started = time.UnixMicro(s.name.started).UTC()
		}
		if o.Counts {
			o.Wrong = y.bad[n]
			n++
		}
		t.Seen = append(t.Seen, o)
	}
	return t
}

func (y *jury) merge(z *jury) {
	y.Merge(&z.Tally)
	for side, kept := range z.kept {
		y.kept[side] = trim(append(y.kept[side], kept...))
	}
}

// result is what was judged. Of targets that came without a name it is looked
// up in the frozen lists.
func (y *jury) result(dirs []string) (Targets, error) {
	t := y.Targets
	for _, side := range blame.Sides() {
		t.Examples = append(t.Examples, y.kept[side]...)
	}
	return t, nameTargets(t.Examples, dirs)
}

// nameTargets fills in what the frozen lists say of targets; nothing where a
// dataset has no list.
func nameTargets(all []Judged, dirs []string) error {
	for i, dir := range dirs {
		list, err := dataset.OpenTargets(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		err = nameFrom(list, all, i)
		list.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

func nameFrom(list *dataset.Targets, all []Judged, number int) error {
	chunks := map[int][]measure.Target{}
	for i := range all {
		t := &all[i].Target
		if t.Dataset != number || t.Port != 0 || t.Item >= list.Len() {
			continue
		}
		at := int(t.Item) / list.ChunkSize()
		if chunks[at] == nil {
			var err error
			if chunks[at], err = list.Chunk(at); err != nil {
				return err
			}
		}
		m := chunks[at][int(t.Item)%list.ChunkSize()]
		t.Addr, t.Port, t.Hostname = m.Addr, m.Port, m.Hostname
	}
	return nil
}
