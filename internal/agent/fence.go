package agent

import (
	"context"
	"time"
)

// A probe that nobody hears stops by itself, before its leases are somebody
// else's. What it may begin is what the controller knows that it may: Hello and
// every heartbeat say of each lease up to which target the probe goes
// (HeldLease.taken), a little further than it is. It goes there once that was
// answered, by a Welcome that does not drop the lease or the heartbeat's ack, and
// only for Welcome.ttl, counted from before the heartbeat was sent, on a clock
// that goes on while the machine sleeps. The controller counts the same time from
// when it heard the heartbeat, and then a grace.
//
// So a lease that lapsed has no target that two probes contact: those that its
// probe announced end as interrupted, the others it has not begun. An offer is
// not an answer: where its accept is lost, the chunk goes to another probe at
// once.

// promise is how much of a lease was announced.
type promise struct {
	w    *work
	said int // targets, from the first on
}

// announcement is what Hello or a heartbeat says of all leases.
type announcement struct {
	number   uint64    // of the heartbeat in its session
	asked    time.Time // before it was sent
	at       time.Duration
	promises []promise
}

// say announces that up to n more targets may be begun, where it was less, and
// returns how many are.
func (w *work) say(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.gone {
		return 0
	}
	w.said = max(w.said, min(w.taken+n, len(w.targets)))
	return w.said - w.taken
}

// announced is how many targets were announced, and the index of the first that
// was not.
func (w *work) announced() (said int, before uint32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.said == 0 {
		return 0, w.floor
	}
	return w.said, max(w.floor, w.index(w.targets[w.said-1].Item)+1)
}

// confirm notes that the controller has heard an announcement, and until when the
// lease holds.
func (w *work) confirm(said int, until time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.heard, w.until = max(w.heard, said), max(w.until, until)
	w.changed()
}

// changed wakes who waits in may; it is called with the lock held.
func (w *work) changed() {
	close(w.change)
	w.change = make(chan struct{})
}

// may waits until target i may be begun. It returns false when it never may: the
// lease is not the probe's any more, or stop is closed.
func (w *work) may(i int, stop <-chan struct{}) bool {
	for {
		now := w.agent.clock.boot()
		w.mu.Lock()
		gone, yes, change := w.gone, i < w.heard && now < w.until, w.change
		w.mu.Unlock()
		if gone || yes {
			return !gone
		}
		w.executor.ask()
		select {
		case <-change:
		case <-stop:
			return false
		}
	}
}

// mayGoOn is may for a target that was begun: a name that is resolved by now, or a
// mark that is on the disk, took its time.
func (w *work) mayGoOn(ctx context.Context) bool {
	return ctx.Err() == nil && w.may(0, ctx.Done())
}

// ahead is how many targets may be begun now, as far as announcements go, and how
// many are left in all.
func (w *work) ahead() (known, left int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.gone {
		return 0, 0
	}
	return w.heard - w.taken, len(w.targets) - w.taken
}

// window is how many targets a heartbeat announces: as many as are begun in half
// an interval. When a quarter of them is left the next heartbeat is asked for, so
// that nobody waits for its answer. With more, a probe that vanishes would
// interrupt more that it never began; with fewer, a busy one would send more than
// two or three heartbeats in an interval. It is called with the lock held.
func (e *executor) window() int {
	interval := time.Duration(e.agent.interval.Load())
	if d := time.Since(e.paceSince); d > time.Second {
		e.pace = float64(e.begun) / d.Seconds()
		e.paceSince, e.begun = time.Now(), 0
	}
	return max(e.lane.size(), int(e.pace*interval.Seconds()/2))
}

// line are the leases that have targets to begin, in order; with the lock held.
func (e *executor) line(each func(*work)) {
	if !e.turn || e.ctx.Err() != nil {
		return
	}
	if e.feeding != nil {
		each(e.feeding)
	}
	for _, w := range e.queue {
		each(w)
	}
}

// announce says how far the executor goes in its leases.
func (e *executor) announce() {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := e.window()
	e.line(func(w *work) { n -= w.say(max(n, 0)) })
}

// ask has a heartbeat sent when little is left that may be begun.
func (e *executor) ask() {
	e.mu.Lock()
	defer e.mu.Unlock()
	known, left := 0, 0
	e.line(func(w *work) {
		k, l := w.ahead()
		known, left = known+k, left+l
	})
	if known < left && 4*known < min(left, e.window()) && !e.asked {
		e.asked = true
		signalTo(e.agent.beat)
	}
}

// answered is for when an announcement was.
func (e *executor) answered() {
	e.mu.Lock()
	e.asked = false
	e.mu.Unlock()
	e.ask()
}

// confirmed notes that the controller has heard an announcement, and that leases
// hold for ttl from then on.
func (a *Agent) confirmed(n announcement, ttl time.Duration) {
	for _, p := range n.promises {
		p.w.confirm(p.said, n.at+ttl)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for e := range a.running {
		e.answered()
	}
}
