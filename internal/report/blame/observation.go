package blame

import (
	"strings"

	"tfofleet/internal/measure"
)

// Observation is what one measurement says of its target.
type Observation struct {
	Vantage uint32 // number of the vantage point
	Verdict measure.Verdict
	Near    Near
	// Copy: the address was measured for another name, and this is what was found.
	Copy bool
}

// Near is what a self-test found between a vantage point and its controller: a
// box near the vantage point, which is on the way to every target.
type Near uint8

const (
	NearNothing   Near = iota
	NearStrips         // takes the option out
	NearDrops          // drops SYNs with data
	NearChanges        // changes the vantage point's address between connections
	NearBreaks         // loses or resets connections that try Fast Open
	NearTerminate      // answers in the target's stead
	NearOther          // of a later version
)

const nearPath = "tfo.vantage.near_path."

// NearOf is what a condition says of a box near the vantage point.
func NearOf(c measure.Condition) Near {
	word, ok := strings.CutPrefix(string(c), nearPath)
	switch {
	case !ok || word == "clean" || word == "unknown":
		return NearNothing
	case word == "strips_option":
		return NearStrips
	case word == "drops_syn_data":
		return NearDrops
	case word == "changes_address":
		return NearChanges
	case word == "breaks_flows":
		return NearBreaks
	case word == "terminates_tcp":
		return NearTerminate
	}
	return NearOther
}

// explains reports whether the box near the vantage point may be all that the
// verdict shows.
func (n Near) explains(v measure.Verdict) bool {
	switch n {
	case NearTerminate:
		return true // whatever was seen, was seen of the box
	case NearStrips:
		return rank(v) > 0 && v != measure.Supported
	case NearChanges:
		// A cookie that comes from another address is refused: most targets give
		// a new one, and those that do not are seen to take no data.
		return v == measure.CookieUnstable || v == measure.CookieOnly
	case NearBreaks:
		return rank(v) == breaks
	case NearDrops, NearOther:
		return v.Fault()
	}
	return false
}

// Spoils reports whether a condition says that the probe's own host spoilt the
// measurement, so that its verdict says nothing of the target.
func Spoils(c measure.Condition) bool {
	if !strings.HasPrefix(string(c), "tfo.vantage.") || strings.HasPrefix(string(c), nearPath) {
		return false
	}
	switch c {
	case measure.CondVantageRepeated, measure.CondVantageLate, measure.CondVantageUncleared, measure.CondVantageStale, measure.CondVantageIncomplete:
		return false // the verdict was given in spite of it
	}
	return true
}

// Counts reports whether a measurement says something of its target, beside its
// conditions (see [Spoils]).
func Counts(o measure.Outcome, v measure.Verdict) bool {
	return o == measure.OutcomeMeasured && (rank(v) > 0 || v == measure.Offline)
}
