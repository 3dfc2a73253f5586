package report

import (
	"encoding/hex"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"tfofleet/internal/measure"
	"tfofleet/internal/tfo"
)

// Trace tells one measurement attempt by attempt, as a person reads a packet
// trace: what left, what came back, what the kernel says of it, and then the
// verdict with its reasons. Facts from the wire are marked seen; without them
// the same lines say what the socket shows.
func Trace(w io.Writer, plan measure.Plan, m measure.Measurement) error {
	if err := TraceTarget(w, plan, m.Target); err != nil {
		return err
	}
	for i := range m.Attempts {
		if err := TraceAttempt(w, plan, m.Attempts, i); err != nil {
			return err
		}
	}
	return TraceVerdict(w, plan, m)
}

// TraceTarget is the first line of a trace.
func TraceTarget(w io.Writer, plan measure.Plan, target measure.Target) error {
	name := netip.AddrPortFrom(target.Addr, target.Port).String()
	if target.Hostname != "" {
		name += "  " + target.Hostname
	}
	_, err := fmt.Fprintf(w, "%s, plan %s\n", name, plan)
	return err
}

// TraceAttempt tells attempt i, judged by all attempts given.
func TraceAttempt(w io.Writer, plan measure.Plan, attempts []tfo.Evidence, i int) error {
	t := &tracer{}
	shown, _ := measure.Explain(plan, attempts)
	t.attempt(i+1, &attempts[i])
	t.row("=", "shows", "%s", shown[i])
	_, err := io.WriteString(w, t.b.String())
	return err
}

// TraceVerdict is the end of a trace.
func TraceVerdict(w io.Writer, plan measure.Plan, m measure.Measurement) error {
	t := &tracer{}
	_, reasons := measure.Explain(plan, m.Attempts)
	t.line("\nverdict: %s", m.Verdict)
	for _, r := range reasons {
		t.line("  because %s", r)
	}
	if len(m.Conditions) > 0 {
		words := make([]string, len(m.Conditions))
		for i, c := range m.Conditions {
			words[i] = string(c)
		}
		t.line("  conditions %s", strings.Join(words, " "))
	}
	_, err := io.WriteString(w, t.b.String())
	return err
}

type tracer struct{ b strings.Builder }

func (t *tracer) line(format string, args ...any) { fmt.Fprintf(&t.b, format+"\n", args...) }

func (t *tracer) row(arrow, what, format string, args ...any) {
	t.line("   %s %-9s %s", arrow, what, fmt.Sprintf(format, args...))
}

func (t *tracer) attempt(n int, ev *tfo.Evidence) {
	from := ""
	if ev.Local.IsValid() {
		from = fmt.Sprintf("  from %v", ev.Local)
	}
	t.line("\n%d  %s%s", n, ev.Kind, from)
	if ev.End == tfo.EndLocal {
		t.row("!", "not sent", "%s", ev.Errno)
		return
	}
	t.row(">", "SYN", "%s", synText(ev))
	if ev.SynRetransmits > 0 {
		t.row(">", "SYN", "sent again after a timeout, %d x%s", ev.SynRetransmits, bareText(ev))
	}
	t.answer(ev)
	t.row("·", "kernel", "%s", kernelText(ev))
	t.row("·", "cookie", "%s", cacheText(ev))
	if ev.End.Established() {
		t.response(ev)
	}
}

func synText(ev *tfo.Evidence) string {
	option := "no TFO option"
	switch {
	case ev.OptionKind != 0 && ev.CookieBefore.State == tfo.CookiePresent:
		option = fmt.Sprintf("TFO kind %d, cookie %s", ev.OptionKind, hex.EncodeToString(ev.CookieBefore.Bytes))
	case ev.OptionKind != 0:
		option = fmt.Sprintf("TFO kind %d, cookie request", ev.OptionKind)
	}
	if ev.Wire != nil {
		s := &ev.Wire.Syn
		option = "no TFO option"
		if s.OptionKind != 0 {
			option = fmt.Sprintf("TFO kind %d, %s", s.OptionKind, cookieText(s.Cookie, "cookie request"))
		}
		return fmt.Sprintf("%s, %s (seen)", option, dataText(s.Payload))
	}
	return option + ", " + dataText(ev.SynBytes)
}

func dataText(n int) string {
	if n == 0 {
		return "no data"
	}
	return fmt.Sprintf("%d bytes of data", n)
}

