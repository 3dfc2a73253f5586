package measure

import (
	"fmt"

	"tfofleet/internal/tfo"
)

// trials are the further questions Thorough asks once the ladder has its
// answer: how much data a SYN may carry, and whether data is taken without a
// cookie. They add conditions; none but a proved size limit changes a verdict.
type trials struct {
	got []trialResult // by trial, in the order asked
	cur trialResult   // of the trial under way
}

// trialResult is what the attempts of one trial showed.
type trialResult struct {
	kind     tfo.Kind
	size     int     // bytes in the SYN
	finding  finding // of the last attempt
	suspects int     // attempts that loss or load could explain
}

// trialNeeds is how often a trial must fail before its failure is believed.
// The ladder's own attempts, of another size, are further controls.
const trialNeeds = 4

// SizeSteps are the payload bytes the sized attempts put into the SYN. The last
// is more than fits, so that the kernel fills the SYN.
var SizeSteps = []int{1, 64, 512, MaxSized}

// MaxSized is the largest payload offered: an Ethernet frame's worth.
const MaxSized = 1460

func isTrial(k tfo.Kind) bool { return k >= tfo.KindCookieless && k <= tfo.KindUnknown }

// count adds one attempt. An attempt belongs to the trial under way, so the
// same attempts always count the same.
func (s *trials) count(ev *tfo.Evidence, f finding) {
	s.cur.kind, s.cur.size, s.cur.finding = ev.Kind, ev.SynBytes, f
	if f.suspect() {
		s.cur.suspects++
	}
	if !f.suspect() || s.cur.suspects >= trialNeeds {
		s.got = append(s.got, s.cur)
		s.cur = trialResult{}
	}
}

// next is the next trial for a target whose ladder ended with v.
func (s *trials) next(v Verdict) (Step, bool) {
	asked := trialsFor(v)
	// A proved size limit changes the verdict; the list it began with stays.
	if _, drops := s.sizeLimit(); drops {
		asked = trialsFor(Supported)
	}
	if len(s.got) >= len(asked) {
		return Step{}, false
	}
	return asked[len(s.got)], true
}

func trialsFor(v Verdict) []Step {
	cookieless, forged, unknown := Step{Kind: tfo.KindCookieless}, Step{Kind: tfo.KindForged}, Step{Kind: tfo.KindUnknown}
	switch v {
	case Supported, DataDropped:
		steps := make([]Step, 0, len(SizeSteps)+1)
		for _, n := range SizeSteps {
			steps = append(steps, Step{Kind: tfo.KindSized, Size: n})
		}
		return append(steps, cookieless, forged, unknown)
	case Unsupported, CookieOnly:
		return []Step{cookieless, forged, unknown}
	case OptionDropped:
		return []Step{unknown} // is it Fast Open that is dropped, or every option it does not know?
	}
	return nil
}

// sizeLimit tells whether SYNs above some size are lost while smaller ones are
// acknowledged, and the largest size that was.
func (s *trials) sizeLimit() (largest int, drops bool) {
	for _, r := range s.got {
		if r.kind == tfo.KindSized && r.finding == acked {
			largest = max(largest, r.size)
		}
	}
	for _, r := range s.got {
		if r.kind == tfo.KindSized && r.suspects >= trialNeeds && r.size > largest && largest > 0 {
			drops = true
		}
	}
	return largest, drops
}

func (s *trials) conditions(add func(Condition, bool)) {
	if largest, drops := s.sizeLimit(); drops {
		add(Condition(fmt.Sprintf("%s.%d", CondSynDataLostAbove, largest)), true)
	}
	for _, r := range s.got {
		switch r.kind {
		case tfo.KindCookieless:
			add(CondCookielessAccepted, r.finding == acked)
			add(CondCookielessRefused, r.finding == notAcked)
		case tfo.KindForged:
			add(CondForgedAccepted, r.finding == acked)
			add(CondForgedRefused, r.finding == notAcked)
		case tfo.KindUnknown:
			add(CondControlReturned, r.finding == returned)
			add(CondControlPassed, r.finding == ignored)
			add(CondControlDropped, r.finding == noAnswer && r.suspects >= trialNeeds)
		}
	}
}
