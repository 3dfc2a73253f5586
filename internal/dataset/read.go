package dataset

import (
	"io"
	"iter"

	"tfofleet/internal/dataset/place"
	"tfofleet/internal/measure"
	"tfofleet/internal/tfo"
)

// Record is a measurement and the chunk it is from.
type Record struct {
	ChunkKey
	measure.Measurement
}

// Read streams every measurement that counts with its attempts, chunk by chunk in the
// order of [Chunks] and within a chunk in the order written. It ends after the
// first error; errors of damaged files name the file.
func Read(dir string) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		for j, err := range joins(dir) {
			if err != nil {
				yield(Record{}, err)
				return
			}
			r, err := j.record()
			if !yield(r, err) || err != nil {
				return
			}
		}
	}
}

// ReadChunk is [Read] for one chunk, with rows that are [Superseded].
func ReadChunk(dir string, k ChunkKey) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		p, err := place.At(dir)
		if err != nil {
			yield(Record{}, err)
			return
		}
		for j, err := range joinsOf(p, k) {
			if err != nil {
				yield(Record{}, err)
				return
			}
			r, err := j.record()
			if !yield(r, err) || err != nil {
				return
			}
		}
	}
}

// record turns the rows of one measurement back into it.
func (j *join) record() (Record, error) {
	m, err := j.measurement.measurement()
	if err != nil {
		return Record{}, j.measurements.wrap(err)
	}
	if len(j.attempts) > 0 {
		m.Attempts = make([]tfo.Evidence, len(j.attempts))
	}
	for i := range j.attempts {
		if m.Attempts[i], err = j.attempts[i].evidence(); err != nil {
			return Record{}, j.attemptsTable.wrap(err)
		}
	}
	return Record{j.measurement.key(j.file.Late), m}, nil
}

// Row is a measurement without its attempts, as the measurements table has it:
// what is enough to count.
type Row struct {
	Record     // Attempts is nil
	Made   int // number of attempts
	Family int // 4, 6, or 0 without an address
	// In µs, tfo.NotKnown where the table has null.
	PlainConnectUS, PlainFirstByteUS, TFOFirstByteUS int64
	// SavedUS is PlainFirstByteUS - TFOFirstByteUS; nil where one is missing,
	// for it may well be below 0.
	SavedUS *int64
}

// Rows is [Read] without the attempts, which it does not open.
func Rows(dir string) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		p, err := place.At(dir)
		if err != nil {
			yield(Row{}, err)
			return
		}
		keys, late, err := chunksAndLate(p)
		if err != nil {
			yield(Row{}, err)
			return
		}
		for f, err := range opened(p, keys, openRows) {
			if err != nil {
				yield(Row{}, err)
				return
			}
			if !f.each(late.of(f.file), yield) {
				return
			}
		}
	}
}

// rows are those of a file of measurements.
type rows struct {
	*table[measurementRow]
	file ChunkKey
}

func openRows(p place.Place, k ChunkKey) (rows, error) {
	t, err := openTable[measurementRow](p, k.measurements())
	return rows{t, k}, err
}

// each gives the rows that count, and reports whether to go on with the next
// chunk.
func (t rows) each(superseded map[uint64]bool, yield func(Row, error) bool) bool {
	for {
		r, err := t.next()
		if err == io.EOF {
			return true
		}
		if err != nil {
			yield(Row{}, err)
			return false
		}
		if superseded[uint64(r.Item)] {
			continue
		}
		m, err := r.measurement()
		if err != nil {
			yield(Row{}, t.wrap(err))
			return false
		}
		if !yield(Row{
			Record:           Record{r.key(t.file.Late), m},
			Made:             int(r.Attempts),
			Family:           int(r.Family),
			PlainConnectUS:   or(r.PlainConnectUS, tfo.NotKnown),
			PlainFirstByteUS: or(r.PlainFirstByteUS, tfo.NotKnown),
			TFOFirstByteUS:   or(r.TFOFirstByteUS, tfo.NotKnown),
			SavedUS:          r.SavedUS,
		}, nil) {
			return false
		}
	}
}
