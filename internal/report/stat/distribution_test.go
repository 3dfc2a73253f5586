package stat

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func distributionOf(values []int64) *Distribution {
	var d Distribution
	for _, v := range values {
		d.Add(v)
	}
	return &d
}

// Every value is within 1/128 of the middle of its bucket, and buckets are in
// the order of their values.
func TestBuckets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v, w := rapid.Int64().Draw(t, "v"), rapid.Int64().Draw(t, "w")
		off := uint64(max(v, middle(bucket(v)))) - uint64(min(v, middle(bucket(v))))
		size := uint64(max(v, -v))
		if off > size/128+1 {
			t.Fatalf("%d is in the bucket of %d", v, middle(bucket(v)))
		}
		if v < w && bucket(v) > bucket(w) {
			t.Fatalf("%d is behind %d", v, w)
		}
	})
	for v := int64(-300); v < 300; v++ {
		if d := middle(bucket(v)) - v; d < -2 || d > 2 {
			t.Errorf("%d is in the bucket of %d", v, middle(bucket(v)))
		}
	}
}

// What is merged is as if it had been added, in few values and in many.
func TestMerge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, m := rapid.SampledFrom([]int{0, 1, 7, exactValues - 3, exactValues}).Draw(t, "n"), rapid.SampledFrom([]int{0, 2, 5, exactValues + 1}).Draw(t, "m")
		all := make([]int64, n+m)
		for i := range all {
			all[i] = int64(i) * 31 % 1009
		}
		whole, a, b := distributionOf(all), distributionOf(all[:n]), distributionOf(all[n:])
		a.Merge(b)
		if a.N() != whole.N() || a.Exact() != whole.Exact() {
			t.Fatalf("%d values, exact %v: want %d, %v", a.N(), a.Exact(), whole.N(), whole.Exact())
		}
		if n+m == 0 {
			return
		}
		for _, q := range []float64{0, 0.25, 0.5, 1} {
			if got, want := a.Quantile(q), whole.Quantile(q); got != want {
				t.Fatalf("quantile %v of %d + %d: %d, want %d", q, n, m, got, want)
			}
		}
	})
}

// Few values give exact quantiles, many give the same within the error, in
// memory that stays.
func TestQuantiles(t *testing.T) {
	if got := distributionOf([]int64{30, 10, 20}).Quantile(0.5); got != 20 {
		t.Errorf("median of three: %d", got)
	}
	if got := distributionOf([]int64{10, 20}).Quantile(0.5); got != 15 {
		t.Errorf("median of two: %d", got)
	}
	if got := distributionOf([]int64{-7}).Quantile(0.9); got != -7 {
		t.Errorf("of one: %d", got)
	}
	values := make([]int64, 4*exactValues)
	for i := range values {
		values[i] = int64(i)*7 - 300_000 // -300 ms to 1.5 s
	}
	want := slices.Clone(values)
	d := distributionOf(values)
	if d.Exact() || d.values != nil || len(d.buckets) > 2*64*64 {
		t.Fatalf("%d values in %d buckets", len(values), len(d.buckets))
	}
	for _, q := range []float64{0, 0.01, 0.1, 0.5, 0.9, 1} {
		got, exact := d.Quantile(q), want[int(q*float64(len(want)-1))]
		if diff := max(got, exact) - min(got, exact); diff > max(exact, -exact)/100+1 {
			t.Errorf("quantile %v: %d, want %d", q, got, exact)
		}
	}
}
