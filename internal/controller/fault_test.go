package controller_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"tfofleet/internal/agent"
	"tfofleet/internal/agent/agenttest"
	"tfofleet/internal/lease"
	"tfofleet/internal/measure"
	pb "tfofleet/proto/tfofleet/v1"
)

// frayed is a wire that breaks, again and again, after some bytes in either
// direction: what was sent may have arrived, and its answer may not.
type frayed struct {
	listener *bufconn.Listener
	server   *grpc.Server
	rng      *rand.Rand
	mended   atomic.Bool
	breaks   atomic.Int64
}

func newFrayed(t *testing.T, r *rig) *frayed {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	f := &frayed{listener: bufconn.Listen(1 << 20), server: grpc.NewServer(grpc.WaitForHandlers(true)), rng: rand.New(rand.NewPCG(seed, 0))}
	r.server.Register(f.server)
	go f.server.Serve(f.listener)
	t.Cleanup(f.server.Stop)
	return f
}

func (f *frayed) dial(t *testing.T) *grpc.ClientConn {
	t.Helper()
	limits := make(chan int64, 1000)
	for range cap(limits) {
		limits <- 2000 + f.rng.Int64N(200_000) // a batch takes some 60 kB
	}
	c, err := grpc.NewClient("passthrough:///frayed",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			c, err := f.listener.DialContext(ctx)
			if err != nil || f.mended.Load() {
				return c, err
			}
			fc := &frayedConn{Conn: c, wire: f}
			select {
			case n := <-limits:
				fc.left.Store(n)
			default:
				return c, nil
			}
			return fc, nil
		}),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: time.Millisecond, MaxDelay: time.Millisecond, Multiplier: 1}}),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

type frayedConn struct {
	net.Conn
	wire *frayed
	left atomic.Int64
}

func (c *frayedConn) spend(n int) {
	if after := c.left.Add(-int64(n)); after <= 0 && after+int64(n) > 0 {
		c.wire.breaks.Add(1)
		c.Close()
	}
}

func (c *frayedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.spend(n)
	return n, err
}

func (c *frayedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.spend(n)
	return n, err
}

// TestBrokenStreams: leases, accepts, batches and acks get lost on the way. No
// target is measured twice, and none is missing.
func TestBrokenStreams(t *testing.T) {
	const n = 3000
	dir := t.TempDir()
	r := open(t, dir)
	f := newFrayed(t, r)
	sp := spec()
	sp.RepeatInterrupted = false // then a second run would be a loss
	id := r.survey(t, n, sp)
	runner := &agenttest.Runner{Concurrency: 16, Took: func(measure.Target) time.Duration { return 100 * time.Microsecond }}
	run(t, agent.New(agentConfig("local", runner, f.dial(t), f.dial(t))))
	time.AfterFunc(20*time.Second, func() { f.mended.Store(true) }) // whatever the seed, it ends
	r.watch(t, id, ended)
	complete(t, dir, n)
	for addr, times := range runner.Counts().Started {
		if times != 1 {
			t.Errorf("%v was measured %d times", addr, times)
		}
	}
	t.Log(f.breaks.Load(), "breaks")
	if f.breaks.Load() == 0 {
		t.Error("nothing ever broke")
	}
}

// TestBrokenStreamsOfSeveral: one probe's lost lease is another's to measure.
func TestBrokenStreamsOfSeveral(t *testing.T) {
	const n = 2000
	dir := t.TempDir()
	r := open(t, dir)
	f := newFrayed(t, r)
	id := r.survey(t, n, spec())
	for _, name := range []string{"a", "b", "c"} {
		runner := &agenttest.Runner{Concurrency: 16, Took: func(measure.Target) time.Duration { return time.Millisecond }}
		run(t, agent.New(agentConfig(name, runner, f.dial(t), f.dial(t))))
	}
	time.AfterFunc(20*time.Second, func() { f.mended.Store(true) })
	r.watch(t, id, ended)
	complete(t, dir, n)
	t.Log(f.breaks.Load(), "breaks")
}

