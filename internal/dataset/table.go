package dataset

import (
	"fmt"
	"io"
	"strings"

	"github.com/parquet-go/parquet-go"

	"tfofleet/internal/dataset/place"
)

// table reads the rows of one file in order.
type table[R any] struct {
	f    place.Source
	path string
	pf   *parquet.File
	r    *parquet.GenericReader[R]
	rows [batchRows]R
	i, n int
	err  error // what ends the rows, once n are through
}

func openTable[R any](p place.Place, name string) (*table[R], error) {
	f, err := p.Open(name)
	if err != nil {
		return nil, err
	}
	pf, err := openParquet[R](f)
	if err != nil {
		f.Close()
		return nil, inFile(p.Path(name), err)
	}
	return &table[R]{f: f, path: p.Path(name), pf: pf, r: parquet.NewGenericReader[R](pf)}, nil
}

// openParquet opens a sealed table of rows R.
func openParquet[R any](f place.Source) (*parquet.File, error) {
	if err := checkSeal(f, f.Size()); err != nil {
		return nil, err
	}
	pf, err := parquet.OpenFile(f, f.Size(), parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		return nil, err
	}
	return pf, checkColumns[R](pf)
}

// checkColumns refuses a table without the columns of R. A later version may
// have added some.
func checkColumns[R any](pf *parquet.File) error {
	for _, want := range parquet.SchemaOf(new(R)).Columns() {
		w, _ := parquet.SchemaOf(new(R)).Lookup(want...)
		got, ok := pf.Schema().Lookup(want...)
		if !ok || !parquet.EqualNodes(w.Node, got.Node) {
			return fmt.Errorf("another table, or of another version: column %s is %v, want %v", strings.Join(want, "."), got.Node, w.Node)
		}
	}
	return nil
}

// next returns the next row, valid until the call after it, or io.EOF.
func (t *table[R]) next() (*R, error) {
	for t.i == t.n {
		if t.err != nil {
			return nil, t.err
		}
		t.i = 0
		if t.n, t.err = t.r.Read(t.rows[:]); t.err != nil && t.err != io.EOF {
			t.err = t.wrap(t.err)
		}
	}
	t.i++
	return &t.rows[t.i-1], nil
}

func (t *table[R]) wrap(err error) error { return inFile(t.path, err) }

// Close closes the file. What the Parquet reader holds is memory alone.
func (t *table[R]) Close() error { return t.f.Close() }

func inFile(path string, err error) error { return fmt.Errorf("%s: %w", path, err) }
