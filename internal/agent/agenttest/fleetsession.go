package agenttest

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "tfofleet/proto/tfofleet/v1"
)

// FleetProbe is a probe of a Fleet.
type FleetProbe struct {
	fleet            *Fleet
	name, instance   string
	session, results grpc.ClientConnInterface
	poke             chan struct{} // credit may have changed
	more             chan struct{} // there are results to send
	interval         atomic.Int64  // of heartbeats, as it was last asked for

	mu       sync.Mutex
	leases   map[string]*held // in hand, by reference
	asked    []time.Time      // when the leases were asked for that did not come, oldest first
	idle     time.Time        // since when there is nothing to send; zero while there is
	pending  []*outgoing      // not acknowledged but for holes, oldest first
	next     int              // of these, what the open stream sends next
	flying   map[uint64]*outgoing
	sequence uint64
}

// held is a lease in hand.
type held struct {
	ref  *pb.LeaseRef
	n    uint32 // targets from the chunk's first on
	left int    // batches without an ack
}

func randomName() string { return crand.Text() }

func leaseName(r *pb.LeaseRef) string {
	return fmt.Sprintf("%s/%d/%d", r.GetSurvey(), r.GetChunk(), r.GetEpoch())
}

// Run takes leases and reports them until ctx is over.
func (p *FleetProbe) Run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { p.again(ctx, p.report) })
	wg.Go(func() { p.again(ctx, p.attend) })
	wg.Wait()
}

// again opens a stream as often as it ends, with the pauses of a real probe:
// full jitter, from what the heartbeat makes of it to two minutes, from the
// first one again after a minute that went well.
func (p *FleetProbe) again(ctx context.Context, stream func(context.Context) error) {
	const longest, healthy = 2 * time.Minute, time.Minute
	pause := p.firstPause()
	for {
		begun := time.Now()
		err := stream(ctx)
		if ctx.Err() != nil {
			return
		}
		p.fleet.ended(err)
		if time.Since(begun) >= healthy {
			pause = p.firstPause()
		}
		pause = max(pause, p.firstPause())
		select {
		case <-time.After(rand.N(pause)):
		case <-ctx.Done():
			return
		}
		pause = min(2*pause, longest)
	}
}

// firstPause is as package agent makes it of the heartbeat interval that was asked
// for; the tests of that package need this one.
func (p *FleetProbe) firstPause() time.Duration {
	return min(max(time.Duration(p.interval.Load())/2, time.Second), 10*time.Second)
}

// attend is one session.
func (p *FleetProbe) attend(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	stream, err := pb.NewProbeServiceClient(p.session).Session(ctx)
	if err != nil {
		return err
	}
	err = stream.Send(&pb.SessionRequest{Message: &pb.SessionRequest_Hello{Hello: &pb.Hello{
		Probe: p.name, Instance: p.instance, Version: "simulated", ProtocolMin: 1, ProtocolMax: 1, Held: p.inHand(), Status: p.status(),
		Host: &pb.Host{Hostname: p.name, Kernel: "6.18.0", Arch: "amd64", TcpFastopen: 1, BlackholeTimeoutS: 0, CanClearCookies: pb.Tri_TRI_YES},
	}}})
	if err != nil && !errors.Is(err, io.EOF) { // of EOF, Recv has the reason
		return err
	}
	m, err := stream.Recv()
	if err != nil {
		return err
	}
	w := m.GetWelcome()
	if w == nil {
		return fmt.Errorf("the controller answers Hello with %T", m.GetMessage())
	}
	for _, ref := range w.GetDrop() {
		p.drop(ref)
	}
	p.fleet.welcomes.Add(1)
	p.fleet.connected.Add(1)
	defer p.fleet.connected.Add(-1)

	interval := w.GetHeartbeatInterval().AsDuration()
	p.interval.Store(int64(interval))
	s := &conversation{probe: p, stream: stream, interval: interval, said: make(chan *pb.SessionRequest), sent: make(chan time.Time, 16)}
	heard := make(chan error, 1)
	over := make(chan struct{})
	defer func() { stop(); <-over }()
	go func() { defer close(over); heard <- s.listen(ctx) }()
	return s.speak(ctx, heard)
}

