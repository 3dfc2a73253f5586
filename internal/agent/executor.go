package agent

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"tfofleet/internal/measure"
	pb "tfofleet/proto/tfofleet/v1"
)

// idleAfter is how long a runner is kept without work: the next lease of its
// survey usually comes within a second, and a new runner has forgotten which
// addresses have to rest.
const idleAfter = time.Minute

// executor leads the targets of one survey to its runner, in the order of the
// leases.
type executor struct {
	agent  *Agent
	survey string
	spec   *pb.SurveySpec
	runner Runner
	names  *resolver
	shared *shared

	ctx     context.Context // until stop
	cancel  context.CancelFunc
	slots   chan struct{} // targets between take and done
	lane    *lane         // of these, those that are ahead of the runner, where marks are kept
	lookups chan struct{} // names being resolved
	asking  sync.WaitGroup
	fed     chan struct{} // the feeder has ended

	mu      sync.Mutex // before that of a work
	queue   []*work
	feeding *work // the one before the queue
	turn    bool  // it is this survey's to begin targets
	asked   bool  // a heartbeat was asked for
	added   chan struct{}
	busy    int // leases with a target that has no outcome
	rest    *time.Timer

	begun     int // targets, since paceSince
	paceSince time.Time
	pace      float64 // targets begun per second, before that
}

func newExecutor(a *Agent, survey string, spec *pb.SurveySpec, runner Runner) *executor {
	// More than run at a time, so that the runner never waits for us: for names,
	// and for the mark of what is next.
	n := spec.GetConcurrency()
	e := &executor{
		agent: a, survey: survey, spec: spec, runner: runner, names: newResolver(a.cfg.DialDNS), shared: newShared(sharedEntries),
		slots: make(chan struct{}, 2*n+64), lane: newLane(n), paceSince: time.Now(), lookups: make(chan struct{}, maxLookups),
		fed: make(chan struct{}), added: make(chan struct{}, 1),
	}
	e.rest = time.AfterFunc(idleAfter, func() { e.agent.retire(e) })
	e.ctx, e.cancel = context.WithCancel(context.Background())
	go e.feed()
	return e
}

func (e *executor) add(w *work) {
	w.over = e.finished
	e.mu.Lock()
	e.busy++
	e.queue = append(e.queue, w)
	e.mu.Unlock()
	e.ask()
	select {
	case e.added <- struct{}{}:
	default:
	}
}

// finished counts a lease out.
func (e *executor) finished() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.busy--
	if e.busy == 0 {
		e.turn = false
		e.agent.turn.leave(e)
		e.rest.Reset(idleAfter)
	}
}

func (e *executor) idle() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.busy == 0
}

// stop brings every lease of the executor to its end. No lease is added any
// more.
func (e *executor) stop() {
	e.rest.Stop()
	e.cancel()
	<-e.fed
	e.asking.Wait()
	e.runner.Stop()
}

// finish is stop, but what the runner has gets some time to come to its end.
func (e *executor) finish(patience time.Duration) {
	e.cancel()
	<-e.fed
	late := time.NewTimer(patience)
	defer late.Stop()
	for range cap(e.slots) { // all of them free: nothing is under way
		select {
		case e.slots <- struct{}{}:
			continue
		case <-late.C:
		}
		break
	}
	e.stop()
}

// next waits for a lease; after stop it returns those that are left, then nil.
func (e *executor) next() *work {
	for {
		e.mu.Lock()
		if len(e.queue) > 0 {
			w := e.queue[0]
			e.queue, e.feeding = e.queue[1:], w
			e.mu.Unlock()
			return w
		}
		e.mu.Unlock()
		select {
		case <-e.added:
		case <-e.ctx.Done():
			e.mu.Lock()
			left := len(e.queue)
			e.mu.Unlock()
			if left == 0 {
				return nil
			}
		}
	}
}

// feed begins targets, one lease after the other.
func (e *executor) feed() {
	defer close(e.fed)
	for w := e.next(); w != nil; w = e.next() {
		e.agent.turn.take(e)
		e.mu.Lock()
		e.turn = true
		e.mu.Unlock()
		e.ask()
		for i, t := range w.targets {
			if !e.acquire() {
				w.done(measure.Measurement{Target: t})
				continue
			}
			if !e.enter() {
				e.end(w, measure.Measurement{Target: t})
				continue
			}
			if !w.may(i, e.ctx.Done()) || !w.take(i) {
				e.leave()
				e.end(w, measure.Measurement{Target: t})
				continue
			}
			e.count()
			e.begin(w, t)
		}
	}
}

