package dataset

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"tfofleet/internal/dataset/place"
	"tfofleet/internal/measure"
)

// Writer writes one dataset. Its methods may be called from several
// goroutines, and a dataset may have several Writers at a time, in several
// processes and on several machines.
type Writer struct {
	dir      string
	p        place.Place
	encoders sync.Pool // of *encoder
}

// Create makes dir, if it is not there, a dataset and writes its survey.json.
// The error is fs.ErrExist when there is a survey in it already.
func Create(dir string, s *Survey) (*Writer, error) {
	w, err := open(dir)
	if err != nil {
		return nil, err
	}
	return w, writeSurvey(w.p, s, place.File.Create)
}

// Open opens the dataset in dir for writing, and removes what crashes left and
// nobody else can be about to finish.
func Open(dir string) (*Writer, error) {
	if _, err := ReadSurvey(dir); err != nil {
		return nil, err
	}
	w, err := open(dir)
	if err != nil {
		return nil, err
	}
	return w, w.sweep(forsaken)
}

func open(dir string) (*Writer, error) {
	p, err := place.At(dir)
	if err != nil {
		return nil, err
	}
	if err := p.Prepare(measurementsDir, attemptsDir); err != nil {
		return nil, err
	}
	return &Writer{dir: dir, p: p, encoders: sync.Pool{New: func() any { return newEncoder() }}}, nil
}

// Dir is the dataset's directory.
func (w *Writer) Dir() string { return w.dir }

// PutSurvey replaces survey.json. With the survey that has ended go attempts
// that never got their measurements.
func (w *Writer) PutSurvey(s *Survey) error {
	if err := writeSurvey(w.p, s, place.File.Replace); err != nil {
		return err
	}
	switch s.State {
	case StateDone, StateCancelled, StateFailed:
		return w.sweep(0)
	}
	return nil
}

// Has reports whether the chunk has been written.
func (w *Writer) Has(k ChunkKey) (bool, error) { return w.p.Has(k.measurements()) }

// WriteChunk is [Writer.CreateChunk] for whom it is all the same who wrote it.
func (w *Writer) WriteChunk(k ChunkKey, ms []measure.Measurement) error {
	_, err := w.CreateChunk(k, ms)
	return err
}

// CreateChunk writes all measurements of one probe in one chunk, in the order
// given, and returns when they are durable. A chunk that has been written, by
// whomever, stays as it is: then created is false, and [ChunkOutcomes] tells
// what it holds. After an error, ENOSPC among them, the chunk is absent and may
// be written again.
func (w *Writer) CreateChunk(k ChunkKey, ms []measure.Measurement) (created bool, err error) {
	if have, err := w.Has(k); have || err != nil {
		return false, err
	}
	if created, err = w.createChunk(k, ms); err != nil {
		return false, fmt.Errorf("write %v: %w", k, err)
	}
	return created, nil
}

// createChunk publishes the attempts, under a name that their content gives
// them, and then the measurements that name them: the first to do that has
// written the chunk, whatever attempts of others lie there.
func (w *Writer) createChunk(k ChunkKey, ms []measure.Measurement) (created bool, err error) {
	c, err := w.encode(k, ms)
	if err != nil {
		return false, err
	}
	defer c.discard()
	attempts := k.attempts(c.id)
	// The same attempts, left by somebody who went no further, become as young
	// as ours: nobody takes them away under our hands (see sweep).
	if err := c.attempts.Replace(base(attempts)); err != nil {
		return false, err
	}
	err = c.measurements.Create(base(k.measurements()))
	if errors.Is(err, fs.ErrExist) {
		return false, w.withdraw(k, c.id)
	}
	if err != nil {
		return false, err
	}
	// Somebody took us for dead, and we were only asleep.
	if have, err := w.p.Has(attempts); have || err != nil {
		return true, err
	}
	again, err := w.encode(k, ms)
	if err != nil {
		return true, err
	}
	defer again.discard()
	return true, again.attempts.Replace(base(attempts))
}

// withdraw removes attempts of a chunk that somebody else wrote, unless they
// are those of that.
func (w *Writer) withdraw(k ChunkKey, id string) error {
	written, err := attemptsOf(w.p, k)
	if err != nil || written == id {
		return err
	}
	return w.p.Remove(k.attempts(id))
}

// chunkFiles are the two tables of a chunk, finished and not yet published.
type chunkFiles struct {
	attempts, measurements place.File
	id                     string // of the attempts
}

func (c *chunkFiles) discard() {
	c.attempts.Discard()
	c.measurements.Discard()
}

func (w *Writer) encode(k ChunkKey, ms []measure.Measurement) (*chunkFiles, error) {
	var c chunkFiles
	var err error
	if c.attempts, err = w.p.New(attemptsDir); err != nil {
		return nil, err
	}
	if c.measurements, err = w.p.New(measurementsDir); err != nil {
		c.attempts.Discard()
		return nil, err
	}
	if err := w.fill(&c, k, ms); err != nil {
		c.discard()
		return nil, err
	}
	return &c, nil
}

func (w *Writer) fill(c *chunkFiles, k ChunkKey, ms []measure.Measurement) (err error) {
	enc := w.encoders.Get().(*encoder)
	if c.id, err = enc.encode(c.attempts, c.measurements, &k, ms); err != nil {
		return err // and the encoder, in a state unknown, goes
	}
	w.encoders.Put(enc)
	if err := c.attempts.Finish(); err != nil {
		return err
	}
	return c.measurements.Finish()
}
