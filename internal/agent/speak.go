package agent

import (
	"cmp"
	"context"
	"math/rand/v2"
	"time"

	pb "tfofleet/proto/tfofleet/v1"
)

// speaker is what a session says, until another takes its place.
//
// It is renewed without a gap: first no more leases are asked for, and when a
// heartbeat went to the controller and back without one coming, nothing is on
// its way in either direction that the next Hello would not say. Then that is
// said over a new stream, and the controller lets go of this one.
type speaker struct {
	*session
	beat *time.Timer
	due  *time.Timer // for the next session

	settling bool        // no more leases, a heartbeat is on its way
	patience *time.Timer // with that
	mark     uint64      // leases when it was sent
	opening  chan opened // the next session is being opened
	waiting  bool        // for the time of a detour
}

// opened is the next session, or why there is none.
type opened struct {
	next *session
	err  error
}

// speak says what there is to say until the session ends, and returns the one
// that takes its place, or why there is none.
func (s *session) speak(ctx context.Context) (*session, error) {
	a := s.agent
	p := &speaker{session: s, beat: time.NewTimer(jitter(s.interval)), due: time.NewTimer(time.Hour), patience: time.NewTimer(time.Hour)}
	defer p.beat.Stop()
	defer p.due.Stop()
	defer p.patience.Stop()
	p.due.Stop()
	p.patience.Stop()
	if s.maxAge > 0 {
		p.due.Reset(s.maxAge*8/10 + rand.N(s.maxAge*4/10+1))
	}
	retreat := a.retreat.begun
	a.poked()
	for {
		var m *pb.SessionRequest
		select {
		case err := <-s.heard:
			if p.opening == nil {
				return nil, err
			}
			o := <-p.opening // it took this one's place
			return o.next, o.err
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-a.retreat.gone.Done():
			return nil, p.goodbye()
		case m = <-s.said:
		case <-retreat:
			retreat = nil
			m = &pb.SessionRequest{Message: &pb.SessionRequest_Draining{Draining: &pb.Draining{}}}
		case <-a.poke:
			m = p.credit()
		case <-a.beat:
			m = p.heartbeat()
		case <-p.beat.C:
			p.beat.Reset(jitter(s.interval))
			a.poked() // there may be room in the spool again
			m = p.heartbeat()
		case d := <-s.drains:
			p.divert(d)
			m = p.credit()
		case <-p.due.C:
			if p.waiting {
				a.cfg.Prefer(s.away.alternates)
				p.open(ctx)
				continue
			}
			p.settling = true
			if err := p.send(p.credit()); err != nil {
				return nil, err
			}
			m = p.settle()
		case <-s.acked:
			if !p.settling || p.unacked() > 0 {
				continue
			}
			if s.leases.Load() == p.mark {
				p.open(ctx)
				continue
			}
			m = p.settle()
		case <-p.patience.C:
			p.open(ctx)
			continue
		case o := <-p.opening:
			if o.err == nil || final(o.err) {
				return o.next, o.err
			}
			a.log.Debug("the next session could not be opened", "reason", o.err)
			p.opening = nil
			s.close(false)
			p.due.Reset(jitter(s.interval))
			a.poked()
			continue
		}
		if err := p.send(m); err != nil {
			return nil, err
		}
		if m.GetDraining() != nil {
			a.retreat.wasSaid()
		}
	}
}

// send sends; the error is the reason why the stream ended.
func (p *speaker) send(m *pb.SessionRequest) error {
	if p.stream.Send(m) == nil {
		return nil
	}
	reason := p.lastWords()
	if p.opening != nil {
		p.heard <- reason // speak waits for the next session
		return nil
	}
	return reason
}

// lastWords is the reason why the stream ended, or ends it.
func (p *speaker) lastWords() error {
	late := time.NewTimer(farewell)
	defer late.Stop()
	for {
		select {
		case reason := <-p.heard:
			return reason
		case <-p.said: // nobody hears it any more
		case <-late.C:
			p.stop()
		}
	}
}

// credit says how many leases the session takes: none any more when it is to end.
func (p *speaker) credit() *pb.SessionRequest {
	n := p.leases.Load()
	if !p.settling && p.opening == nil && p.away == nil {
		n += p.agent.wanted()
	}
	return &pb.SessionRequest{Message: &pb.SessionRequest_Credit{Credit: &pb.Credit{Leases: n}}}
}

func (p *speaker) heartbeat() *pb.SessionRequest {
	held, said := p.agent.held()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.session.beat++
	said.number = p.session.beat
	h := &pb.Heartbeat{Held: held, Status: p.agent.status(), Number: said.number}
	if p.beats = append(p.beats, said); len(p.beats) > 16 { // nobody answers
		p.beats = p.beats[1:]
	}
	return &pb.SessionRequest{Message: &pb.SessionRequest_Heartbeat{Heartbeat: h}}
}

// settle is the heartbeat after which nothing may be on its way.
func (p *speaker) settle() *pb.SessionRequest {
	p.mark = p.leases.Load()
	p.patience.Reset(p.interval)
	return p.heartbeat()
}

func (p *speaker) unacked() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.beats)
}

// open opens the next session. Until it is there, this one's heartbeats go on.
func (p *speaker) open(ctx context.Context) {
	p.settling = false
	p.patience.Stop()
	p.close(true)
	p.opening = make(chan opened, 1)
	go func() {
		next, err := p.agent.open(ctx)
		p.opening <- opened{next, err}
	}()
}

// divert takes a Drain: the probe goes when it is told to, and is there no
// sooner and up to twice as late, so that not all come at once.
func (p *speaker) divert(d *pb.Drain) {
	after := d.GetReconnectAfter().AsDuration()
	after += rand.N(max(after, cmp.Or(p.agent.cfg.Backoff, leastPause)))
	p.away = &detour{time.Now().Add(after), d.GetAlternates()}
	p.settling, p.waiting = false, true
	p.patience.Stop()
	p.due.Reset(after)
	p.agent.log.Info("the controller drains", "reconnect_in", after, "alternates", d.GetAlternates())
}

// goodbye closes the stream in good order: what was said last arrives.
func (p *speaker) goodbye() error {
	if err := p.stream.CloseSend(); err != nil {
		return err
	}
	p.lastWords()
	return nil
}
