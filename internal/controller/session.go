package controller

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"tfofleet/internal/lease"
	"tfofleet/internal/measure"
	"tfofleet/internal/store"
	pb "tfofleet/proto/tfofleet/v1"
)

// protocol is the version of the wire contract this controller speaks.
const protocol = 1

// session is a probe that is connected here.
type session struct {
	id, probe, instance, hostname string

	// What operators are shown.
	address, version string
	host             *pb.Host

	// As Welcome says. They stay while the session lasts, whatever becomes of the
	// fleet: the probe goes by them.
	interval, ttl time.Duration
	diverted      atomic.Bool // to another controller

	stop func()        // ends it
	over chan struct{} // closed when it has ended
	poke chan struct{} // credit came

	stream  grpc.BidiStreamingServer[pb.SessionRequest, pb.SessionResponse]
	sending sync.Mutex            // a stream is for one sender at a time; it may wait for the probe
	begun   bool                  // Welcome was sent: nothing comes before it
	early   []*pb.SessionResponse // what would have

	mu     sync.Mutex // nobody waits for anything who has it
	credit uint64     // leases of this session the probe takes in all
	sent   uint64     // leases that were sent
	// offers are those of this session that were not answered.
	offers map[store.Key]bool
	// refusals are those in a row that were not for want of room, rest is until
	// when it is offered nothing for them.
	refusals int
	rest     time.Time
	rate     float64         // limit that it was told; 0: none
	held     []*pb.HeldLease // as it last said
	status   *pb.ProbeStatus // as it last said
}

// record is what all controllers are shown of the session, as [store.Session]
// has it.
func (p *session) record() ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return proto.Marshal(&pb.ProbeInfo{Address: p.address, Version: p.version, Host: p.host, Held: p.held, Status: p.status})
}

// near is what the probe's self-test found, as it last said.
func (p *session) near() measure.NearPath {
	p.mu.Lock()
	defer p.mu.Unlock()
	return measure.NearPath(p.status.GetNearPath())
}

// send sends, or keeps it until the session has begun.
func (p *session) send(m *pb.SessionResponse) error {
	p.sending.Lock()
	defer p.sending.Unlock()
	if !p.begun {
		p.early = append(p.early, m)
		return nil
	}
	return p.write(m)
}

// write sends. A probe that takes nothing is gone as much as one that says
// nothing: its session ends, for others wait to tell it something.
func (p *session) write(m *pb.SessionResponse) error {
	defer time.AfterFunc(staleAfter(p.interval), p.stop).Stop()
	return p.stream.Send(m)
}

// begin sends Welcome, and what had to wait for it.
func (p *session) begin(w *pb.Welcome) error {
	p.sending.Lock()
	defer p.sending.Unlock()
	p.begun = true
	err := p.write(&pb.SessionResponse{Message: &pb.SessionResponse_Welcome{Welcome: w}})
	for _, m := range p.early {
		if err == nil {
			err = p.write(m)
		}
	}
	p.early = nil
	return err
}

// limit tells the probe its limit, if it was told another one.
func (p *session) limit(rate float64) {
	p.mu.Lock()
	told := p.rate == rate
	p.rate = rate
	p.mu.Unlock()
	if !told {
		// A stream that broke is noticed by who listens on it.
		_ = p.send(&pb.SessionResponse{Message: &pb.SessionResponse_Limits{Limits: &pb.Limits{Rate: rate}}})
	}
}

// Session implements ProbeService.
func (s *Server) Session(stream grpc.BidiStreamingServer[pb.SessionRequest, pb.SessionResponse]) error {
	first, err := greeting(stream)
	if err != nil {
		return err
	}
	hello := first.GetHello()
	switch {
	case hello == nil:
		return status.Error(codes.InvalidArgument, "the first message of a session is Hello")
	case hello.GetProbe() == "" || len(hello.GetProbe()) > 63 || hello.GetInstance() == "":
		return status.Error(codes.InvalidArgument, "a probe has a name of 1 to 63 bytes and an instance")
	case hello.GetProtocolMin() > protocol || hello.GetProtocolMax() < protocol:
		return errSkew(hello)
	}
	if err := s.mayBe(stream.Context(), hello.GetProbe()); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(stream.Context())
	defer stop()
	p := &session{
		id: newID(), probe: hello.GetProbe(), instance: hello.GetInstance(), hostname: hello.GetHost().GetHostname(),
		version: hello.GetVersion(), host: hello.GetHost(), held: hello.GetHeld(), status: hello.GetStatus(),
		stop: stop, over: make(chan struct{}), poke: make(chan struct{}, 1), stream: stream, offers: make(map[store.Key]bool),
	}
	if from, ok := peer.FromContext(ctx); ok {
		p.address = from.Addr.String()
	}
	if err := s.join(ctx, p); err != nil {
		return err
	}
	defer s.leave(p)
	if err := s.cfg.Store.PutProbe(ctx, store.Probe{Name: p.probe, Version: hello.GetVersion(), Host: hello.GetHost()}); err != nil {
		return rpcError(err)
	}
	if err := s.welcome(ctx, p, hello); err != nil {
		return rpcError(err)
	}
	s.log.Debug("session", "probe", p.probe, "host", p.hostname, "held", len(hello.GetHeld()))

	// Nothing but the end of this function ends a Recv, or a Send of which the
	// probe takes nothing, so both wait elsewhere.
	heard, dispatched := make(chan error, 1), make(chan struct{})
	go func() { heard <- s.listen(p); stop() }()
	s.wg.Go(func() { s.dispatch(ctx, p); close(dispatched) })
	select {
	case <-dispatched:
	case <-ctx.Done():
		await(dispatched, time.Second) // it may have a lease in hand
	}
	select {
	case err := <-heard:
		return err
	case <-s.drained:
		return errStopping
	default:
		return status.Error(codes.Aborted, "the session was ended")
	}
}

