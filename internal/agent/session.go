package agent

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"tfofleet/internal/agent/spool"
	pb "tfofleet/proto/tfofleet/v1"
)

// sessions keeps a session open until ctx is over or the probe leaves. The error
// is final.
func (a *Agent) sessions(ctx context.Context) error {
	b := backoff{first: a.cfg.Backoff, longest: 120 * a.cfg.Backoff}
	if b.first == 0 {
		b = backoff{first: leastPause, longest: 2 * time.Minute}
	}
	for {
		begun := time.Now()
		s, err := a.open(ctx)
		var away *detour
		for s != nil {
			if a.cfg.Backoff == 0 {
				b.first = firstPause(s.interval)
				a.rest.Store(int64(b.first))
			}
			a.retreat.heard.Store(true)
			last := s
			s, err = s.speak(ctx)
			last.end()
			away = last.away
		}
		a.retreat.heard.Store(false)
		if ctx.Err() != nil || a.retreat.gone.Err() != nil {
			return nil
		}
		if final(err) {
			return err
		}
		a.log.Debug("session ended", "reason", err)
		a.cfg.OnEnd(err)
		if away != nil {
			if !a.pause(ctx, time.Until(away.at)) {
				return nil
			}
			a.cfg.Prefer(away.alternates)
			continue
		}
		if !a.pause(ctx, b.pause(time.Since(begun) >= healthy)) {
			return nil
		}
	}
}

// final reports whether no controller will ever take this probe.
func final(err error) bool {
	var skew *SkewError
	if errors.As(err, &skew) {
		return true
	}
	switch status.Code(err) {
	case codes.FailedPrecondition, codes.InvalidArgument, codes.PermissionDenied, codes.Unimplemented:
		return true
	}
	return false
}

// pause waits; false when there is nothing more to wait for.
func (a *Agent) pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-a.retreat.gone.Done():
	case <-ctx.Done():
	}
	return false
}

// session is a stream, from its Welcome on. One goroutine speaks, another
// listens.
type session struct {
	agent    *Agent
	stream   grpc.BidiStreamingClient[pb.SessionRequest, pb.SessionResponse]
	stop     context.CancelFunc
	interval time.Duration // of heartbeats
	ttl      time.Duration // of leases
	maxAge   time.Duration // 0: none

	said   chan *pb.SessionRequest // answers
	acked  chan struct{}           // a heartbeat was acknowledged
	drains chan *pb.Drain
	heard  chan error    // why it ended
	over   chan struct{} // the listener has ended

	leases atomic.Uint64 // that came
	away   *detour       // what the controller asked for; the speaker's alone

	mu     sync.Mutex
	closed bool           // leases are passed over, for another session begins
	beat   uint64         // number of the last heartbeat
	beats  []announcement // heartbeats that are not acknowledged, oldest first
}

// detour is where to go, and when.
type detour struct {
	at         time.Time
	alternates []string
}

// greeting is how long the controller has for its Welcome: with it, it settles
// every lease that the probe holds.
const greeting = time.Minute

// open opens a session: Hello, and Welcome.
func (a *Agent) open(ctx context.Context) (_ *session, err error) {
	ctx, stop := context.WithCancel(ctx)
	defer func() {
		if err != nil {
			stop()
		}
	}()
	defer time.AfterFunc(greeting, stop).Stop()
	defer context.AfterFunc(a.retreat.gone, stop)()
	stream, err := pb.NewProbeServiceClient(a.cfg.Session).Session(ctx)
	if err != nil {
		return nil, err
	}
	hello, said := a.hello()
	if err := stream.Send(&pb.SessionRequest{Message: &pb.SessionRequest_Hello{Hello: hello}}); err != nil && !errors.Is(err, io.EOF) { // of EOF, Recv has the reason
		return nil, err
	}
	first, err := stream.Recv()
	if err != nil {
		return nil, skewOf(err)
	}
	w := first.GetWelcome()
	if w == nil {
		return nil, status.Errorf(codes.Internal, "the controller answers Hello with %T", first.GetMessage())
	}
	if v := w.GetProtocol(); v < protocolMin || v > protocolMax {
		return nil, &SkewError{Min: v, Max: v}
	}
	s := &session{
		agent: a, stream: stream, stop: stop, interval: w.GetHeartbeatInterval().AsDuration(), ttl: w.GetTtl().AsDuration(), maxAge: w.GetMaxAge().AsDuration(),
		said: make(chan *pb.SessionRequest), acked: make(chan struct{}, 1), drains: make(chan *pb.Drain, 1), heard: make(chan error, 1), over: make(chan struct{}),
	}
	if s.interval <= 0 {
		s.interval = 10 * time.Second
	}
	a.interval.Store(int64(s.interval))
	a.cfg.OnWelcome(w)
	if t := w.GetServerTime(); t != nil {
		a.clock.heard(t.AsTime(), said.asked)
	}
	for _, ref := range w.GetDrop() {
		a.cancel(&pb.Cancel{Ref: ref, Forget: true})
	}
	a.reconcile(hello.GetStatus().GetSpool(), w.GetAckedThrough())
	a.tighten(w.GetLimits())
	a.confirmed(said, s.ttl)
	a.reflect(reachable(w.GetReflectors(), stream.Context()))
	a.look()
	go s.listen(ctx)
	return s, nil
}

// hello is the full state of the probe. No lease may be accepted from when it
// was made until its session begins.
func (a *Agent) hello() (*pb.Hello, announcement) {
	a.health.mu.Lock()
	host := a.health.host
	a.health.mu.Unlock()
	held, said := a.held()
	return &pb.Hello{
		Probe: a.cfg.Name, Instance: a.instance, Version: a.cfg.Version, Host: host, BootId: a.cfg.BootID,
		ProtocolMin: protocolMin, ProtocolMax: protocolMax, Capabilities: capabilities, Held: held, Status: a.status(),
	}, said
}

