package agent

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "tfofleet/proto/tfofleet/v1"
)

// protocol is the version of the wire contract this probe speaks.
const protocol = 1

// sessions keeps a session open until ctx is over. The error is final.
func (a *Agent) sessions(ctx context.Context) error {
	b := backoff{first: a.cfg.Backoff, longest: 120 * a.cfg.Backoff}
	for {
		begun := time.Now()
		err := a.session(ctx)
		if ctx.Err() != nil {
			return nil
		}
		switch status.Code(err) {
		case codes.FailedPrecondition, codes.InvalidArgument, codes.PermissionDenied, codes.Unimplemented:
			return err
		}
		a.log.Debug("session ended", "reason", err)
		a.cfg.OnEnd(err)
		if !b.wait(ctx, time.Since(begun) >= healthy) {
			return nil
		}
	}
}

// session is one session, from Hello to the end of the stream.
func (a *Agent) session(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	stream, err := pb.NewProbeServiceClient(a.cfg.Session).Session(ctx)
	if err != nil {
		return err
	}
	hello := &pb.SessionRequest{Message: &pb.SessionRequest_Hello{Hello: &pb.Hello{
		Probe: a.cfg.Name, Instance: a.instance, Version: a.cfg.Version, Host: a.cfg.Host,
		ProtocolMin: protocol, ProtocolMax: protocol, Held: a.held(),
	}}}
	if err := stream.Send(hello); err != nil && !errors.Is(err, io.EOF) { // of EOF, Recv has the reason
		return err
	}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	welcome := first.GetWelcome()
	if welcome == nil {
		return status.Errorf(codes.Internal, "the controller answers Hello with %T", first.GetMessage())
	}
	a.cfg.OnWelcome(welcome)
	for _, ref := range welcome.GetDrop() {
		a.cancel(&pb.Cancel{Ref: ref, Forget: true})
	}

	// One goroutine listens, this one speaks.
	var leases atomic.Uint64
	said := make(chan *pb.SessionRequest)
	heard := make(chan error, 1)
	over := make(chan struct{})
	defer func() { stop(); <-over }() // no lease of this session is accepted during the next
	go func() {
		defer close(over)
		for {
			m, err := stream.Recv()
			if err != nil {
				heard <- err
				return
			}
			answer := a.answer(m)
			if m.GetLease() != nil {
				leases.Add(1) // after it is in hand: credit may be too low for a moment, never too high
				a.poked()
			}
			if answer != nil {
				select {
				case said <- answer:
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	interval := welcome.GetHeartbeatInterval().AsDuration()
	if interval <= 0 {
		interval = 10 * time.Second
	}
	beat := time.NewTimer(jitter(interval))
	defer beat.Stop()
	a.poked()
	for {
		var m *pb.SessionRequest
		select {
		case err := <-heard:
			return err
		case <-ctx.Done():
			return ctx.Err()
		case m = <-said:
		case <-a.poke:
			m = &pb.SessionRequest{Message: &pb.SessionRequest_Credit{Credit: &pb.Credit{Leases: leases.Load() + a.wanted()}}}
		case <-beat.C:
			beat.Reset(jitter(interval))
			a.poked() // there may be room in the spool again
			m = &pb.SessionRequest{Message: &pb.SessionRequest_Heartbeat{Heartbeat: &pb.Heartbeat{Held: a.held()}}}
		}
		if err := stream.Send(m); err != nil {
			stop()
			<-over
			select {
			case err = <-heard: // the reason
			default:
			}
			return err
		}
	}
}

// answer does what the controller says, and is what to say to that.
func (a *Agent) answer(m *pb.SessionResponse) *pb.SessionRequest {
	switch m := m.GetMessage().(type) {
	case *pb.SessionResponse_Lease:
		ref := m.Lease.GetRef()
		reason, err := a.accept(m.Lease)
		if err != nil {
			return &pb.SessionRequest{Message: &pb.SessionRequest_LeaseRefused{LeaseRefused: &pb.LeaseRefused{Ref: ref, Reason: reason, Detail: err.Error()}}}
		}
		return &pb.SessionRequest{Message: &pb.SessionRequest_LeaseAccepted{LeaseAccepted: &pb.LeaseAccepted{Ref: ref}}}
	case *pb.SessionResponse_Cancel:
		a.cancel(m.Cancel)
	}
	return nil
}

// jitter spreads the heartbeats of a fleet.
func jitter(d time.Duration) time.Duration {
	return d*9/10 + rand.N(d/5+1)
}

// healthy is how long a session has to last for the next failure to be a first
// one.
const healthy = time.Minute

// backoff is exponential with full jitter: probes that lost the controller at
// the same moment do not come back at the same moment.
type backoff struct {
	first, longest time.Duration
	next           time.Duration
}

// wait pauses; false when ctx is over.
func (b *backoff) wait(ctx context.Context, wasHealthy bool) bool {
	if wasHealthy || b.next == 0 {
		b.next = b.first
	}
	t := time.NewTimer(rand.N(b.next))
	defer t.Stop()
	b.next = min(2*b.next, b.longest)
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
