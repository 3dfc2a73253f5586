package identity

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Labels describe a probe, such as region=fra. Its token gives them.
type Labels map[string]string

// maxLabels bounds what every list of probes has to carry.
const maxLabels = 32

// ParseLabels reads key=value pairs. Keys and values are like names, with dots
// and underscores too; case counts in values only.
func ParseLabels(pairs ...string) (Labels, error) {
	if len(pairs) > maxLabels {
		return nil, fmt.Errorf("%d labels, more than %d", len(pairs), maxLabels)
	}
	l := Labels{}
	for _, p := range pairs {
		k, v, ok := strings.Cut(p, "=")
		if !ok || !validLabel(k) || !validLabel(v) || k != strings.ToLower(k) {
			return nil, fmt.Errorf("label %.80q is not key=value of letters, digits and . _ -", p)
		}
		if _, twice := l[k]; twice {
			return nil, fmt.Errorf("label %s is given twice", k)
		}
		l[k] = v
	}
	return l, nil
}

func validLabel(s string) bool {
	if len(s) == 0 || len(s) > 63 {
		return false
	}
	for _, c := range []byte(s) {
		switch {
		case '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}

// String is the pairs in order, separated by commas.
func (l Labels) String() string {
	var b strings.Builder
	for i, k := range slices.Sorted(maps.Keys(l)) {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(k + "=" + l[k])
	}
	return b.String()
}
