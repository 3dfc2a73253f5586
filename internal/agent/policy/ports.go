package policy

import (
	"fmt"
	"strconv"
	"strings"
)

// PortRange holds both ends.
type PortRange struct{ First, Last uint16 }

func (r PortRange) String() string {
	if r.First == r.Last {
		return strconv.Itoa(int(r.First))
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

// portSet has a bit for every port: a check is one load.
type portSet [1024]uint64

func newPortSet(ranges ...PortRange) *portSet {
	s := new(portSet)
	for _, r := range ranges {
		for p := int(r.First); p <= int(r.Last); p++ {
			s[p/64] |= 1 << (p % 64)
		}
	}
	s[0] &^= 1 // port 0 is nowhere
	return s
}

func (s *portSet) has(p uint16) bool { return s[p/64]&(1<<(p%64)) != 0 }

// and returns what is in both.
func (s *portSet) and(t *portSet) *portSet {
	var r portSet
	for i := range s {
		r[i] = s[i] & t[i]
	}
	return &r
}

// without returns what is in s only.
func (s *portSet) without(t *portSet) *portSet {
	var r portSet
	for i := range s {
		r[i] = s[i] &^ t[i]
	}
	return &r
}

func (s *portSet) ranges() (rs []PortRange) {
	for p := 0; p < 1<<16; p++ {
		if !s.has(uint16(p)) {
			continue
		}
		first := p
		for p+1 < 1<<16 && s.has(uint16(p+1)) {
			p++
		}
		rs = append(rs, PortRange{uint16(first), uint16(p)})
	}
	return rs
}

func (s *portSet) String() string { return join(s.ranges()) }

// parsePorts reads "80" or "8000-8100".
func parsePorts(s string) (PortRange, error) {
	first, last, isRange := strings.Cut(s, "-")
	if !isRange {
		last = first
	}
	var r PortRange
	for _, x := range []struct {
		text string
		into *uint16
	}{{first, &r.First}, {last, &r.Last}} {
		n, err := strconv.ParseUint(x.text, 10, 16)
		if err != nil || n == 0 {
			return r, fmt.Errorf("%q is neither a port from 1 to 65535 nor a range such as 8000-8100", shown(s))
		}
		*x.into = uint16(n)
	}
	if r.First > r.Last {
		return r, fmt.Errorf("the range %s is upside down", s)
	}
	return r, nil
}

func join[T fmt.Stringer](list []T) string {
	texts := make([]string, len(list))
	for i, x := range list {
		texts[i] = x.String()
	}
	return strings.Join(texts, ", ")
}

// shown makes a piece of a file fit for a message.
func shown(s string) string {
	if len(s) > 60 {
		s = strings.ToValidUTF8(s[:60], "") + "..."
	}
	return s
}
