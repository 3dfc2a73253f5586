package aggregate

import (
	"cmp"
	"context"
	"runtime"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"tfofleet/internal/dataset"
	"tfofleet/internal/measure"
	"tfofleet/internal/report/blame"
)

// Result is what datasets hold.
type Result struct {
	Surveys  []dataset.Survey // by dataset
	Datasets []string         // their names
	Vantages []string         // vantage points that measured, sorted
	All      Cell
	// Crossings are by probe, by port, by family, and then as asked for.
	Crossings  []Crossing
	Conditions []Condition // most first, then by name
	Saved      Time
	Targets    Targets
}

// Condition is how many measured targets carry a condition.
type Condition struct {
	Condition    measure.Condition
	Count        uint64
	Inconclusive uint64 // of them
}

// standard is what every summary is grouped by.
var standard = []By{{KeyProbe}, {KeyPort}, {KeyFamily}}

// Run counts all measurements of the datasets in dirs. A dataset may be that of
// a survey that still runs; what is written meanwhile may be missed. The error
// is a [SameSurvey] if two are of the same.
func Run(ctx context.Context, q Query, dirs ...string) (*Result, error) {
	r, err := newRun(q, dirs)
	if err != nil {
		return nil, err
	}
	defer r.close()
	if err := r.scene.distinct(dirs); err != nil {
		return nil, err
	}
	j, err := r.count(ctx)
	if err != nil {
		return nil, err
	}
	if r.spill != nil || len(r.broken) > 0 {
		if j, err = r.judge(ctx); err != nil {
			return nil, err
		}
	}
	return r.result(j)
}

// Judge tells every target of the datasets in dirs, with all that was seen of
// it: of one dataset in the order of its chunks, of several in none. It ends
// with the first error of tell.
func Judge(ctx context.Context, q Query, tell func(*Judged) error, dirs ...string) error {
	q.By = nil
	r, err := newRun(q, dirs)
	if err != nil {
		return err
	}
	defer r.close()
	if _, err := r.count(ctx); err != nil {
		return err
	}
	y := newJury(r.scene, r.broken)
	one := func(of []seen) error {
		j := y.judged(of, y.judge(of))
		return tell(&j)
	}
	return r.each(ctx, true, []judge{one})
}

// run is one question as it is answered.
type run struct {
	q     Query
	dirs  []string
	scene *scene
	by    []By
	dims  []*dimension
	cross [][]int // by crossing, the dimensions

	total  *worker      // after count
	broken blame.Broken // after count
	spill  *spill       // of several datasets
}

