package measure

import (
	"net/netip"
	"time"

	"tfofleet/internal/tfo"
)

// Target is what a survey measures: an address and a port, and the host name
// it came from. A target that came as a name has no address until the probe
// has resolved it.
type Target struct {
	Item     uint64     // position in the survey's frozen list, from 0
	Addr     netip.Addr // zero while unresolved
	Port     uint16
	Hostname string // empty when the list held an address
}

// Outcome says whether a target was measured. The values are append-only.
type Outcome uint8

const (
	// OutcomeMeasured: the verdict stands on attempts, or on a resolution
	// that failed.
	OutcomeMeasured Outcome = 1
	// OutcomeRefused: the probe's policy forbade it; nothing was sent.
	OutcomeRefused Outcome = 2
	// OutcomeInterrupted: it was started and never finished. Where that was the
	// policy's doing, a condition says so.
	OutcomeInterrupted Outcome = 3
)

var outcomeNames = [...]string{"unknown", "measured", "refused", "interrupted"}

func (o Outcome) String() string {
	if int(o) < len(outcomeNames) {
		return outcomeNames[o]
	}
	return "unknown"
}

// Measurement is all attempts of one probe against one target, in order, and
// their verdict.
type Measurement struct {
	Target
	Outcome    Outcome
	Verdict    Verdict
	Conditions []Condition
	Cookie     []byte    // the last cookie the target granted; nil when it granted none
	Started    time.Time // wall clock of the probe
	Duration   time.Duration
	Attempts   []tfo.Evidence
	// Observed is the probe's address as its controller saw it when the
	// measurement came: behind a NAT, that of the NAT. It is not on the wire; zero
	// where nobody saw one.
	Observed netip.Addr
}
