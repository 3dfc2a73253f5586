package measure

import (
	"slices"

	"tfofleet/internal/tfo"
)

// Classify names the verdict the attempts support, and every condition that
// holds. It is pure, and total: any attempts whatever get a verdict.
func Classify(plan Plan, attempts []tfo.Evidence) (Verdict, []Condition) {
	t := tallyOf(plan, attempts)
	v := t.verdict()
	cs := t.conditions(v, attempts)
	slices.Sort(cs)
	return v, slices.Compact(cs)
}

func (t *tally) verdict() Verdict {
	if t.plainOK == 0 {
		switch {
		case t.established():
			return Inconclusive // only Fast Open got through: no control to judge it by
		case t.last == nil || t.of[local] > 0 || t.unsent > 0 || t.last.End == tfo.EndLocal && !noRoute(t.last):
			return Inconclusive
		}
		return Offline
	}
	if f := t.fault(); f != 0 {
		return f
	}
	if _, drops := t.side.sizeLimit(); drops {
		return DataDropped
	}
	switch {
	case t.failRun > 0:
		return Inconclusive // it went down while we looked, or the block is not proved
	case t.good() >= 2 && t.good() > t.bad():
		return Supported
	case t.plan == Cookieless && t.good() == 0 && t.bad() == t.of[notAcked] && t.of[notAcked] >= notAcked.needs():
		return Unsupported // data without a cookie is refused, as it should be
	case t.good() == 0 && t.of[granted] == 0 && t.bad() == 0 && t.of[noCookie] >= 3:
		return Unsupported
	}
	return Inconclusive
}

func noRoute(ev *tfo.Evidence) bool {
	return ev.Errno == "ENETUNREACH" || ev.Errno == "EHOSTUNREACH"
}

func (t *tally) conditions(v Verdict, attempts []tfo.Evidence) []Condition {
	var cs []Condition
	add := func(c Condition, when bool) {
		if when {
			cs = append(cs, c)
		}
	}
	worked := t.of[granted] + t.of[noCookie] + t.of[acked] + t.of[partial] + t.of[notAcked] + t.of[replaced] + t.of[empty] + t.of[optionLost] + t.of[dataLost]
	add(CondOffline, v == Offline)
	add(CondTransient, t.plainFailed > t.plainLocal && worked > 0 && v != ClientBlocked)
	add(CondWorks, v == Supported || v == Unsupported || v == CookieOnly || v == CookieUnstable || v == DataTruncated)
	add(CondBroken, v.breaks())
	add(CondLossy, t.plainLossy > 0)
	add(CondNoResponse, t.plainOK > 0 && !t.base.answered)

	add(CondSynDataNotAcked, t.of[notAcked] > 0 || t.of[replaced] > 0)
	add(CondSynDataPartial, t.of[partial] > 0)
	add(CondSynDataLost, t.of[dataLost] > 0)
	add(CondSynDataNotTried, t.of[empty] > 0)
	add(CondOptionLost, t.of[optionLost] > 0)
	add(CondAfterBlackholed, v == BlackholedAfterHandshake)
	add(CondTriesDisagree, v == Inconclusive && t.tfo-t.of[local]-t.of[empty]-t.of[granted] > 0 && t.plainOK > 0 && !t.inherited)

	cookies(add, attempts)
	onWire(add, attempts)
	t.side.conditions(add)
	if t.plan == Cookieless {
		add(CondCookielessAccepted, t.of[acked] > 0)
		add(CondCookielessRefused, t.of[notAcked] > 0)
	}
	for i := range attempts {
		ev := &attempts[i]
		if ev.Kind == tfo.KindPlain {
			if v == Offline {
				cs = append(cs, offlineCondition(ev))
			}
			if ev.End == tfo.EndLocal {
				cs = append(cs, vantageCondition(ev))
			}
			continue
		}
		switch t.base.find(ev) {
		case local:
			cs = append(cs, vantageCondition(ev))
		case refused:
			add(CondSynDataFailed, hadCookie(ev))
			if v != Offline {
				add(CondAnsweredRST, byRST(ev))
				add(CondAnsweredICMP, !byRST(ev))
			}
		case noAnswer, silent:
			add(CondSynDataFailed, hadCookie(ev))
		case cutOff:
			add(CondSynDataFailed, hadCookie(ev))
			add(CondAfterReset, ev.End == tfo.EndReset)
			add(CondAfterClosed, ev.End == tfo.EndClosed)
		}
		if isTrial(ev.Kind) {
			continue
		}
		add(CondVantageUncleared, ev.CookieCleared == tfo.No)
		add(CondVantageStale, ev.CookieCleared == tfo.No && ev.CookieBefore.State == tfo.CookiePresent)
	}
	return cs
}

// breaks reports whether the verdict means that connections fail or stall
// which would have worked without Fast Open.
func (v Verdict) breaks() bool {
	switch v {
	case OptionDropped, DataDropped, Reset, FlowBlackholed, BlackholedAfterHandshake, ClientBlocked:
		return true
	}
	return false
}

// cookies adds what the cache and the handshakes showed.
func cookies(add func(Condition, bool), attempts []tfo.Evidence) {
	received, asked, strange := false, false, inherited(attempts)
	for i := range attempts {
		ev := &attempts[i]
		if ev.Kind == tfo.KindPlain || !ev.End.Established() || ev.OptionKind == 0 || blind(ev) {
			continue
		}
		asked = true
		add(CondSynDataAcked, ev.SynBytes > 0 && ev.SynAcked >= ev.SynBytes)
		if ev.CookieAfter.State != tfo.CookiePresent {
			continue
		}
		changed := !ev.CookieAfter.Equal(ev.CookieBefore)
		received = received || changed || ev.SynBytes > 0 && !strange
		add(CondCookieChanged, changed && ev.CookieBefore.State == tfo.CookiePresent)
		add(CondCookieOddLength, len(ev.CookieAfter.Bytes) != 8)
		add(CondCookieExperimental, ev.OptionKind == tfo.OptionKindExp)
	}
	add(CondCookieReceived, received)
	add(CondCookieNotReceived, asked && !received && !strange)
}

func offlineCondition(ev *tfo.Evidence) Condition {
	switch {
	case ev.End == tfo.EndTimeout:
		return CondOfflineTimeout
	case ev.Errno == "ECONNREFUSED" || ev.Errno == "ECONNRESET":
		return CondOfflineRefused
	}
	return CondOfflineUnreach
}

// vantageCondition names what this machine did instead of sending.
func vantageCondition(ev *tfo.Evidence) Condition {
	switch {
	case ev.End == tfo.EndInterrupted:
		return CondVantageInterrupted
	case unsent(ev):
		return CondVantageUnseen
	case ev.End != tfo.EndLocal:
		return CondVantagePaused
	case ev.Errno == "EOPNOTSUPP":
		return CondVantageDisabled
	case noRoute(ev):
		return CondVantageNoRoute
	}
	return CondVantageError(ev.Errno)
}

// lastCookie is the last cookie the target granted; nil when it granted none.
func lastCookie(attempts []tfo.Evidence) []byte {
	if inherited(attempts) {
		return nil
	}
	for i := len(attempts) - 1; i >= 0; i-- {
		if ev := &attempts[i]; ev.Kind != tfo.KindPlain && ev.CookieAfter.State == tfo.CookiePresent {
			return ev.CookieAfter.Bytes
		}
	}
	return nil
}
