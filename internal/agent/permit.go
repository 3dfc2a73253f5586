package agent

import (
	"net/netip"
	"time"

	"tfofleet/internal/agent/policy"
	"tfofleet/internal/measure"
)

// permits asks whether a target may be measured at all.
func (e *executor) permits(t measure.Target) (measure.Condition, bool) {
	g := e.agent.cfg.Guard
	if g == nil {
		reason, ok := e.agent.cfg.Policy.Check(t.Addr)
		return measure.CondRefused(reason), ok
	}
	if t.Hostname != "" {
		if reason, ok := g.CheckName(t.Hostname, time.Now()); !ok {
			return reason.Condition(), false
		}
	}
	reason, ok := g.Policy().Permits(t.Addr, t.Port)
	return reason.Condition(), ok
}

// start admits a target, marks it as started where that is kept, notes that it
// is contacted, and hands it to the runner. The mark comes first: so a target is
// in the log of contacts once, however often the probe dies.
func (e *executor) start(w *work, t measure.Target, key netip.AddrPort) {
	if e.ctx.Err() != nil {
		e.settle(w, measure.Measurement{Target: t}, key)
		return
	}
	if !w.trusted() {
		e.settle(w, measure.Measurement{Target: t}, key)
		return
	}
	guard := e.agent.cfg.Guard
	if guard != nil {
		if reason, ok := guard.Foresee(t.Addr, t.Port, time.Now()); !ok {
			e.settle(w, refused(t, reason.Condition()), key)
			return
		}
	}
	if s := e.agent.cfg.Spool; s != nil {
		if err := s.Start(w.lease(), w.index(t.Item)); err != nil {
			e.agent.log.Warn("a target could not be marked as started and is given back", "lease", w.name, "reason", err)
			e.settle(w, measure.Measurement{Target: t}, key)
			return
		}
	}
	if guard != nil {
		if err := guard.Contacted(policy.Contact{Time: time.Now(), Addr: t.Addr, Port: t.Port, Host: t.Hostname, Survey: e.survey}); err != nil {
			e.agent.log.Error("a contact could not be logged, its target is refused", "reason", err)
			e.settle(w, refused(t, policy.ContactLog.Condition()), key)
			return
		}
	}
	e.agent.active.Add(1)
	e.runner.Submit(t, func(m measure.Measurement) {
		e.agent.active.Add(-1)
		e.settle(w, m, key)
	})
}

// settle ends a target, and those that waited for its address.
func (e *executor) settle(w *work, m measure.Measurement, key netip.AddrPort) {
	sharers := e.shared.settle(key, m)
	e.end(w, m)
	for _, s := range sharers {
		if m.Outcome == measure.OutcomeRefused {
			e.end(s.w, refused(s.t, m.Conditions[0]))
			continue
		}
		e.end(s.w, sharedWith(m, s.t))
	}
}

// refused is the measurement of a target that a policy forbids.
func refused(t measure.Target, why measure.Condition) measure.Measurement {
	return measure.Measurement{
		Target: t, Outcome: measure.OutcomeRefused, Verdict: measure.Inconclusive,
		Conditions: []measure.Condition{why}, Started: time.Now().Round(0),
	}
}
