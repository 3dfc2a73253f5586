package measure

import (
	"fmt"
	"strings"

	"tfofleet/internal/tfo"
)

// findingTexts say what one attempt showed, for people.
var findingTexts = [...]string{
	granted:    "asked for a cookie and got one",
	noCookie:   "asked for a cookie and got none",
	optionLost: "the SYN with the option was lost; sent again without it, it was answered",
	acked:      "all data of the SYN was acknowledged",
	partial:    "part of the SYN's data was acknowledged, the rest sent again",
	notAcked:   "the SYN's data was not acknowledged; the cookie stayed the same",
	replaced:   "the SYN's data was not acknowledged; the cookie was refused and replaced",
	dataLost:   "the SYN with data was lost; sent again without, it was answered",
	refused:    "the SYN was answered by an error",
	noAnswer:   "nothing came back, to the SYN or to its repetitions",
	silent:     "handshake, then silence, where plain attempts are answered",
	cutOff:     "handshake, then cut off, where plain attempts get a response",
	empty:      "there was no payload to put into the SYN",
	returned:   "the answer carried the unknown option: this host returns any option",
	ignored:    "the unknown option was passed over, as it should be",
	local:      "this machine did not send what it should have",
}

// Explain says in plain words what each attempt showed (one line per attempt,
// in order) and why the verdict is what it is.
func Explain(plan Plan, attempts []tfo.Evidence) (shown []string, reasons []string) {
	base := baselineOf(attempts)
	for i := range attempts {
		ev := &attempts[i]
		if ev.Kind == tfo.KindPlain {
			shown = append(shown, plainText(ev, base))
			continue
		}
		shown = append(shown, findingTexts[base.find(ev)])
	}
	t := tallyOf(plan, attempts)
	return shown, t.reasons(t.verdict())
}

func plainText(ev *tfo.Evidence, base baseline) string {
	switch {
	case ev.End == tfo.EndLocal:
		return "this machine could not send the SYN"
	case !ev.End.Established():
		return "no connection without Fast Open either"
	case base.lossy(ev):
		return "connected, after a loss"
	case ev.End == tfo.EndSilent:
		return "connected, but not answered: silence does not tell anything here"
	}
	return "works without Fast Open"
}

// reasons gives the counts a verdict stands on.
func (t *tally) reasons(v Verdict) []string {
	var rs []string
	say := func(format string, args ...any) { rs = append(rs, fmt.Sprintf(format, args...)) }
	tries := t.tfo - t.of[granted] - t.of[noCookie] - t.of[optionLost] // with a cookie, or failed
	controls := func() {
		say("%d of %d plain attempts around them worked, %d after a loss", t.plainOK, t.plain, t.plainLossy)
	}
	switch v {
	case Supported:
		if t.plan == Cookieless {
			say("%d of %d SYNs with data and without a cookie had all of it acknowledged, and were answered like plain ones", t.of[acked], tries)
			break
		}
		say("%d of %d attempts with a cookie had all their SYN data acknowledged and were answered like plain ones", t.of[acked], tries)
	case CookieOnly:
		say("a cookie was granted, but %d of %d attempts had none of their SYN data acknowledged, and the cookie never changed", t.of[notAcked], tries)
	case DataTruncated:
		say("%d of %d attempts had only part of their SYN data acknowledged", t.of[partial], tries)
	case CookieUnstable:
		say("%d of %d cookies were refused and replaced by another", t.of[replaced], tries)
	case Unsupported:
		if t.plan == Cookieless {
			say("%d SYNs with data and without a cookie had none of it acknowledged", t.of[notAcked])
			break
		}
		say("%d clean requests, %d with option kind 34 and %d with kind 254, brought no cookie", t.of[noCookie], t.cleanKind[0], t.cleanKind[1])
	case OptionDropped:
		say("%d of %d SYNs that asked for a cookie were lost and answered only when sent again without the option", t.of[optionLost], t.tfo)
		controls()
	case DataDropped:
		if largest, drops := t.side.sizeLimit(); drops {
			say("SYNs with more than %d bytes of data are lost, one with %d is acknowledged", largest, largest)
		} else {
			say("%d of %d SYNs with data were lost and answered only when sent again without", t.of[dataLost], tries)
		}
		controls()
	case Reset:
		say("%d Fast Open attempts were answered by an error, %d cut off after the handshake", t.of[refused], t.of[cutOff])
		controls()
	case FlowBlackholed:
		say("%d Fast Open attempts were never answered, not even when the SYN was sent again", t.of[noAnswer])
		controls()
	case BlackholedAfterHandshake:
		say("%d Fast Open attempts completed the handshake and then heard nothing", t.of[silent])
		controls()
	case ClientBlocked:
		say("plain attempts worked before the Fast Open attempts; the last %d after them failed", t.failRun)
	case Offline:
		say("%d plain and %d Fast Open attempts failed alike", t.plainFailed, t.tfo)
	case Inconclusive:
		rs = append(rs, t.doubts()...)
	}
	return rs
}

// doubts says why no other verdict could be given.
func (t *tally) doubts() []string {
	var rs []string
	switch {
	case t.of[local] > 0 || t.last != nil && t.last.End == tfo.EndLocal:
		rs = append(rs, "this machine spoilt the measurement; see the tfo.vantage conditions")
	case t.plainOK == 0 && t.established():
		rs = append(rs, "only Fast Open attempts got through, so there is nothing to hold them to")
	case t.failRun > 0:
		rs = append(rs, fmt.Sprintf("the last %d plain attempts failed: it went down, or a block is not proved", t.failRun))
	case t.of[empty] > 0:
		rs = append(rs, "a cookie was granted, but there was no payload to test SYN data with")
	}
	if t.tfo > 1 && len(rs) == 0 {
		var parts []string
		for f, n := range t.of {
			if n > 0 {
				parts = append(parts, fmt.Sprintf("%d x %s", n, findingTexts[f]))
			}
		}
		rs = append(rs, "the tries disagree, or are too few: "+strings.Join(parts, "; "))
	}
	return rs
}
