package measure

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"tfofleet/internal/tfo"
)

func show(j Judgement) string {
	s := fmt.Sprintf("%v %v %v, NAT %+v, %d unmatched", j.Verdict, j.Direction, j.Doubt, j.NAT, j.Unmatched)
	for _, p := range j.Pairs {
		s += fmt.Sprintf("\n\t%v %d syn %d/%d %v rto %d by %v: %v", p.Attempt.Kind, p.Attempt.OptionKind, p.Attempt.SynAcked, p.Attempt.SynBytes, p.Attempt.End, p.Attempt.SynRetransmits, p.Bond, p.Sight)
	}
	for _, d := range j.Differences {
		s += fmt.Sprintf("\n\t%v, %d of %d", d, d.Seen, d.Of)
	}
	return s
}

func flip(c []byte) []byte {
	c = bytes.Clone(c)
	for i := range c {
		c[i] = ^c[i]
	}
	return c
}

func stripOption(s *syn)   { s.kind, s.cookie = 0, nil }
func stripCookie(a *reply) { a.option, a.cookie = false, nil }

// The faults of roads, with their true names. A row without a wire has another
// name only where one end's sockets cannot tell.
var roads = []struct {
	name   string
	road   road
	want   JointVerdict
	way    Direction
	unseen JointVerdict // without the client's wire; 0 = the same
}{
	{"clean", road{}, JointSupported, 0, 0},
	{"M2 option stripped", road{there: stripOption}, JointOptionStripped, Forward, 0},
	{"M2 of kind 34 only", road{there: func(s *syn) {
		if s.kind == 34 {
			stripOption(s)
		}
	}}, JointSupported, 0, 0},
	{"M7 option stripped of SYNs with data", road{there: func(s *syn) {
		if s.data > 0 {
			stripOption(s)
		}
	}}, JointOptionStripped, Forward, 0},
	{"option and data stripped", road{there: func(s *syn) {
		if s.data > 0 {
			stripOption(s)
			s.data = 0
		}
	}}, JointOptionStripped, Forward, 0},
	{"M3 cookie stripped", road{back: stripCookie}, JointCookieStripped, Return, 0},
	{"cookie taken out there", road{there: func(s *syn) { s.cookie = nil }}, JointCookieStripped, Forward, 0},
	{"M19 option mirrored", road{back: func(a *reply) { a.option, a.cookie = a.withTFO, nil }}, JointOptionMirrored, Return, 0},
	{"M6 payload stripped", road{there: func(s *syn) { s.data = 0 }}, JointPayloadStripped, Forward, 0},
	{"M8 payload truncated", road{there: func(s *syn) { s.data = min(s.data, 20) }}, JointPayloadTruncated, Forward, 0},
	{"M20 cookie rewritten there", road{there: func(s *syn) { s.cookie = flip(s.cookie) }}, JointCookieRewritten, Forward, 0},
	{"M20 cookie rewritten back", road{back: func(a *reply) { a.cookie = flip(a.cookie) }}, JointCookieRewritten, Return, 0},
	{"M20 cookie of odd length", road{back: func(a *reply) { a.cookie = a.cookie[:len(a.cookie)*7/8] }}, JointCookieRewritten, Return, JointCookieStripped},
	{"M5 data dropped", road{there: func(s *syn) { s.lost = s.data > 0 }}, JointDataDropped, Forward, 0},
	{"M1 option dropped", road{there: func(s *syn) { s.lost = s.kind != 0 }}, JointOptionDropped, Forward, 0},
	{"SYN-ACKs with the option dropped", road{back: func(a *reply) { a.lost = a.option }}, JointOptionDropped, Return, 0},
	{"M24 proxied", road{proxy: true}, JointProxied, 0, 0},
	{"M16 dead back", road{dead: Return}, JointBlackholedAfterHandshake, Return, 0},
	{"M17 dead both ways", road{dead: BothWays}, JointBlackholedAfterHandshake, BothWays, 0},
	{"dead there, and the client is content", road{dead: Forward}, JointBlackholedAfterHandshake, Forward, 0},
	{"M15 dead from the SYN on", road{there: func(s *syn) { s.lost = s.withData }}, JointBlackholedBefore, Forward, 0},
	{"M15 dead from the SYN-ACK on", road{back: func(a *reply) { a.lost = a.withData }}, JointBlackholedBefore, Return, 0},
	{"M15 dead by the option", road{there: func(s *syn) { s.lost = s.withTFO }}, JointBlackholedBefore, 0, 0},
	{"M12 the listener withholds cookies", road{quiet: true}, JointCookieStripped, Return, 0},
	{"nothing gets through", road{there: func(s *syn) { s.lost = true }}, JointOffline, 0, 0},
	{"ISN rewritten", road{there: func(s *syn) { s.seq += 77777 }}, JointSupported, 0, 0},
	{"ISN rewritten, option stripped", road{there: func(s *syn) { s.seq += 77777; stripOption(s) }}, JointOptionStripped, Forward, 0},
	{"NAT", road{there: func(s *syn) { s.from = netip.MustParseAddrPort("203.0.113.1:5555") }}, JointSupported, 0, 0},
}

