package policy

import (
	"tfofleet/internal/measure"
	"tfofleet/internal/targets"
)

// Reason is why a target is refused. The words are stable: datasets are full
// of them.
type Reason string

const (
	NotAnAddress   Reason = targets.ReasonNotAnAddress
	SpecialPurpose Reason = targets.ReasonSpecialPurpose // and not in nets.allow
	Blocklist      Reason = targets.ReasonBlocklist      // nets.deny, or denied by the controller
	NotAllowed     Reason = "not_allowed"                // outside nets.only
	Port           Reason = "port"                       // not allowed, or denied
	DoNotProbe     Reason = "do_not_probe"               // on the do-not-probe list
	Budget         Reason = "budget"                     // the address has had its attempts
	KillSwitch     Reason = "kill_switch"                // the kill-switch file is there
	ContactLog     Reason = "contact_log"                // the contact could not be logged

	ListenOff      Reason = "listen_off"      // the probe is not to listen
	ListenPort     Reason = "listen_port"     // not on this port
	ListenDuration Reason = "listen_duration" // not for so long
)

// Condition is the condition of a measurement that was refused.
func (r Reason) Condition() measure.Condition {
	return measure.CondRefused(string(r))
}
