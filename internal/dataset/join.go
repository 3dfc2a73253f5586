package dataset

import (
	"fmt"
	"io"
	"iter"

	"tfofleet/internal/dataset/place"
)

// join holds the rows of one measurement: its own and those of its attempts.
// They are valid until the iteration goes on.
type join struct {
	measurement *measurementRow
	attempts    []attemptRow

	file          ChunkKey
	measurements  *table[measurementRow]
	attemptsTable *table[attemptRow]
	superseded    map[uint64]bool // items whose rows do not count
}

// joins gives every measurement of the dataset that counts.
func joins(dir string) iter.Seq2[*join, error] {
	return func(yield func(*join, error) bool) {
		p, err := place.At(dir)
		if err != nil {
			yield(nil, err)
			return
		}
		keys, late, err := chunksAndLate(p)
		if err != nil {
			yield(nil, err)
			return
		}
		for j, err := range opened(p, keys, openJoin) {
			if err != nil {
				yield(nil, err)
				return
			}
			j.superseded = late.of(j.file)
			if !j.each(yield) {
				return
			}
		}
	}
}

// joinsOf gives what is in one chunk's file.
func joinsOf(p place.Place, k ChunkKey) iter.Seq2[*join, error] {
	return func(yield func(*join, error) bool) {
		j, err := openJoin(p, k)
		if err != nil {
			yield(nil, err)
			return
		}
		defer j.Close()
		j.each(yield)
	}
}

// openJoin opens both files of a chunk.
func openJoin(p place.Place, k ChunkKey) (*join, error) {
	measurements, err := openTable[measurementRow](p, k.measurements())
	if err != nil {
		return nil, err
	}
	id, _ := measurements.pf.Lookup(attemptsKey)
	attempts, err := openTable[attemptRow](p, k.attempts(id))
	if err != nil {
		measurements.Close()
		return nil, err
	}
	return &join{file: k, measurements: measurements, attemptsTable: attempts}, nil
}

func (j *join) Close() error {
	j.attemptsTable.Close()
	return j.measurements.Close()
}

// each reads both files once, in step: they are in the same order. It reports
// whether to go on with the next chunk.
func (j *join) each(yield func(*join, error) bool) bool {
	for {
		err := j.next()
		if err == io.EOF {
			return true
		}
		if err != nil {
			yield(nil, err)
			return false
		}
		if j.superseded[uint64(j.measurement.Item)] {
			continue
		}
		if !yield(j, nil) {
			return false
		}
	}
}

// next goes to the next measurement; io.EOF after the last.
func (j *join) next() (err error) {
	j.measurement, err = j.measurements.next()
	if err == io.EOF {
		if a, err := j.attemptsTable.next(); err == nil {
			return j.attemptsTable.wrap(fmt.Errorf("has more attempts than the measurements: attempt %d of item %d", a.Seq, a.Item))
		} else if err != io.EOF {
			return err
		}
	}
	if err != nil {
		return err
	}
	item := j.measurement.Item
	j.attempts = j.attempts[:0]
	for seq := range j.measurement.Attempts {
		a, err := j.attemptsTable.next()
		if err == io.EOF {
			return j.attemptsTable.wrap(fmt.Errorf("attempt %d of item %d is missing", seq, item))
		}
		if err != nil {
			return err
		}
		if a.Item != item || a.Seq != seq {
			return j.attemptsTable.wrap(fmt.Errorf("found attempt %d of item %d where attempt %d of item %d belongs", a.Seq, a.Item, seq, item))
		}
		j.attempts = append(j.attempts, *a)
	}
	return nil
}
