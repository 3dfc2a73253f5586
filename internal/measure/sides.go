package measure

import (
	"net/netip"
	"slices"

	"tfofleet/internal/tfo"
)

// Sides is what the two ends of one measurement recorded: a probe that made
// the attempts, and a listener of ours that it made them to.
type Sides struct {
	Plan  Plan
	Nonce Nonce
	// Attempts are the client's, in order.
	Attempts []tfo.Evidence
	// Arrivals are all that may belong to the measurement: whatever reached the
	// listener's port while it ran. Those of other measurements do no harm.
	Arrivals []*tfo.Arrival
	// Alarms are those of the listener in that time.
	Alarms []tfo.Alarm
	// Payload is what an attempt offered; nil where that is not known.
	Payload func(attempt int) []byte
	// ClientLost and ListenerLost: one end vanished before it had reported.
	ClientLost, ListenerLost bool
	Refused                  bool // nothing was sent: the client's policy forbade it, or it knew no address
}

// Bond is what joined an attempt with an arrival, the surest first. The values
// are append-only.
type Bond uint8

const (
	BondNone  Bond = 0 // nothing arrived that is known to be the attempt's
	BondNonce Bond = 1 // the tag in the payload
	BondISN   Bond = 2 // the sequence number of the SYN, as the client's wire shows it
	BondPort  Bond = 3 // the client's address and port
	// BondOrder: it came between the arrivals of the attempts before and after,
	// from an address that the measurement is known to come from, and nothing
	// else did.
	BondOrder Bond = 4
)

var bondNames = [...]string{"none", "nonce", "isn", "port", "order"}

func (b Bond) String() string {
	if int(b) < len(bondNames) {
		return bondNames[b]
	}
	return "unknown"
}

// Pair is an attempt and what arrived of it.
type Pair struct {
	Attempt *tfo.Evidence
	Arrival *tfo.Arrival // nil when nothing is known to have arrived
	Bond    Bond
	// Repeats counts further arrivals with the attempt's tag: somebody between
	// the two has said it again.
	Repeats int
	Sight   Sight // see Joint; zero before
}

// Match joins the attempts of a measurement with what arrived: a pair for each
// attempt, in order. Stray counts the arrivals that are of the measurement and
// of no attempt that is known. It is pure, and asks neither clock to agree with
// the other.
func Match(s *Sides) (pairs []Pair, stray int) {
	m := matcher{pairs: make([]Pair, len(s.Attempts)), arrivals: slices.Clone(s.Arrivals)}
	for i := range s.Attempts {
		m.pairs[i].Attempt = &s.Attempts[i]
	}
	slices.SortStableFunc(m.arrivals, func(a, b *tfo.Arrival) int { return a.Accepted.Compare(b.Accepted) })
	stray = m.byNonce(s.Nonce)
	m.byISN()
	m.byPort()
	m.byOrder()
	return m.pairs, stray
}

// SortArrivals sorts what reached a listener by the measurement whose nonce it
// carries. The rest carries none, and may belong to any measurement that was
// under way when it was accepted: each of these takes it among its Arrivals.
func SortArrivals(arrivals []*tfo.Arrival) (of map[Nonce][]*tfo.Arrival, rest []*tfo.Arrival) {
	of = map[Nonce][]*tfo.Arrival{}
	for _, a := range arrivals {
		if tag, ok := TagOf(a.Request); ok {
			of[tag.Nonce] = append(of[tag.Nonce], a)
		} else {
			rest = append(rest, a)
		}
	}
	return of, rest
}

// matcher holds the arrivals that are nobody's yet, in the order they came.
type matcher struct {
	pairs    []Pair
	arrivals []*tfo.Arrival
}

func (m *matcher) join(p *Pair, a *tfo.Arrival, b Bond) {
	p.Arrival, p.Bond = a, b
	m.arrivals = slices.DeleteFunc(m.arrivals, func(x *tfo.Arrival) bool { return x == a })
}

// open yields the attempts that lack an arrival and may have one. A raw SYN
// never becomes a connection.
func (m *matcher) open(yield func(*Pair) bool) {
	for i := range m.pairs {
		p := &m.pairs[i]
		if p.Arrival == nil && p.Attempt.End != tfo.EndLocal && !isRaw(p.Attempt.Kind) && !yield(p) {
			return
		}
	}
}

// byNonce takes out every arrival that has a tag, also those of others.
func (m *matcher) byNonce(nonce Nonce) (stray int) {
	var left []*tfo.Arrival
	for _, a := range m.arrivals {
		tag, ok := TagOf(a.Request)
		switch {
		case !ok:
			left = append(left, a)
		case tag.Nonce != nonce:
		case tag.Attempt >= len(m.pairs):
			stray++
		case m.pairs[tag.Attempt].Arrival == nil:
			p := &m.pairs[tag.Attempt]
			p.Arrival, p.Bond = a, BondNonce
		default:
			m.pairs[tag.Attempt].Repeats++
		}
	}
	m.arrivals = left
	return stray
}

func (m *matcher) byISN() {
	for p := range m.open {
		w := p.Attempt.Wire
		if w == nil || w.Syns == 0 {
			continue
		}
		m.joinOnly(p, BondISN, func(a *tfo.Arrival) bool { return a.SYN.Raw != nil && a.SYN.Seq == w.Syn.Seq })
	}
}

// byPort joins where no address was translated. A port that two of the
// attempts had tells nothing.
func (m *matcher) byPort() {
	used := map[netip.AddrPort]int{}
	for i := range m.pairs {
		used[endpoint(m.pairs[i].Attempt.Local)]++
	}
	for p := range m.open {
		if from := endpoint(p.Attempt.Local); used[from] == 1 {
			m.joinOnly(p, BondPort, func(a *tfo.Arrival) bool { return endpoint(a.Peer) == from })
		}
	}
}

// joinOnly joins the one arrival that is the attempt's; of several none.
func (m *matcher) joinOnly(p *Pair, b Bond, is func(*tfo.Arrival) bool) {
	if a := only(m.arrivals, is); a != nil {
		m.join(p, a, b)
	}
}

func only(as []*tfo.Arrival, is func(*tfo.Arrival) bool) (found *tfo.Arrival) {
	for _, a := range as {
		if !is(a) {
			continue
		}
		if found != nil {
			return nil
		}
		found = a
	}
	return found
}

// byOrder joins by the listener's clock alone: attempts are made one after the
// other, so what arrived between two arrivals is of an attempt between their
// attempts.
func (m *matcher) byOrder() {
	ours := map[netip.Addr]bool{}
	for i := range m.pairs {
		if a := m.pairs[i].Arrival; a != nil {
			ours[a.Peer.Addr().Unmap()] = true
		}
	}
	for from := 0; from < len(m.pairs); {
		if m.pairs[from].Arrival != nil {
			from++
			continue
		}
		to := from // one past the last of a run without arrivals
		var lone *Pair
		n := 0
		for ; to < len(m.pairs) && m.pairs[to].Arrival == nil; to++ {
			if p := &m.pairs[to]; p.Attempt.End != tfo.EndLocal && !isRaw(p.Attempt.Kind) {
				lone = p
				n++
			}
		}
		if n == 1 && from > 0 && to < len(m.pairs) {
			after, before := m.pairs[from-1].Arrival.Accepted, m.pairs[to].Arrival.Accepted
			m.joinOnly(lone, BondOrder, func(a *tfo.Arrival) bool {
				return ours[a.Peer.Addr().Unmap()] && a.Accepted.After(after) && a.Accepted.Before(before)
			})
		}
		from = to
	}
}

// endpoint is an address as both ends write it.
func endpoint(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