// TestJointNames holds every fault to its true name, with the client's wire
// and without.
func TestJointNames(t *testing.T) {
	for _, tt := range roads {
		for _, noWire := range []bool{false, true} {
			r := tt.road
			r.noWire = noWire
			want, way := tt.want, tt.way
			if noWire && tt.unseen != 0 {
				want = tt.unseen
			}
			j := Joint(r.ride(Standard))
			if j.Verdict != want || j.Direction != way {
				t.Errorf("%s, no wire %v: want %v %v, got %s", tt.name, noWire, want, way, show(j))
			}
		}
	}
}

// TestJointNeedsRepetition: with one observation fewer than it takes a fault has
// no name.
func TestJointNeedsRepetition(t *testing.T) {
	for _, tt := range roads {
		if !tt.want.Fault() || tt.want == JointProxied {
			continue
		}
		r := tt.road
		s := r.ride(Standard)
		needs := 3
		switch {
		case tt.want == JointDataDropped || tt.want == JointOptionDropped:
			needs = 6
		case tt.want == JointBlackholedAfterHandshake && tt.way == Forward:
			needs = 2 // all that a content client leaves
		}
		for i, p := range Joint(s).Pairs {
			if blames[p.Sight].verdict == tt.want {
				needs--
			}
			few := s
			few.Attempts = s.Attempts[:i+1]
			// At the last one the plain attempt that controls it may be to come.
			if j := Joint(few); needs > 0 && j.Verdict.Fault() || needs < 0 && !j.Verdict.Fault() {
				t.Errorf("%s: with %d observations to go: %s", tt.name, needs, show(j))
			}
		}
		if needs > 0 {
			t.Errorf("%s: named with %d observations too few", tt.name, needs)
		}
	}
}

// cleanSides is a healthy measurement.
func cleanSides() Sides { r := road{}; return r.ride(Standard) }

