package report

import (
	"time"

	"tfofleet/internal/dataset"
)

// Summary is what datasets say in short. The JSON names are stable.
type Summary struct {
	// Surveys are survey.json of each dataset: the spec, and the kernels of the
	// probes.
	Surveys []dataset.Survey `json:"surveys"`
	Counts
	// The same counts by one property each, largest group first.
	ByProbe  []Group `json:"by_probe"`  // key: name of the probe
	ByPort   []Group `json:"by_port"`   // key: TCP port
	ByFamily []Group `json:"by_family"` // key: ipv4, ipv6, or none (no address)
	// By is the groups that were asked for beyond these.
	By []Crossing `json:"by"`
	// Saved is the time to first byte that TCP Fast Open saved; null when no
	// supported target has both times.
	Saved *Saved `json:"saved"`
	// Targets is what all probes and datasets say of each target together.
	Targets Targets `json:"targets"`
	// Conditions counts the measured targets that carry each, most first.
	Conditions []ConditionCount `json:"conditions"`
	// Attention is what a person should look at before trusting the rest.
	Attention []Note `json:"attention"`
}

// Counts holds every measurement once:
// measurements = measured + refused + interrupted + unknown.
type Counts struct {
	Measurements uint64 `json:"measurements"`
	Measured     uint64 `json:"measured"`
	Refused      uint64 `json:"refused"`
	Interrupted  uint64 `json:"interrupted"`
	Unknown      uint64 `json:"unknown"` // with an outcome of a later version
	// Verdicts shares out the measured, in the order of measure.Verdicts;
	// verdicts nothing got are left out, those of a later version are "unknown".
	Verdicts []Share `json:"verdicts"`
	// Fault is the measured whose verdict is a fault. Transient are those where
	// plain failed and Fast Open worked, which only chance does: the noise floor
	// of faults, and a share of faults that is not above it says nothing.
	Fault     Part `json:"fault"`
	Transient Part `json:"transient"`
}

// Part is a part of the measured, and what share of all such targets it stands
// for with 95 % confidence (stat.Wilson). Shares are 0 to 1.
type Part struct {
	Count uint64  `json:"count"`
	Share float64 `json:"share"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
}

// Share is how many measured targets got a verdict.
type Share struct {
	Verdict string `json:"verdict"`
	Part
}

// Count is how many measured targets got the verdict.
func (c *Counts) Count(verdict string) uint64 {
	for _, s := range c.Verdicts {
		if s.Verdict == verdict {
			return s.Count
		}
	}
	return 0
}

// Group is the part of the measurements that share a property.
type Group struct {
	Key string `json:"key"`
	Counts
}

// Crossing is the groups by one property or by two that are crossed.
type Crossing struct {
	Keys   []string  `json:"keys"` // the properties, as aggregate.Keys names them
	Groups []Crossed `json:"groups"`
}

// Crossed is the part of the measurements that share the properties.
type Crossed struct {
	Values []string `json:"values"` // one for each key
	Counts
}

// Saved is the distribution over supported targets of saved_us: median time to
// first byte of the plain attempts minus that of those with SYN data acked.
// Below 0, Fast Open was slower.
type Saved struct {
	N        uint64 `json:"n"` // measurements with both times
	MedianUS int64  `json:"median_us"`
	P10US    int64  `json:"p10_us"`
	P90US    int64  `json:"p90_us"`
	// RTT is the time a plain handshake took, and Share what part of it was
	// saved: a whole round trip is 1.
	RTT   Quantiles `json:"rtt_us"`
	Share Quantiles `json:"share_of_rtt"`
	// Exact is false where values were kept in buckets, and are off by 0.8 %
	// at most (see stat.Distribution).
	Exact bool `json:"exact"`
}

// Quantiles are those of a distribution, in tenths: Tenths[5] is the median.
type Quantiles struct {
	N      uint64      `json:"n"`
	Tenths [11]float64 `json:"tenths"`
}

// Targets counts targets by what all measurements of each say together.
type Targets struct {
	N uint64 `json:"n"`
	// Stability and Blame are counts by name; see package blame.
	Stability []Named `json:"stability"`
	Blame     []Named `json:"blame"`
	// Broken is the vantage points that see a fault everywhere.
	Broken []Broken `json:"broken_vantages"`
	// Examples are the first targets of each blame, with what it stands on.
	Examples []Target `json:"examples"`
}

// Named is a count.
type Named struct {
	Name  string `json:"name"`
	Count uint64 `json:"count"`
}

// Broken is why a vantage point is charged with a verdict: of the targets that
// others got further with, it gives it to Count of Of.
type Broken struct {
	Probe   string  `json:"probe"`
	Verdict string  `json:"verdict"`
	Others  string  `json:"others"` // what others see of the same targets
	Count   uint64  `json:"count"`
	Of      uint64  `json:"of"`
	Low     float64 `json:"low"` // of the share, lower end of the 95 % interval
}

// Target is one target and what was seen of it.
type Target struct {
	Dataset   string `json:"dataset"` // the first that has it
	Item      uint64 `json:"item"`
	Address   string `json:"address,omitempty"`
	Port      uint16 `json:"port"`
	Hostname  string `json:"hostname,omitempty"`
	Stability string `json:"stability"`
	Blame     string `json:"blame"`
	Verdict   string `json:"verdict,omitempty"` // the furthest that is not charged to a vantage point
	Seen      []Seen `json:"seen"`
}

// Seen is one measurement of a target.
type Seen struct {
	Dataset string     `json:"dataset"`
	Probe   string     `json:"probe"`
	Verdict string     `json:"verdict,omitempty"` // none where it was not measured
	Started *time.Time `json:"started,omitempty"`
	Counts  bool       `json:"counts"` // it says something of the target
	Wrong   bool       `json:"wrong"`  // the blame stands on it
}

// ConditionCount is how many measured targets carry a condition.
type ConditionCount struct {
	Condition string  `json:"condition"`
	Count     uint64  `json:"count"`
	Share     float64 `json:"share"` // of the measured, 0 to 1
}

// Note is one thing that needs attention.
type Note struct {
	Code  string `json:"code"`  // stable, one of the Note constants
	Text  string `json:"text"`  // one sentence on what was seen, one on what to do
	Count uint64 `json:"count"` // measurements it is about; 0 for facts of a probe
}
