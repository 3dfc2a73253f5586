package measure

import (
	"bytes"

	"tfofleet/internal/tfo"
)

// Conditions that only a look at the wire gives. They add to a measurement; no
// verdict depends on them.
const (
	CondCookieMirrored    Condition = "tfo.cookie.mirrored"    // a SYN-ACK carried an empty TFO option
	CondCookieReturned    Condition = "tfo.cookie.returned"    // a SYN-ACK carried the cookie of the SYN it answers
	CondCookieUnusable    Condition = "tfo.cookie.unusable"    // of a length the kernel does not take: odd, below 4 or above 16
	CondCookieUnsolicited Condition = "tfo.cookie.unsolicited" // a SYN-ACK carried a TFO option, its SYN did not
	CondCookieBothKinds   Condition = "tfo.cookie.both_kinds"  // a SYN-ACK carried options of kind 34 and 254
	CondCookieRepeated    Condition = "tfo.cookie.repeated"    // a SYN-ACK carried one kind of option more than once
	CondOptionMalformed   Condition = "tfo.option.malformed"   // the options of a SYN-ACK end in one that cannot be
	CondSynDataOverAcked  Condition = "tfo.syndata.over_acked" // a SYN-ACK acknowledged more than was sent
	CondSynAckData        Condition = "tfo.synack.data"        // a SYN-ACK carried data
	CondResetOtherTTL     Condition = "tfo.reset.other_ttl"    // the RST had another TTL than the target's SYN-ACKs: a sign that somebody else sent it

	CondVantageUnseen     Condition = "tfo.vantage.syn_not_seen"       // a SYN did not leave as it was made: a local firewall or address translation
	CondVantageIncomplete Condition = "tfo.vantage.capture_incomplete" // packets were lost before they could be looked at
)

// onWire adds what the wire showed.
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
