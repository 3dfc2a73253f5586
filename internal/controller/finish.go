package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"tfofleet/internal/dataset"
	"tfofleet/internal/lease"
	"tfofleet/internal/measure"
	"tfofleet/internal/store"
)

const (
	// retryAfter is the rest before a chunk that could not be written is tried
	// again: the disk is full, and somebody has to make room.
	retryAfter = time.Second
	// writeTime is for how long a chunk is one controller's to write, which is
	// many times what it takes. After that another one does it.
	writeTime = time.Minute
	// writeAhead is how many chunks a controller takes for itself.
	writeAhead = 16
)

// finishChunks writes chunks that are over into their dataset, and ends surveys.
func (s *Server) finishChunks() {
	for {
		more := s.over.next()
		done, err := s.finishSome(s.ctx)
		s.trouble.set(writeDataset, err)
		switch {
		case s.ctx.Err() != nil:
			return
		case err != nil:
			s.log.Error("chunk not written", "reason", err)
			select {
			case <-time.After(retryAfter):
			case <-s.ctx.Done():
			}
			continue
		case done:
			continue
		}
		select {
		case <-more:
		case <-s.ctx.Done():
		}
	}
}

// finishSome writes what is over, and reports whether there was any.
func (s *Server) finishSome(ctx context.Context) (any bool, err error) {
	keys, err := s.cfg.Store.TakeUnwritten(ctx, s.cfg.Name, writeTime, writeAhead)
	if err != nil {
		return false, err
	}
	if len(keys) > 0 {
		// Encoding is what takes the time.
		var all errgroup.Group
		all.SetLimit(runtime.GOMAXPROCS(0))
		for _, k := range keys {
			all.Go(func() error {
				if err := s.finish(ctx, k); err != nil {
					return fmt.Errorf("survey %s chunk %d: %w", k.Survey, k.Chunk, err)
				}
				return nil
			})
		}
		return true, all.Wait()
	}
	// It may be that all was written but the end.
	over, err := s.cfg.Store.Finished(ctx)
	for _, id := range over {
		v, findErr := s.find(id)
		if findErr == nil {
			findErr = s.end(ctx, v)
		}
		err = errors.Join(err, findErr)
	}
	return len(over) > 0, err
}

// finish writes one chunk, and ends its survey when it was the last. A crash
// anywhere in it is made good by doing it again.
func (s *Server) finish(ctx context.Context, k store.Key) error {
	v, err := s.written(ctx, k.Survey)
	if err != nil {
		return err
	}
	last, err := s.write(ctx, v, k)
	switch {
	case err != nil:
		return err
	case v.rec.Phase >= store.Done: // it failed with chunks that were not over
		return s.refresh(v)
	case last:
		return s.end(ctx, v)
	}
	return nil
}

func (s *Server) write(ctx context.Context, v *survey, k store.Key) (last bool, err error) {
	c, batches, err := s.cfg.Store.Batches(ctx, k)
	if err != nil {
		return false, err
	}
	first := v.firstItem(c)
	files, items := s.gather(c, first, batches)
	if err := s.addAbandoned(v, c, files, items); err != nil {
		return false, err
	}
	lost := slices.Repeat([]lease.Item{lease.Result(lease.Lost, 0)}, len(items))
	if err := create(v.writer, k, 0, first, files, items, lost); err != nil {
		return false, err
	}
	return s.cfg.Store.Written(ctx, k, items)
}

// firstItem is the first target of a chunk.
func (v *survey) firstItem(c store.Chunk) uint64 {
	return uint64(c.Source) * uint64(v.rec.List.ChunkSize)
}

// create writes the measurements of a chunk, by probe. What was written before a
// crash, or by another controller, stays; what has come since is not in it. Then
// items are made what the dataset holds of them, and what they were without
// where it holds nothing.
func create(w *dataset.Writer, k store.Key, late uint32, first uint64, files map[string][]measure.Measurement, items, without []lease.Item) error {
	for _, probe := range slices.Sorted(maps.Keys(files)) {
		ms := files[probe]
		slices.SortFunc(ms, func(a, b measure.Measurement) int { return cmp.Compare(a.Item, b.Item) })
		name := dataset.ChunkKey{Survey: k.Survey, Probe: probe, Chunk: k.Chunk, Late: late}
		created, err := w.CreateChunk(name, ms)
		if err != nil {
			return err
		}
		if created {
			continue
		}
		for _, m := range ms {
			items[m.Item-first] = without[m.Item-first]
		}
		for o, err := range dataset.ChunkOutcomes(w.Dir(), name) {
			if err != nil {
				return err
			}
			if at := o.Item - first; o.Item >= first && at < uint64(len(items)) {
				items[at] = lease.Result(lease.Outcome(o.Outcome), min(o.Verdict, lease.MaxVerdict))
			}
		}
	}
	return nil
}

// choice is the measurement that is the result of a target, and the batch it is
// from; that is nil where there is none.
type choice struct {
	m     measure.Measurement
	batch *store.Batch
}

// choose picks the result of every target out of batches: that of the newest
// epoch, and one that was seen through before an interruption.
func (s *Server) choose(c store.Chunk, first uint64, batches []store.Batch, wanted func(lease.Item, measure.Outcome) bool) []choice {
	chosen := make([]choice, len(c.Items))
	for i := range batches {
		b := &batches[i]
		if len(b.Body) == 0 {
			continue
		}
		ms, err := measure.DecodeBatch(b.Body)
		if err != nil {
			s.log.Error("batch cannot be read", "survey", c.Survey, "chunk", c.Chunk, "probe", b.Probe, "epoch", b.Epoch, "sequence", b.Sequence, "reason", err)
			continue
		}
		for _, m := range ms {
			at := m.Item - first
			if m.Item < first || at >= uint64(len(chosen)) || !wanted(c.Items[at], m.Outcome) {
				continue
			}
			if had := &chosen[at]; had.batch == nil || newer(m.Outcome, b.Epoch, had.m.Outcome, had.batch.Epoch) {
				*had = choice{m, b}
			}
		}
	}
	return chosen
}

