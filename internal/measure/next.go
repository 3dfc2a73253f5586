package measure

import (
	"time"

	"tfofleet/internal/tfo"
)

// Step is the next attempt of a measurement.
type Step struct {
	Kind        tfo.Kind
	ClearCookie bool
	Delay       time.Duration
	Size        int // bytes of the payload to put into the SYN; 0 = all of it
}

// retryDelay is the rest before a plain attempt that repeats a failed one: an
// outage shorter than this is not worth a word.
const retryDelay = 500 * time.Millisecond

// maxAttempts bounds a measurement, whatever the target does.
const maxAttempts = 48

// Next returns the attempt that should follow, given those already made, or
// false when the measurement is complete. It is pure.
//
// The ladder of Standard is plain, request (kind 34), data, data, plain; or
// plain, request (34), request (254), request (34), plain where no cookie
// comes; Quick leaves out the closing plain attempt there. Whatever looks like a fault is tried again, with a plain attempt after
// every try as its control, until it is proved or contradicted.
func Next(plan Plan, attempts []tfo.Evidence) (Step, bool) {
	t := tallyOf(plan, attempts)
	plain := Step{Kind: tfo.KindPlain}
	if len(attempts) >= maxAttempts || t.spoilt() {
		return Step{}, false
	}
	if t.plain == 0 {
		return plain, true
	}
	if plan == Quick && t.tfo == 3 && t.of[noCookie] == 3 {
		return Step{}, false // the answer of most targets: no need to close
	}
	if t.plainOK == 0 {
		return t.opening()
	}
	if t.lastFinding.suspect() {
		return plain, true
	}
	if t.failRun > 0 && t.failRun < blockRun {
		plain.Delay = retryDelay
		return plain, true
	}
	if t.fault() == 0 && !t.settled() && t.tfo < maxTries && t.failRun == 0 {
		return t.fastOpen(), true
	}
	if plan == Thorough && t.failRun == 0 {
		if step, more := t.side.next(t.verdict()); more {
			return step, true
		}
	}
	// The closing plain attempt separates "Fast Open broke it" from "it went
	// down".
	return plain, t.last.Kind != tfo.KindPlain
}

// opening goes on after plain attempts of which none has worked. A refusal is
// cheap to ask for again. One Fast Open attempt then tells a target that is
// down from a plain SYN that had bad luck.
func (t *tally) opening() (Step, bool) {
	switch {
	case t.plainFailed < 2 && t.last.End == tfo.EndRefused:
		return Step{Kind: tfo.KindPlain, Delay: retryDelay}, true
	case t.tfo == 0:
		return t.fastOpen(), true
	case t.established() && t.failRun < blockRun:
		return Step{Kind: tfo.KindPlain, Delay: retryDelay}, true
	}
	return Step{}, false
}

// established reports whether some Fast Open attempt completed a handshake.
func (t *tally) established() bool {
	return t.tfo > t.of[refused]+t.of[noAnswer]+t.of[local]
}

// fastOpen is the next Fast Open attempt: data when a cookie is there, else a
// request. Only the first empties the cache: the kernel's memory of which kind
// it asked with goes with the entry, and the second request must use the other.
func (t *tally) fastOpen() Step {
	if t.plan == Cookieless {
		return Step{Kind: tfo.KindCookieless}
	}
	if t.holdsCookie {
		return Step{Kind: tfo.KindData}
	}
	return Step{Kind: tfo.KindRequest, ClearCookie: t.tfo == 0}
}

// settled reports whether the Fast Open attempts agree well enough to stop
// before a fault is proved.
func (t *tally) settled() bool {
	want := 2
	if t.plan == Thorough {
		want = 5
	}
	switch {
	case t.good() >= want && t.good() >= 2*t.bad():
		return true
	case t.plan == Cookieless && t.of[notAcked] >= notAcked.needs():
		return true
	case t.of[silent]+t.of[cutOff]+t.of[refused]+t.of[noAnswer] > 0 && !controlsServed(t.plainBad(), maxTries+1, maxTries):
		return true // too many plain attempts failed as well: no fault can be proved any more
	case t.of[empty] > 0, t.inherited && t.of[notAcked] >= notAcked.needs():
		return true
	case t.good() == 0 && t.of[granted] == 0 && t.of[noCookie] >= 3:
		return true
	}
	return false
}

// spoilt reports whether this machine cannot make the measurement: trying
// again would only repeat it.
func (t *tally) spoilt() bool {
	if t.of[local] >= 3 {
		return true
	}
	if t.last != nil && isTrial(t.last.Kind) && t.plan != Cookieless {
		return false
	}
	if t.last == nil || t.last.End != tfo.EndLocal {
		return t.lastFinding == local && t.last.OptionKind == 0
	}
	switch t.last.Errno {
	case "EOPNOTSUPP", "ENETUNREACH", "EHOSTUNREACH", "EACCES", "EPERM":
		return true
	}
	return t.plainFailed >= 3
}
