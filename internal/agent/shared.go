package agent

import (
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"tfofleet/internal/measure"
)

// sharedEntries is how many addresses a generation remembers; there are two.
// An entry takes about 40 bytes.
const sharedEntries = 1 << 19

// shared knows which addresses were measured, so that many names on one server
// are one measurement. What was seen is remembered for one to two generations:
// an address that comes again later, or after a restart, is measured again.
type shared struct {
	limit int

	mu         sync.Mutex
	flying     map[netip.AddrPort][]sharer
	young, old map[addrKey]outcomeID
	kinds      []known
	ids        map[string]outcomeID
}

// sharer waits for the measurement of an address.
type sharer struct {
	w *work
	t measure.Target
}

// addrKey is an address and a port without pointers, which a garbage collector
// would have to follow a million times.
type addrKey [18]byte

func keyOf(a netip.AddrPort) (k addrKey) {
	b := a.Addr().As16()
	copy(k[:], b[:])
	k[16], k[17] = byte(a.Port()>>8), byte(a.Port())
	return k
}

// outcomeID is an index into kinds: there are few different outcomes.
type outcomeID uint16

// known is what is remembered of a measurement.
type known struct {
	verdict    measure.Verdict
	conditions []measure.Condition
}

// turn is whose turn it is to measure an address.
type turn int

const (
	first turn = iota // the caller's
	waits             // somebody else's, who will end it for the caller
	seen              // nobody's
)

func newShared(limit int) *shared {
	return &shared{
		limit: limit, flying: make(map[netip.AddrPort][]sharer),
		young: make(map[addrKey]outcomeID), ids: make(map[string]outcomeID),
	}
}

// join asks for the measurement of an address.
func (s *shared) join(a netip.AddrPort, who sharer) (turn, known) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sharers, ok := s.flying[a]; ok {
		s.flying[a] = append(sharers, who)
		return waits, known{}
	}
	k := keyOf(a)
	id, ok := s.young[k]
	if !ok {
		id, ok = s.old[k]
	}
	if ok {
		return seen, s.kinds[id]
	}
	s.flying[a] = nil
	return first, known{}
}

// settle remembers a measurement, and returns who waited for it.
func (s *shared) settle(a netip.AddrPort, m measure.Measurement) []sharer {
	s.mu.Lock()
	defer s.mu.Unlock()
	sharers := s.flying[a]
	delete(s.flying, a)
	if m.Outcome != measure.OutcomeMeasured {
		return sharers
	}
	if len(s.young) >= s.limit {
		s.old, s.young = s.young, make(map[addrKey]outcomeID)
	}
	if id, ok := s.kind(m); ok {
		s.young[keyOf(a)] = id
	}
	return sharers
}

func (s *shared) kind(m measure.Measurement) (outcomeID, bool) {
	var b strings.Builder
	b.WriteByte(byte(m.Verdict))
	for _, c := range m.Conditions {
		b.WriteString(string(c))
		b.WriteByte(0)
	}
	id, ok := s.ids[b.String()]
	if !ok {
		if len(s.kinds) > 1<<15 {
			return 0, false // not seen in practice; then it is measured again
		}
		id = outcomeID(len(s.kinds))
		s.ids[b.String()] = id
		s.kinds = append(s.kinds, known{m.Verdict, slices.Clone(m.Conditions)})
	}
	return id, true
}

// copyFor is the measurement of a target whose address is known.
func (k known) copyFor(t measure.Target) measure.Measurement {
	c := append(slices.Clone(k.conditions), measure.CondSharedAddress)
	slices.Sort(c)
	return measure.Measurement{Target: t, Outcome: measure.OutcomeMeasured, Verdict: k.verdict, Conditions: c, Started: time.Now().Round(0)}
}

// sharedWith is the measurement of a target that waited for m. If m did not come
// to its end, the target was not started.
func sharedWith(m measure.Measurement, t measure.Target) measure.Measurement {
	if m.Outcome != measure.OutcomeMeasured {
		t.Addr = netip.Addr{}
		return measure.Measurement{Target: t}
	}
	return known{m.Verdict, m.Conditions}.copyFor(t)
}
