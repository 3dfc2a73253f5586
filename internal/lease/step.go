package lease

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// Rules are the constants of a survey's leases.
type Rules struct {
	OfferTimeout time.Duration // an offer without an answer is withdrawn after it
	TTL          time.Duration // a lease that is not renewed is suspect after it
	Grace        time.Duration // a suspect lease is given up after it
	MaxOffers    int           // a chunk that nobody accepts is given up after it
	// Repeat: what was started and never finished is measured again, and
	// marked (Item.Again). Otherwise it is Interrupted, for a second run meets
	// a kernel and a path that remember the first.
	Repeat bool
}

// DefaultRules fit a heartbeat interval: a TTL of three heartbeats and 10 s.
func DefaultRules(heartbeat time.Duration) Rules {
	ttl := 3*heartbeat + 10*time.Second
	return Rules{OfferTimeout: 30 * time.Second, TTL: ttl, Grace: ttl, MaxOffers: 9}
}

// Step is the next state of a chunk and what to do once it is durable. An
// event that means nothing in the state, such as a message sent twice, changes
// nothing.
func (r Rules) Step(s State, now time.Time, e Event) (State, []Effect) {
	s.Items = slices.Clone(s.Items)
	s.Late = maps.Clone(s.Late)
	s.Holders = slices.Clip(s.Holders)
	switch e := e.(type) {
	case Offer:
		return r.offer(s, now, e)
	case Accept:
		return r.accept(s, now, e)
	case Refuse:
		return r.refuse(s, e)
	case StreamLost:
		if s.Phase == Offered && s.Probe == e.Probe {
			return r.withdraw(s)
		}
	case Renew:
		return r.renew(s, now, e)
	case Forgotten:
		return r.forgotten(s, e)
	case Results:
		return r.results(s, now, e)
	case Expire:
		return r.expire(s, now, e)
	case Cancel:
		return r.cancel(s)
	case GiveUp:
		return s.giveUp()
	}
	return s, nil
}

func (r Rules) offer(s State, now time.Time, e Offer) (State, []Effect) {
	if s.Phase != Pending {
		return s, nil
	}
	s.Phase, s.Probe, s.Instance, s.Deadline = Offered, e.Probe, e.Instance, now.Add(r.OfferTimeout)
	s.Epoch++
	s.Offers++
	s.Lapsed, s.Taken, s.TTL = false, 0, 0
	s.Holders = append(s.Holders, e.Probe)
	for i, item := range s.Items {
		if !item.final() {
			s.Items[i] = item&again | out
		}
	}
	return s, []Effect{Send}
}

func (r Rules) accept(s State, now time.Time, e Accept) (State, []Effect) {
	if !s.current(e.Probe, e.Epoch) || !(s.Phase.live() || s.Lapsed) {
		return s, []Effect{Drop}
	}
	return r.hold(s, now, e.TTL), s.reminder()
}

// hold makes the newest lease held from now on, also one that had lapsed. What
// its probe may have been told already is never shortened: it goes by that until
// it hears another word.
func (r Rules) hold(s State, now time.Time, ttl time.Duration) State {
	if s.Phase == Pending {
		for i, item := range s.Items {
			if !item.final() && item&returned == 0 {
				s.Items[i] |= out
			}
		}
		s.Probe = s.holder(s.Epoch)
		s.Lapsed = false
	}
	until := now.Add(cmp.Or(ttl, r.TTL))
	if s.Phase == Held && s.Deadline.After(until) {
		until = s.Deadline
	}
	s.Phase, s.Offers, s.TTL, s.Deadline = Held, 0, ttl, until
	return s
}

func (r Rules) refuse(s State, e Refuse) (State, []Effect) {
	if s.Phase != Offered || !s.current(e.Probe, e.Epoch) {
		return s, nil
	}
	if e.Busy {
		s.Offers--
	}
	s, effects := r.withdraw(s)
	s.Lapsed = false
	return s, effects
}

// withdraw takes back an offer to which nothing was heard. It may be the accept
// that was lost; a probe begins nothing before it knows that it was not.
func (r Rules) withdraw(s State) (State, []Effect) {
	s = s.release()
	s.Lapsed = true
	if s.Offers < r.MaxOffers || s.finished() || s.Cancelled {
		return s.settle()
	}
	return s.lose()
}

