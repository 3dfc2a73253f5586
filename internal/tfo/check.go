package tfo

import (
	"os/exec"
)

// Fitness is the answer to "is this machine fit to be a vantage point?". The
// values are stable; probe check exits with them.
type Fitness int

const (
	Fit           Fitness = 0
	FitWithLimits Fitness = 1
	Unfit         Fitness = 2
)

func (f Fitness) String() string { return [...]string{"fit", "limits", "unfit"}[min(max(f, 0), Unfit)] }

// MarshalText makes JSON say the word.
func (f Fitness) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// Weight is what one finding means for the whole.
type Weight string

const (
	WeightOK    Weight = "ok"
	WeightNote  Weight = "note"  // worth knowing; costs no verdict
	WeightLimit Weight = "limit" // some evidence or some verdicts are not to be had
	WeightUnfit Weight = "unfit" // what is measured here would be wrong
)

// CheckItem is one finding. ID is stable; the texts are for people.
type CheckItem struct {
	ID     string `json:"id"`
	Weight Weight `json:"weight"`
	Name   string `json:"name"`
	Value  string `json:"value"`
	Cost   string `json:"cost,omitempty"` // what it costs; empty when it costs nothing
	Hint   string `json:"hint,omitempty"` // what to do about it
}

// Check is the whole answer.
type Check struct {
	Fitness  Fitness     `json:"fitness"`
	Items    []CheckItem `json:"items"`
	Features []Feature   `json:"features"`
	SelfTest SelfTest    `json:"self_test"`
	Machine  Machine     `json:"machine"`
}

// RunCheck looks at the machine, as it shows from the network namespace ns,
// and makes the self-test; child is as for RunSelfTest. It sends no packet that
// leaves the machine. It fails only when the namespace cannot be entered; what
// cannot be read is said to be not known.
func RunCheck(ns NetNS, child *exec.Cmd) (*Check, error) {
	m, err := ReadMachine(ns)
	if err != nil {
		return nil, err
	}
	test := RunSelfTest(ns, child)
	return assess(m, test), nil
}

// assess is a pure function of the facts.
func assess(m Machine, test SelfTest) *Check {
	c := &Check{Machine: m, SelfTest: test, Features: assessFeatures(m, test)}
	c.Items = assessMachine(m, test)
	for _, i := range c.Items {
		switch i.Weight {
		case WeightLimit:
			c.Fitness = max(c.Fitness, FitWithLimits)
		case WeightUnfit:
			c.Fitness = Unfit
		}
	}
	return c
}
