package lease

import "time"

func (r Rules) results(s State, now time.Time, e Results) (State, []Effect) {
	switch {
	case s.holder(e.Epoch) != e.Probe || e.Probe == "":
		return s, []Effect{Reject}
	case !s.valid(e):
		return s, []Effect{Reject}
	case s.Phase.Over():
		return s.afterwards(e)
	case s.current(e.Probe, e.Epoch) && (s.Phase.live() || s.Lapsed):
		// Results travel on a stream of their own and may overtake the
		// accept; and they are a sign of life like a heartbeat.
		return r.take(r.hold(s, now, s.TTL), e)
	}
	return r.takeLate(s, e)
}

// valid reports whether the batch speaks of this chunk's targets, and of
// outcomes that a probe may report.
func (s *State) valid(e Results) bool {
	for _, x := range e.Items {
		if o := x.Result.Outcome(); int(x.Index) >= len(s.Items) || o < Measured || o > Interrupted {
			return false
		}
	}
	for _, i := range e.Returned {
		if int(i) >= len(s.Items) {
			return false
		}
	}
	return true
}

// take takes the results of the lease that is held.
func (r Rules) take(s State, e Results) (State, []Effect) {
	for _, x := range e.Items {
		item := s.Items[x.Index]
		late, wasLate := s.Late[x.Index]
		switch {
		case item.Outcome() == Moved:
		case wasLate && !better(x.Result, e.Epoch, late):
			s.Items[x.Index] = late.Result
		case wasLate, item.final() && !item.real() && x.Result.real():
			s.Items[x.Index] = x.Result
			delete(s.Late, x.Index)
		case item.final():
			// One that this lease was not given, or a probe that reports a
			// target twice: the first one stands.
		case x.Result.real():
			s.Items[x.Index] = x.Result
		case !r.Repeat:
			s.interrupt(x.Index)
		default:
			s.Items[x.Index] = again
		}
	}
	for _, i := range e.Returned {
		item := s.Items[i]
		if !item.Out() {
			continue
		}
		if late, ok := s.Late[i]; ok {
			s.Items[i] = late.Result
		} else {
			s.Items[i] = item&again | returned
		}
	}
	if s.owes() {
		return s, []Effect{Keep}
	}
	s = s.release()
	s, effects := s.settle()
	if s.Phase == Pending {
		s.Attempt++
	}
	return s, append([]Effect{Keep}, effects...)
}

// takeLate takes the results of a lease that is over. They fill gaps; they
// change no lease and replace nothing newer.
func (r Rules) takeLate(s State, e Results) (State, []Effect) {
	for _, x := range e.Items {
		item := s.Items[x.Index]
		old, hadLate := s.Late[x.Index]
		if item.Outcome() == Moved || !x.Result.real() && r.Repeat {
			continue
		}
		if hadLate && !better(x.Result, e.Epoch, old) {
			continue
		}
		if item.final() && !hadLate && (item.real() || !x.Result.real()) {
			continue
		}
		s.remember(x.Index, Late{e.Epoch, x.Result})
		if !item.Out() {
			s.Items[x.Index] = x.Result
		}
	}
	if s.Phase == Pending && s.finished() {
		s, effects := s.settle()
		return s, append([]Effect{KeepLate}, effects...)
	}
	return s, []Effect{KeepLate}
}

// better: a target that was seen through counts more than an interruption,
// then the newer epoch.
func better(result Item, epoch uint64, old Late) bool {
	if result.real() != old.Result.real() {
		return result.real()
	}
	return epoch > old.Epoch
}

// afterwards decides what becomes of a batch for a chunk that is over.
func (s State) afterwards(e Results) (State, []Effect) {
	for _, x := range e.Items {
		if x.Result.real() && !s.Items[x.Index].real() {
			return s, []Effect{KeepAside}
		}
	}
	return s, nil
}
