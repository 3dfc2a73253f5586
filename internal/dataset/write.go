package dataset

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"tfofleet/internal/measure"
)

// Writer writes one dataset. Its methods may be called from several
// goroutines. A dataset has one Writer at a time.
type Writer struct {
	dir      string
	encoders sync.Pool  // of *encoder
	publish  sync.Mutex // a chunk's two files appear together, for us too
}

// Create makes dir, if it is not there, a dataset and writes its survey.json.
// The error is fs.ErrExist when there is a survey in it already.
func Create(dir string, s *Survey) (*Writer, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	w, err := open(dir)
	if err != nil {
		return nil, err
	}
	return w, writeSurvey(dir, s, (*file).create)
}

// Open opens the dataset in dir for writing, and removes what a crash left.
func Open(dir string) (*Writer, error) {
	if _, err := ReadSurvey(dir); err != nil {
		return nil, err
	}
	return open(dir)
}

func open(dir string) (*Writer, error) {
	w := &Writer{dir: dir, encoders: sync.Pool{New: func() any { return newEncoder() }}}
	if err := removeTemps(dir); err != nil {
		return nil, err
	}
	for _, table := range []string{measurementsDir, attemptsDir} {
		sub := filepath.Join(dir, table)
		if err := os.MkdirAll(sub, 0o755); err != nil {
			return nil, err
		}
		if err := removeTemps(sub); err != nil {
			return nil, err
		}
	}
	if err := syncDir(dir); err != nil {
		return nil, err
	}
	return w, w.removeOrphans()
}

// removeOrphans removes attempts that a crash kept from getting their
// measurements: who reads the attempts table alone must not see them.
func (w *Writer) removeOrphans() error {
	keys, err := chunksOf(w.dir, attemptsDir)
	if err != nil {
		return err
	}
	for _, k := range keys {
		have, err := w.Has(k)
		if err != nil {
			return err
		}
		if !have {
			if err := os.Remove(k.path(w.dir, attemptsDir)); err != nil {
				return err
			}
		}
	}
	return nil
}

// Dir is the dataset's directory.
func (w *Writer) Dir() string { return w.dir }

// PutSurvey replaces survey.json.
func (w *Writer) PutSurvey(s *Survey) error {
	return writeSurvey(w.dir, s, (*file).replace)
}

// Has reports whether the chunk has been written.
func (w *Writer) Has(k ChunkKey) (bool, error) {
	_, err := os.Lstat(k.path(w.dir, measurementsDir))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// WriteChunk writes all measurements of one probe in one chunk, in the order
// given, and returns when they are durable. A chunk that has been written
// stays as it is; writing it again is no error. After an error, ENOSPC among
// them, the chunk is absent and may be written again.
func (w *Writer) WriteChunk(k ChunkKey, ms []measure.Measurement) error {
	if have, err := w.Has(k); have || err != nil {
		return err
	}
	if err := w.writeChunk(k, ms); err != nil {
		return fmt.Errorf("write %v: %w", k, err)
	}
	return nil
}

func (w *Writer) writeChunk(k ChunkKey, ms []measure.Measurement) error {
	attempts, err := createTemp(k.path(w.dir, attemptsDir))
	if err != nil {
		return err
	}
	defer attempts.discard()
	measurements, err := createTemp(k.path(w.dir, measurementsDir))
	if err != nil {
		return err
	}
	defer measurements.discard()

	enc := w.encoders.Get().(*encoder)
	if err := enc.encode(attempts.File, measurements.File, &k, ms); err != nil {
		return err // and the encoder, in a state unknown, goes
	}
	w.encoders.Put(enc)
	if err := attempts.finish(); err != nil {
		return err
	}
	if err := measurements.finish(); err != nil {
		return err
	}

	w.publish.Lock()
	defer w.publish.Unlock()
	if have, err := w.Has(k); have || err != nil {
		return err
	}
	// Attempts without measurements are the rest of a failed write, or ours.
	if err := attempts.replace(); err != nil {
		return err
	}
	return measurements.create()
}
