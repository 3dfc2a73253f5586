package agent

import (
	"time"

	"tfofleet/internal/agent/policy"
	"tfofleet/internal/agent/spool"
	"tfofleet/internal/measure"
	pb "tfofleet/proto/tfofleet/v1"
)

// tighten takes the controller's limits, in the place of those before.
func (a *Agent) tighten(l *pb.Limits) {
	if a.cfg.Guard != nil {
		a.cfg.Guard.SetLimits(policy.Limits{Rate: l.GetRate()})
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.limit = l.GetRate()
	a.setRates()
}

// PolicyReloaded is to be called when the Guard has another policy: its rate
// holds at once, also for what is under way.
func (a *Agent) PolicyReloaded() {
	a.mu.Lock()
	a.setRates()
	a.mu.Unlock()
	a.event(spool.EventPolicyReload, a.cfg.Guard.Digest())
	a.look()
}

// setRates is called with the lock held. One survey at a time begins targets,
// so that the bound of each is that of all.
func (a *Agent) setRates() {
	for e := range a.running {
		e.setRate(a.rateFor(e.spec))
	}
}

// rateFor is the least of the rates that the survey, the operator and the
// controller allow; 0 when nobody bounds it.
func (a *Agent) rateFor(spec *pb.SurveySpec) float64 {
	rate := spec.GetRate()
	if a.cfg.Guard != nil {
		rate = a.cfg.Guard.Policy().RateFor(rate)
	}
	if a.limit > 0 && (rate <= 0 || a.limit < rate) {
		rate = a.limit
	}
	return rate
}

// Permit is the policy as a Runner asks it right before every SYN, see
// [measure.Settings].
func Permit(g *policy.Guard) func(measure.Target) (measure.Condition, bool) {
	return func(t measure.Target) (measure.Condition, bool) {
		now := time.Now()
		if t.Hostname != "" {
			if reason, ok := g.CheckName(t.Hostname, now); !ok {
				return reason.Condition(), false
			}
		}
		reason, ok := g.Check(t.Addr, t.Port, now)
		if !ok {
			return reason.Condition(), false
		}
		return "", true
	}
}
