package measure

import (
	"bytes"

	"tfofleet/internal/tfo"
)

// onWire adds what the wire showed. No verdict depends on it but one: a SYN that
// never left says nothing of the target (see unsent).
func onWire(add func(Condition, bool), attempts []tfo.Evidence) {
	for i := range attempts {
		ev := &attempts[i]
		add(CondVantageUnseen, ev.WireAbsent == tfo.WireUnseen)
		add(CondVantageIncomplete, ev.WireAbsent == tfo.WireDropped)
		w := ev.Wire
		if w == nil {
			continue
		}
		add(CondVantageIncomplete, w.Incomplete)
		add(CondResetOtherTTL, w.Resets > 0 && otherTTL(w.ResetTTL, attempts))
		if w.SynAcks == 0 {
			continue
		}
		a := &w.SynAck
		add(CondSynDataOverAcked, w.OverAcked)
		add(CondSynAckData, a.Payload > 0)
		add(CondOptionMalformed, a.Malformed)
		add(CondCookieBothKinds, a.BothKinds)
		add(CondCookieRepeated, a.Repeated)
		switch {
		case a.OptionKind == 0:
			continue
		case w.Syn.OptionKind == 0:
			add(CondCookieUnsolicited, true)
		case a.Mirrored():
			add(CondCookieMirrored, true)
		default:
			add(CondCookieReturned, bytes.Equal(a.Cookie, w.Syn.Cookie))
			add(CondCookieUnusable, !a.CookieUsable())
			add(CondCookieOddLength, len(a.Cookie) != 8)
		}
	}
}

// otherTTL reports whether the target's SYN-ACKs came, and all with another
// TTL.
func otherTTL(ttl uint8, attempts []tfo.Evidence) bool {
	seen := false
	for i := range attempts {
		if w := attempts[i].Wire; w != nil && w.SynAcks > 0 {
			if w.SynAck.TTL == ttl {
				return false
			}
			seen = true
		}
	}
	return seen
}

// byRST reports whether a SYN was refused by a RST rather than by ICMP. The
// kernel gives an ICMP port unreachable the errno of a RST.
func byRST(ev *tfo.Evidence) bool {
	if w := ev.Wire; w != nil && w.Resets+w.ICMPErrors > 0 {
		return w.Resets > 0
	}
	return ev.Errno == "ECONNREFUSED" || ev.Errno == "ECONNRESET"
}