func newRun(q Query, dirs []string) (*run, error) {
	s, err := look(dirs)
	if err != nil {
		return nil, err
	}
	r := &run{q: q, dirs: dirs, scene: s}
	r.q.Workers = cmp.Or(q.Workers, runtime.GOMAXPROCS(0))
	known := map[Key]int{}
	for _, by := range append(slices.Clone(standard), q.By...) {
		if slices.ContainsFunc(r.by, func(b By) bool { return slices.Equal(b, by) }) {
			continue
		}
		var dims []int
		for _, k := range by {
			if _, ok := known[k]; !ok {
				d, err := newDimension(k, &q, s)
				if err != nil {
					return nil, err
				}
				known[k] = len(r.dims)
				r.dims = append(r.dims, d)
			}
			dims = append(dims, known[k])
		}
		r.by, r.cross = append(r.by, by), append(r.cross, dims)
	}
	if len(dirs) > 1 {
		if r.spill, err = newSpill(s.files * rowsPerFile); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// rowsPerFile is how many a chunk has at most.
const rowsPerFile = 8192

func (r *run) close() {
	if r.spill != nil {
		r.spill.remove()
	}
}

// columns is what counting needs.
func (r *run) columns() dataset.Columns {
	c := dataset.ColOutcome | dataset.ColVerdict | dataset.ColConditions | dataset.ColSavedUS | dataset.ColPlainConnectUS
	for _, d := range r.dims {
		c |= d.columns
	}
	return c
}

// count is the first look at everything. It counts, compares vantage points, and
// judges the targets of one dataset as if none of them was broken.
func (r *run) count(ctx context.Context) (*jury, error) {
	g := gatherer{names: r.spill != nil}
	scan := dataset.NewScan(r.columns()|g.columns(), r.dirs...)
	workers := make([]*worker, r.q.Workers)
	seen := make([]blame.Vantages, r.q.Workers)
	juries := make([]*jury, r.q.Workers)
	visit := make([]func(*dataset.Batch) error, r.q.Workers)
	var out []*spiller
	defer func() {
		for _, o := range out {
			o.close()
		}
	}()
	for i := range workers {
		juries[i] = newJury(r.scene, nil)
		tell := r.first(&seen[i], juries[i])
		if r.spill != nil {
			o, err := r.spill.writer(i)
			if err != nil {
				return nil, err
			}
			out = append(out, o)
			tell = o.add
		}
		workers[i] = r.worker(scan, &gatherer{scene: r.scene, names: r.spill != nil, tell: tell})
		visit[i] = workers[i].visit
	}
	if err := scan.Run(ctx, visit...); err != nil {
		return nil, err
	}
	for _, o := range out {
		if err := o.close(); err != nil {
			return nil, err
		}
	}
	if r.spill != nil {
		var judges []judge
		for i := range seen {
			judges = append(judges, r.first(&seen[i], nil))
		}
		if err := r.eachSpilled(ctx, judges); err != nil {
			return nil, err
		}
	}
	r.total = workers[0]
	for i, w := range workers[1:] {
		r.total.merge(w)
		seen[0].Merge(&seen[i+1])
		juries[0].merge(juries[i+1])
	}
	r.broken = seen[0].Broken()
	return juries[0], nil
}

// first is the judge of the first look.
func (r *run) first(vs *blame.Vantages, y *jury) judge {
	var obs []blame.Observation
	return func(of []seen) error {
		if len(of) > 1 {
			obs = observations(obs, of)
			vs.Add(obs)
		}
		if y == nil {
			return nil
		}
		return y.target(of)
	}
}

func (r *run) worker(scan *dataset.Scan, g *gatherer) *worker {
	w := &worker{scan: scan, targets: g, scene: r.scene, table: r.q.Origin, dims: r.dims, codes: make([][]uint64, len(r.dims))}
	for _, dims := range r.cross {
		w.crossings = append(w.crossings, &crossing{dims: dims, cells: map[codes]*Cell{}})
	}
	return w
}

// judge judges every target.
func (r *run) judge(ctx context.Context) (*jury, error) {
	juries := make([]*jury, r.q.Workers)
	judges := make([]judge, r.q.Workers)
	for i := range juries {
		juries[i] = newJury(r.scene, r.broken)
		judges[i] = juries[i].target
	}
	if err := r.each(ctx, false, judges); err != nil {
		return nil, err
	}
	for _, y := range juries[1:] {
		juries[0].merge(y)
	}
	return juries[0], nil
}

// each is a further look at every target, by as many as there are judges.
func (r *run) each(ctx context.Context, names bool, judges []judge) error {
	if r.spill != nil {
		return r.eachSpilled(ctx, judges)
	}
	g := gatherer{names: names}
	scan := dataset.NewScan(g.columns(), r.dirs...)
	visit := make([]func(*dataset.Batch) error, len(judges))
	for i, tell := range judges {
		g := &gatherer{scene: r.scene, names: names, tell: tell}
		var facts labelFacts
		visit[i] = func(b *dataset.Batch) error {
			if !r.scene.known(b) {
				return nil
			}
			facts.extend(scan.Labels())
			return g.add(b, &facts)
		}
	}
	return scan.Run(ctx, visit...)
}

func (r *run) eachSpilled(ctx context.Context, judges []judge) error {
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for _, tell := range judges {
		group.Go(func() error {
			for part := int(next.Add(1)) - 1; part < r.spill.parts; part = int(next.Add(1)) - 1 {
				if err := ctx.Err(); err != nil {
					return err
				}
				if err := r.spill.each(r.q.Workers, part, tell); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

func (r *run) result(j *jury) (*Result, error) {
	w := r.total
	targets, err := j.result(r.dirs)
	if err != nil {
		return nil, err
	}
	out := &Result{Surveys: r.scene.surveys, Datasets: r.scene.datasets, Vantages: r.scene.vantages, All: w.all, Saved: w.saved, Targets: targets}
	for i, by := range r.by {
		out.Crossings = append(out.Crossings, w.crossings[i].groups(by, r.dims))
	}
	for id, n := range w.labels {
		if n.all > 0 {
			out.Conditions = append(out.Conditions, Condition{w.scan.Label(uint32(id)), n.all, n.inconclusive})
		}
	}
	slices.SortFunc(out.Conditions, func(a, b Condition) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Condition, b.Condition))
	})
	return out, nil
}