// await waits for c to be closed, but no longer than that.
func await(c <-chan struct{}, patience time.Duration) {
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-c:
	case <-late.C:
	}
}

// patience is how long a probe that opened a session may take to say Hello.
const patience = 10 * time.Second

// greeting is the first message of a session.
func greeting(stream grpc.BidiStreamingServer[pb.SessionRequest, pb.SessionResponse]) (*pb.SessionRequest, error) {
	type message struct {
		*pb.SessionRequest
		err error
	}
	heard := make(chan message, 1)
	// Nothing but the end of the call ends a Recv, so it waits elsewhere.
	go func() {
		m, err := stream.Recv()
		heard <- message{m, err}
	}()
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case m := <-heard:
		return m.SessionRequest, m.err
	case <-late.C:
		return nil, status.Errorf(codes.DeadlineExceeded, "no Hello within %v", patience)
	}
}

// errSkew turns a probe away that has no version of the protocol in common with
// this controller. It is typed: package agent knows it by its reason, and does
// not try again.
func errSkew(h *pb.Hello) error {
	st := status.Newf(codes.FailedPrecondition, "protocol %d is spoken here, not %d to %d: use a probe of the controller's version",
		protocol, h.GetProtocolMin(), h.GetProtocolMax())
	typed, err := st.WithDetails(&errdetails.ErrorInfo{
		Reason: "PROTOCOL_UNSUPPORTED", Domain: "tfofleet",
		Metadata: map[string]string{"protocol_min": strconv.Itoa(protocol), "protocol_max": strconv.Itoa(protocol)},
	})
	if err != nil {
		return st.Err()
	}
	return typed.Err()
}

// join makes p the probe's session. The same process takes over from its older
// session, which it has given up; another process with the same name is turned
// away, wherever the older one is connected.
func (s *Server) join(ctx context.Context, p *session) error {
	state, err := p.record()
	if err != nil {
		return err
	}
	err = s.cfg.Store.OpenSession(s.ctx, store.Session{
		Probe: p.probe, ID: p.id, Instance: p.instance, Hostname: p.hostname, Controller: s.cfg.Name, State: state,
	}, s.stale())
	var taken *store.TakenError
	if errors.As(err, &taken) {
		return status.Errorf(codes.AlreadyExists, "probe %s is connected from host %q already, so that host %q is turned away: every probe needs a name of its own",
			p.probe, taken.Session.Hostname, p.hostname)
	}
	if err != nil {
		return rpcError(err)
	}
	for {
		s.mu.Lock()
		old, ok := s.sessions[p.probe]
		if !ok {
			s.sessions[p.probe], s.names[p.probe] = p, true
			s.freeze.Connected()
			s.metrics.connected.Set(float64(len(s.sessions)))
			s.mu.Unlock()
			return nil
		}
		s.mu.Unlock()
		old.stop()
		select {
		case <-old.over:
		case <-ctx.Done():
			s.closeSession(p)
			return status.FromContextError(ctx.Err()).Err()
		}
	}
}

// leave ends a session: what was offered over it and not accepted goes back.
func (s *Server) leave(p *session) {
	p.mu.Lock()
	offers := slices.Collect(maps.Keys(p.offers))
	p.mu.Unlock()
	_ = together(offers, func(k store.Key) error { return s.apply(p, k, lease.StreamLost{Probe: p.probe}) }) // or their time runs out
	s.closeSession(p)
	s.mu.Lock()
	delete(s.sessions, p.probe)
	s.metrics.connected.Set(float64(len(s.sessions)))
	before := s.freeze.Until()
	s.freeze.Lost(s.cfg.Now())
	lostMany := s.freeze.Until() != before
	s.mu.Unlock()
	close(p.over)
	if lostMany {
		s.trouble.failed(writeLeases, s.cfg.Store.Freeze(s.ctx, s.ttl(s.interval())))
	}
}

func (s *Server) closeSession(p *session) {
	s.trouble.failed(writeLeases, s.cfg.Store.CloseSession(s.ctx, p.probe, p.id))
}