// rawSession is a probe made by hand.
type rawSession struct {
	t *testing.T
	grpc.BidiStreamingClient[pb.SessionRequest, pb.SessionResponse]
}

func (r *rig) raw(t *testing.T) *rawSession {
	t.Helper()
	c, err := r.dial()
	if err != nil {
		t.Fatal(err)
	}
	stream, err := pb.NewProbeServiceClient(c).Session(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return &rawSession{t, stream}
}

func (s *rawSession) hello(h *pb.Hello) (*pb.Welcome, error) {
	s.t.Helper()
	if h.ProtocolMax == 0 {
		h.ProtocolMin, h.ProtocolMax = 1, 1
	}
	if err := s.Send(&pb.SessionRequest{Message: &pb.SessionRequest_Hello{Hello: h}}); err != nil {
		s.t.Fatal(err)
	}
	m, err := s.Recv()
	return m.GetWelcome(), err
}

func (s *rawSession) lease() *pb.Lease {
	s.t.Helper()
	for {
		m, err := s.Recv()
		if err != nil {
			s.t.Fatal(err)
		}
		if l := m.GetLease(); l != nil {
			return l
		}
	}
}

func (s *rawSession) credit(n uint64) {
	s.t.Helper()
	if err := s.Send(&pb.SessionRequest{Message: &pb.SessionRequest_Credit{Credit: &pb.Credit{Leases: n}}}); err != nil {
		s.t.Fatal(err)
	}
}

// TestClonedProbe: two processes with one name, as two virtual machines of one
// image are. The second is told which two.
func TestClonedProbe(t *testing.T) {
	r := open(t, t.TempDir())
	if _, err := r.raw(t).hello(&pb.Hello{Probe: "fra", Instance: "1", Host: &pb.Host{Hostname: "vm-a"}}); err != nil {
		t.Fatal(err)
	}
	_, err := r.raw(t).hello(&pb.Hello{Probe: "fra", Instance: "2", Host: &pb.Host{Hostname: "vm-b"}})
	if status.Code(err) != codes.AlreadyExists || !strings.Contains(err.Error(), "vm-a") || !strings.Contains(err.Error(), "vm-b") {
		t.Errorf("the second: %v", err)
	}
	// The same process again has lost its stream, and takes over.
	if _, err := r.raw(t).hello(&pb.Hello{Probe: "fra", Instance: "1"}); err != nil {
		t.Errorf("the same process: %v", err)
	}
}

// TestVersionSkew: negotiated, or refused with a reason.
func TestVersionSkew(t *testing.T) {
	r := open(t, t.TempDir())
	for _, c := range []struct {
		min, max uint32
		want     codes.Code
	}{{1, 1, codes.OK}, {0, 3, codes.OK}, {2, 3, codes.FailedPrecondition}} {
		w, err := r.raw(t).hello(&pb.Hello{Probe: fmt.Sprint("p", c.min), Instance: "1", ProtocolMin: c.min, ProtocolMax: c.max})
		if status.Code(err) != c.want || err == nil && w.GetProtocol() != 1 {
			t.Errorf("protocol %d to %d: %v, %v", c.min, c.max, w, err)
		}
		if c.want == codes.OK {
			continue
		}
		details := status.Convert(err).Details()
		if len(details) != 1 {
			t.Fatalf("protocol %d to %d: refused with %v, want one reason", c.min, c.max, details)
		}
		info, _ := details[0].(*errdetails.ErrorInfo)
		if info.GetReason() != agent.SkewReason || info.GetMetadata()["protocol_min"] != "1" || info.GetMetadata()["protocol_max"] != "1" {
			t.Errorf("protocol %d to %d: refused with %v", c.min, c.max, info)
		}
	}
	for name, h := range map[string]*pb.Hello{"no name": {Instance: "1"}, "no instance": {Probe: "p"}, "long name": {Probe: strings.Repeat("p", 64), Instance: "1"}} {
		if _, err := r.raw(t).hello(h); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
	s := r.raw(t)
	s.credit(1)
	if _, err := s.Recv(); status.Code(err) != codes.InvalidArgument {
		t.Errorf("no Hello: %v", err)
	}
}

// results sends one batch and returns the answer.
func (r *rig) results(t *testing.T, req *pb.ReportResultsRequest) *pb.ReportResultsResponse {
	t.Helper()
	c, err := r.dial()
	if err != nil {
		t.Fatal(err)
	}
	stream, err := pb.NewProbeServiceClient(c).ReportResults(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(req); err != nil {
		t.Fatal(err)
	}
	resp, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// batchOf is a batch for all targets of a lease.
func batchOf(t *testing.T, probe string, l *pb.Lease) *pb.ReportResultsRequest {
	t.Helper()
	req := &pb.ReportResultsRequest{Probe: probe, Lease: l.GetRef()}
	var ms []measure.Measurement
	for _, w := range l.GetTargets() {
		target, err := measure.TargetFromWire(w)
		if err != nil {
			t.Fatal(err)
		}
		m := agenttest.Healthy(target)
		ms = append(ms, m)
		req.Indexes = append(req.Indexes, uint32(m.Item-l.GetFirstItem()))
		req.Outcomes = append(req.Outcomes, pb.Outcome(m.Outcome))
		req.Verdicts = append(req.Verdicts, pb.Verdict(m.Verdict))
	}
	var err error
	if req.Measurements, err = measure.EncodeBatch(ms); err != nil {
		t.Fatal(err)
	}
	return req
}

// TestResultsThatAreRejected: a result is taken only from the probe that holds,
// or held, the lease, and only for its targets.
func TestResultsThatAreRejected(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir)
	id := r.survey(t, 3, spec())
	s := r.raw(t)
	if _, err := s.hello(&pb.Hello{Probe: "fra", Instance: "1"}); err != nil {
		t.Fatal(err)
	}
	s.credit(1)
	l := s.lease()
	for name, change := range map[string]func(*pb.ReportResultsRequest){
		"another probe":    func(q *pb.ReportResultsRequest) { q.Probe = "sin" },
		"no probe":         func(q *pb.ReportResultsRequest) { q.Probe = "" },
		"another survey":   func(q *pb.ReportResultsRequest) { q.Lease = &pb.LeaseRef{Survey: "x", Epoch: 1} },
		"another chunk":    func(q *pb.ReportResultsRequest) { q.Lease = &pb.LeaseRef{Survey: id, Chunk: 9, Epoch: 1} },
		"a later epoch":    func(q *pb.ReportResultsRequest) { q.Lease = &pb.LeaseRef{Survey: id, Epoch: 2} },
		"another's target": func(q *pb.ReportResultsRequest) { q.Indexes[0] = 3 },
		"no verdict":       func(q *pb.ReportResultsRequest) { q.Verdicts = q.Verdicts[1:] },
		"unknown outcome":  func(q *pb.ReportResultsRequest) { q.Outcomes[0] = 4 },
		"no outcome":       func(q *pb.ReportResultsRequest) { q.Outcomes[0] = 0 },
		"unknown verdict":  func(q *pb.ReportResultsRequest) { q.Verdicts[0] = 32 },
		"returned":         func(q *pb.ReportResultsRequest) { q.Returned = []uint32{1 << 31} },
		"no lease":         func(q *pb.ReportResultsRequest) { q.Lease = nil },
	} {
		req := batchOf(t, "fra", l)
		change(req)
		if resp := r.results(t, req); resp.GetRejected() == "" || resp.GetSequence() != req.GetSequence() {
			t.Errorf("%s: %v", name, resp)
		}
	}
	if resp := r.results(t, batchOf(t, "fra", l)); resp.GetRejected() != "" {
		t.Errorf("its own: %v", resp)
	}
	r.watch(t, id, ended)
	complete(t, dir, 3)
}

// TestBatchThatLies: what a batch holds counts, not what it says.
func TestBatchThatLies(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir)
	sp := spec()
	sp.RepeatInterrupted = false
	id := r.survey(t, 3, sp)
	s := r.raw(t)
	if _, err := s.hello(&pb.Hello{Probe: "fra", Instance: "1"}); err != nil {
		t.Fatal(err)
	}
	s.credit(1)
	l := s.lease()
	honest, unreadable, wrong := batchOf(t, "fra", part(l, 0)), batchOf(t, "fra", part(l, 1)), batchOf(t, "fra", part(l, 2))
	unreadable.Sequence, wrong.Sequence = 1, 2
	unreadable.Measurements = []byte("no zstd")
	wrong.Verdicts[0] = pb.Verdict_VERDICT_OFFLINE // in it is supported
	for _, req := range []*pb.ReportResultsRequest{honest, unreadable, wrong} {
		if resp := r.results(t, req); resp.GetRejected() != "" {
			t.Fatal(resp)
		}
	}
	st := r.watch(t, id, ended)
	if got := contents(t, dir); len(got) != 2 || st.GetMeasured() != 2 || st.GetLost() != 1 {
		t.Errorf("%d in the dataset, and %v", len(got), st)
	}
	if c := st.GetCounts(); len(c) != 1 || c[0].GetVerdict() != pb.Verdict_VERDICT_SUPPORTED || c[0].GetCount() != 2 {
		t.Errorf("counted %v, want what is in the dataset", c)
	}
}

// part is a lease as far as its i-th target.
func part(l *pb.Lease, i int) *pb.Lease {
	return &pb.Lease{Ref: l.GetRef(), FirstItem: l.GetFirstItem(), Targets: l.GetTargets()[i : i+1]}
}

// TestLeaseLostInFlight: the stream ends before the accept; at the next Hello
// the probe does not list it, and gets it again.
func TestLeaseLostInFlight(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir)
	id := r.survey(t, 3, spec())
	s := r.raw(t)
	if _, err := s.hello(&pb.Hello{Probe: "fra", Instance: "1"}); err != nil {
		t.Fatal(err)
	}
	s.credit(1)
	first := s.lease()
	s = r.raw(t)
	if _, err := s.hello(&pb.Hello{Probe: "fra", Instance: "1"}); err != nil {
		t.Fatal(err)
	}
	s.credit(1)
	second := s.lease()
	if second.GetRef().GetEpoch() != first.GetRef().GetEpoch()+1 || len(second.GetAgain()) != 0 {
		t.Errorf("leased again as %v, again %v", second.GetRef(), second.GetAgain())
	}
	// The accept of that one is lost: Hello lists it.
	s = r.raw(t)
	w, err := s.hello(&pb.Hello{Probe: "fra", Instance: "1", Held: []*pb.HeldLease{{Ref: second.GetRef(), Taken: 2}, {Ref: first.GetRef()}}})
	if err != nil {
		t.Fatal(err)
	}
	if len(w.GetDrop()) != 1 || w.GetDrop()[0].GetEpoch() != first.GetRef().GetEpoch() {
		t.Errorf("to be dropped: %v, want the first", w.GetDrop())
	}
	// Another process: what the one before may have begun is measured again, marked.
	s.CloseSend()
	if _, err := s.Recv(); err == nil {
		t.Error("a session without an end")
	}
	s = r.raw(t)
	if _, err := s.hello(&pb.Hello{Probe: "fra", Instance: "2"}); err != nil {
		t.Fatal(err)
	}
	s.credit(1)
	third := s.lease()
	if third.GetRef().GetEpoch() != 3 || !slices.Equal(third.GetAgain(), []uint32{0, 1}) || third.GetAttempt() != 1 {
		t.Errorf("leased to the next process as %v, again %v, attempt %d", third.GetRef(), third.GetAgain(), third.GetAttempt())
	}
	// The first one's results come late, and the second one's later still.
	if resp := r.results(t, batchOf(t, "fra", second)); resp.GetRejected() != "" {
		t.Error(resp)
	}
	if resp := r.results(t, batchOf(t, "fra", third)); resp.GetRejected() != "" {
		t.Error(resp)
	}
	if resp := r.results(t, batchOf(t, "fra", third)); resp.GetRejected() != "" { // the ack was lost
		t.Error(resp)
	}
	r.watch(t, id, ended)
	complete(t, dir, 3)
}

// TestRefusedByAll: a survey that no probe can make comes to an end, and says
// why.
func TestRefusedByAll(t *testing.T) {
	r := open(t, t.TempDir())
	id := r.survey(t, 200, spec())
	session, err := r.dial()
	if err != nil {
		t.Fatal(err)
	}
	cfg := agentConfig("local", nil, session, session)
	cfg.NewRunner = func(*pb.SurveySpec) (agent.Runner, error) { return nil, fmt.Errorf("no such plan here") }
	run(t, agent.New(cfg))
	st := r.watch(t, id, ended)
	if st.GetLost() != 200 || !strings.Contains(st.GetReason(), "no such plan here") {
		t.Errorf("ended as %v", st)
	}
}

// impatient are rules under which a lease lapses within a test.
var impatient = lease.Rules{OfferTimeout: time.Minute, TTL: 100 * time.Millisecond, Grace: 100 * time.Millisecond, MaxOffers: 9}

// TestHeartbeatsKeepALease: a target takes longer than a lease lasts.
func TestHeartbeatsKeepALease(t *testing.T) {
	dir := t.TempDir()
	r := openWith(t, dir, 10*time.Millisecond, impatient)
	sp := spec()
	sp.RepeatInterrupted = false // then giving it up would be final
	id := r.survey(t, 3, sp)
	runner := &agenttest.Runner{Concurrency: 3, Took: func(measure.Target) time.Duration { return 500 * time.Millisecond }}
	r.start(t, "local", runner)
	r.watch(t, id, ended)
	complete(t, dir, 3)
}

// TestProbeVanishes: nothing is heard of it, and after its TTL and the grace
// another one gets what it had, except what it said it may begin.
func TestProbeVanishes(t *testing.T) {
	dir := t.TempDir()
	r := openWith(t, dir, time.Hour, impatient)
	sp := spec()
	sp.RepeatInterrupted = false
	id := r.survey(t, 3, sp)
	s := r.raw(t)
	if _, err := s.hello(&pb.Hello{Probe: "fra", Instance: "1"}); err != nil {
		t.Fatal(err)
	}
	s.credit(1)
	ref := s.lease().GetRef()
	for _, m := range []*pb.SessionRequest{
		{Message: &pb.SessionRequest_LeaseAccepted{LeaseAccepted: &pb.LeaseAccepted{Ref: ref}}},
		{Message: &pb.SessionRequest_Heartbeat{Heartbeat: &pb.Heartbeat{Held: []*pb.HeldLease{{Ref: ref, Taken: 1}}}}},
	} {
		if err := s.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	r.start(t, "sin", &agenttest.Runner{})
	st := r.watch(t, id, ended)
	if st.GetMeasured() != 2 || st.GetInterrupted() != 1 {
		t.Errorf("ended as %v", st)
	}
	for item, rec := range contents(t, dir) {
		switch {
		case item == 0 && rec.Outcome == measure.OutcomeInterrupted && rec.Probe == "fra":
		case item > 0 && rec.Probe == "sin" && !slices.Contains(rec.Conditions, measure.CondVantageRepeated):
		default:
			t.Errorf("item %d: %+v", item, rec)
		}
	}
}

// TestUnknownMessage: of a newer probe. It is answered, never ignored.
func TestUnknownMessage(t *testing.T) {
	r := open(t, t.TempDir())
	s := r.raw(t)
	if _, err := s.hello(&pb.Hello{Probe: "fra", Instance: "1", ProtocolMin: 1, ProtocolMax: 9}); err != nil {
		t.Fatal(err)
	}
	if err := s.Send(&pb.SessionRequest{}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recv(); status.Code(err) != codes.Unimplemented {
		t.Errorf("answered with %v", err)
	}
}
