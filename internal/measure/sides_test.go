package measure

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"tfofleet/internal/tfo"
)

// TestMatch takes the bonds away one after the other: what is left joins as
// surely as it can, and honestly not at all in the end.
func TestMatch(t *testing.T) {
	clean := cleanSides()
	const lone = 2 // the attempt whose bonds are cut
	elsewhere := netip.MustParseAddrPort("203.0.113.1:7777")
	change := func(f func(s *Sides, a *tfo.Arrival)) Sides {
		s := clean
		s.Attempts, s.Arrivals = slices.Clone(clean.Attempts), slices.Clone(clean.Arrivals)
		a := *s.Arrivals[lone]
		s.Arrivals[lone] = &a
		f(&s, &a)
		return s
	}
	mute := func(f func(s *Sides, a *tfo.Arrival)) Sides {
		return change(func(s *Sides, a *tfo.Arrival) {
			a.Request = nil
			f(s, a)
		})
	}
	noWire := func(s *Sides) { s.Attempts[lone].Wire = nil }
	renumbered := func(a *tfo.Arrival) { a.SYN.Seq++ }
	moved := func(s *Sides) { // all come from one outside address
		for i, a := range s.Arrivals {
			b := *a
			b.Peer = netip.AddrPortFrom(elsewhere.Addr(), uint16(i+1))
			s.Arrivals[i] = &b
		}
	}
	for _, tt := range []struct {
		name    string
		sides   Sides
		want    Bond
		repeats int
		stray   int
	}{
		{"by the tag", clean, BondNonce, 0, 0},
		{"the tag, though all else differs", change(func(s *Sides, a *tfo.Arrival) { renumbered(a); a.Peer = elsewhere }), BondNonce, 0, 0},
		{"by the sequence number", mute(func(s *Sides, a *tfo.Arrival) { a.Peer = elsewhere }), BondISN, 0, 0},
		{"by the port", mute(func(s *Sides, a *tfo.Arrival) { renumbered(a) }), BondPort, 0, 0},
		{"by the port, without the wire", mute(func(s *Sides, a *tfo.Arrival) { noWire(s) }), BondPort, 0, 0},
		{"not by a port that two attempts had", mute(func(s *Sides, a *tfo.Arrival) {
			noWire(s)
			s.Attempts[lone].Local = s.Attempts[0].Local
			a.Peer = s.Attempts[0].Local
			a.Accepted = a.Accepted.Add(time.Hour)
		}), BondNone, 0, 0},
		{"by the order", mute(func(s *Sides, a *tfo.Arrival) {
			noWire(s)
			moved(s)
		}), BondOrder, 0, 0},
		{"not by the order, from an address that is not known", mute(func(s *Sides, a *tfo.Arrival) {
			noWire(s)
			a.Peer = elsewhere
		}), BondNone, 0, 0},
		{"not by the order, when there are two", mute(func(s *Sides, a *tfo.Arrival) {
			noWire(s)
			moved(s)
			b := *s.Arrivals[lone]
			s.Arrivals = append(s.Arrivals, &b)
		}), BondNone, 0, 0},
		{"not by the order, too late", mute(func(s *Sides, a *tfo.Arrival) {
			noWire(s)
			moved(s)
			s.Arrivals[lone].Accepted = a.Accepted.Add(time.Hour)
		}), BondNone, 0, 0},
		{"with the tag of another measurement", change(func(s *Sides, a *tfo.Arrival) {
			a.Request = TaggedPayload(PayloadHTTP, nil, web, Tag{NewNonce(), lone}).Bytes
		}), BondNone, 0, 0},
		{"said twice", change(func(s *Sides, a *tfo.Arrival) {
			b := *a
			b.Accepted = b.Accepted.Add(time.Second)
			s.Arrivals = append(s.Arrivals, &b)
		}), BondNonce, 1, 0},
		{"of an attempt that nobody made", change(func(s *Sides, a *tfo.Arrival) {
			b := *a
			b.Request = TaggedPayload(PayloadHTTP, nil, web, Tag{s.Nonce, 40}).Bytes
			s.Arrivals = append(s.Arrivals, &b)
		}), BondNonce, 0, 1},
		{"nothing arrived", change(func(s *Sides, a *tfo.Arrival) { s.Arrivals = slices.Delete(s.Arrivals, lone, lone+1) }), BondNone, 0, 0},
	} {
		pairs, stray := Match(&tt.sides)
		p := pairs[lone]
		if p.Bond != tt.want || (p.Arrival != nil) != (tt.want != BondNone) || p.Repeats != tt.repeats || stray != tt.stray {
			t.Errorf("%s: bond %v, %d repeats, %d stray, want %v, %d, %d", tt.name, p.Bond, p.Repeats, stray, tt.want, tt.repeats, tt.stray)
		}
		for i, p := range pairs {
			if p.Attempt != &tt.sides.Attempts[i] || i != lone && p.Bond != BondNonce {
				t.Errorf("%s: pair %d by %v", tt.name, i, p.Bond)
			}
		}
		for i := range pairs {
			for k := range i {
				if pairs[i].Arrival != nil && pairs[i].Arrival == pairs[k].Arrival {
					t.Errorf("%s: one arrival for two attempts", tt.name)
				}
			}
		}
	}
}
