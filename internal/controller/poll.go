package controller

import (
	"maps"
	"slices"
	"time"

	"tfofleet/internal/lease"
	"tfofleet/internal/store"
	pb "tfofleet/proto/tfofleet/v1"
)

// pollEvery is how soon a controller sees what another one did, and what it
// missed itself.
const pollEvery = time.Second

// poll looks at the store, which may have other news than this controller's own:
// a survey that another one started, paused or ended, a limit that one set, a
// chunk that one gave back and nobody asked for.
func (s *Server) poll() {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-s.ctx.Done():
			return
		}
		s.trouble.failed(writeLeases, s.look())
	}
}

func (s *Server) look() error {
	here := s.all() // first: what is started from here on may not be in the answer
	running, err := s.cfg.Store.Surveys(s.ctx)
	if err != nil {
		return err
	}
	known := make(map[string]bool)
	for _, rec := range running {
		known[rec.ID] = true
		if err := s.adopt(rec); err != nil {
			s.log.Error("a survey cannot be taken up", "survey", rec.ID, "reason", err)
		}
	}
	for _, v := range here {
		switch {
		case !known[v.rec.ID]:
			s.forget(v) // another controller ended it
		case v.stale.Swap(false):
			err := s.refresh(v)
			s.trouble.failed(writeDataset, err)
			if err != nil {
				v.stale.Store(true)
			}
		}
	}
	if work, err := s.cfg.Store.HasWork(s.ctx); err != nil {
		return err
	} else if work {
		s.work.notify()
	}
	s.over.notify()
	if s.cfg.Shared {
		s.notifyAll()
		if err := s.limit(); err != nil {
			return err
		}
		if err := s.divert(); err != nil {
			return err
		}
	}
	return s.count()
}

// adopt takes up a survey that another controller started, and its pauses.
func (s *Server) adopt(rec store.Survey) error {
	v, ok := s.running(rec.ID)
	if !ok {
		// Whoever creates one takes a moment; not for ever, it may have died.
		if s.cfg.Shared && rec.Phase == store.Creating && s.cfg.Now().Sub(rec.Created) < time.Minute {
			return nil
		}
		var err error
		if v, err = s.start(s.ctx, rec); err != nil {
			return err
		}
	}
	// Who cancelled it may have died before all of its chunks were told.
	if rec.Cancel && !v.cancelled.Load() {
		if err := s.cancelChunks(s.ctx, rec.ID); err != nil {
			return err
		}
		v.cancelled.Store(true)
	}
	if was := v.paused.Swap(rec.Paused); rec.Paused && !was {
		s.recall(rec.ID)
	}
	return nil
}

// limit tells the probes that are connected here the limits that were set
// elsewhere.
func (s *Server) limit() error {
	limits, err := s.cfg.Store.Limits(s.ctx)
	if err != nil {
		return err
	}
	s.mu.Lock()
	sessions := slices.Collect(maps.Values(s.sessions))
	s.mu.Unlock()
	for _, p := range sessions {
		p.limit(limits[p.probe])
	}
	return nil
}

// divert sends the probes that are connected here to the controllers that asked
// for them.
func (s *Server) divert() error {
	summoned, err := s.cfg.Store.Summoned(s.ctx, s.cfg.Name)
	if err != nil {
		return err
	}
	for probe, addresses := range summoned {
		s.mu.Lock()
		p, ok := s.sessions[probe]
		s.mu.Unlock()
		if ok && !p.diverted.Swap(true) {
			s.log.Info("a probe is asked to go to another controller", "probe", probe, "addresses", addresses)
			_ = p.send(&pb.SessionResponse{Message: &pb.SessionResponse_Drain{Drain: &pb.Drain{Alternates: addresses}}})
		}
	}
	return nil
}

// recall asks the probes that are connected here for what they hold of a survey
// and have not started.
func (s *Server) recall(survey string) {
	s.mu.Lock()
	sessions := slices.Collect(maps.Values(s.sessions))
	s.mu.Unlock()
	for _, p := range sessions {
		chunks, err := s.cfg.Store.HeldBy(s.ctx, p.probe)
		s.trouble.failed(writeLeases, err)
		for _, c := range chunks {
			if c.Survey == survey && (c.Phase == lease.Held || c.Phase == lease.Suspect) {
				s.tell(p.probe, &pb.Cancel{Ref: ref(c)})
			}
		}
	}
}

// count learns how large the fleet is, by which heartbeats are spread.
func (s *Server) count() error {
	if !s.cfg.Shared {
		return nil
	}
	sessions, err := s.cfg.Store.Sessions(s.ctx, s.stale())
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.elsewhere = 0
	for _, session := range sessions {
		if _, here := s.sessions[session.Probe]; !here {
			s.elsewhere++
		}
	}
	return nil
}

// beatsPerSecond is how many heartbeats the controllers take at a time: with
// more probes each of them is heard of less often.
const beatsPerSecond = 50

// interval is the heartbeat that probes are asked to keep.
func (s *Server) interval() time.Duration {
	s.mu.Lock()
	n := len(s.sessions) + s.elsewhere
	s.mu.Unlock()
	return max(s.cfg.Heartbeat, time.Duration(n)*time.Second/beatsPerSecond)
}

// ttl is how long a lease holds that is not renewed, where heartbeats are so far
// apart: some of them may be lost.
func (s *Server) ttl(interval time.Duration) time.Duration {
	if interval > s.cfg.Heartbeat {
		return max(s.cfg.TTL, lease.DefaultRules(interval).TTL)
	}
	return s.cfg.TTL
}

// stale is the age of the last heartbeat at which a session is over, although
// nobody has seen its end: its controller died.
func (s *Server) stale() time.Duration { return staleAfter(s.interval()) }

// staleAfter is less than the TTL of a lease.
func staleAfter(interval time.Duration) time.Duration { return 2*interval + 5*time.Second }
