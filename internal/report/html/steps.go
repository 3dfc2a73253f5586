package html

import (
	"fmt"

	"tfofleet/internal/tfo"
)

// Step is one line of a packet sequence diagram, from top to bottom: a packet
// from the client, the target or somebody between, or a note.
type Step struct {
	// From is where it left: "client", "target" or "path"; empty for a note on
	// what did not pass.
	From  string `json:"from,omitempty"`
	What  string `json:"what"`            // SYN, SYN-ACK, data, response, FIN, RST, ICMP, nothing ...
	Label string `json:"label,omitempty"` // what it carried
	// AtUS is µs since the SYN; absent where nothing tells.
	AtUS *int64 `json:"at_us,omitempty"`
	// Source is who says so: "wire" (seen to pass), "socket" (the kernel's
	// word), or "follows" (it must have been, from what the socket says).
	Source string `json:"source"`
	// Unanswered: nothing came back to it. Whether it or its answer was lost
	// cannot be told from here.
	Unanswered bool `json:"unanswered,omitempty"`
}

const (
	seen    = "wire"
	told    = "socket"
	follows = "follows"
)

type sequence struct {
	ev    *tfo.Evidence
	steps []Step
}

// steps draws an attempt. Times of packets are those the socket has; packets
// without one stand where they must have been.
func steps(ev *tfo.Evidence) []Step {
	s := &sequence{ev: ev}
	if ev.End == tfo.EndLocal {
		s.note("not sent", ev.Errno, 0)
		return s.steps
	}
	s.syns()
	s.errors()
	switch ev.End {
	case tfo.EndRefused:
		s.refused()
	case tfo.EndTimeout:
		s.note("nothing", "no answer, given up", ev.TotalNS)
	case tfo.EndInterrupted:
		s.note("cut short", "by the probe's own end", ev.TotalNS)
	case tfo.EndSynAck:
		s.synAck(ev.TotalNS)
		s.add(Step{From: "client", What: "RST", Label: "the kernel knows nothing of this connection", Source: follows})
	default:
		s.synAck(ev.ConnectNS)
		s.data()
		s.ending()
	}
	return s.steps
}

func (s *sequence) add(step Step) { s.steps = append(s.steps, step) }

func (s *sequence) note(what, label string, ns int64) {
	s.add(Step{What: what, Label: label, AtUS: at(ns), Source: told})
}

// at is a time of a step; nil when it is not known.
func at(ns int64) *int64 {
	if ns < 0 {
		return nil
	}
	us := ns / 1000
	return &us
}

// source is who knows of SYN, SYN-ACK, RST and ICMP.
func (s *sequence) source() string {
	if s.ev.Wire != nil {
		return seen
	}
	return told
}

func (s *sequence) syns() {
	ev := s.ev
	again := ev.SynRetransmits
	if w := ev.Wire; w != nil {
		again = max(again, w.Syns-1)
	}
	answered := ev.End.Established() || ev.End == tfo.EndRefused || ev.End == tfo.EndSynAck
	s.add(Step{From: "client", What: "SYN", Label: synLabel(ev), AtUS: at(0), Source: s.source(), Unanswered: again > 0 || !answered})
	if again == 0 {
		return
	}
	label := "after a timeout"
	if again > 1 {
		label = fmt.Sprintf("%d times, each after a timeout", again)
	}
	source := told
	if w := ev.Wire; w != nil && w.Syns > 1 {
		source = seen
		switch w.RetransmitsBare {
		case tfo.Yes:
			label += ", without option and data"
		case tfo.No:
			label += ", not bare"
		}
	}
	s.add(Step{From: "client", What: "SYN again", Label: label, Source: source, Unanswered: !answered})
}

func synLabel(ev *tfo.Evidence) string {
	kind, cookie, data := ev.OptionKind, ev.CookieBefore.Bytes, ev.SynBytes
	if w := ev.Wire; w != nil {
		kind, cookie, data = w.Syn.OptionKind, w.Syn.Cookie, w.Syn.Payload
	}
	label := optionText(kind, cookie, "cookie request")
	switch {
	case ev.Kind == tfo.KindUnknown:
		label = "an option nobody knows"
	case ev.Kind == tfo.KindForged && ev.Wire == nil:
		label = fmt.Sprintf("TFO %d, a wrong cookie", kind)
	}
	if ev.Kind == tfo.KindPlain && kind == 0 && data == 0 {
		return "plain"
	}
	if data > 0 {
		label += " + " + plural(data, "byte") + " of data"
	}
	return label
}

