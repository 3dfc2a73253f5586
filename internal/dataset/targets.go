package dataset

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"strconv"

	"github.com/parquet-go/parquet-go"

	"tfofleet/internal/dataset/place"
	"tfofleet/internal/measure"
)

const (
	targetsFile = "targets.parquet"
	// chunkSizeKey is where targets.parquet keeps its chunk size.
	chunkSizeKey = "tfofleet.chunk_size"
)

// WriteTargets freezes the targets of a survey in DIR/targets.parquet, making
// dir if it is not there, and returns how many there are. seq gives them in
// item order from 0; its first error ends the writing. The file holds at most
// 32767 chunks, a limit of the format. Nothing is left behind on an error; it is
// fs.ErrExist when the targets are frozen already.
func WriteTargets(dir string, chunkSize int, seq iter.Seq2[measure.Target, error]) (n uint64, err error) {
	return writeTargets(dir, chunkSize, parquet.MaxRowGroups, seq)
}

func writeTargets(dir string, chunkSize, maxChunks int, seq iter.Seq2[measure.Target, error]) (n uint64, err error) {
	if chunkSize < 1 {
		return 0, fmt.Errorf("chunk size %d", chunkSize)
	}
	p, err := place.At(dir)
	if err != nil {
		return 0, err
	}
	if err := p.Prepare(); err != nil {
		return 0, err
	}
	if have, err := p.Has(targetsFile); have || err != nil {
		return 0, cmp.Or(err, error(&fs.PathError{Op: "create", Path: p.Path(targetsFile), Err: fs.ErrExist}))
	}
	f, err := p.New("")
	if err != nil {
		return 0, err
	}
	defer f.Discard()

	out := &sealer{f: f}
	w := newRowWriter[targetRow](out, parquet.MaxRowsPerRowGroup(int64(chunkSize)), parquet.KeyValueMetadata(chunkSizeKey, strconv.Itoa(chunkSize)))
	var rows [batchRows]targetRow
	i := 0
	for t, err := range seq {
		if err != nil {
			return 0, err
		}
		if n >= uint64(chunkSize)*uint64(maxChunks) {
			return 0, fmt.Errorf("more than %d chunks of %d targets", maxChunks, chunkSize)
		}
		if t.Item != n {
			return 0, fmt.Errorf("target %d of the list says it is item %d", n, t.Item)
		}
		n++
		rows[i] = targetRow{Item: int64(t.Item), Address: addrText(t.Addr), Port: int32(t.Port), Hostname: t.Hostname}
		if i++; i == batchRows {
			if err := w.Write(rows[:]); err != nil {
				return 0, err
			}
			i = 0
		}
	}
	if err := w.Write(rows[:i]); err != nil {
		return 0, err
	}
	if err := w.w.Close(); err != nil {
		return 0, err
	}
	if err := out.seal(); err != nil {
		return 0, err
	}
	if err := f.Finish(); err != nil {
		return 0, err
	}
	if err := f.Create(targetsFile); err != nil {
		return 0, err
	}
	return n, nil
}

// Targets is an open targets.parquet. Its methods may be called from several
// goroutines.
type Targets struct {
	f         place.Source
	path      string
	pf        *parquet.File
	chunkSize int
}

// OpenTargets opens DIR/targets.parquet; the error is fs.ErrNotExist when the
// targets were not frozen yet.
func OpenTargets(dir string) (*Targets, error) {
	p, err := place.At(dir)
	if err != nil {
		return nil, err
	}
	f, err := p.Open(targetsFile)
	if err != nil {
		return nil, err
	}
	t := &Targets{f: f, path: p.Path(targetsFile)}
	if err := t.open(); err != nil {
		f.Close()
		return nil, inFile(t.path, err)
	}
	return t, nil
}

func (t *Targets) open() (err error) {
	if t.pf, err = openParquet[targetRow](t.f); err != nil {
		return err
	}
	size, _ := t.pf.Lookup(chunkSizeKey)
	if t.chunkSize, err = strconv.Atoi(size); err != nil {
		return fmt.Errorf("%s: %w", chunkSizeKey, err)
	}
	return nil
}

// Len is the number of targets.
func (t *Targets) Len() uint64 { return uint64(t.pf.NumRows()) }

// ChunkSize is the number of targets per chunk; the last chunk may hold fewer.
func (t *Targets) ChunkSize() int { return t.chunkSize }

// Chunks is the number of chunks.
func (t *Targets) Chunks() int { return len(t.pf.RowGroups()) }

// Chunk reads the targets of chunk i: items i*ChunkSize and on.
func (t *Targets) Chunk(i int) ([]measure.Target, error) {
	if i < 0 || i >= t.Chunks() {
		return nil, inFile(t.path, fmt.Errorf("no chunk %d among %d", i, t.Chunks()))
	}
	group := t.pf.RowGroups()[i]
	r := parquet.NewGenericRowGroupReader[targetRow](group)
	defer r.Close()
	rows := make([]targetRow, group.NumRows())
	if n, err := r.Read(rows); n < len(rows) {
		return nil, inFile(t.path, cmp.Or(err, io.ErrUnexpectedEOF))
	}
	ts := make([]measure.Target, len(rows))
	var p parser
	for j := range rows {
		r := &rows[j]
		ts[j] = measure.Target{Item: uint64(r.Item), Addr: p.addr("address", r.Address), Port: uint16(r.Port), Hostname: r.Hostname}
	}
	if p.err != nil {
		return nil, inFile(t.path, p.err)
	}
	return ts, nil
}

// Close closes the file.
func (t *Targets) Close() error { return t.f.Close() }

// CopyTargets makes the frozen targets of one directory those of another: by a
// link, by a copy that the object store makes, or byte by byte. Targets that
// are there already stay; that is no error.
func CopyTargets(from, to string) error {
	src, err := place.At(from)
	if err != nil {
		return err
	}
	dst, err := place.At(to)
	if err != nil {
		return err
	}
	if err := dst.Prepare(); err != nil {
		return err
	}
	if done, err := dst.Copy(src, targetsFile); done || err != nil {
		return err
	}
	r, err := src.Open(targetsFile)
	if err != nil {
		return err
	}
	defer r.Close()
	f, err := dst.New("")
	if err != nil {
		return err
	}
	defer f.Discard()
	if _, err := io.Copy(f, io.NewSectionReader(r, 0, r.Size())); err != nil {
		return err
	}
	if err := checkSeal(f, r.Size()); err != nil {
		return inFile(src.Path(targetsFile), err)
	}
	if err := f.Finish(); err != nil {
		return err
	}
	if err := f.Create(targetsFile); !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// RemoveTargets removes the frozen targets in dir, and dir when nothing else is
// in it. It is no error when they are not there.
func RemoveTargets(dir string) error {
	p, err := place.At(dir)
	if err != nil {
		return err
	}
	if err := p.Remove(targetsFile); err != nil {
		return err
	}
	return p.RemoveEmpty()
}
