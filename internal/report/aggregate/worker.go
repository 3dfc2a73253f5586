package aggregate

import (
	"slices"

	"tfofleet/internal/dataset"
	"tfofleet/internal/measure"
	"tfofleet/internal/report/blame"
	"tfofleet/internal/report/origin"
	"tfofleet/internal/report/stat"
)

// worker counts the batches that come to one visitor of a scan.
type worker struct {
	scan  *dataset.Scan
	scene *scene
	table *origin.Table
	dims  []*dimension

	all       Cell
	crossings []*crossing
	labels    []labelCount // by number of the condition
	saved     Time
	targets   *gatherer

	// Of the batch at hand.
	slots []uint8
	codes [][]uint64 // by dimension
	owner []origin.Origin
	facts labelFacts
}

// labelCount is how many measured targets carry a condition, and how many of
// these are inconclusive.
type labelCount struct{ all, inconclusive uint64 }

// labelFacts is what the conditions of a scan mean here, by number.
type labelFacts struct {
	transient []bool
	spoils    []bool
	near      []blame.Near
	copied    []bool
}

// extend looks at conditions that were not seen before.
func (f *labelFacts) extend(labels []measure.Condition) {
	for _, c := range labels[len(f.near):] {
		f.transient = append(f.transient, c == measure.CondTransient)
		f.spoils = append(f.spoils, blame.Spoils(c))
		f.near = append(f.near, blame.NearOf(c))
		f.copied = append(f.copied, c == measure.CondSharedAddress)
	}
}

// visit counts a batch.
func (w *worker) visit(b *dataset.Batch) error {
	if !w.scene.known(b) {
		return nil
	}
	if labels := w.scan.Labels(); len(labels) > len(w.labels) {
		w.facts.extend(labels)
		w.labels = append(w.labels, make([]labelCount, len(labels)-len(w.labels))...)
	}
	w.owner = w.owner[:0]
	w.slots = slices.Grow(w.slots[:0], b.Len)[:b.Len]
	for i, o := range b.Outcome {
		v := b.Verdict[i]
		slot := slotOf(o, v)
		if o == measure.OutcomeMeasured {
			for _, id := range b.Conditions.At(i) {
				w.labels[id].all++
				if v == measure.Inconclusive {
					w.labels[id].inconclusive++
				}
				if w.facts.transient[id] {
					slot |= transientBit
				}
			}
			if v == measure.Supported && b.SavedUS[i] != dataset.Null {
				w.saved.add(b.SavedUS[i], b.PlainConnectUS[i])
			}
		}
		w.slots[i] = slot
		w.all.add(slot)
	}
	for i, d := range w.dims {
		if d.fill != nil {
			w.codes[i] = slices.Grow(w.codes[i][:0], b.Len)[:b.Len]
			d.fill(w, b, w.codes[i])
		}
	}
	for _, c := range w.crossings {
		c.add(w, b)
	}
	return w.targets.add(b, &w.facts)
}

// origins is whose the addresses of the batch are.
func (w *worker) origins(b *dataset.Batch) []origin.Origin {
	if len(w.owner) < b.Len {
		w.owner = slices.Grow(w.owner[:0], b.Len)[:b.Len]
		for i, a := range b.Addr {
			w.owner[i] = w.table.Lookup(a)
		}
	}
	return w.owner
}

// Time is what Fast Open saved of the time to the first byte, paired by target:
// of each supported target that has both, the median of its plain attempts
// minus that of its attempts with SYN data acknowledged.
type Time struct {
	Saved stat.Distribution // µs
	// RTT is the time a plain handshake took, µs, and Share what was saved in
	// thousandths of it; of the targets that have it.
	RTT, Share stat.Distribution
}

func (t *Time) add(saved, connect int64) {
	t.Saved.Add(saved)
	if connect > 0 {
		t.RTT.Add(connect)
		t.Share.Add(saved * 1000 / connect)
	}
}

func (t *Time) merge(u *Time) {
	t.Saved.Merge(&u.Saved)
	t.RTT.Merge(&u.RTT)
	t.Share.Merge(&u.Share)
}

func (w *worker) merge(v *worker) {
	w.all.merge(&v.all)
	for i, c := range w.crossings {
		c.merge(v.crossings[i])
	}
	if n := len(v.labels) - len(w.labels); n > 0 {
		w.labels = append(w.labels, make([]labelCount, n)...)
	}
	for id, n := range v.labels {
		w.labels[id].all += n.all
		w.labels[id].inconclusive += n.inconclusive
	}
	w.saved.merge(&v.saved)
}
