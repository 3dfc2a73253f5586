package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"tfofleet/internal/measure"
	pb "tfofleet/proto/tfofleet/v1"
)

// desk is a controller of one probe, over loopback: it keeps to the contract,
// notes all that is said, and says what a test wants.
type desk struct {
	pb.UnimplementedProbeServiceServer
	t    *testing.T
	conn *grpc.ClientConn

	// welcome changes what Hello is answered with; its error turns away.
	welcome func(*pb.Hello, *pb.Welcome) error
	// hush says whose ack is kept back; it is called with the lock held.
	hush func(*pb.ReportResultsRequest) bool
	// late has one more lease offered over a session that is taken over: it
	// comes when the next Hello was said.
	late bool
	slow time.Duration // for each message, as with a disk

	mu      sync.Mutex
	changed chan struct{} // closed by the next thing that happens
	now     *line         // the session that is open
	hellos  []*pb.Hello
	times   []time.Time // of hellos
	alone   int         // hellos that came when no other session was open
	said    []*pb.SessionRequest
	ends    []error // how the probe ended its sessions; nil: in good order
	results []*pb.ReportResultsRequest

	queue    []*pb.Lease // to be offered
	offered  map[string]*pb.Lease
	held     map[string]*pb.Lease
	outcomes map[netip.AddrPort][]pb.Outcome
	missed   []string // held leases that a Hello does not know
	dropped  []string // leases of a Hello that never were held
	finished map[string]bool
}

// line is a session as the desk has it.
type line struct {
	stream grpc.BidiStreamingServer[pb.SessionRequest, pb.SessionResponse]
	stop   context.CancelFunc
	over   chan struct{}
	credit uint64
	sent   uint64
}

func newDesk(t *testing.T) *desk {
	d := &desk{t: t, changed: make(chan struct{}), offered: map[string]*pb.Lease{}, held: map[string]*pb.Lease{}, outcomes: map[netip.AddrPort][]pb.Outcome{}, finished: map[string]bool{}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	pb.RegisterProbeServiceServer(s, d)
	go s.Serve(l)
	t.Cleanup(s.Stop)
	if d.conn, err = grpc.NewClient("passthrough:///"+l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.conn.Close() })
	return d
}

// happened is called with the lock held.
func (d *desk) happened() {
	close(d.changed)
	d.changed = make(chan struct{})
}

// until waits until something is so; is is called with the lock held.
func (d *desk) until(what string, is func() bool) {
	d.t.Helper()
	late := time.After(20 * time.Second)
	for {
		d.mu.Lock()
		ok, changed := is(), d.changed
		d.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-late:
			d.mu.Lock()
			defer d.mu.Unlock()
			d.t.Fatalf("it never came to this: %s; %d hellos, said last: %v", what, len(d.hellos), d.said[max(0, len(d.said)-3):])
		}
	}
}

