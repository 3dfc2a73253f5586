package lease

import (
	"slices"
	"time"
)

// Phase is where the lease of a chunk stands. The values are stored.
type Phase uint8

const (
	Pending  Phase = 1 // waits for a probe
	Offered  Phase = 2 // sent to a probe that has not accepted it
	Held     Phase = 3 // accepted; the probe measures
	Suspect  Phase = 4 // the probe was not heard of for a TTL
	Done     Phase = 5 // every target has its outcome
	Poisoned Phase = 6 // given up: offered MaxOffers times and never accepted, or GiveUp
)

var phaseNames = [...]string{"unknown", "pending", "offered", "held", "suspect", "done", "poisoned"}

func (p Phase) String() string {
	if int(p) < len(phaseNames) {
		return phaseNames[p]
	}
	return phaseNames[0]
}

// Over reports whether nothing can change any more.
func (p Phase) Over() bool { return p == Done || p == Poisoned }

// live reports whether a probe may be measuring under the current epoch.
func (p Phase) live() bool { return p == Offered || p == Held || p == Suspect }

// State is a chunk's lease and what is known of each of its targets. A State
// is a value: Step never writes to what its argument points to.
type State struct {
	Phase Phase
	Epoch uint64 // of the newest offer; 0 before the first
	// Probe has the newest offer while the phase is Offered, Held or
	// Suspect; else it is empty.
	Probe    string
	Instance string    // the process that the newest offer went to
	Deadline time.Time // of the offer, the TTL or the grace; zero without one
	// TTL is that of the newest lease, which is its grace as well; 0 for those of
	// the rules.
	TTL     time.Duration
	Offers  int // in a row that were not accepted
	Attempt int // leases of this chunk that ended before it was done
	// Taken: the newest lease's targets before this index may have been
	// started, as its probe last said. It starts none that it has not said
	// before, see Renew.
	Taken int
	// Lapsed: the chunk is Pending because nothing was heard of its probe.
	// Until it is offered again, the probe may come back with it.
	Lapsed    bool
	Cancelled bool
	Items     []Item
	// Late has, by index, the results that came under another epoch than the
	// newest: while the newest lease holds the target they wait here, for it
	// may still bring a newer one. And it has the targets that are Interrupted
	// and may have no record: their probe did not come back, or dropped it.
	Late map[uint32]Late
	// Holders has the probe of every epoch, from epoch 1. Results are taken
	// from them and nobody else.
	Holders []string
}

// Late is a result and the epoch it belongs to.
type Late struct {
	Epoch  uint64
	Result Item
}

// New is the state of a chunk of n targets.
func New(n int) State { return State{Phase: Pending, Items: make([]Item, n)} }

// holder is the probe that an epoch belongs to, "" when there is no such epoch.
func (s *State) holder(epoch uint64) string {
	if epoch == 0 || epoch > uint64(len(s.Holders)) {
		return ""
	}
	return s.Holders[epoch-1]
}

func (s *State) remember(i uint32, l Late) {
	if s.Late == nil {
		s.Late = make(map[uint32]Late)
	}
	s.Late[i] = l
}

// interrupt ends a target of the newest lease of which there may be no record.
func (s *State) interrupt(i uint32) {
	s.Items[i] = Result(Interrupted, 0)
	s.remember(i, Late{s.Epoch, s.Items[i]})
}

// current reports whether (probe, epoch) is the newest lease, alive or lapsed.
func (s *State) current(probe string, epoch uint64) bool {
	return epoch == s.Epoch && epoch != 0 && probe == s.holder(epoch)
}

func (s *State) finished() bool {
	return !slices.ContainsFunc(s.Items, func(i Item) bool { return !i.final() })
}

// owes reports whether the newest lease still holds an unfinished target.
func (s *State) owes() bool { return slices.ContainsFunc(s.Items, Item.Out) }

// Split divides a pending chunk that is partly measured: head is done and has
// what was measured, rest is a new chunk and has what was not. Both keep every
// index; what the other one has is Moved. With ok false there is nothing to
// divide.
func (s State) Split() (head, rest State, ok bool) {
	if s.Phase != Pending || s.finished() || !slices.ContainsFunc(s.Items, Item.settled) {
		return s, State{}, false
	}
	s.Items = slices.Clone(s.Items)
	head, rest = s, New(len(s.Items))
	head.Phase, head.Lapsed, head.Items = Done, false, slices.Clone(s.Items)
	rest.Attempt, rest.Cancelled = s.Attempt, s.Cancelled
	for i, item := range s.Items {
		if item.final() {
			rest.Items[i] = Result(Moved, 0)
		} else {
			rest.Items[i] = item & again
			head.Items[i] = Result(Moved, 0)
		}
	}
	return head, rest, true
}

// Newest is the probe of the newest lease while it holds it or may come back
// with it, else "".
func (s *State) Newest() string {
	if s.Phase.live() || s.Lapsed {
		return s.holder(s.Epoch)
	}
	return ""
}