// lose ends a pending chunk without what it lacks.
func (s State) lose() (State, []Effect) {
	for i, item := range s.Items {
		if !item.final() {
			s.Items[i] = Result(Lost, 0)
		}
	}
	s.Phase, s.Lapsed = Poisoned, false
	return s, []Effect{Finish}
}

// release takes the chunk from its probe. Targets that were out are pending
// again, or have the late result that waited for this.
func (s State) release() State {
	for i, item := range s.Items {
		if !item.Out() {
			continue
		}
		s.Items[i] = item &^ out
		if l, ok := s.Late[uint32(i)]; ok {
			s.Items[i] = l.Result
		}
	}
	s.Phase, s.Probe, s.Deadline = Pending, "", time.Time{}
	return s
}

// settle decides what a pending chunk is: done, or waiting for a probe.
func (s State) settle() (State, []Effect) {
	if s.Cancelled {
		for i, item := range s.Items {
			if !item.final() {
				s.Items[i] = Result(Cancelled, 0)
			}
		}
	}
	if s.finished() {
		s.Phase, s.Lapsed = Done, false
		return s, []Effect{Finish}
	}
	return s, []Effect{Requeue}
}

func (r Rules) renew(s State, now time.Time, e Renew) (State, []Effect) {
	if !s.current(e.Probe, e.Epoch) || !(s.Phase.live() || s.Lapsed) {
		return s, []Effect{Drop}
	}
	s = r.hold(s, now, e.TTL)
	s.Taken = max(s.Taken, e.Taken)
	return s, s.reminder()
}

// reminder repeats Stop to a probe that may have missed it.
func (s State) reminder() []Effect {
	if s.Cancelled {
		return []Effect{Stop}
	}
	return nil
}

// forgotten: the probe's process is a new one, or never saw the offer.
func (r Rules) forgotten(s State, e Forgotten) (State, []Effect) {
	if s.holder(s.Epoch) != e.Probe || !(s.Phase.live() || s.Lapsed) {
		return s, nil
	}
	var effects []Effect
	switch s.Phase {
	case Offered:
		s, effects = r.withdraw(s)
	case Held, Suspect:
		s, effects = r.abandon(s)
	}
	s.Lapsed = false
	return s, effects
}

// abandon ends a lease whose probe cannot be asked what it did with it. It has
// started nothing from Taken on, and what it has before that nobody knows.
func (r Rules) abandon(s State) (State, []Effect) {
	for i, item := range s.Items {
		if _, late := s.Late[uint32(i)]; late || !item.Out() || i >= s.Taken {
			continue
		}
		if r.Repeat {
			s.Items[i] |= again
			continue
		}
		s.interrupt(uint32(i))
	}
	s = s.release()
	s.Attempt++
	s.Lapsed = true
	return s.settle()
}

func (r Rules) expire(s State, now time.Time, e Expire) (State, []Effect) {
	if s.Deadline.IsZero() {
		return s, nil
	}
	if s.Phase != Offered && s.Deadline.Before(e.FrozenUntil) {
		s.Deadline = e.FrozenUntil
	}
	if now.Before(s.Deadline) {
		return s, nil
	}
	switch s.Phase {
	case Offered:
		return r.withdraw(s)
	case Held:
		s.Phase, s.Deadline = Suspect, now.Add(cmp.Or(s.TTL, r.Grace))
	case Suspect:
		return r.abandon(s)
	}
	return s, nil
}

func (r Rules) cancel(s State) (State, []Effect) {
	if s.Cancelled || s.Phase.Over() {
		return s, nil
	}
	s.Cancelled = true
	if s.Phase == Pending {
		return s.settle()
	}
	return s, []Effect{Stop}
}

// giveUp: what its probe had begun is Interrupted also where it would have been
// repeated. There is nobody to repeat it.
func (s State) giveUp() (State, []Effect) {
	if s.Phase.Over() {
		return s, nil
	}
	if s.Phase.live() {
		for i := range min(s.Taken, len(s.Items)) {
			if _, late := s.Late[uint32(i)]; !late && s.Items[i].Out() {
				s.interrupt(uint32(i))
			}
		}
		s = s.release()
		s.Attempt++
	}
	if s.Cancelled || s.finished() {
		return s.settle()
	}
	return s.lose()
}
