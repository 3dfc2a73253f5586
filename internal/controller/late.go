package controller

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"tfofleet/internal/dataset"
	"tfofleet/internal/lease"
	"tfofleet/internal/measure"
	"tfofleet/internal/store"
)

// A chunk that is over is written, and its targets that nobody had seen through
// are interrupted, lost or cancelled. When a probe that was away for long brings
// results for them after all, they are kept (lease.KeepAside), and written here:
// into late files, which readers put before what the chunk said (see
// dataset.Superseded), whether the survey still runs or has ended long ago. What
// was seen through stays: the first result that is in the dataset counts.
//
// Several controllers may do it at once, and any of them may die in between:
// what goes into a late file is settled in the store before it is written, the
// file is created once, and the store lets go of it when survey.json agrees.

// writeLate writes what came late, once per heartbeat: nobody waits for it, and
// who comes back brings many batches.
func (s *Server) writeLate() {
	for {
		select {
		case <-time.After(s.interval()):
		case <-s.ctx.Done():
			return
		}
		if err := s.writeLateNow(s.ctx); err != nil && s.ctx.Err() == nil {
			s.log.Error("late results not written, tried again soon", "reason", err)
		}
	}
}

// lateFile is one that is in the dataset and not yet in survey.json.
type lateFile struct {
	store.Key
	number uint32
}

// writeLateNow writes what there is. What cannot be written, such as for a
// dataset that was taken away, does not keep the rest from it.
func (s *Server) writeLateNow(ctx context.Context) error {
	keys, err := s.cfg.Store.Late(ctx)
	if err != nil {
		return err
	}
	var failed []error
	for len(keys) > 0 {
		survey := keys[0].Survey
		n := slices.IndexFunc(keys, func(k store.Key) bool { return k.Survey != survey })
		if n < 0 {
			n = len(keys)
		}
		if err := s.writeLateOf(ctx, survey, keys[:n]); err != nil {
			failed = append(failed, fmt.Errorf("survey %s: %w", survey, err))
		}
		keys = keys[n:]
	}
	return errors.Join(failed...)
}

// writeLateOf writes what came late for chunks of a survey.
func (s *Server) writeLateOf(ctx context.Context, id string, keys []store.Key) error {
	v, err := s.written(ctx, id)
	if errors.Is(err, fs.ErrNotExist) {
		s.log.Debug("results came late for a dataset that is not there", "survey", id)
		return nil
	}
	if err != nil {
		return err
	}
	var files []lateFile
	var failed []error
	for _, k := range keys {
		n, err := s.writeLateFile(ctx, v, k)
		if err != nil {
			failed = append(failed, fmt.Errorf("chunk %d: %w", k.Chunk, err))
			continue
		}
		files = append(files, lateFile{k, n})
	}
	if len(files) == 0 {
		return errors.Join(failed...)
	}
	if err := s.refresh(v); err != nil {
		return errors.Join(append(failed, err)...)
	}
	for _, f := range files {
		failed = append(failed, s.cfg.Store.LateDone(ctx, f.Key, f.number))
	}
	s.log.Info("late results written", "survey", id, "chunks", len(files))
	s.notify(id)
	return errors.Join(failed...)
}

// written is a survey of which chunks are written. It may have ended.
func (s *Server) written(ctx context.Context, id string) (*survey, error) {
	rec, err := s.cfg.Store.Survey(ctx, id)
	if err != nil {
		return nil, err
	}
	if rec.Phase < store.Done {
		return s.find(id)
	}
	w, err := dataset.Open(s.cfg.Dataset(id))
	return &survey{rec: rec, writer: w}, err
}

// writeLateFile writes what came late for a chunk, and returns which late file
// of it that is.
func (s *Server) writeLateFile(ctx context.Context, v *survey, k store.Key) (uint32, error) {
	c, n, batches, err := s.cfg.Store.LateBatches(ctx, k)
	if err != nil {
		return 0, err
	}
	first := v.firstItem(c)
	items := slices.Clone(c.Items)
	files := place(s.choose(c, first, batches, wantedLate), items)
	if err := create(v.writer, k, n, first, files, items, c.Items); err != nil {
		return 0, err
	}
	return n, s.cfg.Store.LateWritten(ctx, k, n, items)
}

// wantedLate reports whether a measurement can be the late result of an item: it
// was seen through, and the item was not.
func wantedLate(item lease.Item, o measure.Outcome) bool {
	switch item.Outcome() {
	case lease.Interrupted, lease.Cancelled, lease.Lost:
		return o == measure.OutcomeMeasured || o == measure.OutcomeRefused
	}
	return false
}
