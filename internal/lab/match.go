package lab

import "fmt"

// Match says whether a rule applies to a frame.
type Match struct {
	text string
	is   func(*passage) bool
}

func (m Match) String() string { return m.text }

// And matches what both match.
func (m Match) And(n Match) Match {
	return Match{m.text + " and " + n.text, func(p *passage) bool { return m.is(p) && n.is(p) }}
}

// Or matches what either matches.
func (m Match) Or(n Match) Match {
	return Match{"(" + m.text + " or " + n.text + ")", func(p *passage) bool { return m.is(p) || n.is(p) }}
}

// Not matches what m does not.
func Not(m Match) Match {
	return Match{"not " + m.text, func(p *passage) bool { return !m.is(p) }}
}

var (
	// SYN matches the SYN of a client, SYNACK the answer to it.
	SYN    = Match{"SYN", func(p *passage) bool { return p.isSYN() }}
	SYNACK = Match{"SYN-ACK", func(p *passage) bool { return p.isSYNACK() }}

	// Data matches a frame with payload.
	Data = Match{"data", func(p *passage) bool { return len(p.payload()) > 0 }}

	// ClientMarked matches frames of a client that [MarkClient] has marked at
	// this server address, while the mark lasts.
	ClientMarked = Match{"client marked", func(p *passage) bool { return p.box.now < p.host.marked[p.flow.client] }}
)

// DataOver matches a frame with more than n bytes of payload.
func DataOver(n int) Match {
	return Match{fmt.Sprintf("data over %d", n), func(p *passage) bool { return len(p.payload()) > n }}
}

// Option matches a frame with a TFO option of one of the kinds, with or
// without a cookie.
func Option(kinds Kinds) Match {
	return Match{"option " + kinds.String(), func(p *passage) bool {
		opt, _ := findTFO(p.options(), kinds)
		return opt != nil
	}}
}

// Cookie matches a frame with a TFO option of one of the kinds that carries a
// cookie; an option without one is a cookie request.
func Cookie(kinds Kinds) Match {
	return Match{"cookie " + kinds.String(), func(p *passage) bool {
		opt, kind := findTFO(p.options(), kinds)
		return opt != nil && len(cookieOf(opt, kind)) > 0
	}}
}

// Chance matches at random with probability p, from the lab's seed.
func Chance(p float64) Match {
	return Match{fmt.Sprintf("chance %g", p), func(q *passage) bool { return q.box.rand.Float64() < p }}
}

// Alternate matches the flows 1, 3, 5, ... to a server address of those whose
// first SYN reaches this rule, each as a whole. It keeps that in the mark.
func Alternate(m Mark) Match {
	return Match{"every other flow", func(p *passage) bool {
		if p.opening && p.flow.marks&m == 0 {
			p.host.turn[m]++
			if p.host.turn[m]%2 == 1 {
				p.flow.marks |= m
			}
		}
		return p.flow.marks&m != 0
	}}
}

// Mark is a bit that a rule sets on a flow for others to match. What it means
// is the path's own business.
type Mark uint8

const (
	Mark1 Mark = 1 << iota
	Mark2
	Mark3
)

// Marked matches frames of a flow that carries the mark.
func Marked(m Mark) Match {
	return Match{fmt.Sprintf("flow marked %d", m), func(p *passage) bool { return p.flow.marks&m != 0 }}
}
