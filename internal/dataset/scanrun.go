package dataset

import (
	"bytes"
	"cmp"
	"context"
	"io"
	"math"
	"slices"
	"sync"

	"github.com/parquet-go/parquet-go"
	"golang.org/x/sync/errgroup"

	"tfofleet/internal/dataset/place"
)

// run reads one dataset.
func (s *Scan) run(ctx context.Context, n int, dir string, visit []func(*Batch) error) error {
	p, err := place.At(dir)
	if err != nil {
		return err
	}
	keys, late, err := chunksAndLate(p)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	runs, err := runsOf(ctx, p, keys, len(visit))
	if err != nil {
		return err
	}
	files := load(ctx, p, runs)
	var wg sync.WaitGroup
	for _, v := range visit {
		wg.Go(func() {
			if err := s.visit(ctx, n, p, late, files, v); err != nil {
				stop(err)
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// visit hands one visitor the batches of the runs it takes.
func (s *Scan) visit(ctx context.Context, n int, p place.Place, late *Superseded, runs <-chan []*loading, visit func(*Batch) error) error {
	d := decoder{labels: &s.labels}
	b := Batch{Dir: n}
	var buf []byte
	for run := range runs {
		for i, l := range run {
			content, err := l.content(ctx, p, buf)
			if err != nil {
				return err
			}
			b.reset()
			b.ChunkKey, b.Last = l.key, i == len(run)-1
			superseded := late.of(l.key)
			if d.columns = s.columns; len(superseded) > 0 {
				d.columns |= ColItem
			}
			err = d.decode(content, &b)
			if buf = content; err != nil {
				return inFile(p.Path(l.key.measurements()), err)
			}
			if len(superseded) > 0 {
				b.drop(superseded)
			}
			if s.columns&ColItem == 0 {
				b.Item = b.Item[:0]
			}
			l.done()
			if err := visit(&b); err != nil {
				return err
			}
		}
	}
	return nil
}

// runsOf sorts chunks into runs: those that have items in common, directly or
// through others, are together.
func runsOf(ctx context.Context, p place.Place, keys []ChunkKey, workers int) ([][]ChunkKey, error) {
	spans, err := spansOf(ctx, p, keys, workers)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(spans, func(a, b span) int {
		return cmp.Or(cmp.Compare(a.key.Survey, b.key.Survey), cmp.Compare(a.first, b.first), a.key.compare(b.key))
	})
	var runs [][]ChunkKey
	last := int64(math.MinInt64)
	for i, s := range spans {
		if i == 0 || s.first > last || s.key.Survey != spans[i-1].key.Survey {
			runs = append(runs, nil)
			last = s.last
		}
		runs[len(runs)-1] = append(runs[len(runs)-1], s.key)
		last = max(last, s.last)
	}
	for _, run := range runs {
		slices.SortFunc(run, ChunkKey.compare)
	}
	return runs, nil
}

// span is the items of a chunk.
type span struct {
	key         ChunkKey
	first, last int64
}

// spansOf reads the spans of all chunks from the footers of their files. Of one
// probe alone no two chunks have an item in common, and nothing has to be read.
func spansOf(ctx context.Context, p place.Place, keys []ChunkKey, workers int) ([]span, error) {
	spans := make([]span, len(keys))
	several := false
	for i, k := range keys {
		spans[i] = span{k, int64(i), int64(i)}
		several = several || k.Probe != keys[0].Probe
	}
	if !several {
		return spans, nil
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(max(workers, p.Ahead()))
	for i := range spans {
		g.Go(func() (err error) {
			if err := ctx.Err(); err != nil {
				return err
			}
			s := &spans[i]
			s.first, s.last, err = itemsOf(p, s.key.measurements())
			return err
		})
	}
	return spans, g.Wait()
}

// footerGuess is more than the footers of our tables of measurements have.
const footerGuess = 16 << 10

// itemsOf is the first and the last item of a file, as its footer says it; of
// one that does not say it, all items there may be.
func itemsOf(p place.Place, name string) (first, last int64, err error) {
	tail, size, err := p.Tail(name, footerGuess)
	if err != nil {
		return 0, 0, err
	}
	start, err := footerStart(tailReader{tail, size}, size)
	if err != nil {
		return 0, 0, inFile(p.Path(name), err)
	}
	if start < size-int64(len(tail)) {
		if tail, size, err = p.Tail(name, size-start); err != nil {
			return 0, 0, err
		}
	}
	pf, err := parquet.OpenFile(tailReader{tail, size}, size, parquet.SkipMagicBytes(true), parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true), parquet.FileSchema(measurementSchema))
	if err != nil {
		return 0, 0, inFile(p.Path(name), err)
	}
	leaf, err := leafOf(pf.Root(), []string{"item"})
	if err != nil {
		return 0, 0, inFile(p.Path(name), err)
	}
	first, last = math.MaxInt64, math.MinInt64
	for _, g := range pf.RowGroups() {
		from, to, ok := g.ColumnChunks()[leaf].(*parquet.FileColumnChunk).Bounds()
		if !ok {
			return math.MinInt64, math.MaxInt64, nil
		}
		first, last = min(first, from.Int64()), max(last, to.Int64())
	}
	return first, max(first, last), nil
}

// tailReader reads a file of which the end is there.
type tailReader struct {
	tail []byte
	size int64
}

func (t tailReader) ReadAt(b []byte, off int64) (int, error) {
	if off -= t.size - int64(len(t.tail)); off < 0 {
		return 0, io.ErrUnexpectedEOF
	}
	return bytes.NewReader(t.tail).ReadAt(b, off)
}
