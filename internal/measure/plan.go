package measure

import "fmt"

// Plan names which attempts are made against a target. The values are
// append-only.
type Plan uint8

const (
	Quick    Plan = 1 // only what is needed to say unsupported, else Standard
	Standard Plan = 2
	Thorough Plan = 3
)

func (p Plan) String() string {
	switch p {
	case Quick:
		return "quick"
	case Standard:
		return "standard"
	case Thorough:
		return "thorough"
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
