package dataset

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"os"

	"github.com/parquet-go/parquet-go"

	"tfofleet/internal/measure"
)

// Record is a measurement and the chunk it is from.
type Record struct {
	ChunkKey
	measure.Measurement
}

// Read streams every measurement with its attempts, chunk by chunk in the
// order of [Chunks] and within a chunk in the order written. It ends after the
// first error; errors of damaged files name the file.
func Read(dir string) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		keys, err := Chunks(dir)
		if err != nil {
			yield(Record{}, err)
			return
		}
		for _, k := range keys {
			for r, err := range ReadChunk(dir, k) {
				if !yield(r, err) || err != nil {
					return
				}
			}
		}
	}
}

// ReadChunk is [Read] for one chunk.
func ReadChunk(dir string, k ChunkKey) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		measurements, err := openTable[measurementRow](k.path(dir, measurementsDir))
		if err != nil {
			yield(Record{}, err)
			return
		}
		defer measurements.Close()
		attempts, err := openTable[attemptRow](k.path(dir, attemptsDir))
		if err != nil {
			yield(Record{}, err)
			return
		}
		defer attempts.Close()
		for {
			r, err := readRecord(measurements, attempts)
			if err == io.EOF {
				return
			}
			if !yield(r, err) || err != nil {
				return
			}
		}
	}
}

func readRecord(measurements *table[measurementRow], attempts *table[attemptRow]) (Record, error) {
	row, err := measurements.next()
	if err != nil {
		return Record{}, err
	}
	m, err := row.measurement()
	if err != nil {
		return Record{}, measurements.wrap(err)
	}
	for i := range int(row.Attempts) {
		a, err := attempts.next()
		if errors.Is(err, io.EOF) {
			return Record{}, attempts.wrap(fmt.Errorf("attempt %d of item %d is missing", i, m.Item))
		}
		if err != nil {
			return Record{}, err
		}
		if a.Item != row.Item || a.Seq != int32(i) {
			return Record{}, attempts.wrap(fmt.Errorf("found attempt %d of item %d where attempt %d of item %d belongs", a.Seq, a.Item, i, row.Item))
		}
		e, err := a.evidence()
		if err != nil {
			return Record{}, attempts.wrap(err)
		}
		m.Attempts = append(m.Attempts, e)
	}
	return Record{ChunkKey{row.Survey, row.Probe, uint32(row.Chunk)}, m}, nil
}

// table reads the rows of one file in order.
type table[R any] struct {
	f    *os.File
	r    *parquet.GenericReader[R]
	rows [batchRows]R
	i, n int
	err  error // what ends the rows, once n are through
}

func openTable[R any](path string) (t *table[R], err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	t = &table[R]{f: f}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	err = guard(f, func() error {
		pf, err := openParquet(f)
		if err != nil {
			return err
		}
		t.r = parquet.NewGenericReader[R](pf)
		return nil
	})
	return t, err
}

func openParquet(f *os.File) (*parquet.File, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return parquet.OpenFile(f, info.Size(), parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
}

// next returns the next row, valid until the call after it, or io.EOF.
func (t *table[R]) next() (*R, error) {
	for t.i == t.n {
		if t.err != nil {
			return nil, t.err
		}
		t.i, t.n = 0, 0
		t.err = guard(t.f, func() (err error) {
			t.n, err = t.r.Read(t.rows[:])
			return err
		})
	}
	t.i++
	return &t.rows[t.i-1], nil
}

// guard runs f and names the file in its error. The Parquet reader panics on
// some damaged files; that too is an error of the file.
func guard(file *os.File, f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("damaged: %v", p)
		}
		if err != nil && err != io.EOF {
			err = fmt.Errorf("%s: %w", file.Name(), err)
		}
	}()
	return f()
}

func (t *table[R]) wrap(err error) error { return fmt.Errorf("%s: %w", t.f.Name(), err) }

func (t *table[R]) Close() error { return t.f.Close() }
