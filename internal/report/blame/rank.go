package blame

import "tfofleet/internal/measure"

// breaks is the rank of what breaks connections.
const breaks = 1

// furthest is the rank of what works.
const furthest = 5

// rank is how far Fast Open got, more being further; 0 says nothing of it.
// What breaks connections is below what never asks for Fast Open.
func rank(v measure.Verdict) int {
	switch v {
	case measure.Supported:
		return furthest
	case measure.DataTruncated:
		return 4
	case measure.CookieOnly, measure.CookieUnstable:
		return 3
	case measure.Unsupported:
		return 2
	case measure.OptionDropped, measure.DataDropped, measure.Reset, measure.FlowBlackholed, measure.BlackholedAfterHandshake, measure.ClientBlocked:
		return breaks
	}
	return 0
}
