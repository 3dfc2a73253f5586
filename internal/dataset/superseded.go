package dataset

import "tfofleet/internal/dataset/place"

// Superseded knows the rows that later ones stand for. A file is created once,
// so what comes for a chunk that has been written goes into a late file. It is
// of targets that nobody had seen through until then: where the chunk has a row
// for one, it says interrupted, and does not count any more.
//
// [Read], [Rows], [Export] and [Scan] leave such rows out. [ReadChunk] and
// [ChunkOutcomes] give what is in a file.
type Superseded struct {
	items map[part]map[uint64]bool
}

// part is a chunk, whoever measured it. It has a target once.
type part struct {
	survey string
	chunk  uint32
}

// FindSuperseded reads the late files among keys, which are all of a dataset.
func FindSuperseded(dir string, keys []ChunkKey) (*Superseded, error) {
	p, err := place.At(dir)
	if err != nil {
		return nil, err
	}
	return superseded(p, keys)
}

func superseded(p place.Place, keys []ChunkKey) (*Superseded, error) {
	var s Superseded
	for _, k := range keys {
		if k.Late == 0 {
			continue
		}
		if s.items == nil {
			s.items = make(map[part]map[uint64]bool)
		}
		of := part{k.Survey, k.Chunk}
		if s.items[of] == nil {
			s.items[of] = make(map[uint64]bool)
		}
		for o, err := range outcomesIn(p, k) {
			if err != nil {
				return nil, err
			}
			s.items[of][o.Item] = true
		}
	}
	return &s, nil
}

// Row reports whether the row of a target in a file does not count.
func (s *Superseded) Row(k ChunkKey, item uint64) bool { return s.of(k)[item] }

// of is the items of a file whose rows do not count.
func (s *Superseded) of(k ChunkKey) map[uint64]bool {
	if k.Late > 0 {
		return nil
	}
	return s.items[part{k.Survey, k.Chunk}]
}
