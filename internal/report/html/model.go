package html

import (
	"time"

	"tfofleet/internal/report"
)

// Model is what a report says, without the words around it. The JSON names are
// those the page reads; they hold within one version of the program.
type Model struct {
	Title   string   `json:"title"`
	Surveys []Survey `json:"surveys"`
	Counts
	// Fault and Transient are shares of the measured: the second is what chance
	// alone does, the noise floor of the first.
	Fault     report.Part `json:"fault"`
	Transient report.Part `json:"transient"`
	// Attention is what to look at before trusting the rest.
	Attention []report.Note `json:"attention"`
	// Targets is what all that was seen of each target says together.
	Targets report.Targets `json:"targets"`
	// Verdicts names every verdict that occurs, in the order of reports: numbers
	// elsewhere count in it.
	Verdicts []Verdict `json:"verdicts"`
	// Shares are the same measurements grouped by one property each: what is
	// drawn as stacked bars. The first is by probe.
	Shares []Shares `json:"shares"`
	// Heat are groups of targets, by one property each, against probes.
	Heat []Heat `json:"heat"`
	// Saved is the time Fast Open saved; empty when nothing tells.
	Saved []Curve `json:"saved"`
	// Sizes is what became of data in the SYN, by how much it was; empty unless
	// a plan tried sizes.
	Sizes []Size `json:"sizes"`
	// Mesh is what probes saw of each other; empty without a mesh.
	Mesh []Pair `json:"mesh"`
	// Kept is what of the dataset is in the file.
	Kept Kept `json:"kept"`

	table    table
	evidence []block
}

// Survey is where measurements come from.
type Survey struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	State   string    `json:"state"`
	Reason  string    `json:"reason,omitempty"`
	Plan    string    `json:"plan"`
	Created time.Time `json:"created"`
	Ended   time.Time `json:"ended,omitzero"`
	Planned uint64    `json:"planned"`
	Probes  []Probe   `json:"probes"`
}

// Probe is a vantage point.
type Probe struct {
	Name    string `json:"name"`
	Kernel  string `json:"kernel,omitempty"`
	Version string `json:"version,omitempty"`
}

// Verdict is a verdict, and what it means.
type Verdict struct {
	Name    string `json:"name"`
	Meaning string `json:"meaning"`
	Fault   bool   `json:"fault"`
	report.Part
}

// Counts holds every measurement once.
type Counts struct {
	Measurements uint64 `json:"measurements"`
	Measured     uint64 `json:"measured"`
	Refused      uint64 `json:"refused"`
	Interrupted  uint64 `json:"interrupted"`
	// Noise is the measured in which plain failed and Fast Open worked.
	Noise uint64 `json:"noise"`
	// By is the measured by verdict, as Model.Verdicts has them.
	By []uint64 `json:"by"`
}

// Shares is the measurements by one property.
type Shares struct {
	By     string  `json:"by"` // such as "probe", "AS"
	Groups []Group `json:"groups"`
	Left   int     `json:"left,omitempty"` // groups that are too small and too many to draw
}

// Group is the measurements that share a property.
type Group struct {
	Key string `json:"key"`
	Counts
	Fault report.Part `json:"fault"` // of the measured
}

// Heat is probes against groups of targets.
type Heat struct {
	By     string   `json:"by"`
	Probes []string `json:"probes"`
	Groups []string `json:"groups"`
	Left   int      `json:"left,omitempty"`
	// Cells has the counts of probe p and group g at p*len(Groups)+g.
	Cells []Counts `json:"cells"`
}

// Curve is a cumulative distribution over supported targets.
type Curve struct {
	Probe string `json:"probe"` // empty: all of them
	N     uint64 `json:"n"`     // targets
	Exact bool   `json:"exact"` // false: off by 0.8 % at most
	// US is µs saved, RTT the same in hundredths of the target's own round trip;
	// at i the value with i of len-1 of the targets below it.
	US  []int64 `json:"us"`
	RTT []int64 `json:"rtt"`
}

// Size is what became of SYNs that carried that many bytes of data, at each
// target the best that did.
type Size struct {
	From  int    `json:"from"` // bytes in the SYN, both included
	To    int    `json:"to"`
	N     uint64 `json:"n"`     // measurements that tried it
	Acked uint64 `json:"acked"` // of these, all data acknowledged
	Part  uint64 `json:"part"`  // some of it
	None  uint64 `json:"none"`  // none of it, in a handshake
	Lost  uint64 `json:"lost"`  // no handshake, or only once the SYN was sent again
	// Low and High bound the share acknowledged, with 95 % confidence (Wilson).
	Low  float64 `json:"low"`
	High float64 `json:"high"`
}

// Pair is what one probe, as a client, saw of another, as a listener.
type Pair struct {
	Mesh      string `json:"mesh"`
	From      string `json:"from"`
	To        string `json:"to"`
	Port      uint16 `json:"port"`
	Family    int    `json:"family"`              // 4 or 6
	Verdict   string `json:"verdict"`             // of both sides together
	Fault     bool   `json:"fault"`               // it blames the path
	Direction string `json:"direction,omitempty"` // of the fault: forward, return, both; empty when there is none, or it is not known
	Detail    string `json:"detail,omitempty"`    // for people
}

// Kept says what of the measurements is in the file.
type Kept struct {
	Rows  uint64    `json:"rows"`  // in the table
	Of    uint64    `json:"of"`    // measurements
	Full  uint64    `json:"full"`  // rows with their attempts
	Class []Portion `json:"class"` // the same, by what is kept first
}

// Portion is a class of measurements, and how many of it are in the file.
type Portion struct {
	Name string `json:"name"`
	Of   uint64 `json:"of"`
	Rows uint64 `json:"rows"`
	Full uint64 `json:"full"`
}
