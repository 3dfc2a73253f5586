package measure

import (
	"bytes"

	"tfofleet/internal/tfo"
)

// Sight is what both ends together show of one attempt. The values are
// append-only: they are stored in datasets.
type Sight uint8

const (
	SightNone   Sight = 0 // not judged: a SYN from a raw socket never becomes a connection
	SightIntact Sight = 1 // all that was sent arrived, and the answer came back
	// SightOther: the listener saw another SYN, or none, and yet the client was
	// answered: somebody between them ends connections.
	SightOther Sight = 2

	SightOptionGone    Sight = 3 // there: the SYN arrived without its option
	SightCookieGone    Sight = 4 // there: the option arrived without its cookie
	SightCookieChanged Sight = 5 // there: another cookie arrived
	SightPayloadGone   Sight = 6 // there: the option arrived, and none of the data
	SightPayloadCut    Sight = 7 // there: part of the data arrived
	SightOptionLost    Sight = 8 // there: the SYN with the request was lost; its bare repetition arrived
	SightDataLost      Sight = 9 // there: the SYN with data was lost; its bare repetition arrived

	SightAnswerLost    Sight = 10 // back: the SYN-ACK with the cookie was lost; a bare one came later
	SightCookieMissing Sight = 11 // back: the SYN-ACK brought no option
	SightCookieEmptied Sight = 12 // back: the SYN-ACK brought the option without a cookie
	SightCookieAltered Sight = 13 // back: the client was given another cookie than the listener gives

	// SightCookieRefused: the cookie is one that the listener gave to another of
	// the client's addresses.
	SightCookieRefused Sight = 14

	SightDeadForward Sight = 15 // nothing that the client sent after the SYN arrived
	SightDeadReturn  Sight = 16 // nothing that the listener sent after the SYN-ACK came back
	SightDeadBoth    Sight = 17

	SightUnheardForward Sight = 18 // the client got no answer, and the SYN did not arrive
	SightUnheardReturn  Sight = 19 // the client got no answer, though the SYN arrived
	// SightUnheard: the client got no answer; whether the SYN arrived is not
	// known, for a handshake that is not completed leaves no trace.
	SightUnheard Sight = 20

	SightRefused  Sight = 21 // reset, closed or refused by ICMP, and not by the listener
	SightWithheld Sight = 22 // all arrived, and the listener itself did not do its part
	SightUnjoined Sight = 23 // the client has a connection that is not known to have arrived
	SightLocal    Sight = 24 // the client did not send what it should have
	SightUnclear  Sight = 25 // none of the above
)

var sightNames = [...]string{
	"none", "intact", "other_syn", "option_gone", "cookie_gone", "cookie_changed", "payload_gone", "payload_cut", "option_lost", "data_lost",
	"answer_lost", "cookie_missing", "cookie_emptied", "cookie_altered", "cookie_refused", "dead_forward", "dead_return", "dead_both",
	"unheard_forward", "unheard_return", "unheard", "refused", "withheld", "unjoined", "local", "unclear",
}

func (s Sight) String() string {
	if int(s) < len(sightNames) {
		return sightNames[s]
	}
	return "unknown"
}

var sightTexts = [...]string{
	SightNone:           "not judged: a SYN of this kind never becomes a connection",
	SightIntact:         "arrived as it was sent, and was answered",
	SightOther:          "the listener saw another SYN than was sent, or none, and yet the client was answered",
	SightOptionGone:     "the SYN arrived without its option",
	SightCookieGone:     "the option arrived without its cookie",
	SightCookieChanged:  "the option arrived with another cookie",
	SightPayloadGone:    "the option arrived, and none of the SYN's data",
	SightPayloadCut:     "part of the SYN's data arrived",
	SightOptionLost:     "the SYN with the option was lost on its way there; sent again without, it arrived",
	SightDataLost:       "the SYN with data was lost on its way there; sent again without, it arrived",
	SightAnswerLost:     "the SYN arrived whole; the SYN-ACK with the cookie was lost on its way back",
	SightCookieMissing:  "the SYN arrived whole; the SYN-ACK came back without the option",
	SightCookieEmptied:  "the SYN arrived whole; the SYN-ACK came back with an empty option",
	SightCookieAltered:  "the SYN arrived whole; another cookie than the listener gives came back",
	SightCookieRefused:  "the cookie was given to another address of the client's, and refused",
	SightDeadForward:    "after the SYN nothing of the client's arrived",
	SightDeadReturn:     "after the SYN-ACK nothing of the listener's came back",
	SightDeadBoth:       "after the handshake's first two segments nothing got through, either way",
	SightUnheardForward: "no answer; the SYN did not arrive",
	SightUnheardReturn:  "no answer, though the SYN arrived",
	SightUnheard:        "no answer; whether the SYN arrived is not known",
	SightRefused:        "refused or cut off, and not by the listener",
	SightWithheld:       "all arrived, and the listener's own kernel withheld Fast Open",
	SightUnjoined:       "connected, and not known to have arrived",
	SightLocal:          "this machine did not send what it should have",
	SightUnclear:        "both ends contradict each other in a way that has no name",
}

