package measure

import (
	"time"

	"tfofleet/internal/tfo"
)

// finding is what one Fast Open attempt showed, judged against the plain
// attempts of the same measurement. It is the only place where evidence is
// read; everything above counts findings.
type finding uint8

const (
	granted    finding = iota + 1 // asked for a cookie and got one
	noCookie                      // asked cleanly, and got none
	optionLost                    // the SYN with the request timed out, its bare retransmission did not
	acked                         // all SYN data acked, and the target answered as it does to plain attempts
	partial                       // part of the SYN data acked
	notAcked                      // no SYN data acked, cookie unchanged
	replaced                      // no SYN data acked, and a new cookie came
	dataLost                      // the SYN with data timed out, its bare retransmission did not
	refused                       // the SYN was answered by RST or ICMP
	noAnswer                      // the SYN and all its retransmissions were never answered
	silent                        // handshake done, then nothing, where plain attempts are answered
	cutOff                        // handshake done, then reset or closed without a byte, where plain attempts get a response
	empty                         // had a cookie but no payload to send: says nothing of SYN data
	returned                      // an option nobody knows came back in the SYN-ACK
	ignored                       // an option nobody knows was passed over, as it should be
	local                         // this machine did not send what it should have
)

// slowHandshake is how much longer than a plain handshake one may take before
// it counts as having lost a segment. The first retransmission of a SYN or a
// SYN-ACK comes after 1 s (RFC 6298, section 2), and a retransmitted SYN-ACK
// carries no cookie.
const slowHandshake = 700 * time.Millisecond

// baseline is what the plain attempts got: the standard Fast Open is held to.
type baseline struct {
	connectNS int64 // fastest handshake; tfo.NotKnown without one
	answered  bool  // at least one was answered at all
	responded bool  // at least one got bytes
}

func baselineOf(attempts []tfo.Evidence) baseline {
	b := baseline{connectNS: tfo.NotKnown}
	for i := range attempts {
		ev := &attempts[i]
		if ev.Kind != tfo.KindPlain || !ev.End.Established() {
			continue
		}
		if b.connectNS < 0 || ev.ConnectNS < b.connectNS {
			b.connectNS = ev.ConnectNS
		}
		b.answered = b.answered || ev.End.Answered()
		b.responded = b.responded || ev.End == tfo.EndResponse
	}
	return b
}

// lossy reports whether the handshake lost a segment on the way.
func (b baseline) lossy(ev *tfo.Evidence) bool {
	if ev.SynRetransmits > 0 {
		return true
	}
	fastest := max(0, b.connectNS)
	return ev.ConnectNS > fastest+int64(slowHandshake) && (b.connectNS >= 0 || ev.ConnectNS > int64(900*time.Millisecond))
}

// hadCookie reports whether the attempt started with a cookie in the cache.
// The bytes in the SYN prove one where the cache could not be read.
func hadCookie(ev *tfo.Evidence) bool {
	return ev.CookieBefore.State == tfo.CookiePresent || ev.SynBytes > 0
}

// blind reports whether the SYN had data and there was no cookie: then it had no
// option either, though nothing but the wire shows it. The kernel does that where
// net.ipv4.tcp_fastopen has bit 0x4.
func blind(ev *tfo.Evidence) bool {
	return ev.SynBytes > 0 && ev.CookieBefore.State == tfo.CookieNone
}

// find judges one Fast Open attempt.
func (b baseline) find(ev *tfo.Evidence) finding {
	if unsent(ev) {
		return local
	}
	switch ev.End {
	case tfo.EndLocal, tfo.EndInterrupted:
		return local
	case tfo.EndRefused:
		return refused
	case tfo.EndTimeout:
		if isRaw(ev.Kind) && (ev.Wire == nil || ev.Wire.Incomplete) {
			return local // only the capture could have seen an answer, and it was not there
		}
		return noAnswer
	}
	if ev.End == tfo.EndSynAck {
		return findRaw(ev)
	}
	if ev.Kind != tfo.KindCookieless && (ev.OptionKind == 0 || blind(ev)) || hadCookie(ev) && ev.Offered > 0 && ev.SynBytes == 0 {
		return local // the kernel sent a SYN without the option, or without the data
	}
	if b.answered && ev.End == tfo.EndSilent {
		return silent
	}
	if b.responded && ev.End != tfo.EndResponse {
		return cutOff
	}
	if !hadCookie(ev) {
		switch {
		case ev.CookieAfter.State == tfo.CookiePresent:
			return granted
		case b.lossy(ev):
			return optionLost
		}
		return noCookie
	}
	switch {
	case ev.Offered == 0:
		return empty
	case ev.SynAcked >= ev.SynBytes:
		// Also when the SYN was sent twice: what was lost then is the SYN-ACK.
		return acked
	case ev.SynAcked > 0:
		return partial
	case ev.CookieAfter.State == tfo.CookiePresent && !ev.CookieAfter.Equal(ev.CookieBefore):
		return replaced
	case b.lossy(ev) || ev.ClientFail == tfo.FailSynRetransmitted:
		return dataLost
	}
	return notAcked
}

// unsent reports whether the SYN was never answered because it never left this
// machine: the capture works, lost nothing, and did not see it. A full
// neighbour table does that, or a local firewall.
func unsent(ev *tfo.Evidence) bool {
	return ev.End == tfo.EndTimeout && ev.WireAbsent == tfo.WireUnseen
}

// isRaw reports whether the SYN came from a raw socket, so that no socket
// tells of its answer.
func isRaw(k tfo.Kind) bool { return k == tfo.KindForged || k == tfo.KindUnknown }

// findRaw judges a SYN that no socket sent, by the SYN-ACK that answered it.
func findRaw(ev *tfo.Evidence) finding {
	switch {
	case ev.Wire == nil:
		return local
	case ev.Kind == tfo.KindUnknown && ev.Wire.SynAck.Control:
		return returned
	case ev.Kind == tfo.KindUnknown:
		return ignored
	case ev.SynBytes > 0 && ev.SynAcked >= ev.SynBytes:
		return acked
	case ev.SynAcked > 0:
		return partial
	}
	return notAcked
}

// suspect reports whether loss, load or a passing outage could have caused the
// finding, so that a plain attempt must follow at once as its control.
func (f finding) suspect() bool {
	switch f {
	case optionLost, dataLost, refused, noAnswer, silent, cutOff:
		return true
	}
	return false
}
