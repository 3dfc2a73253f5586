package stat

import (
	"cmp"
	"math"
	"slices"
)

// Sign is the two-sided p-value that a and b differ by chance alone, where each
// of the a + b went one way or the other with probability 1/2. It is exact. Of
// the pairs of a paired comparison that changed one way and the other it is
// McNemar's test in its exact form (Q. McNemar, Psychometrika 12, 1947).
func Sign(a, b uint64) float64 {
	n, k := a+b, min(a, b)
	if n == 0 || a == b {
		return 1
	}
	// The sum of the terms from k down, each from the one above it; they fall
	// faster than a geometric series once they fall.
	lgN, _ := math.Lgamma(float64(n) + 1)
	lgK, _ := math.Lgamma(float64(k) + 1)
	lgRest, _ := math.Lgamma(float64(n-k) + 1)
	term := math.Exp(lgN - lgK - lgRest - float64(n)*math.Ln2)
	sum := term
	for i := k; i > 0 && term > sum*1e-17; i-- {
		term *= float64(i) / float64(n-i+1)
		sum += term
	}
	return min(1, 2*sum)
}

// Holm adjusts p-values for how many they are: what stays below alpha is false
// for one family in 1/alpha at most (S. Holm, Scand. J. Stat. 6, 1979). The
// result is in the order given.
func Holm(ps []float64) []float64 {
	order := make([]int, len(ps))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(ps[i], ps[j]) })
	out, worst := make([]float64, len(ps)), 0.0
	for rank, i := range order {
		worst = max(worst, min(1, ps[i]*float64(len(ps)-rank)))
		out[i] = worst
	}
	return out
}
