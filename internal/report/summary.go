package report

import "tfofleet/internal/dataset"

// Summary is what a dataset says in short. The JSON names are stable.
type Summary struct {
	// Survey is survey.json: the spec, and the kernels of the probes.
	Survey dataset.Survey `json:"survey"`
	Counts
	// The same counts by one property each, largest group first.
	ByProbe  []Group `json:"by_probe"`  // key: name of the probe
	ByPort   []Group `json:"by_port"`   // key: TCP port
	ByFamily []Group `json:"by_family"` // key: ipv4, ipv6, or none (no address)
	// Saved is the time to first byte that TCP Fast Open saved; null when no
	// supported target has both times.
	Saved *Saved `json:"saved"`
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
}

// Share is how many measured targets got a verdict.
type Share struct {
	Verdict string  `json:"verdict"`
	Count   uint64  `json:"count"`
	Share   float64 `json:"share"` // of the measured, 0 to 1
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

// Saved is the distribution over supported targets of saved_us: median time to
// first byte of the plain attempts minus that of those with SYN data acked.
// Below 0, Fast Open was slower.
type Saved struct {
	N        uint64 `json:"n"` // targets with both times
	MedianUS int64  `json:"median_us"`
	P10US    int64  `json:"p10_us"`
	P90US    int64  `json:"p90_us"`
	// Exact is false where values were kept in buckets, and are off by 0.8 %
	// at most (see distribution).
	Exact bool `json:"exact"`
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