// Text says for people what the sight is.
func (s Sight) Text() string {
	if int(s) < len(sightTexts) {
		return sightTexts[s]
	}
	return s.String()
}

// viewer judges the attempts of one measurement.
type viewer struct {
	base  baseline
	pairs []Pair
	// spoilt: the listener's kernel withheld Fast Open, or lost SYNs, at some
	// time in the measurement.
	spoilt bool
}

func newViewer(s *Sides, pairs []Pair) *viewer {
	v := &viewer{base: baselineOf(s.Attempts), pairs: pairs}
	for _, a := range s.Alarms {
		switch a.Kind {
		case tfo.AlarmServerOff, tfo.AlarmQueueOverflow, tfo.AlarmAcceptOverflow, tfo.AlarmSyncookies:
			v.spoilt = true
		}
	}
	return v
}

// sight judges one attempt. The first thing that went wrong on the way of the
// packets names it: what comes later follows from it.
func (v *viewer) sight(p *Pair) Sight {
	ev := p.Attempt
	plain := ev.Kind == tfo.KindPlain
	switch {
	case isRaw(ev.Kind):
		return SightNone
	case ev.End == tfo.EndLocal, ev.End == tfo.EndInterrupted, unsent(ev), !plain && v.base.find(ev) == local:
		return SightLocal
	case p.Arrival == nil:
		return v.nothing(ev)
	case p.other():
		return SightOther
	}
	var s Sight
	if !plain {
		s = v.arrived(p)
	}
	if s == 0 {
		s = v.after(p)
	}
	if s == 0 && !plain {
		s = v.cookie(p)
	}
	if s == 0 {
		s = SightIntact
	}
	return s
}

// nothing judges an attempt of which nothing is known to have arrived.
func (v *viewer) nothing(ev *tfo.Evidence) Sight {
	switch {
	case ev.End == tfo.EndRefused:
		return SightRefused
	case ev.End == tfo.EndTimeout && ev.Kind != tfo.KindPlain && ev.SynBytes > 0:
		return SightUnheardForward // a SYN with a cookie that arrives is a connection at once
	case ev.End == tfo.EndTimeout:
		return SightUnheard
	case ev.End == tfo.EndResponse:
		return SightOther // somebody answered
	case ev.End == tfo.EndSilent && v.base.answered:
		return SightDeadForward
	case ev.End == tfo.EndSilent:
		return SightUnjoined
	case v.base.responded:
		return SightRefused // closed or reset in the name of a listener that answers
	}
	return SightUnjoined
}

// other reports whether the listener saw a SYN that is not the client's.
func (p *Pair) other() bool {
	ev, a := p.Attempt, p.Arrival
	if ev.SynBytes > 0 && ev.SynAcked > 0 && a.SYN.Raw != nil && a.SynTaken == 0 {
		return true // whoever acknowledged the data, it was not the listener
	}
	if ev.SynBytes == 0 && a.Claim == tfo.ClaimNone && ev.CookieBefore.State == tfo.CookieNone && ev.CookieAfter.State == tfo.CookiePresent {
		return true // whoever gave the cookie, it was not the listener
	}
	sent, got := p.syns()
	if sent == nil || sent.Seq == got.Seq {
		return false
	}
	// Firewalls rewrite sequence numbers, and pass the rest on. Timestamps are
	// the client's own clock, with an offset for each connection.
	if s, g := &sent.Options, &got.Options; s.Timestamps && g.Timestamps {
		later := g.TSVal - s.TSVal
		return later != 0 && (ev.SynRetransmits == 0 || later > repeatWindow)
	}
	return sent.Window != got.Window || sent.Options.WindowScale != got.Options.WindowScale
}

// repeatWindow is how much later, in ms, a SYN may be sent again.
const repeatWindow = 120_000

// syns are the SYN as it left and as it arrived, nil when one of them is not
// known.
func (p *Pair) syns() (sent, got *tfo.SavedSYN) {
	w := p.Attempt.Wire
	if w == nil || w.Syns == 0 || p.Arrival == nil || p.Arrival.SYN.Raw == nil {
		return nil, nil
	}
	syn, err := tfo.DecodeSYN(w.Syn.Raw)
	if err != nil {
		return nil, nil
	}
	return &syn, &p.Arrival.SYN
}

// first reports whether the SYN that arrived is the first that was sent; the
// kernel repeats it without option and data.
func (p *Pair) first() bool {
	if p.Attempt.SynRetransmits == 0 {
		return true
	}
	sent, got := p.syns()
	return sent != nil && sent.Options.Timestamps && got.Options.Timestamps && sent.Options.TSVal == got.Options.TSVal
}