func TestJointNeighbours(t *testing.T) {
	tests := []struct {
		name  string
		make  func() Sides
		want  JointVerdict
		doubt Doubt
	}{
		{"the client vanished", func() Sides { s := cleanSides(); s.ClientLost = true; return s }, JointPeerLost, 0},
		{"the listener vanished", func() Sides { s := cleanSides(); s.ListenerLost, s.Arrivals = true, nil; return s }, JointPeerLost, 0},
		{"the client may not", func() Sides { return Sides{Plan: Standard, Refused: true, ListenerLost: true} }, JointInconclusive, DoubtRefused},
		{"nothing at all", func() Sides { return Sides{Plan: Standard} }, JointInconclusive, DoubtLocal},
		{"Fast Open is off at the client", func() Sides {
			s := cleanSides()
			s.Attempts = one(ok, with(ask34, func(ev *tfo.Evidence) { ev.End, ev.Errno, ev.OptionKind = tfo.EndLocal, "EOPNOTSUPP", 0 }))
			return s
		}, JointInconclusive, DoubtLocal},
		{"the client is blocked after Fast Open", func() Sides {
			r := road{}
			s := r.ride(Standard)
			s.Attempts = append(s.Attempts[:4:4], repeat(5, down)...)
			return s
		}, JointClientBlocked, 0},
		{"RST to SYN data", func() Sides {
			r := road{}
			s := r.ride(Standard)
			s.Attempts = slices.Concat(s.Attempts[:2], repeat(3, rst, ok))
			s.Arrivals = s.Arrivals[:2]
			return s
		}, JointReset, 0},
		{"two of them", func() Sides {
			r := road{}
			s := r.ride(Standard)
			s.Attempts = slices.Concat(s.Attempts[:2], repeat(2, rst, ok))
			s.Arrivals = s.Arrivals[:2]
			return s
		}, JointInconclusive, DoubtTooFew},
		{"the listener's kernel ran over while it looked like a stripped cookie", func() Sides {
			r := road{back: stripCookie}
			s := r.ride(Standard)
			s.Alarms = []tfo.Alarm{{Kind: tfo.AlarmQueueOverflow, Count: 1}}
			return s
		}, JointUnsupported, 0},
		{"and while SYNs were lost", func() Sides {
			r := road{there: func(s *syn) { s.lost = s.data > 0 }}
			s := r.ride(Standard)
			s.Alarms = []tfo.Alarm{{Kind: tfo.AlarmAcceptOverflow, Count: 1}}
			return s
		}, JointInconclusive, DoubtListener},
		{"an alarm that means nothing", func() Sides {
			r := road{back: stripCookie}
			s := r.ride(Standard)
			s.Alarms = []tfo.Alarm{{Kind: tfo.AlarmQueueCapped, Count: 1}}
			return s
		}, JointCookieStripped, 0},
		{"a valid cookie and no child", func() Sides {
			r := road{}
			first := r.ride(Standard)
			s := Sides{Plan: Standard, Nonce: first.Nonce, Attempts: first.Attempts[:2], Arrivals: first.Arrivals[:2]}
			r.quiet = true
			for {
				step, more := Next(Standard, s.Attempts)
				if !more {
					break
				}
				r.n = len(s.Attempts)
				before := len(r.arrivals)
				s.Attempts = append(s.Attempts, r.attempt(step))
				s.Arrivals = append(s.Arrivals, r.arrivals[before:]...)
			}
			return s
		}, JointUnsupported, 0},
		{"CGN", func() Sides {
			n := byte(0)
			r := road{there: func(s *syn) {
				n++
				s.from = netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 113, n}), s.from.Port())
			}}
			return r.ride(Standard)
		}, JointCookieRefused, 0},
		{"a content client whose data never followed, once", func() Sides {
			r := road{}
			s := r.ride(Standard)
			a := *s.Arrivals[2]
			a.HandshakeNS, a.End, a.ResponseAcked = tfo.NotKnown, tfo.ArrivalUnacked, 0
			s.Arrivals[2] = &a
			return s
		}, JointInconclusive, DoubtDisagree},
		{"all connections are reset, plain ones too", func() Sides {
			s := cleanSides()
			for i := range s.Attempts {
				s.Attempts[i] = with(s.Attempts[i], ended(tfo.EndReset))
			}
			return s
		}, JointInconclusive, DoubtTooFew},
		{"some connections never arrived", func() Sides {
			s := cleanSides()
			s.Arrivals = s.Arrivals[:1]
			for i := range s.Attempts {
				s.Attempts[i].End = tfo.EndSilent
			}
			return s
		}, JointInconclusive, DoubtUnjoined},
	}
	for _, tt := range tests {
		j := Joint(tt.make())
		if j.Verdict != tt.want || j.Doubt != tt.doubt {
			t.Errorf("%s: want %v %v, got %s", tt.name, tt.want, tt.doubt, show(j))
		}
		if tt.name == "CGN" && (!j.CarrierNAT || j.NAT.Changing != tfo.Yes || j.NAT.Port != tfo.No) {
			t.Errorf("%s: %s", tt.name, show(j))
		}
	}
}

// TestJointOthersSYN: that somebody else's SYN came in an attempt's place is no
// rewriting of the attempt's.
func TestJointOthersSYN(t *testing.T) {
	s, by := cleanSides(), road{proxy: true}
	other := by.ride(Standard)
	a := *other.Arrivals[0]
	a.Request = TaggedPayload(PayloadHTTP, nil, Target{Addr: roadListener.Addr(), Port: 80}, Tag{s.Nonce, len(s.Attempts)}).Bytes
	s.Attempts, s.Arrivals = append(s.Attempts, other.Attempts[0]), append(s.Arrivals, &a)
	if j := Joint(s); j.Pairs[len(j.Pairs)-1].Sight != SightOther || len(j.Differences) > 0 {
		t.Error(show(j))
	}
	if j := Joint(other); j.Verdict != JointProxied || len(j.Differences) == 0 {
		t.Error(show(j))
	}
}