// Session implements ProbeService.
func (d *desk) Session(stream grpc.BidiStreamingServer[pb.SessionRequest, pb.SessionResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	hello := first.GetHello()
	w := &pb.Welcome{Session: "s", Protocol: 1, HeartbeatInterval: durationpb.New(20 * time.Millisecond), Ttl: durationpb.New(time.Minute), ServerTime: timestamppb.Now()}
	if d.welcome != nil {
		if err := d.welcome(hello, w); err != nil {
			return err
		}
	}
	ctx, stop := context.WithCancel(stream.Context())
	defer stop()
	n := &line{stream: stream, stop: stop, over: make(chan struct{})}
	defer close(n.over)
	d.mu.Lock()
	d.hellos, d.times = append(d.hellos, hello), append(d.times, time.Now())
	if d.now == nil {
		d.alone++
	}
	for d.now != nil { // it is taken over
		old := d.now
		if d.late && len(d.queue) > 0 {
			l := d.queue[0]
			d.queue = d.queue[1:]
			d.offered[refName(l.GetRef())] = l
			old.stream.Send(&pb.SessionResponse{Message: &pb.SessionResponse_Lease{Lease: l}})
			d.mu.Unlock()
			time.Sleep(10 * time.Millisecond) // for an accept that must not come
			d.mu.Lock()
		}
		old.stop()
		d.mu.Unlock()
		<-old.over
		d.mu.Lock()
	}
	maps.DeleteFunc(d.offered, func(name string, l *pb.Lease) bool { // lost with the stream
		again := proto.CloneOf(l)
		again.Ref.Epoch++
		d.queue = append(d.queue, again)
		return true
	})
	for name := range d.held {
		known := false
		for _, h := range hello.GetHeld() {
			known = known || refName(h.GetRef()) == name
		}
		if !known {
			d.missed = append(d.missed, name)
		}
	}
	for _, h := range hello.GetHeld() {
		if _, ok := d.held[refName(h.GetRef())]; !ok {
			w.Drop = append(w.Drop, h.GetRef())
			if !d.finished[refName(h.GetRef())] { // its last ack is on its way
				d.dropped = append(d.dropped, refName(h.GetRef()))
			}
		}
	}
	d.now = n
	err = stream.Send(&pb.SessionResponse{Message: &pb.SessionResponse_Welcome{Welcome: w}})
	d.happened()
	d.mu.Unlock()
	heard := make(chan error, 1)
	go func() { heard <- d.listen(n) }()
	if err == nil {
		select {
		case err = <-heard:
			d.mu.Lock()
			d.ends = append(d.ends, err)
			d.mu.Unlock()
		case <-ctx.Done():
			err = status.Error(codes.Aborted, "ended")
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.now == n {
		d.now = nil
	}
	d.happened()
	return err
}

func (d *desk) listen(n *line) error {
	for {
		m, err := n.stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		time.Sleep(d.slow)
		if n.stream.Context().Err() != nil {
			return n.stream.Context().Err() // what was not read is lost
		}
		d.mu.Lock()
		d.said = append(d.said, m)
		switch m := m.GetMessage().(type) {
		case *pb.SessionRequest_Credit:
			n.credit = m.Credit.GetLeases()
		case *pb.SessionRequest_LeaseAccepted:
			d.take(m.LeaseAccepted.GetRef())
		case *pb.SessionRequest_Heartbeat:
			for _, h := range m.Heartbeat.GetHeld() {
				d.take(h.GetRef())
			}
			err = n.stream.Send(&pb.SessionResponse{Message: &pb.SessionResponse_HeartbeatAck{HeartbeatAck: &pb.HeartbeatAck{
				ServerTime: timestamppb.Now(), Number: m.Heartbeat.GetNumber(),
			}}})
		}
		if d.now == n {
			err = errors.Join(err, d.dispatch(n))
		}
		d.happened()
		d.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

func (d *desk) take(ref *pb.LeaseRef) {
	if l, ok := d.offered[refName(ref)]; ok {
		delete(d.offered, refName(ref))
		d.held[refName(ref)] = l
	}
}

// dispatch offers while there is credit.
func (d *desk) dispatch(n *line) error {
	for len(d.queue) > 0 && n.sent < n.credit {
		l := d.queue[0]
		d.queue = d.queue[1:]
		d.offered[refName(l.GetRef())] = l
		n.sent++
		if err := n.stream.Send(&pb.SessionResponse{Message: &pb.SessionResponse_Lease{Lease: l}}); err != nil {
			return err
		}
	}
	return nil
}

// tell says something over the open session.
func (d *desk) tell(m *pb.SessionResponse) {
	d.t.Helper()
	d.until("a session is open", func() bool { return d.now != nil })
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.now.stream.Send(m); err != nil {
		d.t.Error(err)
	}
}

func (d *desk) limits(rate float64) {
	d.tell(&pb.SessionResponse{Message: &pb.SessionResponse_Limits{Limits: &pb.Limits{Rate: rate}}})
}

// ReportResults implements ProbeService.
func (d *desk) ReportResults(stream grpc.BidiStreamingServer[pb.ReportResultsRequest, pb.ReportResultsResponse]) error {
	for {
		req, err := stream.Recv()
		if err != nil {
			return err
		}
		d.mu.Lock()
		d.results = append(d.results, req)
		d.settle(req)
		hush := d.hush != nil && d.hush(req)
		d.happened()
		d.mu.Unlock()
		if hush {
			continue
		}
		if err := stream.Send(&pb.ReportResultsResponse{Lease: req.GetLease(), Sequence: req.GetSequence()}); err != nil {
			return err
		}
	}
}

// settle notes outcomes; a lease is over when each of its targets has one.
func (d *desk) settle(req *pb.ReportResultsRequest) {
	name := refName(req.GetLease())
	l := d.held[name]
	if l == nil {
		l = d.offered[name] // its results are as good as an accept
	}
	if l == nil {
		return
	}
	note := func(index uint32, o pb.Outcome) {
		for _, x := range l.GetTargets() {
			if uint32(x.GetItem()-l.GetFirstItem()) == index {
				t, _ := measure.TargetFromWire(x)
				at := netip.AddrPortFrom(t.Addr, t.Port)
				d.outcomes[at] = append(d.outcomes[at], o)
			}
		}
	}
	for i, index := range req.GetIndexes() {
		note(index, req.GetOutcomes()[i])
	}
	for _, index := range req.GetReturned() {
		note(index, 0)
	}
	for _, x := range l.GetTargets() {
		t, _ := measure.TargetFromWire(x)
		if len(d.outcomes[netip.AddrPortFrom(t.Addr, t.Port)]) == 0 {
			return
		}
	}
	delete(d.held, name)
	delete(d.offered, name)
	d.finished[name] = true
}

// lease is a lease of n addresses that no other has.
func lease(survey string, chunk uint32, n int, sp *pb.SurveySpec) *pb.Lease {
	l := &pb.Lease{Ref: &pb.LeaseRef{Survey: survey, Chunk: chunk, Epoch: 1}, Spec: sp, FirstItem: 100}
	for i := range n {
		l.Targets = append(l.Targets, measure.TargetToWire(measure.Target{Item: 100 + uint64(i), Addr: netip.AddrFrom4([4]byte{8, byte(chunk >> 8), byte(chunk), byte(i)}), Port: 443}))
	}
	return l
}

// probe is an agent at the desk.
func (d *desk) probe(runner Runner, change func(*Config)) *Agent {
	cfg := Config{
		Name: "p", Version: "test", Host: &pb.Host{TcpFastopen: 1}, Session: d.conn, Results: d.conn, Backoff: 5 * time.Millisecond, Flush: 10 * time.Second,
		NewRunner: func(*pb.SurveySpec) (Runner, error) { return runner, nil }, Logger: hclog.New(&hclog.LoggerOptions{Output: d.t.Output(), Level: hclog.Debug}),
	}
	if change != nil {
		change(&cfg)
	}
	return New(cfg)
}

// run runs it; stop is what SIGTERM would be.
func (d *desk) run(a *Agent) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan error, 1)
	go func() { over <- a.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			select {
			case err := <-over:
				if err != nil {
					d.t.Error("Run:", err)
				}
			case <-time.After(30 * time.Second):
				d.t.Error("Run does not end")
			}
		})
	}
	d.t.Cleanup(stop)
	return stop
}

// last is what the probe said last of itself.
func (d *desk) last() *pb.ProbeStatus {
	for i := len(d.said) - 1; i >= 0; i-- {
		if h := d.said[i].GetHeartbeat(); h != nil {
			return h.GetStatus()
		}
	}
	if n := len(d.hellos); n > 0 {
		return d.hellos[n-1].GetStatus()
	}
	return nil
}

// events are those that came, as "KIND detail".
func (d *desk) events() (all []string) {
	for _, r := range d.results {
		if e := r.GetEvent(); e != nil {
			all = append(all, fmt.Sprintf("%v %s", e.GetKind(), e.GetDetail()))
		}
	}
	return all
}

// happenedSoon has until look again soon, for what the desk is not told of.
func (d *desk) happenedSoon() {
	changed := d.changed
	time.AfterFunc(5*time.Millisecond, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.changed == changed {
			d.happened()
		}
	})
}

func writeFile(path, text string) error { return os.WriteFile(path, []byte(text), 0o600) }
