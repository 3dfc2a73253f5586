package stat

import (
	"math/bits"
	"slices"
)

// exactValues is how many values a distribution keeps as they are: 512 KiB.
const exactValues = 1 << 16

// mantissa is the number of bits kept below the leading one once values are in
// buckets: 64 buckets per power of two, so that a bucket's middle is off by
// less than 1/128 of any value in it.
const mantissa = 6

// Distribution answers for the quantiles of a stream of values in memory that
// does not grow with it: exactly up to exactValues, then with an error of at
// most 0.8 % of the value. The zero value is empty.
type Distribution struct {
	n      uint64
	values []int64
	// buckets, once there are any, hold all values: those at and above 0 at
	// their index, those below at -1 - index.
	buckets map[int]uint64
}

// Add takes a value.
func (d *Distribution) Add(v int64) {
	d.n++
	if d.buckets == nil && len(d.values) < exactValues {
		d.values = append(d.values, v)
		return
	}
	d.fill()
	d.buckets[bucket(v)]++
}

// fill puts what is exact into buckets.
func (d *Distribution) fill() {
	if d.buckets != nil {
		return
	}
	d.buckets = make(map[int]uint64)
	for _, v := range d.values {
		d.buckets[bucket(v)]++
	}
	d.values = nil
}

// Merge takes all values of e, which must not be used any more.
func (d *Distribution) Merge(e *Distribution) {
	if d.buckets == nil && e.buckets == nil && len(d.values)+len(e.values) <= exactValues {
		d.n += e.n
		d.values = append(d.values, e.values...)
		return
	}
	d.fill()
	e.fill()
	d.n += e.n
	for k, n := range e.buckets {
		d.buckets[k] += n
	}
}

// N is how many values there are.
func (d *Distribution) N() uint64 { return d.n }

// Exact reports whether quantiles have no error.
func (d *Distribution) Exact() bool { return d.buckets == nil }

// Quantile is the value with q of the others below it, 0 <= q <= 1; between
// two exact values it is interpolated. There must be a value.
func (d *Distribution) Quantile(q float64) int64 {
	at := q * float64(d.n-1)
	rank := uint64(at)
	if d.Exact() {
		slices.Sort(d.values)
		low, high := d.values[rank], d.values[min(rank+1, d.n-1)]
		return low + int64((at-float64(rank))*float64(high-low))
	}
	keys := make([]int, 0, len(d.buckets))
	for k := range d.buckets {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		if n := d.buckets[k]; rank >= n {
			rank -= n
			continue
		}
		return middle(k)
	}
	panic("buckets hold fewer values than were added")
}

// bucket is the index of a value: its power of two and the mantissa bits below
// the leading one. It grows with the value.
func bucket(v int64) int {
	if v < 0 {
		return -1 - bucket(-(v + 1))
	}
	shift := max(bits.Len64(uint64(v))-mantissa-1, 0)
	return shift<<mantissa + int(v>>shift)
}

// middle is the value in the middle of a bucket.
func middle(b int) int64 {
	if b < 0 {
		return -middle(-1-b) - 1
	}
	shift := max(b>>mantissa-1, 0)
	low := int64(b-shift<<mantissa) << shift
	return low + (int64(1)<<shift-1)/2
}