// sentCookie is what the SYN carried; known is false when nobody looked.
func sentCookie(ev *tfo.Evidence) (cookie []byte, known bool) {
	switch {
	case ev.Wire != nil && ev.Wire.Syns > 0:
		return ev.Wire.Syn.Cookie, true
	case ev.CookieBefore.State == tfo.CookieNotRead:
		return nil, false
	}
	return ev.CookieBefore.Bytes, true
}

// arrived judges the SYN on its way there; 0 when it came as it was sent.
func (v *viewer) arrived(p *Pair) Sight {
	ev, a := p.Attempt, p.Arrival
	opt := a.SYN.Options.FastOpen()
	switch {
	case a.Claim == tfo.ClaimUnseen:
		return SightWithheld
	case ev.OptionKind == 0:
		return 0 // data without a cookie
	case opt.Count > 0:
	case p.first():
		return SightOptionGone
	case ev.SynBytes > 0:
		return SightDataLost
	default:
		return SightOptionLost
	}
	if cookie, known := sentCookie(ev); known && !bytes.Equal(cookie, opt.Cookie) {
		if len(opt.Cookie) == 0 {
			return SightCookieGone
		}
		return SightCookieChanged
	}
	switch {
	case ev.SynBytes == 0 || a.SynBytes == tfo.NotKnown || a.SynBytes >= ev.SynBytes:
		return 0
	case a.SynBytes == 0:
		return SightPayloadGone
	}
	return SightPayloadCut
}

// after judges what followed the SYN; 0 when the connection went its way.
func (v *viewer) after(p *Pair) Sight {
	ev, a := p.Attempt, p.Arrival
	acked := a.HandshakeNS != tfo.NotKnown
	gaveUp := a.End == tfo.ArrivalUnacked || a.End == tfo.ArrivalSilent
	switch {
	case ev.End == tfo.EndTimeout:
		return SightUnheardReturn
	case ev.End == tfo.EndRefused, v.base.responded && (ev.End == tfo.EndReset || ev.End == tfo.EndClosed):
		return SightRefused
	case ev.End == tfo.EndReset, ev.End == tfo.EndClosed, ev.End == tfo.EndSilent && !v.base.answered:
		return SightUnclear // not even plain attempts are answered, by a listener that answers
	case ev.End == tfo.EndSilent && !acked && a.ResponseBytes > 0:
		return SightDeadBoth
	case ev.End == tfo.EndSilent && a.ResponseBytes > 0 && a.ResponseAcked < a.ResponseBytes:
		return SightDeadReturn
	case ev.End == tfo.EndSilent && a.ResponseBytes == 0:
		return SightDeadForward
	case ev.End == tfo.EndSilent:
		return SightUnclear
	case !acked && gaveUp:
		return SightDeadForward // the answer came back, and nothing ever followed the SYN
	}
	return 0
}

// cookie judges what the listener made of the SYN, and what came back of that.
func (v *viewer) cookie(p *Pair) Sight {
	ev, a := p.Attempt, p.Arrival
	if ev.SynBytes > 0 || hadCookie(ev) {
		switch {
		case ev.OptionKind == 0 || ev.SynAcked >= ev.SynBytes:
			return 0
		case a.Claim == tfo.ClaimValid || a.Claim == tfo.ClaimBackup:
			if a.Child == tfo.No {
				return SightWithheld
			}
			return SightUnclear // taken, and the client was told that it was not
		case v.ofAnother(p):
			return SightCookieRefused
		case a.Gives == nil:
			return SightUnclear
		}
		return SightCookieAltered // it came as it was sent, and the listener never gave it
	}
	if ev.CookieAfter.State == tfo.CookiePresent {
		if a.Gives != nil && !bytes.Equal(a.Gives, ev.CookieAfter.Bytes) {
			return SightCookieAltered
		}
		return 0
	}
	switch w := ev.Wire; {
	case a.Child == tfo.Yes || v.spoilt:
		return SightWithheld
	case v.base.lossy(ev):
		return SightAnswerLost
	case w == nil || w.Incomplete || w.SynAcks == 0 || w.SynAck.OptionKind == 0:
		return SightCookieMissing
	case w.SynAck.Mirrored():
		return SightCookieEmptied
	case a.Gives == nil || bytes.Equal(a.Gives, w.SynAck.Cookie):
		return SightUnclear // it came back, and is not in the cache
	}
	return SightCookieAltered
}

// ofAnother reports whether the cookie that arrived is one that the listener
// gave to another address of the client's, or, where the listener's key is not
// known, whether the client comes from several.
func (v *viewer) ofAnother(p *Pair) bool {
	here := p.Arrival.Peer.Addr().Unmap()
	for i := range v.pairs {
		a := v.pairs[i].Arrival
		if a == nil || a.Peer.Addr().Unmap() == here {
			continue
		}
		if a.Gives == nil || bytes.Equal(a.Gives, p.Arrival.SYN.Options.FastOpen().Cookie) {
			return true
		}
	}
	return false
}