// welcome compares what the probe says it holds with what it should. What it does
// not tell the probe to drop is renewed, durably.
func (s *Server) welcome(ctx context.Context, p *session, hello *pb.Hello) error {
	type name struct {
		store.Key
		epoch uint64
	}
	held := make(map[name]*pb.HeldLease, len(hello.GetHeld()))
	p.interval = s.interval()
	p.ttl = s.ttl(p.interval)
	for _, h := range hello.GetHeld() {
		held[name{keyOf(h.GetRef()), h.GetRef().GetEpoch()}] = h
	}
	chunks, err := s.cfg.Store.HeldBy(ctx, p.probe)
	if err != nil {
		return err
	}
	events := make(map[store.Key]lease.Event, len(chunks))
	for _, c := range chunks {
		events[c.Key] = lease.Forgotten{Probe: p.probe}
		if h, ok := held[name{c.Key, c.Epoch}]; ok {
			events[c.Key] = lease.Renew{Probe: p.probe, Epoch: c.Epoch, Taken: int(h.GetTaken()), TTL: p.ttl}
			delete(held, name{c.Key, c.Epoch})
		}
	}
	var lost []*pb.LeaseRef // that became another's meanwhile
	var mu sync.Mutex
	err = together(chunks, func(c store.Chunk) error {
		effects, err := s.effects(p, c.Key, events[c.Key])
		if slices.Contains(effects, lease.Drop) {
			mu.Lock()
			lost = append(lost, ref(c))
			mu.Unlock()
		}
		return err
	})
	if err != nil {
		return err
	}
	w := &pb.Welcome{
		Drop:    lost,
		Session: p.id, Protocol: protocol, HeartbeatInterval: durationpb.New(p.interval), Ttl: durationpb.New(p.ttl),
		MaxAge: durationpb.New(s.cfg.MaxAge), ServerTime: timestamppb.New(s.cfg.Now()), Reflectors: s.cfg.Reflectors,
	}
	if s.cfg.Authority != nil {
		w.Bundle = s.cfg.Authority.Bundle()
	}
	if spool := hello.GetStatus().GetSpool().GetId(); spool != "" {
		if w.AckedThrough, err = s.cfg.Store.SpoolThrough(ctx, spool); err != nil {
			return err
		}
	}
	if me, err := s.cfg.Store.Probe(ctx, p.probe); err != nil {
		return err
	} else if me.Rate > 0 {
		w.Limits = &pb.Limits{Rate: me.Rate}
		p.mu.Lock()
		p.rate = me.Rate
		p.mu.Unlock()
	}
	for _, h := range held {
		w.Drop = append(w.Drop, h.GetRef())
	}
	return p.begin(w)
}

// listen takes what the probe says until the stream ends. One that is silent ends:
// a connection that leads nowhere may stay open for long, and so many of them at
// once are to be noticed before leases lapse, see lease.Freeze.
func (s *Server) listen(p *session) error {
	patience := staleAfter(p.interval)
	silence := time.AfterFunc(patience, func() {
		s.log.Warn("nothing is heard of a probe: its session ends", "probe", p.probe, "host", p.hostname, "for", patience)
		p.stop()
	})
	defer silence.Stop()
	for {
		silence.Reset(patience)
		m, err := p.stream.Recv()
		silence.Stop() // what is slow from here on is not the probe
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch m := m.GetMessage().(type) {
		case *pb.SessionRequest_Credit:
			p.mu.Lock()
			p.credit = m.Credit.GetLeases()
			p.mu.Unlock()
			select {
			case p.poke <- struct{}{}:
			default:
			}
		case *pb.SessionRequest_LeaseAccepted:
			r := m.LeaseAccepted.GetRef()
			s.answered(p, keyOf(r))
			p.accepted()
			_ = s.apply(p, keyOf(r), lease.Accept{Probe: p.probe, Epoch: r.GetEpoch(), TTL: p.ttl}) // the next heartbeat says it again
		case *pb.SessionRequest_LeaseRefused:
			s.refused(p, m.LeaseRefused)
		case *pb.SessionRequest_Heartbeat:
			if err := s.beat(p, m.Heartbeat); err != nil {
				return err
			}
		case *pb.SessionRequest_TaskState:
			s.tasks.state(p.probe, m.TaskState)
		case *pb.SessionRequest_Draining:
			// It gives no credit any more, and says itself what it returns.
		default:
			return status.Errorf(codes.Unimplemented, "message %T is not known here", m)
		}
	}
}

// tell sends a cancel if the probe is connected. If it is not, it hears of it
// when it says what it holds.
func (s *Server) tell(probe string, c *pb.Cancel) {
	s.send(probe, &pb.SessionResponse{Message: &pb.SessionResponse_Cancel{Cancel: c}})
}

// send sends to a probe if it is connected here.
func (s *Server) send(probe string, m *pb.SessionResponse) {
	s.mu.Lock()
	p, ok := s.sessions[probe]
	s.mu.Unlock()
	if ok {
		_ = p.send(m) // a stream that broke is noticed by who listens on it
	}
}
