package identity_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"

	"tfofleet/internal/identity"
	"tfofleet/internal/identity/identitytest"
	pb "tfofleet/proto/tfofleet/v1"
)

var ctx = context.Background()

// clock is a clock that goes on when it is told to.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 11, 20, 22, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// logs is all that was logged, at every level.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// controller is a controller on a loopback port.
type controller struct {
	*identity.Authority
	t       testing.TB
	clock   *clock
	store   *identitytest.Memory
	logs    *logs
	logger  hclog.Logger
	ca      *identity.CA
	dir     string // of the CA
	table   identity.Table
	address string
	fleet   *fleetServer
	guard   *identity.Guard
	seen    chan error // what ended the context of each page
}

// renewMethod stands for ProbeService.Renew.
const renewMethod = "/tfofleet.test.Test/Renew"

func newController(t testing.TB, change ...func(identity.Table)) *controller {
	t.Helper()
	clock := newClock()
	return startController(t, t.TempDir(), clock, identitytest.NewMemory(clock.Now), change...)
}

// startController starts one with the CA in the directory and the store, which
// other controllers may have as well.
func startController(t testing.TB, dir string, clock *clock, store *identitytest.Memory, change ...func(identity.Table)) *controller {
	t.Helper()
	c := &controller{t: t, dir: dir, clock: clock, store: store, logs: &logs{}, seen: make(chan error, 100)}
	c.logger = hclog.New(&hclog.LoggerOptions{Level: hclog.Trace, Output: c.logs})
	var err error
	if c.ca, err = identity.OpenCA(dir, clock.Now()); err != nil {
		t.Fatal(err)
	}
	c.Authority, err = identity.NewAuthority(ctx, identity.Config{
		CA: c.ca, Store: store, Names: []string{"localhost", "127.0.0.1"}, Logger: c.logger, Now: clock.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	c.table = identity.Methods()
	c.table[renewMethod] = identity.Rule{Class: identity.Probes, Limit: identity.Limit{PerSecond: 1, Burst: 100}}
	for _, f := range change {
		f(c.table)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c.address = l.Addr().String()
	c.serve(l)
	return c
}

// serve starts a server with all services on the listeners.
func (c *controller) serve(listeners ...net.Listener) *grpc.Server {
	c.guard = c.Guard(c.table)
	web := c.guard.Web(http.HandlerFunc(c.page))
	server := grpc.NewServer(c.guard.ServerOptions()...)
	c.fleet = &fleetServer{a: c.Authority, ended: make(chan error, 100)}
	c.register(server)
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "tfofleet.test.Test", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Renew", Handler: c.fleet.renew}},
	}, c.fleet)
	for _, l := range listeners {
		go server.Serve(l)
	}
	c.t.Cleanup(server.Stop)
	c.t.Cleanup(func() { web.Close() })
	return server
}

// page says who looks at it, and /live goes on until its context ends.
func (c *controller) page(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintln(w, identity.CallerOf(r.Context()).Name)
	if r.URL.Path == "/live" {
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
		c.seen <- context.Cause(r.Context())
	}
}

func (c *controller) register(server *grpc.Server) {
	c.Register(server)
	pb.RegisterProbeServiceServer(server, c.fleet)
	pb.RegisterControlServiceServer(server, c.fleet)
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	reflection.Register(server)
}

// fleetServer has a probe's and an operator's calls; Session answers every
// message with its caller's name.
type fleetServer struct {
	pb.UnimplementedProbeServiceServer
	pb.UnimplementedControlServiceServer
	a     *identity.Authority
	ended chan error // what ended each Session
}

func (f *fleetServer) Session(s grpc.BidiStreamingServer[pb.SessionRequest, pb.SessionResponse]) error {
	for {
		if _, err := s.Recv(); err != nil {
			f.ended <- err
			return err
		}
		name := identity.CallerOf(s.Context()).Name
		if err := s.Send(&pb.SessionResponse{Message: &pb.SessionResponse_Welcome{Welcome: &pb.Welcome{Session: name}}}); err != nil {
			return err
		}
	}
}

func (f *fleetServer) GetSurvey(ctx context.Context, _ *pb.GetSurveyRequest) (*pb.GetSurveyResponse, error) {
	return &pb.GetSurveyResponse{State: &pb.SurveyState{Name: identity.CallerOf(ctx).Name}}, nil
}

func (f *fleetServer) renew(_ any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
	req := new(pb.EnrollRequest)
	if err := decode(req); err != nil {
		return nil, err
	}
	return interceptor(ctx, req, &grpc.UnaryServerInfo{FullMethod: renewMethod}, func(ctx context.Context, _ any) (any, error) {
		issued, err := f.a.Renew(ctx, identity.CallerOf(ctx), req.Csr)
		if err != nil {
			return nil, err
		}
		return &pb.EnrollResponse{Issued: issued}, nil
	})
}

// newToken makes a token for one use.
func (c *controller) newToken(change ...func(*identity.TokenSpec)) identity.JoinToken {
	c.t.Helper()
	spec := identity.TokenSpec{Addresses: []string{c.address}, Uses: 1, TTL: day, Labels: identity.Labels{"region": "fra"}, Prefix: "fra"}
	for _, f := range change {
		f(&spec)
	}
	tok, err := c.CreateToken(ctx, spec)
	if err != nil {
		c.t.Fatal(err)
	}
	return tok
}

const day = 24 * time.Hour

// probe is a probe on this machine.
type probe struct {
	*identity.Probe
	t   testing.TB
	dir string
	now func() time.Time
}

func (c *controller) newProbe() *probe {
	return openProbe(c.t, filepath.Join(c.t.TempDir(), "identity"), c.clock.Now)
}

func openProbe(t testing.TB, dir string, now func() time.Time) *probe {
	t.Helper()
	p, err := identity.OpenProbe(identity.ProbeConfig{Dir: dir, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return &probe{p, t, dir, now}
}

// joined is a probe of the controller's fleet.
func (c *controller) joined() *probe {
	c.t.Helper()
	p := c.newProbe()
	if err := p.Join(ctx, c.newToken()); err != nil {
		c.t.Fatal(err)
	}
	return p
}

// dial connects to the controller as the probe, anew.
func (p *probe) dial(address string) *grpc.ClientConn {
	p.t.Helper()
	creds, err := p.Transport()
	if err != nil {
		p.t.Fatal(err)
	}
	return dial(p.t, address, creds)
}

func dial(t testing.TB, target string, creds credentials.TransportCredentials) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// session is a live session of a probe.
type session struct {
	grpc.BidiStreamingClient[pb.SessionRequest, pb.SessionResponse]
}

// open opens one. What does not come in half a minute does not come.
func open(t testing.TB, conn *grpc.ClientConn) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	t.Cleanup(cancel)
	s, err := pb.NewProbeServiceClient(conn).Session(ctx)
	return &session{s}, err
}

// ask sends a message and returns the name that the controller knows us by.
func (s *session) ask() (string, error) {
	if err := s.Send(&pb.SessionRequest{}); err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	resp, err := s.Recv()
	return resp.GetWelcome().GetSession(), err
}

// call is one call of a probe over the connection.
func call(conn *grpc.ClientConn) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	s, err := pb.NewProbeServiceClient(conn).Session(ctx)
	if err != nil {
		return "", err
	}
	return (&session{s}).ask()
}

// renewOver renews the probe's certificate over the connection.
func (p *probe) renewOver(conn *grpc.ClientConn) error {
	return p.Renew(ctx, func(ctx context.Context, csr []byte) (*pb.IssuedCertificate, error) {
		resp := new(pb.EnrollResponse)
		err := conn.Invoke(ctx, renewMethod, &pb.EnrollRequest{Csr: csr}, resp)
		return resp.Issued, err
	})
}

// operator makes a credential for an operator.
func (c *controller) operator(name string) *identity.Credential {
	c.t.Helper()
	r, err := identity.NewRequest()
	ok(c.t, err)
	csr, err := r.CSR()
	ok(c.t, err)
	issued, err := c.IssueOperator(ctx, name, csr)
	ok(c.t, err)
	cred, err := r.Credential(issued, []string{c.address}, c.clock.Now())
	ok(c.t, err)
	return cred
}

// denied fails unless err is a denial for the reason.
func denied(t testing.TB, err error, want identity.Reason) {
	t.Helper()
	d, ok := identity.DenialOf(err)
	if !ok || d.Reason != want {
		t.Errorf("%v, want the denial %v", err, want)
	}
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
