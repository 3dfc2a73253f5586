package measure

import (
	"net/netip"
	"time"

	"tfofleet/internal/tfo"
)

// Settings are what a survey asks of every measurement.
type Settings struct {
	Plan    Plan
	Payload PayloadKind
	Bytes   []byte        // the payload itself for PayloadBytes, at most MaxPayload bytes
	Timeout time.Duration // for each handshake, and again for each response
	// Nonce, if set, names the measurement of a target in every payload, so that
	// a listener of our own can tell whose attempt arrived (see Match). It is
	// called once per measurement, from an engine goroutine.
	Nonce func(Target) Nonce
	// Watch, if set, is told the attempts of a measurement each time one more
	// is made. It is called from an engine goroutine and holds up everything.
	Watch func(attempts []tfo.Evidence)
	// Permit, if set, is asked right before every SYN whether it may leave, and
	// why not. What was refused before its first SYN is OutcomeRefused, what was
	// refused later is OutcomeInterrupted with the attempts it had; both carry
	// the condition. It is called from engine goroutines, for every SYN of all
	// measurements: it must be quick and must not block.
	Permit func(Target) (Condition, bool)
}

// Runner makes measurements: it leads each target through its plan on the
// attempt engine and hands the classified result back.
type Runner struct {
	engine   *tfo.Engine
	settings Settings
}

// NewRunner starts an engine for measurements with these settings.
func NewRunner(settings Settings, cfg tfo.Config) (*Runner, error) {
	e, err := tfo.NewEngine(cfg)
	if err != nil {
		return nil, err
	}
	return &Runner{engine: e, settings: settings}, nil
}

// Submit queues a target whose address is known. begun, if it is set, is called
// when its turn has come, before its first SYN, done exactly once, at its end;
// both from an engine goroutine, which they must not block. After Stop, a target
// that was never begun comes back with Outcome 0, one that was under way with
// OutcomeInterrupted.
func (r *Runner) Submit(t Target, begun func(), done func(Measurement)) {
	t.Addr = t.Addr.Unmap()
	r.engine.Start(&ladder{runner: r, turn: begun, done: done, m: Measurement{Target: t}})
}

// Capture tells how the engine's look at the wire does.
func (r *Runner) Capture() tfo.CaptureStats { return r.engine.Capture() }

// SetRate changes the rate of new connections per second; 0 = no limit. It holds
// for every SYN from now on.
func (r *Runner) SetRate(rate float64) { r.engine.SetRate(rate) }

// Stop interrupts what is running and returns when the last done has returned.
func (r *Runner) Stop() { r.engine.Stop() }

// ladder is one measurement under way.
type ladder struct {
	runner  *Runner
	turn    func() // has come
	done    func(Measurement)
	payload Payload
	nonce   Nonce
	m       Measurement
	begun   time.Time
	refusal Condition // why the next SYN may not leave
}

// Remote implements tfo.Sequence.
func (l *ladder) Remote() netip.AddrPort { return netip.AddrPortFrom(l.m.Addr, l.m.Port) }

// Next implements tfo.Sequence.
func (l *ladder) Next(last *tfo.Evidence) (tfo.Attempt, bool) {
	if last == nil {
		l.begun = time.Now()
		if l.turn != nil {
			l.turn()
		}
		l.payload = PayloadFor(l.runner.settings.Payload, l.runner.settings.Bytes, l.m.Target)
		if l.runner.settings.Nonce != nil {
			l.nonce = l.runner.settings.Nonce(l.m.Target)
		}
		l.m.Attempts = make([]tfo.Evidence, 0, 5)
	} else {
		l.m.Attempts = append(l.m.Attempts, *last)
		if l.runner.settings.Watch != nil {
			l.runner.settings.Watch(l.m.Attempts)
		}
	}
	step, more := Next(l.runner.settings.Plan, l.m.Attempts)
	if !more {
		return tfo.Attempt{}, false
	}
	payload := l.payload
	if l.nonce != (Nonce{}) {
		payload = TaggedPayload(l.runner.settings.Payload, l.runner.settings.Bytes, l.m.Target, Tag{l.nonce, len(l.m.Attempts)})
	}
	if step.Size > 0 {
		payload = payload.Padded(step.Size)
	}
	return tfo.Attempt{
		Kind: step.Kind, SynLimit: step.Size, ClearCookie: step.ClearCookie, Delay: step.Delay,
		Payload: payload.Bytes, Complete: payload.Complete, Timeout: l.runner.settings.Timeout,
	}, true
}

// Permit implements tfo.Gate.
func (l *ladder) Permit() bool {
	if l.runner.settings.Permit == nil {
		return true
	}
	why, ok := l.runner.settings.Permit(l.m.Target)
	if !ok {
		l.refusal = why
	}
	return ok
}

// Over implements tfo.Sequence.
func (l *ladder) Over(cut bool) {
	switch {
	case l.refusal != "":
		l.m.Outcome, l.m.Conditions = OutcomeInterrupted, []Condition{l.refusal}
		if len(l.m.Attempts) == 0 {
			l.m.Outcome, l.m.Verdict = OutcomeRefused, Inconclusive
		}
	case !cut:
		l.m.Outcome = OutcomeMeasured
		l.m.Verdict, l.m.Conditions = Classify(l.runner.settings.Plan, l.m.Attempts)
		l.m.Cookie = lastCookie(l.m.Attempts)
	case !l.begun.IsZero():
		l.m.Outcome = OutcomeInterrupted
	}
	if !l.begun.IsZero() {
		l.m.Started, l.m.Duration = l.begun.Round(0), time.Since(l.begun)
	}
	l.done(l.m)
}
