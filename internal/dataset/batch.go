package dataset

import (
	"math"
	"net/netip"
	"unsafe"

	"tfofleet/internal/measure"
)

// Columns is a set of columns of the measurements table.
type Columns uint32

const (
	ColItem Columns = 1 << iota
	ColAddr         // the column target
	ColPort
	ColHostname
	ColFamily
	ColOutcome
	ColVerdict
	ColConditions
	ColStarted
	ColDurationUS
	ColAttempts
	ColPlainConnectUS
	ColPlainFirstByteUS
	ColTFOFirstByteUS
	ColSavedUS

	AllColumns = 1<<iota - 1
)

// Null stands for null in the columns of a [Batch] that are numbers.
const Null = math.MinInt64

// Batch is one file of the measurements table by columns: what one probe
// measured of one chunk. Each column that was asked for has Len values, in the
// order of the rows; the others have none. A Batch and all that it holds are
// valid until the visit returns; what is kept has to be copied (a string of
// Hostname with strings.Clone).
type Batch struct {
	// ChunkKey is the same for all rows.
	ChunkKey
	// Dir is the dataset it is from: its place in the arguments of [NewScan].
	Dir int
	// Last is set on the last batch of a run. Batches with targets in common,
	// which are those of all probes for a part of the list, are one run and go
	// one after the other to the same visitor: what is known of a target at
	// the end of a run is all there is.
	Last bool
	Len  int

	Item       []uint64
	Addr       []netip.Addr // zero without
	Port       []uint16
	Hostname   Strings
	Family     []uint8 // 4, 6, or 0 without an address
	Outcome    []measure.Outcome
	Verdict    []measure.Verdict // 0 without
	Conditions Labels
	Started    []int64 // µs since the epoch, or Null
	DurationUS []int64
	Attempts   []int32 // how many were made
	// In µs, or Null.
	PlainConnectUS, PlainFirstByteUS, TFOFirstByteUS, SavedUS []int64
}

// Strings is a column of strings; null is "".
type Strings struct {
	data []byte
	ends []uint32
}

// At is the string of row i. It shares the memory of the column.
func (s *Strings) At(i int) string {
	from := uint32(0)
	if i > 0 {
		from = s.ends[i-1]
	}
	return unsafe.String(unsafe.SliceData(s.data[from:]), s.ends[i]-from)
}

// Labels is a column of lists of conditions, each as a number from 0 on that
// stands for it throughout a scan, see [Scan.Label].
type Labels struct {
	ids  []uint32
	ends []uint32
}

// At is the conditions of row i.
func (l *Labels) At(i int) []uint32 {
	from := uint32(0)
	if i > 0 {
		from = l.ends[i-1]
	}
	return l.ids[from:l.ends[i]]
}

// drop removes the rows of items.
func (b *Batch) drop(items map[uint64]bool) {
	drop := make([]bool, b.Len)
	n := 0
	for i, item := range b.Item {
		if drop[i] = items[item]; !drop[i] {
			n++
		}
	}
	b.Len = n
	b.Item, b.Addr, b.Port, b.Family = without(b.Item, drop), without(b.Addr, drop), without(b.Port, drop), without(b.Family, drop)
	b.Outcome, b.Verdict, b.Attempts = without(b.Outcome, drop), without(b.Verdict, drop), without(b.Attempts, drop)
	b.Hostname.data, b.Hostname.ends = withoutLists(b.Hostname.data, b.Hostname.ends, drop)
	b.Conditions.ids, b.Conditions.ends = withoutLists(b.Conditions.ids, b.Conditions.ends, drop)
	for _, c := range b.numbers() {
		*c = without(*c, drop)
	}
}

// without is a column without some of its rows; one that was not asked for has
// none.
func without[T any](column []T, drop []bool) []T {
	kept := column[:0]
	for i, v := range column {
		if !drop[i] {
			kept = append(kept, v)
		}
	}
	return kept
}

// withoutLists is without for a column of lists.
func withoutLists[T any](data []T, ends []uint32, drop []bool) ([]T, []uint32) {
	kept, keptEnds, from := data[:0], ends[:0], uint32(0)
	for i, end := range ends {
		if !drop[i] {
			kept = append(kept, data[from:end]...)
			keptEnds = append(keptEnds, uint32(len(kept)))
		}
		from = end
	}
	return kept, keptEnds
}

func (b *Batch) numbers() []*[]int64 {
	return []*[]int64{&b.Started, &b.DurationUS, &b.PlainConnectUS, &b.PlainFirstByteUS, &b.TFOFirstByteUS, &b.SavedUS}
}

// reset empties the columns and keeps their memory.
func (b *Batch) reset() {
	b.Len = 0
	b.Item, b.Addr, b.Port, b.Family = b.Item[:0], b.Addr[:0], b.Port[:0], b.Family[:0]
	b.Outcome, b.Verdict, b.Attempts = b.Outcome[:0], b.Verdict[:0], b.Attempts[:0]
	b.Hostname = Strings{b.Hostname.data[:0], b.Hostname.ends[:0]}
	b.Conditions = Labels{b.Conditions.ids[:0], b.Conditions.ends[:0]}
	for _, c := range b.numbers() {
		*c = (*c)[:0]
	}
}
