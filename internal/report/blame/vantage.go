package blame

import (
	"cmp"
	"slices"

	"tfofleet/internal/measure"
	"tfofleet/internal/report/stat"
)

// everywhere is the share of targets from which a verdict is of the vantage
// point: most of them. A box that acts on half of all flows, as one of two
// equal routes, is on the border.
const everywhere = 0.5

// verdicts is more than there are of them.
const verdicts = 28

// Vantages counts, for every vantage point, how often it saw one verdict where
// others saw another. The zero value has seen nothing.
type Vantages struct {
	// seen[v][c][y]: targets that vantage point v gives y and of which the
	// furthest that half of the others got is c; y is 0 for those it gives several.
	seen [][verdicts][verdicts]uint64

	reached []reach // of the target at hand
}

// reach is how far a vantage point got with a target.
type reach struct {
	vantage uint32
	rank    int
}

// Broken is the verdicts that a vantage point gives everywhere.
type Broken []Evidence

// Evidence is why a vantage point is taken to be broken.
type Evidence struct {
	Vantage uint32
	Verdict measure.Verdict // what it saw
	Others  measure.Verdict // what half of the other vantage points, or more, got as far as
	Count   uint64          // targets it gives Verdict, of Of
	Of      uint64          // targets that others gave Others and it gave anything
	Low     float64         // of their share: lower end of the 95 % interval
}

// Add counts a target by all its observations that count (see [Counts]).
//
// Where but a few of the others got further, what a vantage point sees is no
// doing of its own network: it is of theirs, such as a proxy that speaks Fast
// Open, or of the targets, which are not the same server everywhere.
func (vs *Vantages) Add(os []Observation) {
	got := vs.reaches(os)
	for i, o := range os {
		// However many names an address has, a vantage point saw it once.
		if rank(o.Verdict) == 0 || o.Near == NearTerminate || first(os, o.Vantage) != i {
			continue
		}
		half := got.without(vs.reachOf(o.Vantage)).half()
		if half == 0 {
			continue // alone
		}
		own, one := o.Verdict, true
		best := measure.Verdict(0)
		for _, p := range os {
			switch {
			case rank(p.Verdict) == 0:
			case p.Vantage == o.Vantage:
				one = one && p.Verdict == own
			case p.Near != NearTerminate && rank(p.Verdict) == half:
				best = p.Verdict
			}
		}
		if !one {
			own = 0 // of two minds: one target more that it does not give the same
		}
		if n := int(o.Vantage) + 1 - len(vs.seen); n > 0 {
			vs.seen = append(vs.seen, make([][verdicts][verdicts]uint64, n)...)
		}
		vs.seen[o.Vantage][best][own]++
	}
}

// reached counts vantage points by how far they got.
type reached [furthest + 1]int

func (r reached) without(rank int) reached {
	r[rank]--
	return r
}

// half is how far half of them got, or more; 0 without any.
func (r reached) half() int {
	all := 0
	for _, n := range r[1:] {
		all += n
	}
	n := 0
	for rank := furthest; rank > 0 && all > 0; rank-- {
		if n += r[rank]; 2*n >= all {
			return rank
		}
	}
	return 0
}

// reaches finds how far each vantage point got with a target.
func (vs *Vantages) reaches(os []Observation) (got reached) {
	vs.reached = vs.reached[:0]
	for _, o := range os {
		r := rank(o.Verdict)
		if r == 0 || o.Near == NearTerminate {
			continue
		}
		if k := vs.reachAt(o.Vantage); k >= 0 {
			vs.reached[k].rank = max(vs.reached[k].rank, r)
			continue
		}
		vs.reached = append(vs.reached, reach{o.Vantage, r})
	}
	for _, r := range vs.reached {
		got[r.rank]++
	}
	return got
}

func (vs *Vantages) reachAt(vantage uint32) int {
	return slices.IndexFunc(vs.reached, func(r reach) bool { return r.vantage == vantage })
}

func (vs *Vantages) reachOf(vantage uint32) int { return vs.reached[vs.reachAt(vantage)].rank }

// first is where the first observation of a vantage point is that has a rank and
// is no copy.
func first(os []Observation, vantage uint32) int {
	return slices.IndexFunc(os, func(o Observation) bool { return o.Vantage == vantage && rank(o.Verdict) > 0 && !o.Copy })
}

// Merge adds what ws has seen.
func (vs *Vantages) Merge(ws *Vantages) {
	if n := len(ws.seen) - len(vs.seen); n > 0 {
		vs.seen = append(vs.seen, make([][verdicts][verdicts]uint64, n)...)
	}
	for v := range ws.seen {
		for c := range ws.seen[v] {
			for y, n := range ws.seen[v][c] {
				vs.seen[v][c][y] += n
			}
		}
	}
}

// Broken is what the vantage points are broken for, by vantage point and
// verdict; of several pieces of evidence it is the strongest.
func (vs *Vantages) Broken() Broken {
	var b Broken
	for v := range vs.seen {
		for y := measure.Verdict(1); y < verdicts; y++ {
			var strongest Evidence
			for c := measure.Verdict(1); c < verdicts; c++ {
				if rank(c) <= rank(y) || rank(y) == 0 {
					continue
				}
				row := &vs.seen[v][c]
				n := uint64(0)
				for _, k := range row {
					n += k
				}
				if low, _ := stat.Wilson(row[y], n); n > 0 && low >= everywhere && low > strongest.Low {
					strongest = Evidence{uint32(v), y, c, row[y], n, low}
				}
			}
			if strongest.Of > 0 {
				b = append(b, strongest)
			}
		}
	}
	slices.SortFunc(b, func(a, b Evidence) int {
		return cmp.Or(cmp.Compare(a.Vantage, b.Vantage), cmp.Compare(a.Verdict, b.Verdict))
	})
	return b
}

// has reports whether a vantage point is broken for a verdict.
func (b Broken) has(vantage uint32, v measure.Verdict) bool {
	for i := range b {
		if b[i].Vantage == vantage && b[i].Verdict == v {
			return true
		}
	}
	return false
}
