package html

import (
	"net/netip"
	"time"

	"tfofleet/internal/measure"
	"tfofleet/internal/tfo"
)

// Evidence is a measurement with all that it stands on, in the shape the pages
// draw: the same in a file and in answers to a live page.
type Evidence struct {
	Target     string    `json:"target"` // address and port
	Hostname   string    `json:"hostname,omitempty"`
	Probe      string    `json:"probe"`
	Outcome    string    `json:"outcome"`
	Verdict    string    `json:"verdict,omitempty"`
	Meaning    string    `json:"meaning,omitempty"`
	Reasons    []string  `json:"reasons"`
	Conditions []string  `json:"conditions"`
	Started    time.Time `json:"started,omitzero"`
	DurationUS int64     `json:"duration_us"`
	Attempts   []Attempt `json:"attempts"`
}

// Attempt is one connection: a diagram, and the facts beside it.
type Attempt struct {
	Kind  string `json:"kind"`
	Shown string `json:"shown"` // what it showed, in words
	Steps []Step `json:"steps"`
	Facts []Fact `json:"facts"`
}

// Fact is a line beside a diagram.
type Fact struct {
	What string `json:"what"`
	Text string `json:"text"`
}

// EvidenceOf makes the evidence of a measurement. The words are those of
// [measure.Explain].
func EvidenceOf(plan measure.Plan, probe string, m *measure.Measurement) Evidence {
	e := Evidence{
		Target: endpoint(m.Addr, m.Port), Hostname: m.Hostname, Probe: probe,
		Outcome: m.Outcome.String(), Started: m.Started, DurationUS: m.Duration.Microseconds(),
		Reasons: []string{}, Conditions: []string{}, Attempts: []Attempt{},
	}
	if m.Verdict != 0 {
		e.Verdict, e.Meaning = m.Verdict.String(), meaning(m.Verdict)
	}
	for _, c := range m.Conditions {
		e.Conditions = append(e.Conditions, string(c))
	}
	shown, reasons := measure.Explain(plan, m.Attempts)
	if len(m.Attempts) > 0 && reasons != nil {
		e.Reasons = reasons
	}
	for i := range m.Attempts {
		ev := &m.Attempts[i]
		e.Attempts = append(e.Attempts, Attempt{Kind: ev.Kind.String(), Shown: shown[i], Steps: steps(ev), Facts: facts(ev)})
	}
	return e
}

// endpoint is address and port as one writes them; without an address the port.
func endpoint(a netip.Addr, port uint16) string {
	if !a.IsValid() {
		return "no address, port " + number(uint64(port))
	}
	return netip.AddrPortFrom(a, port).String()
}

// facts are what the kernel and the wire say of an attempt, for people.
func facts(ev *tfo.Evidence) []Fact {
	var fs facters
	if ev.Local.IsValid() {
		fs.add("from", "%v", ev.Local)
	}
	fs.add("ended", "%s", endText(ev))
	if ev.End == tfo.EndLocal {
		return fs
	}
	if ev.Kind != tfo.KindPlain {
		fs.add("data", "%s", dataFact(ev))
		if ev.End.Established() {
			fs.add("kernel", "SYN_DATA %s, client_fail %d (%s)", yesNo(ev.TCPIOptions&tfo.OptSynData != 0), ev.ClientFail, clientFails[ev.ClientFail&3])
		}
	}
	fs.add("sent again", "SYN %d, other segments %d", ev.SynRetransmits, ev.DataRetransmits)
	fs.add("cookie", "%s before, %s after%s", cookieWord(ev.CookieBefore), cookieWord(ev.CookieAfter), cleared[min(ev.CookieCleared, tfo.Yes)])
	if ev.ResponseBytes > 0 {
		fs.add("response", "%d bytes, hash %016x", ev.ResponseBytes, ev.ResponseHash)
	}
	fs.wire(ev)
	return fs
}

// wire adds what was seen to pass, or why nothing was.
func (fs *facters) wire(ev *tfo.Evidence) {
	w := ev.Wire
	if w == nil {
		if ev.WireAbsent != "" {
			fs.add("wire", "%s", ev.WireAbsent)
		}
		return
	}
	fs.add("SYN seen", "%s", segmentText(&w.Syn))
	if w.SynAcks > 0 {
		fs.add("SYN-ACK seen", "%s", segmentText(&w.SynAck))
		if w.OverAcked {
			fs.add("over-acked", "a SYN-ACK acknowledged more than was sent")
		}
	}
	if w.Resets > 0 {
		fs.add("RST seen", "%d, TTL %d", w.Resets, w.ResetTTL)
	}
	if w.ICMPErrors > 0 {
		fs.add("ICMP seen", "%d, type %d code %d from %v", w.ICMPErrors, w.ICMPType, w.ICMPCode, w.ICMPFrom)
	}
	if w.Incomplete {
		fs.add("wire", "packets were lost before they could be looked at: what is not here may have been")
	}
}