// TestJointDirection: a direction is named where the two ends show one.
func TestJointDirection(t *testing.T) {
	r := road{}
	s := r.ride(Standard) // plain, request, data, data, plain
	refused := func(i int) tfo.Evidence { return with(s.Attempts[i], ended(tfo.EndRefused)) }
	for _, tt := range []struct {
		name     string
		attempts []tfo.Evidence
		arrivals []*tfo.Arrival
		want     JointVerdict
		way      Direction
	}{
		{"SYNs with data are refused, and never arrive", slices.Concat(s.Attempts[:2], repeat(3, refused(2), ok)), s.Arrivals[:2], JointReset, Forward},
		{"requests are refused: had they arrived, they would have left no trace", slices.Concat(s.Attempts[:1], repeat(3, refused(1), ok)), s.Arrivals[:1], JointReset, DirectionUnknown},
		{"the SYN arrived, and somebody refused it", slices.Concat(s.Attempts[:2], one(refused(2)), one(ok), repeat(2, rst, ok)), s.Arrivals[:3], JointReset, DirectionUnknown},
		{"the client is blocked after Fast Open", slices.Concat(s.Attempts[:4], repeat(5, down)), s.Arrivals[:4], JointClientBlocked, DirectionUnknown},
		{"plain ones are refused as well", slices.Concat(s.Attempts[:2], repeat(3, refused(2), plain(tfo.EndRefused), ok)), s.Arrivals[:2], JointInconclusive, DirectionUnknown},
		{"some requests are refused, others are not", slices.Concat(s.Attempts[:2], one(refused(1), ok, refused(1), ok, refused(1), ok)), s.Arrivals[:2], JointInconclusive, DirectionUnknown},
	} {
		j := Joint(Sides{Plan: Standard, Nonce: s.Nonce, Attempts: tt.attempts, Arrivals: tt.arrivals})
		if j.Verdict != tt.want || j.Direction != tt.way {
			t.Errorf("%s: want %v %v, got %s", tt.name, tt.want, tt.way, show(j))
		}
	}
}

// TestJointLossNamesNothing: of clean paths that lose 2 % of all segments not
// one may be given a fault, and every side is joined.
func TestJointLossNamesNothing(t *testing.T) {
	seed := rand.Uint64()
	rides := 20_000
	if testing.Short() {
		rides = 2_000
	}
	supported := 0
	rng := rand.New(rand.NewPCG(seed, 3))
	for range rides {
		r := road{loss: 0.02, rand: rng, noWire: rng.IntN(2) == 0}
		j := Joint(r.ride(Standard))
		if j.Verdict.Fault() || j.Verdict == JointUnsupported || j.Unmatched > 0 {
			t.Fatalf("seed %d: %s", seed, show(j))
		}
		if j.Verdict == JointSupported {
			supported++
		}
	}
	if supported*100 < rides*97 {
		t.Errorf("seed %d: only %d of %d are supported", seed, supported, rides)
	}
}

// TestJointFaultsUnderLoss: loss may hide a fault, and must not turn it into
// another one or into health.
func TestJointFaultsUnderLoss(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 4))
	for _, tt := range roads {
		if tt.want == JointOffline {
			continue
		}
		named := 0
		for range 300 {
			r := tt.road
			r.loss, r.rand = 0.02, rng
			j := Joint(r.ride(Standard))
			switch {
			case j.Verdict == tt.want && (j.Direction == tt.way || j.Direction == 0):
				named++
			case j.Verdict != JointInconclusive:
				t.Fatalf("seed %d: %s: want %v %v, got %s", seed, tt.name, tt.want, tt.way, show(j))
			}
		}
		if named < 200 {
			t.Errorf("seed %d: %s: named in %d of 300", seed, tt.name, named)
		}
	}
}

// TestJointUnrelated: what belongs to others, and the order in which the
// arrivals are listed, never changes a judgement.
func TestJointUnrelated(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 5))
	for _, tt := range roads {
		r := tt.road
		s := r.ride(Standard)
		want := show(Joint(s))
		for range 20 {
			mixed := s
			mixed.Arrivals = slices.Clone(s.Arrivals)
			for range rng.IntN(4) {
				other := roads[rng.IntN(len(roads))].road // with a nonce of its own
				for _, a := range other.ride(Standard).Arrivals {
					if len(a.Request) > 0 {
						mixed.Arrivals = append(mixed.Arrivals, a)
					}
				}
			}
			rng.Shuffle(len(mixed.Arrivals), func(i, j int) {
				mixed.Arrivals[i], mixed.Arrivals[j] = mixed.Arrivals[j], mixed.Arrivals[i]
			})
			if got := show(Joint(mixed)); got != want {
				t.Fatalf("seed %d: %s: %s\nwith others' arrivals: %s", seed, tt.name, want, got)
			}
		}
	}
}

