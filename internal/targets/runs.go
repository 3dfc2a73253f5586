package targets

import (
	"bufio"
	"bytes"
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

const (
	// fanIn is how many runs are merged at once: with the default memory, 100
	// million names in one pass, with 8 MiB of buffers.
	fanIn      = 256
	readBuffer = 32 << 10
	// runHead stands before a record in a run: its place and its length.
	runHead = 8 + 2
)

// spillFile is what a runFile needs of an *os.File.
type spillFile interface {
	io.Writer
	io.ReaderAt
	io.Closer
}

// createSpill makes a file without a name in dir: it takes space until it is
// closed and can not be left behind.
func createSpill(dir string) (spillFile, error) {
	f, err := os.CreateTemp(dir, "tfofleet-targets-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// runFile holds sorted runs of records, one behind the other.
type runFile struct {
	f    spillFile
	w    *bufio.Writer
	end  int64
	runs []run
}

// run is one sorted run: a section of the file.
type run struct{ offset, size, records int64 }

func (s *Sorter) createRunFile() (*runFile, error) {
	f, err := s.create(s.dir)
	if err != nil {
		return nil, runError(err)
	}
	return &runFile{f: f, w: bufio.NewWriterSize(f, 256<<10)}, nil
}

// runError says to the user which file of ours an error is about.
func runError(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("temporary file for sorting targets: %w", err)
}

func (f *runFile) close() { f.f.Close() } // nothing in it is needed any more

// append writes what source passes on as one more run.
func (f *runFile) append(source func(out func(uint64, record) error) error) error {
	r := run{offset: f.end}
	err := source(func(place uint64, rec record) error {
		var head [runHead]byte
		binary.BigEndian.PutUint64(head[:], place)
		binary.BigEndian.PutUint16(head[8:], uint16(len(rec)))
		f.w.Write(head[:]) // an error sticks to the writer
		n, err := f.w.Write(rec)
		r.size += int64(runHead + n)
		r.records++
		return runError(err)
	})
	if err != nil {
		return err
	}
	if err := f.w.Flush(); err != nil {
		return runError(err)
	}
	f.end += r.size
	f.runs = append(f.runs, r)
	return nil
}

// merge passes on the records of runs in order; of equal ones those of the
// earlier run first.
func (f *runFile) merge(runs []run, out func(uint64, record) error) error {
	var h mergeHeap
	for i, r := range runs {
		section := io.NewSectionReader(f.f, r.offset, r.size)
		c := &cursor{r: bufio.NewReaderSize(section, readBuffer), left: r.records, run: i}
		if err := c.next(); err != nil { // no run is empty
			return err
		}
		h = append(h, c)
	}
	heap.Init(&h)
	for len(h) > 0 {
		c := h[0]
		if err := out(c.place, c.rec); err != nil {
			return err
		}
		switch err := c.next(); err {
		case nil:
			heap.Fix(&h, 0)
		case io.EOF:
			heap.Pop(&h)
		default:
			return err
		}
	}
	return nil
}

// cursor stands on one record of a run.
type cursor struct {
	r     *bufio.Reader
	left  int64 // records behind this one
	run   int
	place uint64
	rec   record // inside buf
	buf   [maxRecord]byte
}

// next goes to the next record; io.EOF means there is none.
func (c *cursor) next() error {
	if c.left == 0 {
		return io.EOF
	}
	c.left--
	head, err := c.r.Peek(runHead)
	if err == nil {
		c.place = binary.BigEndian.Uint64(head)
		c.rec = c.buf[:min(binary.BigEndian.Uint16(head[8:]), maxRecord)]
		c.r.Discard(runHead) // peeked at above
		_, err = io.ReadFull(c.r, c.rec)
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return runError(err)
}

type mergeHeap []*cursor

func (h mergeHeap) Len() int { return len(h) }

func (h mergeHeap) Less(i, j int) bool {
	a, b := h[i], h[j]
	if a.place != b.place {
		return a.place < b.place
	}
	if c := bytes.Compare(a.rec.identity(), b.rec.identity()); c != 0 {
		return c < 0
	}
	return a.run < b.run
}

func (h mergeHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

func (h *mergeHeap) Push(x any) { *h = append(*h, x.(*cursor)) }

func (h *mergeHeap) Pop() any {
	old := *h
	c := old[len(old)-1]
	*h = old[:len(old)-1]
	return c
}
