package aggregate

import (
	"tfofleet/internal/measure"
)

// Cell counts the measurements of a group.
type Cell struct {
	n         [slots]uint64
	transient uint64
}

// A measurement is in one slot of its cell: the one of its verdict if it was
// measured, and else that of its outcome.
const (
	slotUnknown     = 0  // a verdict of a later version
	slotRefused     = 28 // verdicts are below
	slotInterrupted = 29
	slotOutcome     = 30 // an outcome of a later version
	slots           = 31
)

// transientBit marks the slot of a measurement that carries
// tfo.connectivity.transient.
const transientBit = 0x80

// verdictSlots are those of the verdicts this version has a name for.
var verdictSlots = func() (slots [256]uint8) {
	for _, v := range measure.Verdicts() {
		slots[v] = uint8(v)
	}
	return slots
}()

func slotOf(o measure.Outcome, v measure.Verdict) uint8 {
	switch o {
	case measure.OutcomeMeasured:
		return verdictSlots[v]
	case measure.OutcomeRefused:
		return slotRefused
	case measure.OutcomeInterrupted:
		return slotInterrupted
	}
	return slotOutcome
}

func (c *Cell) add(slot uint8) {
	c.n[slot&^transientBit]++
	c.transient += uint64(slot >> 7)
}

func (c *Cell) merge(d *Cell) {
	for i, n := range d.n {
		c.n[i] += n
	}
	c.transient += d.transient
}

// Verdict is how many were measured and got the verdict; of 0, those that got
// one of a later version.
func (c *Cell) Verdict(v measure.Verdict) uint64 {
	if v >= slotRefused {
		return 0
	}
	return c.n[v]
}

// Measured is how many were measured.
func (c *Cell) Measured() uint64 {
	n := uint64(0)
	for _, k := range c.n[:slotRefused] {
		n += k
	}
	return n
}

// Faults is how many were measured and got a verdict that is a fault.
func (c *Cell) Faults() uint64 {
	n := uint64(0)
	for v := range c.n[:slotRefused] {
		if measure.Verdict(v).Fault() {
			n += c.n[v]
		}
	}
	return n
}

// Transient is how many of the measured carry tfo.connectivity.transient: plain
// failed and Fast Open worked, which can only be chance.
func (c *Cell) Transient() uint64 { return c.transient }

// Refused, Interrupted and Unknown are those that were not measured; Unknown
// have an outcome of a later version.
func (c *Cell) Refused() uint64     { return c.n[slotRefused] }
func (c *Cell) Interrupted() uint64 { return c.n[slotInterrupted] }
func (c *Cell) Unknown() uint64     { return c.n[slotOutcome] }

// Measurements is all of them.
func (c *Cell) Measurements() uint64 {
	return c.Measured() + c.Refused() + c.Interrupted() + c.Unknown()
}
