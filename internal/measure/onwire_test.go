package measure

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"tfofleet/internal/tfo"
)

// seen gives an attempt wire facts that agree with it, and then changes them.
func seen(ev tfo.Evidence, f func(*tfo.Wire)) tfo.Evidence {
	w := &tfo.Wire{Syns: 1 + ev.SynRetransmits, Acked: tfo.NotKnown}
	w.Syn = tfo.Segment{TTL: 64, OptionKind: ev.OptionKind, Payload: ev.SynBytes}
	if ev.SynBytes > 0 {
		w.Syn.Cookie = ev.CookieBefore.Bytes
	}
	if ev.End.Established() {
		w.SynAcks, w.Acked, w.AfterSyns, w.SynAck = 1, ev.SynAcked, w.Syns, tfo.Segment{TTL: 55}
		if ev.CookieAfter.State == tfo.CookiePresent && !ev.CookieAfter.Equal(ev.CookieBefore) {
			w.SynAck.OptionKind, w.SynAck.Cookie = ev.OptionKind, ev.CookieAfter.Bytes
		}
	}
	f(w)
	ev.Wire = w
	return ev
}

func synAck(f func(*tfo.Segment)) func(*tfo.Wire) { return func(w *tfo.Wire) { f(&w.SynAck) } }

func TestOnWire(t *testing.T) {
	asItIs := func(*tfo.Wire) {}
	reset := func(ttl uint8) func(*tfo.Wire) { return func(w *tfo.Wire) { w.Resets, w.ResetTTL = 1, ttl } }
	for _, tt := range []struct {
		name     string
		attempts []tfo.Evidence
		want     []Condition // of those that need the wire, and of how a SYN was refused
	}{
		{"healthy", one(seen(ok, asItIs), seen(got34, asItIs), seen(allGood, asItIs), seen(allGood, asItIs), seen(ok, asItIs)), nil},
		{"M19 mirrored", one(seen(ask34, synAck(func(s *tfo.Segment) { s.OptionKind = 34 }))), []Condition{CondCookieMirrored}},
		{"M19 mirrored, kind 254", one(seen(ask254, synAck(func(s *tfo.Segment) { s.OptionKind = 254 }))), []Condition{CondCookieMirrored}},
		{"M20 odd cookie", one(seen(ask34, synAck(func(s *tfo.Segment) { s.OptionKind, s.Cookie = 34, []byte("1234567") }))), []Condition{CondCookieUnusable, CondCookieOddLength}},
		{"cookie of 18", one(seen(ask34, synAck(func(s *tfo.Segment) { s.OptionKind, s.Cookie = 34, make([]byte, 18) }))), []Condition{CondCookieUnusable, CondCookieOddLength}},
		{"both kinds", one(seen(got34, synAck(func(s *tfo.Segment) { s.BothKinds = true }))), []Condition{CondCookieBothKinds}},
		{"twice", one(seen(got34, synAck(func(s *tfo.Segment) { s.Repeated = true }))), []Condition{CondCookieRepeated}},
		{"past the end", one(seen(got34, synAck(func(s *tfo.Segment) { s.Malformed = true }))), []Condition{CondOptionMalformed}},
		{"unsolicited", one(seen(ok, synAck(func(s *tfo.Segment) { s.OptionKind, s.Cookie = 34, cookieA }))), []Condition{CondCookieUnsolicited}},
		{"M11 the same cookie comes back", one(seen(allGood, synAck(func(s *tfo.Segment) { s.OptionKind, s.Cookie = 34, cookieA }))), []Condition{CondCookieReturned}},
		{"M11 another cookie comes back", one(seen(data(100, cookieB), asItIs)), nil},
		{"M23 over-acked", one(seen(dead, func(w *tfo.Wire) { w.SynAcks, w.Acked, w.OverAcked = 3, 101, true })), []Condition{CondSynDataOverAcked}},
		{"data on the SYN-ACK", one(seen(allGood, synAck(func(s *tfo.Segment) { s.Payload = 400 }))), []Condition{CondSynAckData}},
		{"M13 RST by the target", one(seen(ok, asItIs), seen(rst, reset(55))), []Condition{CondAnsweredRST}},
		{"M13 RST from the way", one(seen(ok, asItIs), seen(rst, reset(61))), []Condition{CondAnsweredRST, CondResetOtherTTL}},
		{"RST, and no SYN-ACK to hold it to", one(ok, seen(rst, reset(61))), []Condition{CondAnsweredRST}},
		{"M14 port unreachable has the errno of a RST", one(ok, seen(rst, func(w *tfo.Wire) { w.ICMPErrors, w.ICMPType, w.ICMPCode = 1, 3, 3 })), []Condition{CondAnsweredICMP}},
		{"refused, and the wire missed by what", one(ok, seen(rst, asItIs)), []Condition{CondAnsweredRST}},
		{"the ring dropped some", one(seen(ok, func(w *tfo.Wire) { w.Incomplete = true })), []Condition{CondVantageIncomplete}},
		{"the ring dropped all", one(with(ok, func(ev *tfo.Evidence) { ev.WireAbsent = tfo.WireDropped })), []Condition{CondVantageIncomplete}},
		{"a local firewall", one(with(dead, func(ev *tfo.Evidence) { ev.WireAbsent = tfo.WireUnseen })), []Condition{CondVantageUnseen}},
		{"no capture", one(with(ok, func(ev *tfo.Evidence) { ev.WireAbsent = tfo.WireNoRight })), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			attempts := tt.attempts
			if attempts[0].Kind != tfo.KindPlain {
				attempts = append(one(ok), attempts...)
			}
			_, cs := Classify(Standard, attempts)
			var got []Condition
			for _, c := range cs {
				if wireWords[c] {
					got = append(got, c)
				}
			}
			slices.Sort(tt.want)
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// wireWords are the conditions on which the wire has a say.
var wireWords = map[Condition]bool{
	CondCookieMirrored: true, CondCookieReturned: true, CondCookieUnusable: true, CondCookieUnsolicited: true,
	CondCookieBothKinds: true, CondCookieRepeated: true, CondCookieOddLength: true, CondOptionMalformed: true,
	CondSynDataOverAcked: true, CondSynAckData: true, CondResetOtherTTL: true, CondVantageUnseen: true,
	CondVantageIncomplete: true, CondAnsweredRST: true, CondAnsweredICMP: true,
}

// TestWireChangesNoVerdict: whatever facts from the wire go with the attempts,
// or go missing, the verdict stays what the kernel's evidence supports, and no
// condition is lost but the one the wire puts right: by what a SYN was refused.
func TestWireChangesNoVerdict(t *testing.T) {
	known := []tfo.Evidence{ok, down, ask34, ask254, got34, got254, lostReq, allGood, refuses, lost, mute, rst, dead, data(60, cookieA), data(0, cookieB), data(100, cookieB)}
	rapid.Check(t, func(t *rapid.T) {
		bare := rapid.SliceOfN(rapid.SampledFrom(known), 0, 20).Draw(t, "attempts")
		plan := rapid.SampledFrom([]Plan{Quick, Standard, Thorough}).Draw(t, "plan")
		watched := slices.Clone(bare)
		for i := range watched {
			watched[i].Wire = genWire().Draw(t, "wire")
			watched[i].WireAbsent = rapid.SampledFrom([]string{"", tfo.WireOff, tfo.WireDropped}).Draw(t, "absent")
		}
		v, cs := Classify(plan, bare)
		vw, csw := Classify(plan, watched)
		if v != vw {
			t.Fatalf("%v without the wire, %v with it", v, vw)
		}
		for _, c := range cs {
			if !slices.Contains(csw, c) && c != CondAnsweredRST && c != CondAnsweredICMP {
				t.Fatalf("%s is lost: %v, with the wire %v", c, cs, csw)
			}
		}
		step, more := Next(plan, bare)
		stepw, morew := Next(plan, watched)
		if step != stepw || more != morew {
			t.Fatalf("next is %v %v without the wire, %v %v with it", step, more, stepw, morew)
		}
	})
}
