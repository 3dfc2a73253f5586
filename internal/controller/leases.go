package controller

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"tfofleet/internal/lease"
	"tfofleet/internal/store"
	pb "tfofleet/proto/tfofleet/v1"
)

// beat renews what a probe holds, and its session. The answer is the probe's leave
// to go on: there is none where something could not be stored.
func (s *Server) beat(p *session, m *pb.Heartbeat) error {
	s.metrics.heartbeats.Inc()
	p.mu.Lock()
	p.held, p.status = m.GetHeld(), m.GetStatus()
	p.mu.Unlock()
	state, err := p.record()
	if err != nil {
		return err
	}
	err = s.cfg.Store.Beat(s.ctx, p.probe, p.id, state)
	if errors.Is(err, store.ErrNotFound) {
		return status.Error(codes.Aborted, "the probe has another session by now")
	}
	s.trouble.failed(writeLeases, err)
	err = together(m.GetHeld(), func(h *pb.HeldLease) error {
		return s.apply(p, keyOf(h.GetRef()), lease.Renew{Probe: p.probe, Epoch: h.GetRef().GetEpoch(), Taken: int(h.GetTaken()), TTL: p.ttl})
	})
	if err != nil {
		return nil // told by apply; the next heartbeat says it again
	}
	return p.send(&pb.SessionResponse{Message: &pb.SessionResponse_HeartbeatAck{HeartbeatAck: &pb.HeartbeatAck{
		ServerTime: timestamppb.New(s.cfg.Now()), Number: m.GetNumber(),
	}}})
}

// answered notes that the probe has said what becomes of an offer.
func (s *Server) answered(p *session, k store.Key) {
	p.mu.Lock()
	delete(p.offers, k)
	p.mu.Unlock()
}

// apply runs an event that came from a probe. What could not be stored, which is
// logged here, was not said: the probe says it again with its next heartbeat, or
// the lease lapses.
//
// It outlives the session: an event that was stored has effects, and somebody
// has to carry them out.
func (s *Server) apply(p *session, k store.Key, e lease.Event) error {
	_, err := s.effects(p, k, e)
	return err
}

// effects is apply, for whom they concern.
func (s *Server) effects(p *session, k store.Key, e lease.Event) ([]lease.Effect, error) {
	c, effects, err := s.cfg.Store.Apply(s.ctx, k, e, nil)
	if errors.Is(err, store.ErrNotFound) {
		s.drop(p, k, e)
		return nil, nil
	}
	s.trouble.set(writeLeases, err)
	if err != nil {
		return nil, err
	}
	if slices.Contains(effects, lease.Drop) {
		s.drop(p, k, e)
	} else if c.Phase == lease.Held && s.isPaused(k.Survey) {
		// It was not there to hear of the pause, or the lease was on its way.
		_ = p.send(&pb.SessionResponse{Message: &pb.SessionResponse_Cancel{Cancel: &pb.Cancel{Ref: ref(c)}}})
	}
	s.carryOut(c, effects)
	return effects, nil
}

// isPaused reports whether a survey is paused, as far as it is known here.
func (s *Server) isPaused(survey string) bool {
	v, ok := s.running(survey)
	return ok && v.paused.Load()
}

// drop tells a probe that a lease is not its own.
func (s *Server) drop(p *session, k store.Key, e lease.Event) {
	r := &pb.LeaseRef{Survey: k.Survey, Chunk: k.Chunk}
	switch e := e.(type) {
	case lease.Accept:
		r.Epoch = e.Epoch
	case lease.Renew:
		r.Epoch = e.Epoch
	default:
		return
	}
	// Over this session, before the answer that it may wait for; the next one
	// compares what is held.
	_ = p.send(&pb.SessionResponse{Message: &pb.SessionResponse_Cancel{Cancel: &pb.Cancel{Ref: r, Forget: true}}})
}

func (s *Server) refused(p *session, r *pb.LeaseRefused) {
	reason := r.GetReason()
	busy := reason == pb.RefusalReason_REFUSAL_REASON_BUSY || reason == pb.RefusalReason_REFUSAL_REASON_DRAINING
	k := keyOf(r.GetRef())
	s.answered(p, k)
	if !busy {
		s.log.Warn("lease refused", "probe", p.probe, "survey", k.Survey, "chunk", k.Chunk, "reason", reason, "detail", r.GetDetail())
	}
	excused := !busy && p.refused(s.others(p, k.Survey))
	effects, _ := s.effects(p, k, lease.Refuse{Probe: p.probe, Epoch: r.GetRef().GetEpoch(), Busy: busy || excused}) // or its time runs out
	for _, f := range effects {
		if f == lease.Finish && !busy {
			// It is told with the survey: nobody reads the log of a survey
			// that ran to its end.
			why := fmt.Sprintf("probe %s refused targets: %s", p.probe, r.GetDetail())
			_, err := s.cfg.Store.SetPhase(s.ctx, k.Survey, store.Running, why)
			s.trouble.failed(writeLeases, err)
		}
	}
}

// A probe that refuses what another one takes has a fault of its own, such as too
// few open files. That must not use up the offers of a chunk: it has to rest, and
// others are asked. Where there is none, or all refuse, the survey is to end.
const (
	longestRest = time.Minute
	maxExcused  = 20 // refusals in a row; none of the others may ever come to it
)

// refused notes a refusal, and reports whether the chunk is not to count it.
func (p *session) refused(others bool) (excused bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refusals++
	if others {
		p.rest = time.Now().Add(min(time.Second<<min(p.refusals, 10), longestRest))
	}
	return others && p.refusals <= maxExcused
}

// accepted notes that a lease was.
func (p *session) accepted() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refusals = 0
}

// others reports whether another probe may take what p refuses of a survey. Those
// that are connected elsewhere count only where p is the only one here: whether
// they refuse is not known.
func (s *Server) others(p *session, survey string) bool {
	v, ok := s.running(survey)
	if !ok || v.rec.Mode == store.Every {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	alone := true
	for _, q := range s.sessions {
		if q == p || len(v.rec.Probes) > 0 && !slices.Contains(v.rec.Probes, q.probe) {
			continue
		}
		if !q.refuses() {
			return true
		}
		alone = false
	}
	return alone && s.elsewhere > 0
}

func (p *session) refuses() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.refusals > 0
}

// keyOf is the chunk of a lease as a probe names it. No survey has the name "".
func keyOf(r *pb.LeaseRef) store.Key {
	if !isName(r.GetSurvey()) {
		return store.Key{}
	}
	return store.Key{Survey: r.GetSurvey(), Chunk: r.GetChunk()}
}

// isName reports whether a store can be asked for what is called so: PostgreSQL
// takes no zero byte and has no index for what is long, and its refusal must not
// look like trouble of the store.
func isName(s string) bool { return len(s) <= 64 && strings.IndexByte(s, 0) < 0 }