// count counts a target that is begun, and looks now and then how many more may
// be.
func (e *executor) count() {
	e.mu.Lock()
	e.begun++
	look := e.begun%8 == 0
	e.mu.Unlock()
	if look {
		e.ask()
	}
}

// acquire takes a slot; false after stop.
func (e *executor) acquire() bool {
	if e.ctx.Err() != nil {
		return false
	}
	select {
	case e.slots <- struct{}{}:
		return true
	case <-e.ctx.Done():
		return false
	}
}

// end is the end of a target that has a slot.
func (e *executor) end(w *work, m measure.Measurement) {
	w.done(m)
	<-e.slots
}

// enter takes a place in the lane; false after stop.
func (e *executor) enter() bool {
	if e.agent.cfg.Spool == nil {
		return true
	}
	return e.lane.enter(e.ctx)
}

// leave gives the place back.
func (e *executor) leave() {
	if e.agent.cfg.Spool != nil {
		e.lane.leave()
	}
}

// setRate bounds new connections per second from now on.
func (e *executor) setRate(rate float64) {
	e.runner.SetRate(rate)
	e.lane.pace(rate)
}

// begin resolves a target that has a slot and a place in the lane, if it has to
// be, and goes on.
func (e *executor) begin(w *work, t measure.Target) {
	if t.Addr.IsValid() {
		if !familyHas(e.spec.GetFamily(), t.Addr) {
			e.leave()
			e.end(w, unresolved(t, measure.CondNameNoAddress, time.Now()))
			return
		}
		e.measure(w, t)
		return
	}
	e.leave() // for as long as that takes
	if g := e.agent.cfg.Guard; g != nil {
		if reason, ok := g.CheckName(t.Hostname, time.Now()); !ok {
			e.end(w, refused(t, reason.Condition()))
			return
		}
	}
	select {
	case e.lookups <- struct{}{}:
	case <-e.ctx.Done():
		e.end(w, measure.Measurement{Target: t})
		return
	}
	e.asking.Go(func() {
		begun := time.Now()
		addr, cond := e.names.lookup(e.ctx, t.Hostname, e.spec.GetFamily())
		<-e.lookups
		switch {
		case e.ctx.Err() != nil:
			e.end(w, measure.Measurement{Target: t})
		case cond != "":
			e.end(w, unresolved(t, cond, begun))
		case !e.enter():
			e.end(w, measure.Measurement{Target: t})
		default:
			t.Addr = addr
			e.measure(w, t)
		}
	})
}

// unresolved is the measurement of a target without an address.
func unresolved(t measure.Target, cond measure.Condition, begun time.Time) measure.Measurement {
	verdict := measure.Offline
	if cond == measure.CondVantageNoResolver {
		verdict = measure.Inconclusive // this machine could not even ask
	}
	return measure.Measurement{
		Target: t, Outcome: measure.OutcomeMeasured, Verdict: verdict, Conditions: []measure.Condition{cond},
		Started: begun.Round(0), Duration: time.Since(begun),
	}
}

// measure hands a target that has a place in the lane, and whose address is known,
// to the runner, if the policy lets it and nobody has measured the address and
// port yet.
func (e *executor) measure(w *work, t measure.Target) {
	if why, ok := e.permits(t); !ok {
		e.leave()
		e.end(w, refused(t, why))
		return
	}
	key := netip.AddrPortFrom(t.Addr.WithZone("").Unmap(), t.Port)
	turn, known := e.shared.join(key, sharer{w, t})
	switch turn {
	case seen:
		e.leave()
		e.end(w, known.copyFor(t))
	case waits:
		e.leave()
	case first:
		if e.agent.cfg.Spool == nil {
			e.start(w, t, key)
			return
		}
		// The mark waits for the disk, together with those of other targets.
		e.asking.Go(func() { e.start(w, t, key) })
	}
}

func familyHas(f pb.Family, a netip.Addr) bool {
	switch f {
	case pb.Family_FAMILY_IPV4:
		return a.Unmap().Is4()
	case pb.Family_FAMILY_IPV6:
		return a.Unmap().Is6()
	}
	return true
}