func cookieText(c []byte, empty string) string {
	if len(c) == 0 {
		return empty
	}
	return fmt.Sprintf("cookie %s (%d bytes)", hex.EncodeToString(c), len(c))
}

func bareText(ev *tfo.Evidence) string {
	if ev.Wire == nil {
		return ""
	}
	switch ev.Wire.RetransmitsBare {
	case tfo.Yes:
		return ", without option and data (seen)"
	case tfo.No:
		return ", not bare (seen)"
	}
	return ""
}

// answer tells what came back to the SYN.
func (t *tracer) answer(ev *tfo.Evidence) {
	if w := ev.Wire; w != nil {
		if w.ICMPErrors > 0 {
			t.row("<", "ICMP", "type %d code %d from %v (seen)", w.ICMPType, w.ICMPCode, w.ICMPFrom)
		}
		if w.Resets > 0 && !ev.End.Established() {
			t.row("<", "RST", "ttl %d (seen)", w.ResetTTL)
		}
	}
	switch ev.End {
	case tfo.EndRefused:
		t.row("<", "error", "%s after %v", ev.Errno, ns(ev.TotalNS))
		return
	case tfo.EndTimeout:
		t.row("<", "nothing", "given up after %v", ns(ev.TotalNS))
		return
	case tfo.EndInterrupted:
		t.row("!", "cut short", "by this program's own end")
		return
	}
	acked := ""
	if ev.SynBytes > 0 {
		acked = fmt.Sprintf("%d of %d bytes of SYN data acknowledged, ", ev.SynAcked, ev.SynBytes)
	}
	option := ""
	if w := ev.Wire; w != nil && w.SynAcks > 0 {
		option = "no TFO option (seen), "
		if w.SynAck.OptionKind != 0 {
			option = fmt.Sprintf("TFO kind %d, %s (seen), ", w.SynAck.OptionKind, cookieText(w.SynAck.Cookie, "empty"))
		}
	}
	t.row("<", "SYN-ACK", "%s%safter %v", option, acked, ns(ev.ConnectNS))
}

var clientFails = [...]string{"nothing to report", "no cookie was available", "SYN data not acknowledged", "SYN retransmitted"}

func kernelText(ev *tfo.Evidence) string {
	synData := "no"
	if ev.TCPIOptions&tfo.OptSynData != 0 {
		synData = "yes"
	}
	s := fmt.Sprintf("SYN timeouts %d, other retransmissions %d", ev.SynRetransmits, ev.DataRetransmits)
	if ev.Kind != tfo.KindPlain {
		s = fmt.Sprintf("SYN_DATA %s, client_fail %d (%s), %s", synData, ev.ClientFail, clientFails[ev.ClientFail&3], s)
	}
	if ev.Wire == nil && ev.WireAbsent != "" {
		s += "; wire " + ev.WireAbsent
	}
	return s
}

func cacheText(ev *tfo.Evidence) string {
	word := func(c tfo.Cookie) string {
		switch c.State {
		case tfo.CookieNone:
			return "none"
		case tfo.CookiePresent:
			return hex.EncodeToString(c.Bytes)
		}
		return "not read"
	}
	s := fmt.Sprintf("%s before, %s after", word(ev.CookieBefore), word(ev.CookieAfter))
	switch ev.CookieCleared {
	case tfo.Yes:
		return s + " (cache entry deleted first)"
	case tfo.No:
		return s + " (cache entry could not be deleted first)"
	}
	return s
}

func (t *tracer) response(ev *tfo.Evidence) {
	switch ev.End {
	case tfo.EndResponse:
		t.row("<", "response", "%d bytes, the first after %v", ev.ResponseBytes, ns(ev.FirstByteNS))
	case tfo.EndClosed:
		t.row("<", "FIN", "closed without a byte after %v", ns(ev.TotalNS))
	case tfo.EndReset:
		t.row("<", "error", "%s after %v", ev.Errno, ns(ev.TotalNS))
	case tfo.EndSilent:
		t.row("<", "nothing", "no response within %v", ns(ev.TotalNS))
	}
}

// ns rounds a duration in nanoseconds for people.
func ns(n int64) time.Duration {
	d := time.Duration(n)
	switch {
	case d > time.Second:
		return d.Round(time.Millisecond)
	case d > time.Millisecond:
		return d.Round(10 * time.Microsecond)
	}
	return d.Round(time.Microsecond)
}
