package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tfofleet/internal/lease"
	"tfofleet/internal/measure"
	"tfofleet/internal/store"
	pb "tfofleet/proto/tfofleet/v1"
)

// dispatch hands out work for as long as the probe has credit.
func (s *Server) dispatch(ctx context.Context, p *session) {
	for {
		work := s.work.next()
		for ctx.Err() == nil && p.hasCredit() && s.trouble.reason() == "" {
			c, err := s.cfg.Store.Claim(s.ctx, p.probe, p.instance)
			if errors.Is(err, store.ErrNotFound) {
				break
			}
			s.trouble.set(writeLeases, err)
			if err != nil {
				break
			}
			if err := s.offer(ctx, p, c); err != nil {
				return
			}
		}
		select {
		case <-work:
		case <-p.poke:
		case <-s.drained:
			return
		case <-ctx.Done():
			return
		}
	}
}

func (p *session) hasCredit() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sent < p.credit && !time.Now().Before(p.rest)
}

// offer sends a lease that was claimed. The error is one of the stream.
func (s *Server) offer(ctx context.Context, p *session, c store.Chunk) error {
	v, err := s.find(c.Survey)
	if err != nil {
		s.log.Error("a survey cannot be taken up", "survey", c.Survey, "reason", err)
		_ = s.apply(p, c.Key, lease.Refuse{Probe: p.probe, Epoch: c.Epoch, Busy: true})
		await(ctx.Done(), pollEvery) // the same chunk is claimed next, by this probe or another
		return nil
	}
	ts, err := v.targets.Chunk(int(c.Source))
	if err == nil && len(ts) != len(c.Items) {
		err = fmt.Errorf("chunk %d of the frozen targets holds %d, not %d", c.Source, len(ts), len(c.Items))
	}
	if err != nil {
		s.fail(v, err)
		return nil
	}
	s.enlist(v, p.probe)
	m := &pb.Lease{Ref: ref(c), Attempt: uint32(c.Attempt), Spec: v.rec.Spec, FirstItem: ts[0].Item}
	for i, item := range c.Items {
		if !item.Out() {
			continue
		}
		m.Targets = append(m.Targets, measure.TargetToWire(ts[i]))
		if item.Again() {
			m.Again = append(m.Again, uint32(i))
		}
	}
	p.mu.Lock()
	p.sent++
	p.offers[c.Key] = true
	p.mu.Unlock()
	s.metrics.offers.Inc()
	return p.send(&pb.SessionResponse{Message: &pb.SessionResponse_Lease{Lease: m}})
}
