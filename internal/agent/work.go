package agent

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"tfofleet/internal/measure"
	pb "tfofleet/proto/tfofleet/v1"
)

const (
	// batchSize is enough for compression to pay: raw TCP_INFO of many
	// connections is much alike.
	batchSize = 128
	// batchAge is how long a result waits for others, unless it is the last.
	batchAge = 150 * time.Millisecond
)

// work is a lease in hand.
type work struct {
	agent   *Agent
	name    string
	ref     *pb.LeaseRef
	first   uint64 // item of index 0
	targets []measure.Target
	again   map[uint32]bool
	// executor has the targets; nil when none is left.
	executor *executor
	over     func() // when the last target has its outcome

	mu       sync.Mutex
	gone     bool          // what is not started is to be given back
	said     int           // targets of which the controller was told that they may be begun, in order
	heard    int           // and is known to have heard
	until    time.Duration // since boot: when the lease does not hold any more
	change   chan struct{} // closed by the next change of these
	doubtful bool          // what is not started may have been, by a machine that was put back in time
	taken    int           // targets that were begun, in order
	floor    uint32        // index up to which an earlier process may have begun targets
	open     int           // targets without an outcome
	ready    []measure.Measurement
	returned []uint32
	waiting  bool // a flush is due
	unacked  int  // batches, where there is no spool
}

func newWork(a *Agent, l *pb.Lease) (*work, error) {
	n := len(l.GetTargets())
	w := &work{
		agent: a, name: refName(l.GetRef()), ref: l.GetRef(), first: l.GetFirstItem(),
		targets: make([]measure.Target, n), open: n, again: make(map[uint32]bool, len(l.GetAgain())), change: make(chan struct{}),
	}
	if n == 0 {
		return nil, errors.New("a lease without targets")
	}
	for i, t := range l.GetTargets() {
		var err error
		if w.targets[i], err = measure.TargetFromWire(t); err != nil {
			return nil, fmt.Errorf("target %d: %w", i, err)
		}
		if t.GetItem() < w.first || i > 0 && t.GetItem() <= w.targets[i-1].Item {
			return nil, fmt.Errorf("target %d: item %d is out of order", i, t.GetItem())
		}
	}
	for _, i := range l.GetAgain() {
		w.again[i] = true
	}
	return w, nil
}

func refName(r *pb.LeaseRef) string {
	return fmt.Sprintf("%s/%d/%d", r.GetSurvey(), r.GetChunk(), r.GetEpoch())
}

// index is what the controller knows a target by.
func (w *work) index(item uint64) uint32 { return uint32(item - w.first) }

// take notes that target i is begun; false when it is not to be.
func (w *work) take(i int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.gone {
		return false
	}
	w.taken = i + 1
	return true
}

// withdraw lets go of what is not begun.
func (w *work) withdraw() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gone = true
	w.changed()
}

// distrust ends what is not started, as interrupted.
func (w *work) distrust() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gone, w.doubtful = true, true
	w.changed()
}

// done takes the outcome of a target; Outcome 0 means that it was never
// started. It is called from the engine and does nothing that takes time.
func (w *work) done(m measure.Measurement) {
	w.agent.settled()
	near, faulty := w.agent.health.nearPath()
	w.mu.Lock()
	if m.Outcome == 0 && w.doubtful {
		m.Outcome, m.Started = measure.OutcomeInterrupted, time.Now().Round(0)
	}
	if m.Outcome == 0 {
		w.returned = append(w.returned, w.index(m.Item))
	} else {
		w.agent.counted(m)
		if w.again[w.index(m.Item)] && m.Outcome != measure.OutcomeRefused {
			m = labelled(m, measure.CondVantageRepeated)
		}
		if faulty {
			m = labelled(m, near)
		}
		w.ready = append(w.ready, m)
	}
	w.open--
	last := w.open == 0
	switch {
	case last: // nobody may wait for the end of a lease
		go w.send(w.cut())
	case len(w.ready) == batchSize:
		go w.send(w.cut())
	case !w.waiting:
		w.waiting = true
		time.AfterFunc(batchAge, w.flush)
	}
	w.mu.Unlock()
	if last {
		w.over()
	}
}

// flush sends what has waited long enough.
func (w *work) flush() {
	w.mu.Lock()
	w.waiting = false
	if len(w.ready)+len(w.returned) == 0 {
		w.mu.Unlock()
		return
	}
	ready, returned := w.cut()
	w.mu.Unlock()
	w.send(ready, returned)
}

// cut takes what is ready, with the lock held.
func (w *work) cut() (ready []measure.Measurement, returned []uint32) {
	ready, returned = w.ready, w.returned
	w.ready, w.returned = nil, nil
	w.unacked++
	return ready, returned
}

// send makes a batch and gives it to the uplink.
func (w *work) send(ready []measure.Measurement, returned []uint32) {
	req := &pb.ReportResultsRequest{
		Probe: w.agent.cfg.Name, Lease: w.ref, Returned: returned,
		Indexes: make([]uint32, len(ready)), Outcomes: make([]pb.Outcome, len(ready)), Verdicts: make([]pb.Verdict, len(ready)),
	}
	for i := range ready {
		req.Indexes[i] = w.index(ready[i].Item)
		req.Outcomes[i], req.Verdicts[i] = pb.Outcome(ready[i].Outcome), pb.Verdict(ready[i].Verdict)
	}
	if len(ready) > 0 {
		var err error
		if req.Measurements, err = measure.EncodeBatch(ready); err != nil {
			// A string that is no UTF-8, from a list that was checked.
			w.agent.log.Error("results cannot be sent and are given back", "survey", w.ref.GetSurvey(), "chunk", w.ref.GetChunk(), "reason", err)
			req.Returned = append(req.Returned, req.Indexes...)
			req.Indexes, req.Outcomes, req.Verdicts = nil, nil, nil
		}
	}
	w.agent.uplink.put(&batch{work: w, req: req})
}

// acked notes that a batch is safe, and the end of the lease with the last one,
// where there is no spool to tell it.
func (w *work) acked() {
	w.mu.Lock()
	w.unacked--
	finished := w.unacked == 0 && w.open == 0 && len(w.ready)+len(w.returned) == 0
	w.mu.Unlock()
	if finished {
		w.agent.finished(w.name)
	}
}

// settled counts a target out, and asks for more where that is due.
func (a *Agent) settled() {
	if n := a.unfinished.Add(-1); n == a.enough.Load()-1 || n == 0 {
		a.poked()
	}
}

// counted counts an outcome, and learns from it how the probe is.
func (a *Agent) counted(m measure.Measurement) {
	a.done.Add(1)
	if m.Outcome == measure.OutcomeRefused {
		a.refused.Add(1)
	}
	if slices.Contains(m.Conditions, measure.CondVantagePaused) {
		a.health.noticePause()
	}
}
