package measure

import "fmt"

// Verdict is one word for a measurement. The values are append-only: they are
// stored in datasets and sent on the wire.
type Verdict uint8

const (
	Supported                Verdict = 1  // cookie granted, SYN data acked, an answer came back
	CookieOnly               Verdict = 2  // cookie granted and stable, SYN data never acked
	DataTruncated            Verdict = 3  // only part of the SYN data acked
	CookieUnstable           Verdict = 4  // cookie refused and replaced
	Unsupported              Verdict = 5  // healthy, but no cookie with kind 34 nor 254
	OptionDropped            Verdict = 6  // a SYN with the option is lost, a plain SYN is not
	DataDropped              Verdict = 7  // a SYN with data is lost, the bare retransmission is not
	Reset                    Verdict = 8  // a TFO SYN is answered by RST or ICMP, a plain SYN is not
	FlowBlackholed           Verdict = 9  // after a TFO SYN the flow gets no answer at all, a plain flow does
	BlackholedAfterHandshake Verdict = 10 // handshake with SYN data succeeds, then nothing comes back
	ClientBlocked            Verdict = 11 // plain worked before the TFO attempts and fails after them
	Offline                  Verdict = 12 // plain fails as well
	Inconclusive             Verdict = 13 // tries disagree, or the probe's own state spoilt it
)

var verdictNames = [...]string{
	Supported: "supported", CookieOnly: "cookie_only", DataTruncated: "data_truncated",
	CookieUnstable: "cookie_unstable", Unsupported: "unsupported", OptionDropped: "option_dropped",
	DataDropped: "data_dropped", Reset: "reset", FlowBlackholed: "flow_blackholed",
	BlackholedAfterHandshake: "blackholed_after_handshake", ClientBlocked: "client_blocked",
	Offline: "offline", Inconclusive: "inconclusive",
}

// Verdicts lists every verdict in the order reports show them.
func Verdicts() []Verdict {
	vs := make([]Verdict, 0, len(verdictNames)-1)
	for v := Supported; int(v) < len(verdictNames); v++ {
		vs = append(vs, v)
	}
	return vs
}

func (v Verdict) String() string {
	if int(v) < len(verdictNames) && v > 0 {
		return verdictNames[v]
	}
	return "unknown"
}

// ParseVerdict is the inverse of String.
func ParseVerdict(s string) (Verdict, error) {
	for _, v := range Verdicts() {
		if v.String() == s {
			return v, nil
		}
	}
	return 0, fmt.Errorf("unknown verdict %q", s)
}

// Fault reports whether the verdict blames the path or the target for breaking
// TCP Fast Open, as opposed to not offering it. A fault is named only after
// repetition (see Next).
func (v Verdict) Fault() bool {
	switch v {
	case DataTruncated, CookieUnstable, CookieOnly, OptionDropped, DataDropped, Reset, FlowBlackholed, BlackholedAfterHandshake, ClientBlocked:
		return true
	}
	return false
}

// Condition is a label "tfo.<aspect>.<state>" on a measurement. The vocabulary
// is a superset of PATHspider's and the Path Transparency Observatory's.
type Condition string
