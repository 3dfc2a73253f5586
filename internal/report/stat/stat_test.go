package stat

import (
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"
)

// The examples that Newcombe works through (Statistics in Medicine 17, 1998,
// table I, method 3), to the digits printed there.
func TestWilson(t *testing.T) {
	for _, c := range []struct {
		k, n      uint64
		low, high float64
	}{
		{81, 263, 0.2553, 0.3662},
		{15, 148, 0.0624, 0.1605},
		{0, 20, 0, 0.1611},
		{1, 29, 0.0061, 0.1718},
		{20, 20, 1 - 0.1611, 1},
		{0, 0, 0, 1},
	} {
		low, high := Wilson(c.k, c.n)
		if math.Abs(low-c.low) > 5e-5 || math.Abs(high-c.high) > 5e-5 {
			t.Errorf("%d of %d: %.4f to %.4f, want %.4f to %.4f", c.k, c.n, low, high, c.low, c.high)
		}
	}
}

// The interval holds the share, mirrors when what is counted is turned round,
// and shrinks with more of the same.
func TestWilsonProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Uint64Range(1, 1e12).Draw(t, "n")
		k := rapid.Uint64Range(0, n).Draw(t, "k")
		low, high := Wilson(k, n)
		share := float64(k) / float64(n)
		if low < 0 || high > 1 || share < low-1e-12 || share > high+1e-12 {
			t.Fatalf("%d of %d: %v to %v", k, n, low, high)
		}
		l, h := Wilson(n-k, n)
		if math.Abs(1-h-low) > 1e-9 || math.Abs(1-l-high) > 1e-9 {
			t.Fatalf("%d of %d: %v to %v, mirrored %v to %v", k, n, low, high, l, h)
		}
		if l, h := Wilson(10*k, 10*n); h-l > high-low {
			t.Fatalf("%d of %d is wider ten times", k, n)
		}
	})
}

// Sums of binomial coefficients, by the definition.
func exactSign(a, b int64) float64 {
	n, sum := a+b, new(big.Int)
	for i := range min(a, b) + 1 {
		sum.Add(sum, new(big.Int).Binomial(n, i))
	}
	p, _ := new(big.Rat).SetFrac(sum.Lsh(sum, 1), new(big.Int).Lsh(big.NewInt(1), uint(n))).Float64()
	return min(1, p)
}

func TestSign(t *testing.T) {
	for _, c := range []struct {
		a, b uint64
		p    float64
	}{
		{0, 0, 1}, {5, 5, 1}, {0, 1, 1}, {0, 5, 0.0625}, {0, 6, 0.03125},
		{1, 9, 22. / 1024}, // of the tables of the sign test
		{9, 1, 22. / 1024},
		{86, 150, 3.7e-5}, // Agresti, Categorical Data Analysis, section 10.1: approval of a prime minister
	} {
		if p := Sign(c.a, c.b); math.Abs(p-c.p) > 0.02*c.p {
			t.Errorf("%d against %d: %v, want %v", c.a, c.b, p, c.p)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.Int64Range(0, 900).Draw(t, "a"), rapid.Int64Range(0, 900).Draw(t, "b")
		got, want := Sign(uint64(a), uint64(b)), exactSign(a, b)
		if math.Abs(got-want) > 1e-9*want+1e-290 {
			t.Fatalf("%d against %d: %v, want %v", a, b, got, want)
		}
	})
	if p := Sign(5_000_000, 5_010_000); p < 0.0015 || p > 0.0017 {
		t.Errorf("ten million: %v", p) // 10,000 / sqrt(10,010,000) = 3.161 standard deviations, 0.00157
	}
}

func TestHolm(t *testing.T) {
	got := Holm([]float64{0.01, 0.04, 0.03, 0.005})
	for i, want := range []float64{0.03, 0.06, 0.06, 0.02} {
		if math.Abs(got[i]-want) > 1e-12 {
			t.Errorf("%v", got)
		}
	}
	if len(Holm(nil)) != 0 {
		t.Error("of none")
	}
}