// conversation is an open session: one goroutine listens, one speaks.
type conversation struct {
	probe    *FleetProbe
	stream   pb.ProbeService_SessionClient
	interval time.Duration
	said     chan *pb.SessionRequest
	sent     chan time.Time // when heartbeats were sent that were not answered
	beaten   time.Time      // the last one, by the controller's clock
}

func (s *conversation) listen(ctx context.Context) error {
	p := s.probe
	for {
		m, err := s.stream.Recv()
		if err != nil {
			return err
		}
		switch m := m.GetMessage().(type) {
		case *pb.SessionResponse_Lease:
			p.take(m.Lease)
			accepted := &pb.SessionRequest{Message: &pb.SessionRequest_LeaseAccepted{LeaseAccepted: &pb.LeaseAccepted{Ref: m.Lease.GetRef()}}}
			select {
			case s.said <- accepted:
			case <-ctx.Done():
				return ctx.Err()
			}
		case *pb.SessionResponse_Cancel:
			if m.Cancel.GetForget() {
				p.drop(m.Cancel.GetRef())
			}
		case *pb.SessionResponse_HeartbeatAck:
			at := m.HeartbeatAck.GetServerTime().AsTime()
			var gap Gap
			if !s.beaten.IsZero() {
				gap = Gap{at.Sub(s.beaten), s.interval}
			}
			s.beaten = at
			select {
			case sent := <-s.sent:
				p.fleet.beat(time.Since(sent), gap)
			default: // one that was never asked for
			}
		}
	}
}

func (s *conversation) speak(ctx context.Context, heard <-chan error) error {
	p := s.probe
	beat := time.NewTimer(spread(s.interval))
	defer beat.Stop()
	credit := p.credit(0, true) // of this session, in all
	m := &pb.SessionRequest{Message: &pb.SessionRequest_Credit{Credit: &pb.Credit{Leases: credit}}}
	for {
		if err := s.stream.Send(m); err != nil {
			return <-heard // the reason
		}
		for m = nil; m == nil; {
			select {
			case err := <-heard:
				return err
			case <-ctx.Done():
				return ctx.Err()
			case m = <-s.said:
			case <-p.poke:
				if n := p.credit(credit, false); n > credit {
					credit = n
					m = &pb.SessionRequest{Message: &pb.SessionRequest_Credit{Credit: &pb.Credit{Leases: n}}}
				}
			case <-beat.C:
				beat.Reset(spread(s.interval))
				select {
				case s.sent <- time.Now():
				default: // a controller that does not answer
				}
				m = &pb.SessionRequest{Message: &pb.SessionRequest_Heartbeat{Heartbeat: &pb.Heartbeat{Held: p.inHand(), Status: p.status()}}}
			}
		}
	}
}

// spread is 10 % more or less.
func spread(d time.Duration) time.Duration { return d*9/10 + rand.N(d/5+1) }

func (p *FleetProbe) status() *pb.ProbeStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	return &pb.ProbeStatus{
		Readiness: pb.Readiness_READINESS_READY, NearPath: pb.NearPath_NEAR_PATH_CLEAN, Done: p.sequence,
		Spool: &pb.SpoolStatus{Id: p.instance, Spooled: p.sequence, Depth: uint64(len(p.flying)), Limit: 1 << 30, Oldest: durationpb.New(0)},
	}
}

func (p *FleetProbe) inHand() []*pb.HeldLease {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]*pb.HeldLease, 0, len(p.leases))
	for _, h := range p.leases {
		all = append(all, &pb.HeldLease{Ref: h.ref, Taken: h.n})
	}
	return all
}

// credit is how many leases the probe takes in all, when it has said before that
// it takes some; for a new session the count begins anew.
func (p *FleetProbe) credit(said uint64, anew bool) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if anew {
		p.asked = nil
	}
	for len(p.leases)+len(p.asked) < p.fleet.Ahead {
		p.asked = append(p.asked, now)
		said++
	}
	if p.next == len(p.pending) && p.idle.IsZero() && len(p.asked) > 0 {
		p.idle = now
	}
	return said
}

func (p *FleetProbe) poked() {
	select {
	case p.poke <- struct{}{}:
	default:
	}
}