// place puts what was chosen into the files of its probes, and into items.
func place(chosen []choice, items []lease.Item) (files map[string][]measure.Measurement) {
	files = make(map[string][]measure.Measurement)
	for i, x := range chosen {
		b := x.batch
		if b == nil {
			continue
		}
		m := x.m
		m.Observed, _ = netip.ParseAddr(b.Address) // none where there is none
		if b.Late {
			m.Conditions = append(slices.Clip(m.Conditions), measure.CondVantageLate)
			slices.Sort(m.Conditions)
		}
		items[i] = lease.Result(lease.Outcome(m.Outcome), min(m.Verdict, lease.MaxVerdict))
		files[b.Probe] = append(files[b.Probe], m)
	}
	return files
}

// gather gives the results of a chunk by probe, and the items as they are now
// that the batches were opened: they are what the dataset holds, whatever a
// probe said a batch would.
func (s *Server) gather(c store.Chunk, first uint64, batches []store.Batch) (files map[string][]measure.Measurement, items []lease.Item) {
	chosen := s.choose(c, first, batches, wanted)
	items = slices.Clone(c.Items)
	for i := range chosen {
		if chosen[i].batch != nil {
			continue
		}
		if _, abandoned := c.Late[uint32(i)]; items[i].Outcome() <= lease.Interrupted && !abandoned {
			items[i] = lease.Result(lease.Lost, 0)
		}
	}
	return place(chosen, items), items
}

// wanted reports whether a measurement can be the result of an item.
func wanted(item lease.Item, o measure.Outcome) bool {
	switch item.Outcome() {
	case lease.Measured, lease.Refused, lease.Interrupted:
		return o >= measure.OutcomeMeasured && o <= measure.OutcomeInterrupted
	}
	return false
}

// newer is the lease machine's order of results.
func newer(o measure.Outcome, epoch uint64, than measure.Outcome, thanEpoch uint64) bool {
	if seen, was := o != measure.OutcomeInterrupted, than != measure.OutcomeInterrupted; seen != was {
		return seen
	}
	return epoch > thanEpoch
}

// addAbandoned adds a measurement for every target that is interrupted and has no
// record: its probe never came back, or dropped it for want of room.
func (s *Server) addAbandoned(v *survey, c store.Chunk, files map[string][]measure.Measurement, items []lease.Item) error {
	if v.targets == nil { // the survey failed, for they cannot be read
		return nil
	}
	has := make(map[uint64]bool)
	for _, ms := range files {
		for _, m := range ms {
			has[m.Item] = true
		}
	}
	var ts []measure.Target
	for i, item := range items {
		late, abandoned := c.Late[uint32(i)]
		if item.Outcome() != lease.Interrupted || !abandoned {
			continue
		}
		if ts == nil {
			var err error
			if ts, err = v.targets.Chunk(int(c.Source)); err != nil {
				return err
			}
			if len(ts) != len(items) {
				return fmt.Errorf("chunk %d of the frozen targets holds %d, not %d", c.Source, len(ts), len(items))
			}
		}
		if !has[ts[i].Item] {
			probe := c.Holders[late.Epoch-1] // who had it and did not come back
			files[probe] = append(files[probe], measure.Measurement{Target: ts[i], Outcome: measure.OutcomeInterrupted})
		}
	}
	return nil
}

// Settle puts all that was measured into the datasets: chunks that are partly
// measured are divided, and what there is of them is written. The rest stays
// pending. It ends all sessions first, and takes it that none of these
// processes comes back: call it when the probes have stopped, before Close.
func (s *Server) Settle(ctx context.Context) error {
	if err := s.dismiss(ctx); err != nil {
		return err
	}
	surveys := s.all()
	for _, v := range surveys {
		if err := s.cfg.Store.Settle(ctx, v.rec.ID); err != nil {
			return err
		}
	}
	for more := true; more; {
		var err error
		if more, err = s.finishSome(ctx); err != nil {
			return err
		}
	}
	for _, v := range surveys {
		if _, ok := s.running(v.rec.ID); !ok {
			continue
		}
		rec, err := s.cfg.Store.Survey(ctx, v.rec.ID)
		if err != nil {
			return err
		}
		v.putting.Lock()
		v.settled = true
		v.putting.Unlock()
		if err := s.putSurvey(ctx, v, rec); err != nil {
			return err
		}
	}
	return nil
}

// dismiss ends all sessions, and the leases that their probes still have.
func (s *Server) dismiss(ctx context.Context) error {
	s.mu.Lock()
	gone := slices.Collect(maps.Values(s.sessions))
	names := maps.Clone(s.names)
	s.mu.Unlock()
	for _, p := range gone {
		p.stop()
		select {
		case <-p.over:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for name := range names {
		chunks, err := s.cfg.Store.HeldBy(ctx, name)
		if err != nil {
			return err
		}
		for _, c := range chunks {
			c, effects, err := s.cfg.Store.Apply(ctx, c.Key, lease.Forgotten{Probe: name}, nil)
			if err != nil {
				return err
			}
			s.carryOut(c, effects)
		}
	}
	return nil
}