// reachable puts the address that was dialled where a reflector has no host.
func reachable(reflectors []string, stream context.Context) []string {
	all := slices.Clone(reflectors)
	for i, r := range all {
		host, port, err := net.SplitHostPort(r)
		if err != nil || host != "" {
			continue
		}
		if p, ok := peer.FromContext(stream); ok {
			if host, _, err = net.SplitHostPort(p.Addr.String()); err == nil {
				all[i] = net.JoinHostPort(host, port)
			}
		}
	}
	return all
}

// reconcile compares the spool with what the controller has of it. If that is
// more, this machine was put back in time: what is held now and not started may
// have been started in the time that is lost.
func (a *Agent) reconcile(st *pb.SpoolStatus, ackedThrough uint64) {
	if a.cfg.Spool == nil || ackedThrough == 0 {
		return
	}
	id, err := spool.ParseID(st.GetId())
	if err != nil {
		return // our own
	}
	restored, err := a.cfg.Spool.Reconcile(spool.Key{Spool: id, Sequence: ackedThrough})
	if err != nil {
		a.log.Error("the spool cannot be compared with the controller's", "reason", err)
		return
	}
	if !restored {
		return
	}
	a.log.Warn("this machine was put back in time: what was not started is reported as interrupted", "controller_has", ackedThrough, "spooled", st.GetSpooled())
	a.mu.Lock()
	for _, w := range a.works {
		w.distrust()
	}
	a.mu.Unlock()
	a.uplink.restart() // the keys are others now
}

// end ends the session, at once.
func (s *session) end() {
	s.stop()
	<-s.over
}

// close has leases passed over from now on; the controller offers them again.
// Who is at work on one has ended when it returns.
func (s *session) close(yes bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = yes
}

// listen takes what the controller says until the stream ends.
func (s *session) listen(ctx context.Context) {
	defer close(s.over)
	for {
		m, err := s.stream.Recv()
		if err != nil {
			s.heard <- err
			return
		}
		if answer := s.answer(m); answer != nil {
			select {
			case s.said <- answer:
			case <-ctx.Done():
				s.heard <- ctx.Err()
				return
			}
		}
	}
}

// answer does what the controller says, and is what to say to that.
func (s *session) answer(m *pb.SessionResponse) *pb.SessionRequest {
	switch m := m.GetMessage().(type) {
	case *pb.SessionResponse_Lease:
		return s.lease(m.Lease)
	case *pb.SessionResponse_Cancel:
		s.agent.cancel(m.Cancel)
	case *pb.SessionResponse_Task:
		return s.agent.task(m.Task)
	case *pb.SessionResponse_EndTask:
		s.agent.endTask(m.EndTask.GetId())
	case *pb.SessionResponse_Limits:
		s.agent.tighten(m.Limits)
	case *pb.SessionResponse_Drain:
		select {
		case s.drains <- m.Drain:
		default: // once is enough
		}
	case *pb.SessionResponse_HeartbeatAck:
		s.beatAcked(m.HeartbeatAck)
	}
	return nil
}

// beatAcked takes the answer to a heartbeat. One that is passed over was not
// stored, and is not answered any more.
func (s *session) beatAcked(m *pb.HeartbeatAck) {
	var said announcement
	s.mu.Lock()
	for len(s.beats) > 0 && s.beats[0].number <= m.GetNumber() {
		said, s.beats = s.beats[0], s.beats[1:]
	}
	s.mu.Unlock()
	if said.number == m.GetNumber() {
		if t := m.GetServerTime(); t != nil {
			s.agent.clock.heard(t.AsTime(), said.asked)
		}
		s.agent.confirmed(said, s.ttl)
	}
	signalTo(s.acked)
}

func (s *session) lease(l *pb.Lease) *pb.SessionRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	// Counted after it is in hand: credit may be too low for a moment, never too
	// high.
	defer s.agent.poked()
	defer s.leases.Add(1)
	if s.closed {
		return nil
	}
	reason, err := s.agent.accept(l)
	if err != nil {
		return &pb.SessionRequest{Message: &pb.SessionRequest_LeaseRefused{LeaseRefused: &pb.LeaseRefused{Ref: l.GetRef(), Reason: reason, Detail: err.Error()}}}
	}
	return &pb.SessionRequest{Message: &pb.SessionRequest_LeaseAccepted{LeaseAccepted: &pb.LeaseAccepted{Ref: l.GetRef()}}}
}

// jitter spreads the heartbeats of a fleet.
func jitter(d time.Duration) time.Duration {
	return d*9/10 + rand.N(d/5+1)
}

// healthy is how long a session has to last for the next failure to be a first
// one.
const healthy = time.Minute

const leastPause = time.Second

// firstPause bounds the first pause before a reconnect: a large fleet, whose
// heartbeats are rare, must not come back within a second.
func firstPause(heartbeat time.Duration) time.Duration {
	return min(max(heartbeat/2, leastPause), 10*time.Second)
}

// backoff is exponential with full jitter: probes that lost the controller at
// the same moment do not come back at the same moment.
type backoff struct {
	first, longest time.Duration
	next           time.Duration
}

// pause is how long to wait before the next try.
func (b *backoff) pause(wasHealthy bool) time.Duration {
	if wasHealthy || b.next == 0 {
		b.next = b.first
	}
	d := rand.N(b.next)
	b.next = min(2*b.next, b.longest)
	return d
}
