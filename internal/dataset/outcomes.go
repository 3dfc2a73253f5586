package dataset

import (
	"iter"

	"tfofleet/internal/dataset/place"
	"tfofleet/internal/measure"
)

// ItemOutcome is what a chunk holds for a target.
type ItemOutcome struct {
	Item    uint64
	Outcome measure.Outcome
	Verdict measure.Verdict // 0 when none was given
}

// ChunkOutcomes gives what a chunk holds, in the order written. It decodes no
// other columns.
func ChunkOutcomes(dir string, k ChunkKey) iter.Seq2[ItemOutcome, error] {
	return func(yield func(ItemOutcome, error) bool) {
		p, err := place.At(dir)
		if err != nil {
			yield(ItemOutcome{}, err)
			return
		}
		outcomesIn(p, k)(yield)
	}
}

func outcomesIn(p place.Place, k ChunkKey) iter.Seq2[ItemOutcome, error] {
	return func(yield func(ItemOutcome, error) bool) {
		d := decoder{columns: ColItem | ColOutcome | ColVerdict}
		var b Batch
		content, err := p.Load(k.measurements(), nil)
		if err == nil {
			if err = d.decode(content, &b); err != nil {
				err = inFile(p.Path(k.measurements()), err)
			}
		}
		if err != nil {
			yield(ItemOutcome{}, err)
			return
		}
		for i := range b.Len {
			if !yield(ItemOutcome{b.Item[i], b.Outcome[i], b.Verdict[i]}, nil) {
				return
			}
		}
	}
}
