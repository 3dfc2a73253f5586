package html

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"tfofleet/internal/measure"
	"tfofleet/internal/report"
	"tfofleet/internal/tfo"
)

func meaning(v measure.Verdict) string { return report.Meaning(v) }

type facters []Fact

func (fs *facters) add(what, format string, args ...any) {
	*fs = append(*fs, Fact{what, fmt.Sprintf(format, args...)})
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// clientFails are the values of tcpi_fastopen_client_fail (include/uapi/linux/tcp.h).
var clientFails = [...]string{"nothing to report", "no cookie was available", "SYN data not acknowledged", "SYN retransmitted"}

var cleared = [...]string{tfo.NotTried: "", tfo.No: "; it could not be deleted first", tfo.Yes: "; the cache entry was deleted first"}

func cookieWord(c tfo.Cookie) string {
	switch c.State {
	case tfo.CookieNone:
		return "none"
	case tfo.CookiePresent:
		return hex.EncodeToString(c.Bytes)
	}
	return "not read"
}

var endTexts = map[tfo.End]string{
	tfo.EndResponse: "with a response", tfo.EndClosed: "closed without a byte", tfo.EndReset: "connected, then broken by an error",
	tfo.EndSilent: "connected, then silence", tfo.EndRefused: "the SYN was answered by an error", tfo.EndTimeout: "no answer to the SYN",
	tfo.EndLocal: "this machine did not send it", tfo.EndInterrupted: "cut short by the probe's own end", tfo.EndSynAck: "with a SYN-ACK, which the kernel reset",
}

func endText(ev *tfo.Evidence) string {
	s, ok := endTexts[ev.End]
	if !ok {
		s = ev.End.String()
	}
	if ev.Errno != "" {
		s += " (" + ev.Errno + ")"
	}
	if ev.TotalNS >= 0 && ev.End != tfo.EndLocal {
		s += " after " + millis(ev.TotalNS/1000)
	}
	return s
}

// dataFact says what became of the data, as the socket tells it.
func dataFact(ev *tfo.Evidence) string {
	s := fmt.Sprintf("%s offered, %d put into the SYN", plural(ev.Offered, "byte"), ev.SynBytes)
	if ev.SynBytes > 0 && ev.SynAcked >= 0 {
		s += fmt.Sprintf(", %d acknowledged by the SYN-ACK", ev.SynAcked)
	}
	return s
}

// segmentText is what a SYN or SYN-ACK carried besides Fast Open.
func segmentText(s *tfo.Segment) string {
	var p []string
	add := func(format string, args ...any) { p = append(p, fmt.Sprintf(format, args...)) }
	add("%s", optionText(s.OptionKind, s.Cookie, ""))
	if s.TTL > 0 {
		add("TTL %d", s.TTL)
	}
	if s.MSS > 0 {
		add("MSS %d", s.MSS)
	}
	if s.WindowScale > 0 {
		add("window scale %d", s.WindowScale)
	}
	if s.SACKPermitted {
		add("SACK")
	}
	if s.Timestamps {
		add("timestamps")
	}
	if s.BothKinds {
		add("options of both kinds")
	}
	if s.Repeated {
		add("one kind of option repeated")
	}
	if s.Malformed {
		add("options malformed")
	}
	return strings.Join(p, ", ")
}

// optionText is a TFO option; empty is what one without a cookie is.
func optionText(kind uint8, cookie []byte, empty string) string {
	switch {
	case kind == 0:
		return "no TFO option"
	case len(cookie) > 0:
		return fmt.Sprintf("TFO %d, cookie %s", kind, hex.EncodeToString(cookie))
	case empty != "":
		return fmt.Sprintf("TFO %d, %s", kind, empty)
	}
	return fmt.Sprintf("TFO %d, empty", kind)
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return number(uint64(max(n, 0))) + " " + what + "s"
}

// number groups digits: 12,345.
func number(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// millis is µs as ms or s with the digits that count.
func millis(us int64) string {
	switch ms := float64(us) / 1000; {
	case ms >= 10_000:
		return fmt.Sprintf("%.1f s", ms/1000)
	case ms >= 100:
		return fmt.Sprintf("%.0f ms", ms)
	case ms >= 10:
		return fmt.Sprintf("%.1f ms", ms)
	default:
		return fmt.Sprintf("%.2f ms", ms)
	}
}
