package fleettest_test

import (
	"bytes"
	"context"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"tfofleet/internal/agent"
	"tfofleet/internal/agent/agenttest"
	"tfofleet/internal/agent/spool"
	"tfofleet/internal/fleettest"
	pb "tfofleet/proto/tfofleet/v1"
)

// TestClockJump: somebody sets the clock of a probe. It takes no more work while
// its clock is far from the controller's, says why, and records both jumps. The
// clock of a process cannot be set without setting that of the machine, so the
// probe's agent runs in the test, with a clock of its own, and its engine is a
// fake; everything else is real.
func TestClockJump(t *testing.T) {
	t.Parallel()
	f := fleettest.New(t, 1)
	c := f.AddController()
	me := f.Join("clock", f.Net.Add(), c)
	kept, found, err := spool.Open(spool.Config{Path: filepath.Join(t.TempDir(), "spool.db"), Logger: hclog.NewNullLogger()})
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	var said bytes.Buffer // under hclog's lock
	log := hclog.New(&hclog.LoggerOptions{Output: &said, Level: hclog.Debug})
	var ahead atomic.Int64
	a := agent.New(agent.Config{
		Name: me.Subject().Name, Version: "test", Host: &pb.Host{TcpFastopen: 1}, Session: me.Conn, Results: me.Conn, Spool: kept, Leases: found.Leases,
		NewRunner: func(*pb.SurveySpec) (agent.Runner, error) { return &agenttest.Runner{}, nil },
		Wall:      func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) },
		Logger:    log,
	})
	life, stop := context.WithCancel(t.Context())
	over := make(chan error, 1)
	go func() { over <- a.Run(life) }()
	defer func() {
		stop()
		if err := <-over; err != nil {
			t.Error(err)
		}
	}()
	is := func(want pb.Readiness, offset time.Duration) {
		t.Helper()
		f.Await(want.String(), fleettest.Patience, func() bool {
			st := f.Info("clock").GetStatus()
			return st.GetReadiness() == want && st.GetClockOffset() != nil && (st.GetClockOffset().AsDuration()-offset).Abs() < 5*time.Second
		})
	}
	is(pb.Readiness_READINESS_READY, 0)
	for _, jump := range []time.Duration{time.Hour, -24 * time.Hour} {
		ahead.Store(int64(jump))
		is(pb.Readiness_READINESS_CLOCK, jump)
		ahead.Store(0)
		is(pb.Readiness_READINESS_READY, 0)
	}
	var recorded []*pb.ProbeEvent
	defer func() {
		if t.Failed() {
			t.Logf("recorded: %v\nthe agent said:\n%s", recorded, &said)
		}
	}()
	f.Await("four jumps on record", fleettest.Patience, func() bool {
		resp, err := c.Control.GetProbe(t.Context(), &pb.GetProbeRequest{Probe: me.Subject().Name})
		if err != nil {
			t.Fatal(err)
		}
		recorded = resp.GetProbe().GetEvents()
		jumps := 0
		for _, e := range recorded {
			if e.GetKind() == pb.ProbeEventKind_PROBE_EVENT_KIND_CLOCK_JUMP {
				jumps++
			}
		}
		return jumps == 4
	})
}

// TestOtherMonotonicClock: a probe comes back with clocks that count from
// somewhere else, as after a reboot or on another machine. What it kept is still
// good.
func TestOtherMonotonicClock(t *testing.T) {
	t.Parallel()
	const targets = 300
	f := fleettest.New(t, targets)
	c := f.AddController()
	// By the clock of the first run the second one is three years before it.
	f.By = []string{"unshare", "--time", "--monotonic", "100000000", "--boottime", "100000000"}
	p := f.AddProbe(150, f.Controllers)
	f.Connected()
	s := f.Survey(c, targets, "--rate", "150", "--concurrency", "8")
	s.Measured(targets / 10)
	p.Kill()
	p.By = nil
	p.Launch()
	st := s.Done(fleettest.Patience)
	if st.GetMeasured()+st.GetInterrupted() != targets || st.GetMeasured() <= targets/10 {
		t.Errorf("the survey ended as %v", st)
	}
	if n := s.Check(c.Dataset(s), 1); n > 0 {
		t.Errorf("%d were measured twice", n)
	}
	f.End()
}

// TestVersionSkew: a probe of another protocol is told what is spoken, in a
// form that its agent knows (see TestSkew there), and one that speaks the controller's among others is not.
func TestVersionSkew(t *testing.T) {
	t.Parallel()
	f := fleettest.New(t, 1)
	c := f.AddController()
	me := f.Join("skew", f.Net.Add(), c)
	for _, v := range []struct {
		min, max uint32
		speak    bool
	}{{0, 1, true}, {1, 1, true}, {1, 9, true}, {2, 3, false}, {0, 0, false}} {
		stream, err := pb.NewProbeServiceClient(me.Conn).Session(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		hello := &pb.Hello{Probe: me.Subject().Name, Instance: "i", ProtocolMin: v.min, ProtocolMax: v.max}
		if err := stream.Send(&pb.SessionRequest{Message: &pb.SessionRequest_Hello{Hello: hello}}); err != nil {
			t.Fatal(err)
		}
		m, err := stream.Recv()
		if v.speak && (err != nil || m.GetWelcome().GetProtocol() != 1) {
			t.Errorf("protocol %d to %d: %v, %v", v.min, v.max, m, err)
		}
		if v.speak {
			continue
		}
		details := status.Convert(err).Details()
		if status.Code(err) != codes.FailedPrecondition || len(details) != 1 {
			t.Fatalf("protocol %d to %d: %v, %v", v.min, v.max, m, err)
		}
		if why, _ := details[0].(*errdetails.ErrorInfo); why.GetReason() != agent.SkewReason || why.GetMetadata()["protocol_max"] != "1" {
			t.Errorf("protocol %d to %d: refused with %v", v.min, v.max, why)
		}
	}
}
