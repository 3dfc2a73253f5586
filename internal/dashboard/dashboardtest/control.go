// Package dashboardtest has a ControlService to show: one whose surveys and
// probes a test sets, behind a real gRPC connection.
package dashboardtest

import (
	"context"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	pb "tfofleet/proto/tfofleet/v1"
)

// Control is a ControlService that answers what it was told to, and counts.
type Control struct {
	pb.UnimplementedControlServiceServer

	mu      sync.Mutex
	surveys []*pb.SurveyState
	probes  []*pb.ProbeInfo
	err     error
	changed chan struct{} // closed by the next change
	calls   map[string]int
}

// Serve starts one, until the test ends.
func Serve(t testing.TB) (*Control, pb.ControlServiceClient) {
	t.Helper()
	c := &Control{changed: make(chan struct{}), calls: map[string]int{}}
	l := bufconn.Listen(1 << 16)
	s := grpc.NewServer()
	pb.RegisterControlServiceServer(s, c)
	go s.Serve(l)
	t.Cleanup(s.Stop)
	conn, err := grpc.NewClient("passthrough:///fake", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return c, pb.NewControlServiceClient(conn)
}

func (c *Control) change(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
	close(c.changed)
	c.changed = make(chan struct{})
}

// SetSurvey adds a survey, or changes the one with its id.
func (c *Control) SetSurvey(s *pb.SurveyState) {
	s = proto.Clone(s).(*pb.SurveyState)
	c.change(func() {
		if i := slices.IndexFunc(c.surveys, func(o *pb.SurveyState) bool { return o.GetSurvey() == s.GetSurvey() }); i >= 0 {
			c.surveys[i] = s
			return
		}
		c.surveys = append(c.surveys, s)
	})
}

// SetProbe adds a probe, or changes the one with its name.
func (c *Control) SetProbe(p *pb.ProbeInfo) {
	p = proto.Clone(p).(*pb.ProbeInfo)
	c.change(func() {
		if i := slices.IndexFunc(c.probes, func(o *pb.ProbeInfo) bool { return o.GetName() == p.GetName() }); i >= 0 {
			c.probes[i] = p
			return
		}
		c.probes = append(c.probes, p)
		slices.SortFunc(c.probes, func(a, b *pb.ProbeInfo) int { return strings.Compare(a.GetName(), b.GetName()) })
	})
}

// Fail makes every call fail; nil makes them work again.
func (c *Control) Fail(err error) { c.change(func() { c.err = err }) }

// Calls is how often a method was called.
func (c *Control) Calls(method string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls[method]
}

func (c *Control) begin(method string) error {
	c.calls[method]++
	return c.err
}

// ListSurveys implements ControlService.
func (c *Control) ListSurveys(context.Context, *pb.ListSurveysRequest) (*pb.ListSurveysResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return &pb.ListSurveysResponse{Surveys: slices.Clone(c.surveys)}, c.begin("ListSurveys")
}

// ListProbes implements ControlService.
func (c *Control) ListProbes(context.Context, *pb.ListProbesRequest) (*pb.ListProbesResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return &pb.ListProbesResponse{Probes: slices.Clone(c.probes)}, c.begin("ListProbes")
}

// GetProbe implements ControlService.
func (c *Control) GetProbe(_ context.Context, req *pb.GetProbeRequest) (*pb.GetProbeResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.begin("GetProbe"); err != nil {
		return nil, err
	}
	for _, p := range c.probes {
		if p.GetName() == req.GetProbe() {
			return &pb.GetProbeResponse{Probe: p}, nil
		}
	}
	return nil, status.Error(codes.NotFound, "no such probe")
}

// GetSurvey implements ControlService.
func (c *Control) GetSurvey(_ context.Context, req *pb.GetSurveyRequest) (*pb.GetSurveyResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.begin("GetSurvey"); err != nil {
		return nil, err
	}
	if s := c.survey(req.GetSurvey()); s != nil {
		return &pb.GetSurveyResponse{State: s}, nil
	}
	return nil, status.Error(codes.NotFound, "no such survey")
}

func (c *Control) survey(id string) *pb.SurveyState {
	for _, s := range c.surveys {
		if s.GetSurvey() == id {
			return s
		}
	}
	return nil
}

// WatchSurvey implements ControlService.
func (c *Control) WatchSurvey(req *pb.WatchSurveyRequest, to grpc.ServerStreamingServer[pb.WatchSurveyResponse]) error {
	for first := true; ; first = false {
		c.mu.Lock()
		var err error
		if first {
			err = c.begin("WatchSurvey")
		}
		s, changed := c.survey(req.GetSurvey()), c.changed
		c.mu.Unlock()
		if err != nil {
			return err
		}
		if s == nil {
			return status.Error(codes.NotFound, "no such survey")
		}
		if err := to.Send(&pb.WatchSurveyResponse{State: s}); err != nil {
			return err
		}
		if s.GetPhase() != pb.SurveyPhase_SURVEY_PHASE_RUNNING {
			return nil
		}
		select {
		case <-to.Context().Done():
			return to.Context().Err()
		case <-changed:
		}
	}
}
