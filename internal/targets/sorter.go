package targets

import (
	"bytes"
	"cmp"
	"errors"
	"slices"

	"tfofleet/internal/measure"
)

// DefaultMemory is the memory a [Sorter] keeps targets in before it spills
// them. 10 million names make about a dozen runs of this size.
const DefaultMemory = 32 << 20

// Sorter freezes a list: it drops duplicates, puts the targets into the order
// of a seed, and numbers them.
//
// The order is that of a keyed hash over (address, port), or over (name, port)
// while there is no address. It depends on the seed and the set of targets
// only, not on how the list was sorted, so the same survey can be made again
// from a list that was put together in another way, and neighbours in the
// address space end up far apart.
//
// Two targets with the same (address, port) are one; the name is the one that
// came first. Duplicates are found by comparing in full, the hash only brings
// them together.
//
// A list that outgrows the memory is sorted in runs, kept in a file that has no
// name from the moment it exists: no crash leaves it behind. A Sorter is for
// one goroutine.
type Sorter struct {
	dir    string
	seed   uint64
	limit  int64
	create func(dir string) (spillFile, error) // createSpill; tests make it fail

	index []slot
	arena arena
	runs  *runFile // nil until the first spill
	stats SortStats
	err   error // sticky: a sorter that lost a target must not go on
}

// SortStats counts what [Sorter.Finish] emitted and what it dropped.
type SortStats struct {
	Targets    int64
	Duplicates int64
}

// slot is a record in memory and its place in the order.
type slot struct {
	place uint64
	at    position
}

const slotSize = 16

var errFinished = errors.New("targets: the sorter is finished")

// NewSorter returns a sorter that spills to dir once it holds about memLimit
// bytes (0 for [DefaultMemory]). Before that it does not touch dir, which should
// be on a disk: where it is a tmpfs, as /tmp often is, spilling saves no memory.
func NewSorter(dir string, seed uint64, memLimit int64) *Sorter {
	if memLimit <= 0 {
		memLimit = DefaultMemory
	}
	return &Sorter{dir: dir, seed: seed, limit: memLimit, create: createSpill, arena: newArena(memLimit)}
}

// Add takes a target; its Item is ignored. An error is one of writing the run
// file, and final.
func (s *Sorter) Add(t measure.Target) error {
	if s.err != nil {
		return s.err
	}
	var buf [maxRecord]byte
	rec, err := appendRecord(buf[:0], t)
	if err != nil {
		return s.fail(err)
	}
	if s.full() {
		if err := s.spill(); err != nil {
			return s.fail(err)
		}
	}
	s.index = append(s.grow(), slot{place: place(s.seed, rec), at: s.arena.add(rec)})
	return nil
}

// full reports whether one more target would break the limit. An index that
// must grow counts with its next size.
func (s *Sorter) full() bool {
	size := int64(cap(s.index)) * slotSize
	if len(s.index) == cap(s.index) {
		size *= 2
	}
	return len(s.index) > 0 && size+s.arena.used() > s.limit
}

// grow makes room for one more slot, doubling so that full can foresee it.
func (s *Sorter) grow() []slot {
	if len(s.index) < cap(s.index) {
		return s.index
	}
	return append(make([]slot, 0, max(16, 2*cap(s.index))), s.index...)
}

// spill writes what is in memory as one run.
func (s *Sorter) spill() error {
	if s.runs == nil {
		f, err := s.createRunFile()
		if err != nil {
			return err
		}
		s.runs = f
	}
	if err := s.runs.append(s.drainMemory); err != nil {
		return err
	}
	s.index = s.index[:0]
	s.arena.reset()
	return nil
}

// drainMemory sorts what is in memory and passes it on without duplicates.
func (s *Sorter) drainMemory(out func(place uint64, rec record) error) error {
	slices.SortFunc(s.index, func(a, b slot) int {
		if c := cmp.Compare(a.place, b.place); c != 0 {
			return c
		}
		if c := bytes.Compare(s.arena.get(a.at).identity(), s.arena.get(b.at).identity()); c != 0 {
			return c
		}
		return a.at.compare(b.at) // the first of a list stays first
	})
	unique := s.unique(out)
	for _, e := range s.index {
		if err := unique(e.place, s.arena.get(e.at)); err != nil {
			return err
		}
	}
	return nil
}

// unique passes on the first of equal records, which come in a row.
func (s *Sorter) unique(out func(place uint64, rec record) error) func(uint64, record) error {
	var buf [maxRecord]byte
	last := buf[:0]
	return func(place uint64, rec record) error {
		if id := rec.identity(); !bytes.Equal(id, last) {
			last = append(last[:0], id...)
			return out(place, rec)
		}
		s.stats.Duplicates++
		return nil
	}
}

// Finish emits the frozen list, numbered from 0, and releases everything the
// sorter holds. The error is one of the run file, or that of emit, as it is.
func (s *Sorter) Finish(emit func(measure.Target) error) (SortStats, error) {
	if s.err != nil {
		return s.stats, s.err
	}
	out := func(_ uint64, rec record) error {
		t := rec.target()
		t.Item = uint64(s.stats.Targets)
		if err := emit(t); err != nil {
			return err
		}
		s.stats.Targets++
		return nil
	}
	err := s.finish(out)
	if err != nil {
		return s.stats, s.fail(err)
	}
	s.fail(errFinished)
	return s.stats, nil
}

func (s *Sorter) finish(out func(uint64, record) error) error {
	if s.runs == nil {
		return s.drainMemory(out)
	}
	if err := s.spill(); err != nil {
		return err
	}
	s.index, s.arena = nil, arena{}
	for len(s.runs.runs) > fanIn {
		fewer, err := s.mergePass()
		if err != nil {
			return err
		}
		s.runs.close()
		s.runs = fewer
	}
	return s.runs.merge(s.runs.runs, s.unique(out))
}

// mergePass merges neighbouring runs into a new file with fewer of them.
func (s *Sorter) mergePass() (*runFile, error) {
	fewer, err := s.createRunFile()
	if err != nil {
		return nil, err
	}
	for group := range slices.Chunk(s.runs.runs, fanIn) {
		err := fewer.append(func(out func(uint64, record) error) error {
			return s.runs.merge(group, s.unique(out))
		})
		if err != nil {
			fewer.close()
			return nil, err
		}
	}
	return fewer, nil
}

// fail makes err the answer to every later call and gives memory and disk back.
func (s *Sorter) fail(err error) error {
	if s.runs != nil {
		s.runs.close()
	}
	s.runs, s.index, s.arena, s.err = nil, nil, arena{}, err
	return err
}

// Close gives back what the sorter holds. It may be called at any time, also
// after Finish.
func (s *Sorter) Close() {
	if s.err == nil {
		s.fail(errFinished)
	}
}
