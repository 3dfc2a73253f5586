package stat

import "math"

// z is the quantile of the standard normal distribution that leaves 2.5 % above.
const z = 1.959963984540054

// Wilson is the 95 % interval for a share of which k of n were seen, from 0 to
// 1: Wilson's score interval without continuity correction (E. B. Wilson, J. Am.
// Stat. Assoc. 22, 1927). Unlike the textbook's p ± 1.96 s it holds for few
// observations and for shares near 0 and 1, where faults are. Of nothing it is
// everything, 0 to 1.
func Wilson(k, n uint64) (low, high float64) {
	if n == 0 {
		return 0, 1
	}
	k = min(k, n)
	p, m := float64(k)/float64(n), float64(n)
	middle := p + z*z/(2*m)
	half := z * math.Sqrt(p*(1-p)/m+z*z/(4*m*m))
	low, high = (middle-half)/(1+z*z/m), (middle+half)/(1+z*z/m)
	// The ends are 0 and 1 where rounding leaves them beside it.
	if k == 0 {
		low = 0
	}
	if k == n {
		high = 1
	}
	return max(low, 0), min(high, 1)
}