// errors are what was seen to come besides a SYN-ACK.
func (s *sequence) errors() {
	w := s.ev.Wire
	if w == nil {
		return
	}
	if w.ICMPErrors > 0 {
		from := "path"
		if w.ICMPFrom == s.ev.Remote.Addr() {
			from = "target"
		}
		s.add(Step{From: from, What: "ICMP", Label: fmt.Sprintf("type %d code %d from %v", w.ICMPType, w.ICMPCode, w.ICMPFrom), Source: seen})
	}
	if w.Resets > 0 && !w.ResetHandshake {
		s.add(Step{From: "target", What: "RST", Label: resetLabel(w), Source: seen})
	}
}

// resetLabel tells a RST of somebody else by its TTL.
func resetLabel(w *tfo.Wire) string {
	label := fmt.Sprintf("TTL %d", w.ResetTTL)
	if w.SynAcks > 0 && w.SynAck.TTL != 0 && w.SynAck.TTL != w.ResetTTL {
		label += fmt.Sprintf(", the SYN-ACK had %d", w.SynAck.TTL)
	}
	return label
}

// refused is an error without a handshake that the wire does not show.
func (s *sequence) refused() {
	if w := s.ev.Wire; w != nil && (w.Resets > 0 || w.ICMPErrors > 0) {
		s.note("error", s.ev.Errno, s.ev.TotalNS)
		return
	}
	from, what := "path", "ICMP"
	if s.ev.Errno == "ECONNREFUSED" || s.ev.Errno == "ECONNRESET" {
		from, what = "target", "RST"
	}
	s.add(Step{From: from, What: what, Label: s.ev.Errno, AtUS: at(s.ev.TotalNS), Source: follows})
}

func (s *sequence) synAck(ns int64) {
	ev := s.ev
	label := ""
	if w := ev.Wire; w != nil && w.SynAcks > 0 {
		if ev.Kind != tfo.KindPlain || w.SynAck.OptionKind != 0 {
			label = optionText(w.SynAck.OptionKind, w.SynAck.Cookie, "")
		}
	} else if ev.CookieAfter.State == tfo.CookiePresent && !ev.CookieAfter.Equal(ev.CookieBefore) {
		label = "cookie " + cookieWord(ev.CookieAfter)
	}
	if ev.SynBytes > 0 && ev.SynAcked >= 0 {
		if label != "" {
			label += ", "
		}
		label += fmt.Sprintf("acknowledges %d of %s", ev.SynAcked, plural(ev.SynBytes, "byte"))
	}
	s.add(Step{From: "target", What: "SYN-ACK", Label: label, AtUS: at(ns), Source: s.source()})
}

// data is what went after the handshake because the SYN did not bring it.
func (s *sequence) data() {
	ev := s.ev
	left := ev.Offered - max(ev.SynAcked, 0)
	switch {
	case left <= 0:
		s.add(Step{From: "client", What: "ACK", Source: follows})
		return
	case ev.SynBytes > max(ev.SynAcked, 0):
		s.add(Step{From: "client", What: "data again", Label: plural(left, "byte") + ", in the connection", Source: follows})
	default:
		s.add(Step{From: "client", What: "data", Label: plural(left, "byte"), Source: follows, Unanswered: ev.End == tfo.EndSilent})
	}
}

func (s *sequence) ending() {
	ev := s.ev
	if w := ev.Wire; w != nil && w.ResetHandshake && ev.End != tfo.EndReset {
		s.add(Step{From: "target", What: "RST", Label: resetLabel(w), Source: seen})
	}
	if n := ev.DataRetransmits; n > 0 {
		s.add(Step{From: "client", What: "sent again", Label: plural(n, "segment"), Source: told, Unanswered: ev.End == tfo.EndSilent})
	}
	switch ev.End {
	case tfo.EndResponse:
		s.add(Step{From: "target", What: "response", Label: plural(ev.ResponseBytes, "byte"), AtUS: at(ev.FirstByteNS), Source: told})
	case tfo.EndClosed:
		s.add(Step{From: "target", What: "FIN", Label: "closed without a byte", AtUS: at(ev.TotalNS), Source: told})
	case tfo.EndReset:
		switch w := ev.Wire; {
		case w != nil && w.ResetHandshake:
			s.add(Step{From: "target", What: "RST", Label: ev.Errno + ", " + resetLabel(w), AtUS: at(ev.TotalNS), Source: seen})
		case ev.Errno == "ECONNRESET":
			s.add(Step{From: "target", What: "RST", Label: ev.Errno, AtUS: at(ev.TotalNS), Source: follows})
		default:
			s.note("error", ev.Errno, ev.TotalNS)
		}
	case tfo.EndSilent:
		s.note("nothing", "no response, given up", ev.TotalNS)
	}
}
