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
	guard := e.agent.cfg.Guard
	if guard != nil {
		if reason, ok := guard.Foresee(t.Addr, t.Port, time.Now()); !ok {
			e.leave()
			e.settle(w, refused(t, reason.Condition()), key)
			return
		}
	}
	if !e.mark(w, t) {
		e.leave()
		e.settle(w, measure.Measurement{Target: t}, key)
		return
	}
	if guard != nil {
		if err := guard.Contacted(policy.Contact{Time: time.Now(), Addr: t.Addr, Port: t.Port, Host: t.Hostname, Survey: e.survey}); err != nil {
			e.agent.log.Error("a contact could not be logged, its target is refused", "reason", err)
			e.leave()
			e.settle(w, refused(t, policy.ContactLog.Condition()), key)
			return
		}
	}
	begun := func() {
		e.agent.active.Add(1)
		e.leave()
	}
	e.runner.Submit(t, begun, func(m measure.Measurement) {
		if m.Outcome == 0 { // never begun
			e.leave()
		} else {
			e.agent.active.Add(-1)
		}
		e.settle(w, m, key)
	})
}

// mark waits until a target may be started, and marks it where that is kept. It
// returns false when the target is to be given back.
func (e *executor) mark(w *work, t measure.Target) bool {
	if !w.mayGoOn(e.ctx) {
		return false
	}
	s := e.agent.cfg.Spool
	if s == nil {
		return true
	}
	if err := s.Start(w.lease(), w.index(t.Item)); err != nil {
		e.agent.log.Warn("a target could not be marked as started and is given back", "lease", w.name, "reason", err)
		return false
	}
	return w.mayGoOn(e.ctx) // the disk may have taken its time
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