// TestJointNumbers: the values are stored, so none may move.
func TestJointNumbers(t *testing.T) {
	for i, name := range []string{
		"supported", "option_stripped", "cookie_stripped", "option_mirrored", "payload_stripped", "payload_truncated", "cookie_rewritten",
		"data_dropped", "option_dropped", "proxied", "blackholed_after_handshake", "blackholed_before", "unsupported", "inconclusive", "peer_lost",
		"cookie_refused", "reset", "client_blocked", "offline",
	} {
		v, err := ParseJointVerdict(name)
		if err != nil || int(v) != i+1 {
			t.Errorf("%s is %d, %v", name, v, err)
		}
	}
	if v, err := ParseJointVerdict("unknown"); err == nil {
		t.Error("unknown is", v)
	}
	seen := map[string]bool{}
	check := func(kind string, s fmt.Stringer) {
		if name := kind + s.String(); s.String() == "unknown" || seen[name] {
			t.Errorf("%s %v is unknown or twice", kind, s)
		} else {
			seen[name] = true
		}
	}
	for s := SightNone; s <= SightUnclear; s++ {
		check("sight ", s)
		if s.Text() == "" || s.Text() == s.String() {
			t.Errorf("%v has no text", s)
		}
	}
	for b := BondNone; b <= BondOrder; b++ {
		check("bond ", b)
	}
	for f := FieldSourceAddress; f <= FieldOptionOrder; f++ {
		check("field ", f)
	}
	for c := Rewritten; c <= Added; c++ {
		check("change ", c)
	}
	for d := DoubtNone; d <= DoubtRefused; d++ {
		check("doubt ", d)
	}
	for d := Forward; d <= BothWays; d++ {
		check("direction ", d)
	}
	for n := NearPathClean; n <= NearPathBreaksFlows; n++ {
		check("near ", n)
	}
	for _, s := range []fmt.Stringer{Sight(99), Bond(99), SynField(99), Change(99), Doubt(99), Direction(99), NearPath(99), JointVerdict(99)} {
		if s.String() != "unknown" {
			t.Errorf("a value that is none is %q", s)
		}
	}
	for s := range blames {
		if !slices.Contains(order, blames[s].verdict) {
			t.Errorf("%v is never looked for", blames[s].verdict)
		}
	}
}

func TestNearPath(t *testing.T) {
	for _, tt := range []struct {
		road road
		want NearPath
	}{
		{road{}, NearPathClean},
		{road{there: stripOption}, NearPathStripsOption},
		{road{back: stripCookie}, NearPathStripsOption},
		{road{there: func(s *syn) {
			if s.kind == 34 {
				stripOption(s)
			}
		}}, NearPathStripsOption}, // and 254 passes: Supported
		{road{there: func(s *syn) { s.data = 0 }}, NearPathDropsSynData},
		{road{there: func(s *syn) { s.lost = s.data > 0 }}, NearPathDropsSynData},
		{road{proxy: true}, NearPathTerminatesTCP},
		{road{there: func(s *syn) { s.lost = true }}, NearPathUnknown},
		{road{there: func(s *syn) { s.lost = s.kind != 0 }}, NearPathBreaksFlows},
		{road{dead: Return}, NearPathBreaksFlows},
		{road{there: func(s *syn) { s.mss = 1380 }}, NearPathClean},
	} {
		r := tt.road
		j := Joint(r.ride(Standard))
		if n, detail := NearPathOf(&j); n != tt.want || detail == "" {
			t.Errorf("want %v, got %v, %q: %s", tt.want, n, detail, show(j))
		}
	}
	r := road{there: func(s *syn) { s.mss = 1380 }}
	j := Joint(r.ride(Standard))
	if _, detail := NearPathOf(&j); detail != "supported; mss from 1460 to 1380" {
		t.Errorf("detail %q", detail)
	}
}
