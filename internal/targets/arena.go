package targets

import "cmp"

// arena holds records in blocks: one slice that grows by copying would need
// twice its memory while it does.
type arena struct {
	size   int // of a block
	blocks [][]byte
	last   int // block that is being filled
}

// position is where a record is; positions grow in the order of adding.
type position struct{ block, offset uint32 }

func (p position) compare(q position) int {
	return cmp.Or(cmp.Compare(p.block, q.block), cmp.Compare(p.offset, q.offset))
}

func newArena(limit int64) arena {
	return arena{size: int(min(1<<20, max(maxRecord, limit/8)))}
}

// used is the memory up to and with the block that is being filled.
func (a *arena) used() int64 {
	if len(a.blocks) == 0 {
		return 0
	}
	return int64(a.last+1) * int64(a.size)
}

func (a *arena) add(r record) position {
	if len(a.blocks) == 0 {
		a.blocks = append(a.blocks, make([]byte, 0, a.size))
	}
	if len(a.blocks[a.last])+len(r) > a.size {
		if a.last++; a.last == len(a.blocks) {
			a.blocks = append(a.blocks, make([]byte, 0, a.size))
		}
	}
	b := a.blocks[a.last]
	a.blocks[a.last] = append(b, r...)
	return position{block: uint32(a.last), offset: uint32(len(b))}
}

func (a *arena) get(p position) record {
	return record(a.blocks[p.block][p.offset:]).cut()
}

// reset forgets the records and keeps the blocks.
func (a *arena) reset() {
	for i := range a.blocks {
		a.blocks[i] = a.blocks[i][:0]
	}
	a.last = 0
}
