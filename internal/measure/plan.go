package measure

import "fmt"

// Plan names which attempts are made against a target. The values are
// append-only.
type Plan uint8

const (
	Quick    Plan = 1 // Standard without the closing control where a target offers nothing
	Standard Plan = 2
	Thorough Plan = 3
	// Cookieless puts data into the SYN without any cookie or option, as
	// TCP_FASTOPEN_NO_COOKIE does: for one connection looked at by hand, not
	// for surveys.
	Cookieless Plan = 4
)

func (p Plan) String() string {
	switch p {
	case Quick:
		return "quick"
	case Standard:
		return "standard"
	case Thorough:
		return "thorough"
	case Cookieless:
		return "cookieless"
	}
	return "unknown"
}

// ParsePlan is the inverse of String.
func ParsePlan(s string) (Plan, error) {
	for _, p := range []Plan{Quick, Standard, Thorough} {
		if p.String() == s {
			return p, nil
		}
	}
	return 0, fmt.Errorf("unknown plan %q: want quick, standard or thorough", s)
}
